"""The order in which picks are worth it, so that every prefix is a good selection.

Symbols: n rows with masses w, k picks, c_ij distances.

Greedy: next comes the pick that lowers the mean distance from the pool to the nearest pick or
labelled row the most. The decrease only shrinks as picks come in, so it is computed anew for the
pick on top of the queue alone (lazy greedy). Equal vectors count as 0 apart, so duplicates rank by
row, not by rounding.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from napari_activeft.selection.blocks import distances_between

FARTHEST = 2.0
"""Distance of two unit vectors at most: what a row counts that has no pick yet."""
SAME = 1e-6
"""Distances below this are rounding: the vectors are the same."""
TABLE_NUMBERS = 20_000_000
"""Distances kept; above that every so many-th row of the pool stands for its neighbours."""
_CHUNK_NUMBERS = 2_000_000


def rank(
    vectors: NDArray[np.float32],
    weights: NDArray[np.float64],
    picks: NDArray[np.int64],
    labelled: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the picks (k,) in order, and the gain (k,) of each.

    A gain is the decrease of the mean distance from the pool to the nearest of the labelled rows
    and the picks so far; before there is any, each row counts `FARTHEST`.

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
    """Return the distances (k, n), exactly 0 between equal vectors."""
    distances = np.empty((len(left), len(right)), dtype=np.float32)
    step = max(1, _CHUNK_NUMBERS // max(len(right), 1))
    for start in range(0, len(left), step):
        part = slice(start, start + step)
        distances[part] = distances_between(left[part], right)
    distances[distances < SAME] = 0.0
    return distances
