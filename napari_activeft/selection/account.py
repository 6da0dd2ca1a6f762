"""Who may take a pick's place: the caps, and how many cases the picks must reach."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_activeft.selection.candidates import Candidates
from napari_activeft.selection.room import Room


class Account:
    """Keeps the caps while picks are exchanged, and the number of cases they reach.

    Parameters
    ----------
    candidates
        The pool and its caps.
    room
        In which the picks are taken.
    picks
        Int64, shape (k,).
    least_cases
        Cases that picks and labelled rows must reach; the picks' own number where it is less.
    """

    def __init__(
        self, candidates: Candidates, room: Room, picks: NDArray[np.int64], least_cases: int
    ) -> None:
        caps = candidates.caps
        self.capped = not (caps.per_case is None and caps.per_volume is None and caps.gap == 1)
        self.room, self.cases = room, candidates.cases
        everywhere = np.concatenate([candidates.support, picks])
        self.in_case = np.bincount(self.cases[everywhere], minlength=int(self.cases.max()) + 1)
        self.least_cases = min(least_cases, self.reached)

    @property
    def reached(self) -> int:
        """Cases with a pick or a labelled row."""
        return int((self.in_case > 0).sum())

    def may_replace(self, pick: int, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each of these free rows may take the place of a pick."""
        may = np.ones(len(rows), dtype=bool)
        if self.capped:
            self.room.release(pick)
            may = self.room.mask(rows)
            self.room.take(pick)
        if self.in_case[self.cases[pick]] == 1 and self.reached <= self.least_cases:
            cases = self.cases[rows]
            may &= (self.in_case[cases] == 0) | (cases == self.cases[pick])
        return may

    def replace(self, pick: int, row: int) -> None:
        """Let a row take the place of a pick."""
        self.room.release(pick)
        self.room.take(row)
        self.in_case[self.cases[pick]] -= 1
        self.in_case[self.cases[row]] += 1

    def restore(self, picks: NDArray[np.int64], before: NDArray[np.int64]) -> None:
        """Undo exchanges: the picks (k,) go, those of before (k,) come back."""
        for pick in picks:
            self.room.release(int(pick))
        for row in before:
            self.room.take(int(row))
        np.subtract.at(self.in_case, self.cases[picks], 1)
        np.add.at(self.in_case, self.cases[before], 1)
