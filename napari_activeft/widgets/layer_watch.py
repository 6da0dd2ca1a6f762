"""Sees every change of a Labels layer, whatever made it: a brush, undo, or another plugin.

Events only tell where to look. What changed is the difference between the layer and a copy of it as
it was last seen, so no tool has to tell the truth about its edits.

Symbols: the layer's data are (z, y, x) or (y, x); a slice (h, w) lies along one axis of three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_activeft.session.edits import touched_positions
from napari_activeft.voxels import LabelMap

if TYPE_CHECKING:
    from napari.layers import Labels

OnChange = Callable[[int, LabelMap], None]
"""Takes the position of a slice and a copy of its mask (h, w) as it is now."""
Later = Callable[[Callable[[], None]], None]


class LayerWatch:
    """Watches one layer slice by slice.

    Parameters
    ----------
    layer
        Its data stay what they are; ``put`` writes into them.
    axis
        Along which the volume is sliced.
    on_change
        Called once for each slice that an edit changed. It may call ``put``.
    later
        Runs what it is given once the edit is over, for example in the next turn of the event loop:
        napari tells of some edits before it writes them.
    """

    def __init__(self, layer: Labels, axis: int, on_change: OnChange, later: Later) -> None:
        self.layer, self._axis, self._on_change, self._later = layer, axis, on_change, later
        self._seen: Any = np.array(layer.data)
        self._edited: set[int] = set()  # ever, under this watch
        self._told: set[int] = set()  # of by an event, and not looked at yet
        self._looking = False
        layer.events.paint.connect(self._painted)
        layer.events.data.connect(self._replaced)
        layer.events.set_data.connect(self._refreshed)

    def close(self) -> None:
        """Look once more, then watch no longer."""
        self._look_where_told()
        self.layer.events.paint.disconnect(self._painted)
        self.layer.events.data.disconnect(self._replaced)
        self.layer.events.set_data.disconnect(self._refreshed)

    def mask(self, position: int) -> LabelMap:
        """Return the mask (h, w) of a slice as it was last seen."""
        mask: LabelMap = self._slice(self._seen, position)
        return mask

    def put(self, position: int, mask: LabelMap) -> None:
        """Show a mask (h, w) on a slice; that is no edit."""
        self._slice(self.layer.data, position)[...] = mask
        self._slice(self._seen, position)[...] = mask
        before, self._looking = self._looking, True
        try:
            self.layer.refresh()
        finally:
            self._looking = before

    def look(self, positions: Iterable[int] | None = None) -> None:
        """Find what changed, in some slices or anywhere, and tell of it.

        Some helpers write into the data and tell nobody: call this before a mask is submitted.
        """
        if self._looking:
            return
        self._looking = True
        try:
            for position in range(self._depth) if positions is None else positions:
                now = self._slice(self.layer.data, position)
                if not np.array_equal(now, self._slice(self._seen, position)):
                    self._slice(self._seen, position)[...] = now
                    self._edited.add(position)
                    self._on_change(position, np.array(now))
        finally:
            self._looking = False

    def _painted(self, event: Any) -> None:  # noqa: ANN401
        self._told.update(touched_positions(event.value, self._axis, self.layer.data.shape))
        self._later(self._look_where_told)

    def _look_where_told(self) -> None:
        positions, self._told = sorted(self._told), set()
        self.look(positions)

    def _replaced(self, _: object = None) -> None:
        """Take in data that somebody has set; of another shape they are no masks of this volume."""
        if self.layer.data.shape == self._seen.shape:
            self.look()

    def _refreshed(self, _: object = None) -> None:
        """Look at what is displayed, and at what was edited before: an undo may be there.

        Not in the middle of a stroke, which is told when it is over.
        """
        drawing = getattr(self.layer, "_block_history", False)
        if self.layer.data.shape == self._seen.shape and not drawing:
            self.look(sorted(self._edited | self._displayed()))

    def _displayed(self) -> set[int]:
        """Return the position that the viewer shows; none where it shows another plane."""
        if self._seen.ndim < 3:
            return {0}
        if self._axis in self.layer._slice_input.displayed:
            return set()
        at = self.layer._data_slice.point[self._axis]
        return {int(at)} if 0 <= at < self._depth else set()

    @property
    def _depth(self) -> int:
        return 1 if self._seen.ndim < 3 else int(self._seen.shape[self._axis])

    def _slice(self, data: Any, position: int) -> Any:  # noqa: ANN401
        return data if data.ndim < 3 else np.moveaxis(data, self._axis, 0)[position]
