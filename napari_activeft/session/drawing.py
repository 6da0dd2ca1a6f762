"""The mask of one slice while somebody draws it: undo, redo, and what a journal brings back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import numpy as np

from napari_activeft.session.strokes import Stroke
from napari_activeft.voxels import LabelMap


class Drawing:
    """A mask (h, w) with its history.

    Parameters
    ----------
    mask
        What it starts from; it is copied.
    base
        The revision that this is, None where the slice had no mask.

    Attributes
    ----------
    mask
        As it is now.
    base
        As given.
    """

    def __init__(self, mask: LabelMap, base: int | None = None) -> None:
        self.mask = mask.copy()
        self.base = base
        self._first = mask.copy()
        self._done: list[Stroke] = []
        self._undone: list[Stroke] = []
        self._taken = 0

    def __len__(self) -> int:
        """Return how many strokes it took in, those that took one back counted too."""
        return self._taken

    @classmethod
    def replayed(cls, mask: LabelMap, base: int | None, strokes: Iterable[Stroke]) -> Self:
        """Return a drawing after the strokes of a journal, with the undo that they left.

        Strokes from the first on that no longer fits are left out: the rest was drawn on it.
        """
        drawing = cls(mask, base)
        for stroke in strokes:
            if not stroke.fits(drawing.mask):
                break
            drawing._replay(stroke)
        return drawing

    @property
    def strokes(self) -> int:
        """How many strokes are in the mask, those that were taken back left out."""
        return len(self._done)

    @property
    def can_undo(self) -> bool:
        """Whether there is a stroke to take back."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether a stroke that was taken back can be done again."""
        return bool(self._undone)

    @property
    def changed_pixels(self) -> int:
        """Pixels that differ from what it started from: the edit distance to that mask."""
        return int(np.count_nonzero(self.mask != self._first))

    def take(self, mask: LabelMap) -> Stroke | None:
        """Take in a mask that somebody drew; return the stroke that this was, None if nothing."""
        stroke = Stroke.between(self.mask, mask)
        if stroke is not None:
            self._replay(stroke)
        return stroke

    def undo(self) -> Stroke | None:
        """Take the last stroke back; return the stroke that does it, None without any."""
        return self._replay(self._done[-1].inverse("undo")) if self._done else None

    def redo(self) -> Stroke | None:
        """Do what was last taken back again; return that stroke, None without any."""
        return self._replay(self._undone[-1].again("redo")) if self._undone else None

    def _replay(self, stroke: Stroke) -> Stroke:
        """Change mask and history by a stroke that fits."""
        stroke.apply(self.mask)
        self._taken += 1
        if stroke.kind == "undo" and self._done:
            self._undone.append(self._done.pop())
        elif stroke.kind == "redo" and self._undone:
            self._done.append(self._undone.pop())
        else:
            self._done.append(stroke)
            self._undone.clear()
        return stroke
