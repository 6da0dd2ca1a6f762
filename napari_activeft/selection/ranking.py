"""The order in which picks are worth it, so that every prefix is a good selection.

Symbols: n rows with masses w, k picks, c_ij distances.

Greedy: next comes the pick that lowers the mean distance from the pool to the nearest pick or
labelled row the most. The decrease only shrinks as picks come in, so it is computed anew for the
pick on top of the queue alone (lazy greedy).
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

FARTHEST = 2.0
"""Distance of two unit vectors at most: what a row counts that has no pick yet."""
TABLE_NUMBERS = 20_000_000
"""Distances kept; above that every so many-th row of the pool stands for its neighbours."""


def rank(
    vectors: NDArray[np.float32],
    weights: NDArray[np.float64],
    picks: NDArray[np.int64],
    labelled: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the picks (k,) in order and what each adds: the decrease of the mean distance.

    Parameters
    ----------
    vectors
        Shape (n, d), rows of length 1.
    weights
        Shape (n,), sum 1.
    picks, labelled
        Rows.
    """
    step = -(-len(vectors) * len(picks) // TABLE_NUMBERS)
    seen = np.arange(0, len(vectors), max(1, step))
    pool, mass = vectors[seen], weights[seen] / max(float(weights[seen].sum()), 1e-300)
    picks = np.sort(picks)
    table = _distances(vectors[picks], pool)
    nearest = np.full(len(seen), FARTHEST, dtype=np.float32)
    for row in labelled:
        nearest = np.minimum(nearest, _distances(vectors[row : row + 1], pool)[0])
    queue = [
        (-float(np.maximum(nearest - row, 0.0) @ mass), place, 0) for place, row in enumerate(table)
    ]
    heapq.heapify(queue)
    order: list[int] = []
    gains: list[float] = []
    while queue:
        gain, place, age = heapq.heappop(queue)
        if age == len(order):
            order.append(place)
            gains.append(-gain)
            np.minimum(nearest, table[place], out=nearest)
        else:
            gain = -float(np.maximum(nearest - table[place], 0.0) @ mass)
            heapq.heappush(queue, (gain, place, len(order)))
    return picks[order], np.maximum(np.asarray(gains), 0.0)


def _distances(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    distances: NDArray[np.float32] = np.sqrt(np.maximum(2.0 - 2.0 * (left @ right.T), 0.0))
    return distances
