"""Herding with the energy distance: each pick brings the picks as near to the pool as it can.

Symbols: a the pool's masses, S the picks and labelled rows, m how many they are.

    D(S) = 2 E|X - Y| - E|X - X'| - E|Y - Y'|,   X from a, Y from S with equal masses

Szekely and Rizzo, Energy statistics, 2013; as a way to pick points, Mak and Joseph, Support
points, 2018. Adding y gives

    D(S + y) = 2 (M + mu(y)) / (m + 1) - E|X - X'| - (T + 2 t(y)) / (m + 1)^2

with mu(y) = E|X - y|, t(y) the sum of distances from S to y, M and T their sums over S.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_activeft.selection.candidates import Candidates, Choice
from napari_activeft.selection.greedy_cover import anchor_rows
from napari_activeft.selection.neighbours import chunks, first_best, squared
from napari_activeft.selection.products import dots
from napari_activeft.selection.room import Room

_SAME = 1e-7


def energy(candidates: Candidates, budget: int, seed: int) -> Choice:
    """Choose greedily what lowers the energy distance the most, per cost if there are costs.

    The gain is by how much it falls, 0 where it cannot; the first falls from what a row drawn
    from the pool has on average. Nothing is drawn.
    """
    del seed
    anchors = anchor_rows(candidates)
    herd = _Herd(candidates, anchors)
    for row in candidates.support:
        herd.add(int(row))
    free, room = candidates.free_rows, Room(candidates, budget)
    picks: list[int] = []
    gains: list[float] = []
    for step in range(budget):
        candidates.on_progress(step, budget)
        falls = herd.distance - herd.distances_with()[free]
        effort = candidates.effort[free]
        # A rise weighs the more, the more the row costs.
        worth = np.where(falls > 0, falls / effort, falls * effort)
        worth[~room.mask(free)] = -np.inf
        at = first_best(worth, _SAME)
        picks.append(int(free[at]))
        gains.append(max(0.0, float(falls[at])))
        room.take(picks[-1])
        herd.add(picks[-1])
    report = {"energy_distance": round(max(herd.distance, 0.0), 6), "measured_on": len(anchors)}
    return Choice(picks, gains, report)


class _Herd:
    """The sums that say how far S is from the pool, and how far it would be with one row more.

    Attributes
    ----------
    distance
        D(S); of no rows, what one row has on average.
    """

    def __init__(self, candidates: Candidates, anchors: NDArray[np.int64]) -> None:
        self._vectors = candidates.tensor
        self._to_pool = _mean_distances(candidates, anchors)
        self._to_rows = np.zeros(len(candidates))
        self._spread = float(candidates.weights @ self._to_pool)
        self._sum_to_pool = self._sum_within = 0.0
        self._size = 0
        self.distance = self._spread

    def distances_with(self) -> NDArray[np.float64]:
        """Return D(S + y) for every row y, float64 (n,)."""
        size = self._size + 1
        distances: NDArray[np.float64] = (
            2.0 * (self._sum_to_pool + self._to_pool) / size
            - self._spread
            - (self._sum_within + 2.0 * self._to_rows) / size**2
        )
        return distances

    def add(self, row: int) -> None:
        """Put a row into S."""
        self.distance = float(self.distances_with()[row])
        self._sum_within += 2.0 * float(self._to_rows[row])
        self._sum_to_pool += float(self._to_pool[row])
        self._size += 1
        lengths = squared(self._vectors @ self._vectors[row]).sqrt_()
        self._to_rows += lengths.double().cpu().numpy()


def _mean_distances(candidates: Candidates, anchors: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return mu of every row, float64 (n,)."""
    vectors = candidates.tensor
    masses = candidates.weights[anchors]
    # All mass may lie beside the rows that were drawn.
    masses = masses if masses.sum() > 0 else np.ones(len(anchors))
    shares = vectors.new_tensor(masses / masses.sum())
    points = vectors[anchors]
    found = np.empty(len(vectors))
    for part in chunks(len(vectors), len(anchors)):
        candidates.on_progress(0, 1)
        distances = squared(dots(vectors[part], points)).sqrt_()
        found[part] = (distances @ shares).double().cpu().numpy()
    return found
