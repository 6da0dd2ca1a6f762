"""Greedy coverage: each pick adds the most to how well the pool is covered.

Symbols: n rows of the pool, p of them on which coverage is measured, a_i their masses, S the picks
and labelled rows, K a kernel from 0 to 1.

    cover(S) = sum_i a_i max_{j in S} K(x_i, x_j)

What a row would add only falls as picks are made, so an old gain is a bound: only rows whose bound
is at the top are computed anew (Minoux 1978), a block at a time, and the picks are those of the
plain greedy way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_activeft.selection.candidates import Candidates, draws
from napari_activeft.selection.neighbours import chunks, first_best, squared
from napari_activeft.selection.products import dots
from napari_activeft.selection.room import Room

if TYPE_CHECKING:
    import torch

Kernel = Callable[["torch.Tensor"], "torch.Tensor"]
"""From squared distances to values from 0 to 1, in place if it likes."""

_PAIRS = 2_500_000_000
_LEAST_ANCHORS = 20_000
_KEPT_FLOATS = 2**24
_BLOCK = 16
_NOTHING = 2e-7
_SAME_GAIN = 1e-6


def anchor_rows(candidates: Candidates) -> NDArray[np.int64]:
    """Return the rows to measure on: all, or of a large pool a part drawn by name, ascending."""
    rows = len(candidates)
    count = max(_PAIRS // rows, _LEAST_ANCHORS)
    if count >= rows:
        return np.arange(rows)
    return np.sort(np.argsort(draws(0, candidates.keys), kind="stable")[:count])


class GreedyCover:
    """The state of a greedy cover.

    Parameters
    ----------
    kernel
        How well a row is covered by another at some squared distance.
    anchors
        Rows on which coverage is measured, see `anchor_rows`.
    """

    def __init__(
        self, candidates: Candidates, room: Room, kernel: Kernel, anchors: NDArray[np.int64]
    ) -> None:
        self._candidates, self._room, self._kernel = candidates, room, kernel
        self._vectors = candidates.tensor
        everything = len(anchors) == len(candidates)
        self._points = self._vectors if everything else self._vectors[anchors]
        masses = candidates.weights[anchors]
        # All mass may lie beside the rows that were drawn.
        masses = masses if masses.sum() > 0 else np.ones(len(anchors))
        self._masses = self._vectors.new_tensor(masses / masses.sum())
        self._cover = self._vectors.new_zeros(len(anchors))
        self._kept: torch.Tensor | None = None
        if len(anchors) * len(candidates) <= _KEPT_FLOATS:
            self._kept = self._columns(np.arange(len(candidates)))
        for part in chunks(len(candidates.support), len(anchors)):
            columns = self._columns(candidates.support[part])
            self._cover = self._cover.maximum(columns.max(dim=1).values)

    @property
    def covered(self) -> float:
        """The objective, 0 to 1."""
        return min(1.0, float(self._masses.double() @ self._cover.double()))

    def take(self, count: int) -> tuple[list[int], list[float]]:
        """Take up to ``count`` rows; fewer, when no row adds anything any more.

        Returns
        -------
        picks, gains
            Rows and what each added to the cover, all above 0.
        """
        free, effort = self._candidates.free_rows, self._candidates.effort
        bounds = self._gains(free, total=count) / effort[free]
        picks: list[int] = []
        gains: list[float] = []
        for step in range(count):
            self._candidates.on_progress(step, count)
            at = self._best(bounds, fresh=not picks)
            gain = bounds[at] * effort[free[at]]
            if gain <= _NOTHING:
                break
            row = int(free[at])
            self._room.take(row)
            self._cover = self._cover.maximum(self._columns(free[at : at + 1])[:, 0])
            picks.append(row)
            gains.append(float(gain))
        return picks, gains

    def _best(self, bounds: NDArray[np.float64], *, fresh: bool) -> int:
        """Return where the gain per cost is the largest; bounds are mended on the way."""
        free = self._candidates.free_rows
        fits = self._room.mask(free)
        worth = np.where(fits, bounds, -np.inf)
        known = np.full(len(free), fresh)
        block = _BLOCK
        while True:
            top = worth[known].max(initial=-np.inf)
            open_ = np.flatnonzero(~known & (worth >= top - _SAME_GAIN * abs(top)) & fits)
            if not len(open_):
                break
            if len(open_) > block:
                open_ = open_[np.argpartition(-worth[open_], block)[:block]]
            rows = free[open_]
            worth[open_] = bounds[open_] = self._gains(rows) / self._candidates.effort[rows]
            known[open_] = True
            block *= 2
        worth[~known] = -np.inf
        return first_best(worth, _SAME_GAIN * abs(worth.max()))

    def _gains(self, rows: NDArray[np.int64], total: int = 0) -> NDArray[np.float64]:
        """Return what each row would add, float64 of the shape of ``rows``."""
        found = np.empty(len(rows))
        for part in chunks(len(rows), len(self._points)):
            if total:
                self._candidates.on_progress(0, total)
            more = self._columns(rows[part]) - self._cover[:, None]
            found[part] = (self._masses @ more.clamp_(min=0.0)).double().cpu().numpy()
        return found

    def _columns(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Return the kernel between all points and these rows, (p, rows)."""
        if self._kept is not None:
            return self._kept[:, rows]
        return self._kernel(squared(dots(self._points, self._vectors[rows])))
