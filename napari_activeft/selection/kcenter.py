"""k-center (CoreSet): always the slice furthest from everything chosen so far.

Sener and Savarese, Active Learning for Convolutional Neural Networks: A Core-Set Approach, 2018.
It chases outliers: strange slices come first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_activeft.selection.candidates import Candidates, Choice
from napari_activeft.selection.neighbours import SAME, first_best, nearest, squared
from napari_activeft.selection.room import Room

_FURTHEST = 4.0
"""The squared distance of opposite vectors: where nothing is chosen, all is as far as it can be."""


def kcenter(candidates: Candidates, budget: int, seed: int) -> Choice:
    """Choose greedily so that no row is far from the picks; labelled rows are picks already.

    Without any, the first is the row in the middle of the pool. The gain of a pick is its
    distance from those before it, per cost if there are costs. Nothing is drawn.
    """
    del seed
    room = Room(candidates, budget)
    picks, gains = farthest_first(candidates, room, budget, [])
    return Choice(picks, gains)


def farthest_first(
    candidates: Candidates, room: Room, count: int, before: list[int]
) -> tuple[list[int], list[float]]:
    """Take ``count`` rows, each the furthest from labelled rows, ``before`` and one another.

    Returns
    -------
    picks, gains
        Rows, and the distance of each from all before it.
    """
    vectors = candidates.tensor
    free = candidates.free_rows
    ours = vectors if len(free) == len(vectors) else vectors[free]
    known = np.concatenate([candidates.support, np.asarray(before, dtype=np.int64)])
    distances = np.full(len(free), _FURTHEST)
    if len(known):
        distances = nearest(ours, vectors[known])[1].double().cpu().numpy()
        distances[distances < SAME] = 0.0
    picks: list[int] = []
    gains: list[float] = []
    for step in range(count):
        candidates.on_progress(len(before) + step, len(before) + count)
        worth = np.sqrt(distances) / candidates.effort[free]
        if not len(known) and not picks:
            worth = worth + _closeness_to_middle(candidates, free)
        worth[~room.mask(free)] = -np.inf
        at = first_best(worth, SAME)
        room.take(int(free[at]))
        picks.append(int(free[at]))
        gains.append(float(np.sqrt(distances[at])))
        new = squared(ours @ ours[at]).double().cpu().numpy()
        np.minimum(distances, new, out=distances)
    return picks, gains


def _closeness_to_middle(candidates: Candidates, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how near rows lie to the mean of the pool, per cost."""
    vectors = candidates.tensor
    weights = vectors.new_tensor(candidates.weights)
    dots = (vectors @ (weights @ vectors)).double().cpu().numpy()
    closeness: NDArray[np.float64] = (1.0 + dots[rows]) / candidates.effort[rows]
    return closeness
