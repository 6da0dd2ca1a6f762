"""What napari's menus, its open dialog and its samples call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import napari

from napari_activeft.errors import UserError
from napari_activeft.folder_walk import PROJECT_FILE
from napari_activeft.sample_project import Sample, sample_images, sample_labels
from napari_activeft.session.samples_shown import LayerData, shown_sample
from napari_activeft.widgets.options import PLUGIN
from napari_activeft.widgets.session_dock import SessionDock

SESSION = "Annotation session"


def open_session(viewer: napari.Viewer) -> SessionDock:
    """Show the annotation session of a viewer, the one that is there if there is one."""
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, SESSION)
    if not isinstance(widget, SessionDock):
        raise TypeError(f"napari gave a {type(widget).__name__} for the session")
    return widget


def add_open_layers() -> None:
    """Show the session, and add the image layers that are open to its project's pool."""
    viewer = napari.current_viewer()
    if viewer is None:
        raise UserError("no viewer is open: start napari first")
    dock = open_session(viewer)
    dock.go_to(dock.pool if dock.state.project is not None else dock.project)
    dock.pool.add_layers()


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]] | None:
    """Return what opens a project's folder in the session; None for anything else."""
    folder = Path(path if isinstance(path, str) else path[0])
    return _read_project if (folder / PROJECT_FILE).is_file() else None


def _read_project(path: str | Sequence[str]) -> list[LayerData]:
    folder = Path(path if isinstance(path, str) else path[0])
    viewer = napari.current_viewer()
    if viewer is None:
        raise UserError(f"{folder} is a project of napari-activeft: open it in a viewer")
    dock = open_session(viewer)
    dock.state.open(folder)
    dock.go_to(dock.queue)
    return [(None,)]  # npe2's word for: it was read, and there is no layer to add


def hippocampus() -> list[LayerData]:
    """Return a sample volume with its label map."""
    return _first("hippocampus")


def nuclei() -> list[LayerData]:
    """Return a sample picture with its label map."""
    return _first("nuclei")


def _first(sample: Sample) -> list[LayerData]:
    image = sample_images(sample)[0]
    return shown_sample(image, sample_labels(image))
