"""Keeps a viewer from crashing when a layer that was drawn is removed.

vispy leaves vertex attributes enabled after a draw. When their buffers are deleted together with a
layer, OpenGL reads them from nowhere at the next draw of anything that has fewer attributes, and
many drivers end the process (napari issues 6472 and 8471 tell of it). Disabling them is harmless:
every draw enables its own.
"""

from __future__ import annotations

import contextlib

import napari

_ATTRIBUTES = 16  # what every OpenGL has at least


def disable_vertex_attributes(viewer: napari.Viewer) -> None:
    """Let the viewer's canvas forget which buffers were drawn last; call it around a removal."""
    # Neither napari nor vispy has a public way: where another version looks otherwise, or there is
    # no canvas, nothing is done, which is what would have happened without us.
    with contextlib.suppress(Exception):
        from vispy.gloo import gl

        native = viewer.window._qt_viewer.canvas.native
        native.makeCurrent()
        for index in range(_ATTRIBUTES):
            gl.glDisableVertexAttribArray(index)
