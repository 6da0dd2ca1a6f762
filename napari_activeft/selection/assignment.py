"""From centres to distinct slices under caps.

Symbols: k centres, q free rows, c costs (k, q).

Where the table of costs is small, the assignment of minimal total cost is found exactly; for large
pools each centre brings a list of its nearest rows, and pairs are taken in ascending order of
cost. What the caps refuse goes to the cheapest row that still fits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_activeft.selection.room import Room

EXACT_NUMBERS = 4_000_000
"""Largest table of costs for which the assignment is exact."""
LISTED = 12
"""Rows in a centre's list."""
_CHUNK_NUMBERS = 4_000_000


def assign(
    centres: NDArray[np.float32],
    vectors: NDArray[np.float32],
    free: NDArray[np.int64],
    room: Room,
) -> NDArray[np.int64]:
    """Give each centre a row of its own and take it from the room.

    Parameters
    ----------
    centres
        Shape (k, d), rows of length 1.
    vectors
        Shape (n, d), rows of length 1.
    free
        Int64, shape (q,), q >= k: rows that may be taken, ascending.
    room
        What the caps leave; k rows still fit.

    Returns
    -------
    NDArray[np.int64]
        Shape (k,): the row of each centre.
    """
    if len(centres) * len(free) <= EXACT_NUMBERS:
        centre, row, cost = _exact_pairs(centres, vectors, free)
    else:
        centre, row, cost = _listed_pairs(centres, vectors, free)
    found = np.full(len(centres), -1, dtype=np.int64)
    for at in np.lexsort((row, centre, cost)):
        if found[centre[at]] < 0 and room.fits(int(row[at])):
            room.take(int(row[at]))
            found[centre[at]] = row[at]
    for left in np.flatnonzero(found < 0):
        fitting = free[room.mask(free)]
        found[left] = fitting[int(np.argmax(vectors[fitting] @ centres[left]))]
        room.take(int(found[left]))
    return found


_Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]


def _exact_pairs(
    centres: NDArray[np.float32], vectors: NDArray[np.float32], free: NDArray[np.int64]
) -> _Pairs:
    from scipy.optimize import linear_sum_assignment

    costs = 2.0 - 2.0 * (centres @ vectors[free].T)
    centre, at = linear_sum_assignment(costs)
    return centre, free[at], costs[centre, at]


def _listed_pairs(
    centres: NDArray[np.float32], vectors: NDArray[np.float32], free: NDArray[np.int64]
) -> _Pairs:
    listed = min(LISTED, len(free))
    rows = np.zeros((len(centres), 0), dtype=np.int64)
    costs = np.zeros((len(centres), 0), dtype=np.float32)
    step = max(listed, _CHUNK_NUMBERS // len(centres))
    for start in range(0, len(free), step):
        part = free[start : start + step]
        here = 2.0 - 2.0 * (centres @ vectors[part].T)
        keep = min(listed, len(part))
        nearest = np.argpartition(here, keep - 1, axis=1)[:, :keep]
        rows = np.hstack([rows, part[nearest]])
        costs = np.hstack([costs, np.take_along_axis(here, nearest, axis=1)])
        best = np.argpartition(costs, listed - 1, axis=1)[:, :listed]
        rows, costs = np.take_along_axis(rows, best, 1), np.take_along_axis(costs, best, 1)
    centre = np.repeat(np.arange(len(centres)), rows.shape[1])
    return centre, rows.ravel(), costs.ravel()
