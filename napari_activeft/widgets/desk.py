"""The volume that is being labelled, as plain layers of the viewer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import napari
import numpy as np
from napari.layers import Labels, Layer
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from napari_activeft.annotation_db import ClassRecord
from napari_activeft.session.displaying import Displayed, colours, label_data
from napari_activeft.session.volume_work import Shown, VolumeWork
from napari_activeft.voxels import LabelMap
from napari_activeft.widgets import notices
from napari_activeft.widgets.background import EXPECTED
from napari_activeft.widgets.gl_safety import disable_vertex_attributes
from napari_activeft.widgets.layer_watch import LayerWatch

_ENTROPY = "unsure"


class Desk(QObject):
    """Shows one volume with its masks, and hands every stroke to the work on it.

    The layers are napari's own, so that any tool may draw in them. They go when the desk is left.
    """

    stroked = Signal()  # the mask, or what can be undone, changed
    held_back = Signal(str)  # why a stroke was taken back
    moved = Signal()  # another slice is shown

    def __init__(self, napari_viewer: napari.Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = napari_viewer
        self.work: VolumeWork | None = None
        self.shown: Displayed | None = None
        self.labels: Labels | None = None
        self.classes: Sequence[ClassRecord] = ()
        self._images: list[Layer] = []
        self._entropy: Layer | None = None
        self._watch: LayerWatch | None = None
        self._changing = False
        self._tool = "paint"
        self.frozen = False  # nothing is taken in: an answer is on its way
        napari_viewer.layers.events.removed.connect(self._on_removed)
        napari_viewer.dims.events.current_step.connect(self._on_moved)

    # Showing and leaving

    def show(
        self,
        work: VolumeWork,
        shown: Displayed,
        masks: dict[int, LabelMap],
        classes: Sequence[ClassRecord],
        *,
        opacity: float = 0.5,
        called: str = "labels",
    ) -> None:
        """Show a volume at the slice that was asked for.

        Parameters
        ----------
        work
            Takes the strokes.
        masks
            (h, w) by position, of the other slices.
        called
            Name of the layer to draw in.
        """
        before = self.shown
        at = work.main.position
        largest = max((record.value for record in classes), default=1)
        data = label_data(work.main.volume, {**masks, at: work.mask(at)}, largest)
        mode, size = self._habits(shown)
        again = self._fits(shown)
        self._stop_watching()
        self.work, self.shown, self.classes = work, shown, classes
        with self._quietly():
            if again and self.labels is not None:
                self._fill_images(shown)
                _fill(self.labels, data, shown, f"{called}: {shown.name}")
                self.recolour(classes)
            else:
                self._remove([*self._own_masks(), *self._images])
                self._images = add_images(self._viewer, shown)
                self.labels = self._add_labels(data, shown, classes, opacity, called)
        if self.labels is None:
            return
        self.labels.editable, self.frozen = True, False
        self._watch = LayerWatch(self.labels, shown.axis, self._on_change, _later)
        self.labels.mode, self.labels.brush_size = mode, size
        self._face(shown, at)
        if before is None or before.name != shown.name:
            self._viewer.reset_view()

    def rest(self) -> None:
        """Keep the layers in view, with nothing to draw on: the next slice is on its way."""
        self.work = None
        self.allow(False)

    def allow(self, drawing: bool) -> None:
        """Let the annotator draw, with the tool that he had, or not."""
        self.frozen, labels = not drawing, self.labels
        if labels is None or labels.editable == drawing:
            return
        if not drawing:
            self._tool = str(labels.mode)  # napari puts it away
        labels.editable = drawing
        if drawing:
            labels.mode = self._tool

    def leave(self) -> None:
        """Take the layers away; strokes were handed over as they were drawn."""
        self._stop_watching()
        with self._quietly():
            self._remove([*self._own_masks(), *self._images])
        self._images, self.labels = [], None
        self.work = self.shown = None

    def close(self) -> None:
        """Leave, and look at the viewer no longer."""
        self.leave()
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._viewer.dims.events.current_step.disconnect(self._on_moved)

    def _stop_watching(self) -> None:
        """Take in what was drawn last, and take away what belongs to one slice only."""
        if self._watch is not None:
            self._watch.look()  # also what a tool told nobody, and a stroke that is not over
            self._watch.close()
            self._watch = None
        if self._entropy is not None:
            with self._quietly():
                self._remove([self._entropy])
            self._entropy = None

    def _own_masks(self) -> list[Layer]:
        return [] if self.labels is None else [self.labels]

    def _fits(self, shown: Displayed) -> bool:
        """Tell whether the layers that are there can show a volume: making new ones takes long."""
        before = self.shown
        there = [*self._images, *self._own_masks()]
        return (
            before is not None
            and self.labels is not None
            and (before.rgb, len(before.channels)) == (shown.rgb, len(shown.channels))
            and all(layer in self._viewer.layers for layer in there)
        )

    def _fill_images(self, shown: Displayed) -> None:
        for at, (layer, data) in enumerate(zip(self._images, shown.channels, strict=True)):
            if layer.name == shown.layer_name(at) and layer.data is data:
                continue
            _fill(layer, data, shown, shown.layer_name(at))
            if shown.limits is not None:
                layer.contrast_limits_range = layer.contrast_limits = shown.limits[at]

    def _remove(self, layers: list[Layer]) -> None:
        for layer in layers:
            if layer in self._viewer.layers:
                disable_vertex_attributes(self._viewer)
                self._viewer.layers.remove(layer)
                disable_vertex_attributes(self._viewer)

    def _habits(self, shown: Displayed) -> tuple[str, float]:
        """Return the tool and the brush of the last volume, or the usual ones."""
        if self.labels is None:
            return "paint", shown.brush
        mode = str(self.labels.mode) if self.labels.editable else self._tool
        return ("paint" if mode in ("pan_zoom", "transform") else mode), self.labels.brush_size

    def _add_labels(
        self,
        data: LabelMap,
        shown: Displayed,
        classes: Sequence[ClassRecord],
        opacity: float,
        called: str,
    ) -> Labels:
        made: Labels = self._viewer.add_labels(
            data,
            name=f"{called}: {shown.name}",
            scale=shown.scale,
            metadata=dict(shown.metadata),
            opacity=opacity,
            colormap=DirectLabelColormap(color_dict=colours(classes)),
        )
        made.n_edit_dimensions = 2
        made.selected_label = min((record.value for record in classes), default=1)
        self._bind_undo(made)
        return made

    def _face(self, shown: Displayed, position: int) -> None:
        """Turn the viewer to a slice in the plane in which the volume is sliced."""
        dims = self._viewer.dims
        dims.ndisplay = 2
        before = dims.ndim - 3  # other layers may have more axes
        dims.axis_labels = (*dims.axis_labels[:before], "z", "y", "x")
        dims.order = (*range(before), *(before + axis for axis in shown.order))
        self.go_to(position)

    def go_to(self, position: int) -> None:
        """Show a slice of the volume."""
        if self.shown is None:
            return
        dims, axis = self._viewer.dims, self.shown.axis
        dims.set_point(dims.ndim - 3 + axis, position * self.shown.scale[axis])

    @property
    def position(self) -> int | None:
        """The slice that is shown; None where the viewer shows another plane, or no volume."""
        if self.shown is None:
            return None
        dims, axis = self._viewer.dims, self.shown.axis
        if dims.ndisplay != 2 or dims.ndim - 3 + axis in dims.displayed:
            return None
        return round(float(dims.point[dims.ndim - 3 + axis]) / self.shown.scale[axis])

    # Strokes

    def _on_change(self, position: int, mask: LabelMap) -> None:
        work = self.work
        if work is None:
            return
        if self.frozen:  # a helper does not ask whether the layer may be edited
            self._put(Shown(position, work.mask(position)))
            return
        try:
            instead = work.edited(position, mask)
        except EXPECTED as refusal:
            instead = Shown(position, work.mask(position), str(refusal))
        if instead is not None:
            self._put(instead)
            self.held_back.emit(instead.notice)
        self.stroked.emit()

    def undo(self) -> None:
        """Take back the last stroke, on whichever slice, and show it."""
        self._step(VolumeWork.undo)

    def redo(self) -> None:
        """Do again what was taken back last, and show it."""
        self._step(VolumeWork.redo)

    def empty(self) -> None:
        """Take every class from the slice that was asked for."""
        self._step(VolumeWork.empty)

    def _step(self, act: Callable[[VolumeWork], Shown | None]) -> None:
        if self.work is None or self._watch is None or self.frozen:
            return
        self._watch.look()
        shown = act(self.work)
        if shown is not None:
            self._put(shown)
            self.go_to(shown.position)
            self.stroked.emit()

    def look(self) -> None:
        """Find what a tool wrote into the layer and told nobody."""
        if self._watch is not None:
            self._watch.look()

    def _put(self, shown: Shown) -> None:
        if self._watch is not None:
            self._watch.put(shown.position, shown.mask)

    def _bind_undo(self, layer: Labels) -> None:
        """Let napari's keys for undo be those of the session, whose history is on the disk."""
        for key, act in (
            ("Control-Z", self.undo),
            ("Control-Shift-Z", self.redo),
            ("Control-Y", self.redo),
        ):
            layer.bind_key(key, lambda _, act=act: act(), overwrite=True)

    # What others do to the layers

    def recolour(self, classes: Sequence[ClassRecord]) -> None:
        """Show the colours of a class table that changed."""
        self.classes = classes
        if self.labels is not None:
            self.labels.colormap = DirectLabelColormap(color_dict=colours(classes))

    def choose(self, value: int) -> None:
        """Draw with a class from now on; 0 erases."""
        if self.labels is not None and value > np.iinfo(self.labels.data.dtype).max:
            notices.warn(f"class {value} came after this slice was opened: open it again for that")
        elif self.labels is not None:
            self.labels.selected_label = value
            if str(self.labels.mode) in ("pan_zoom", "transform", "erase", "pick"):
                self.labels.mode = "paint"
            self._viewer.layers.selection.active = self.labels

    def show_entropy(self, entropy: NDArray[np.uint8] | None) -> None:
        """Show how unsure a run is of every pixel, (d, h, w) from 0 to 255; None takes it away."""
        with self._quietly():
            self._remove([] if self._entropy is None else [self._entropy])
            self._entropy = None
            if entropy is None or self.shown is None:
                return
            self._entropy = self._viewer.add_image(
                np.moveaxis(entropy, 0, self.shown.axis),
                name=f"{_ENTROPY}: {self.shown.name}",
                scale=self.shown.scale,
                metadata=dict(self.shown.metadata),
                colormap="magma",
                contrast_limits=(0, 255),
                blending="additive",
                opacity=0.6,
            )
            if self.labels is not None and self.labels in self._viewer.layers:
                layers = self._viewer.layers
                layers.move(layers.index(self._entropy), layers.index(self.labels))
                layers.selection.active = self.labels

    def _on_removed(self, event: Any) -> None:  # noqa: ANN401 - napari's own
        """Put back a layer that somebody removed in the middle of the work."""
        layer = event.value
        if self._changing or self.work is None:
            return
        if layer is self._entropy:
            self._entropy = None
        elif layer is self.labels or layer in self._images:
            _later(lambda: self._put_back(layer))

    def _put_back(self, layer: Layer) -> None:
        if self.work is None or layer in self._viewer.layers:
            return
        if layer is not self.labels and layer not in self._images:
            return
        with self._quietly():
            at = len(self._viewer.layers) if layer is self.labels else 0
            self._viewer.layers.insert(at, layer)
        notices.warn(
            f"the layer {layer.name!r} is being labelled and was put back: hand the slice back or "
            "submit it to be rid of the layer"
        )

    def _on_moved(self, _: object = None) -> None:
        if self.work is not None:
            self.moved.emit()

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Take layers away oneself, for as long as this lasts."""
        self._changing = True
        try:
            yield
        finally:
            self._changing = False


def add_images(viewer: napari.Viewer, shown: Displayed) -> list[Layer]:
    """Add the image layers of a volume, the first of them visible."""
    made = []
    for at, data in enumerate(shown.channels):
        limits = None if shown.limits is None else shown.limits[at]
        own = {} if shown.rgb else {"contrast_limits": limits, "colormap": "gray"}
        made.append(
            viewer.add_image(
                data,
                name=shown.layer_name(at),
                scale=shown.scale,
                metadata=dict(shown.metadata),
                rgb=shown.rgb,
                visible=at == 0,
                **own,
            )
        )
    return made


def _fill(layer: Layer, data: Any, shown: Displayed, name: str) -> None:  # noqa: ANN401
    """Let a layer show another volume."""
    layer.data = data
    layer.metadata, layer.name = dict(shown.metadata), name
    if tuple(layer.scale) != tuple(shown.scale):  # the viewer draws anew with each
        layer.scale = shown.scale


def _later(act: Callable[[], None]) -> None:
    QTimer.singleShot(0, act)
