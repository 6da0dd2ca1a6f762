"""What vectors are worth where nothing is labelled, and whether an encoder has collapsed.

Symbols: n slices, d vector size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

SAME_PLACE: Final = 0.1
"""Two slices lie at the same place of their stacks within this share of the stack's length."""
_COLLAPSED_SPREAD: Final = 1e-5
_COLLAPSED_RANK: Final = 1.5
_FEWEST = 3
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class Quality:
    """What vectors are worth.

    Attributes
    ----------
    retrieval
        Share of slices whose nearest slice of another case (cosine) lies at the same place of its
        stack; None where there is one case only, or no stack of at least three slices.
    chance
        The same for a slice of another case drawn at random.
    effective_rank
        Exponential of the entropy of the singular values of the centred vectors (Roy and
        Vetterli, 2007): in how many directions the vectors spread, 1 to d.
    spread
        1 minus the mean cosine of two slices.
    """

    retrieval: float | None
    chance: float | None
    effective_rank: float
    spread: float

    @property
    def collapsed(self) -> bool:
        """Whether all slices have got nearly the same vector, or vary in one direction only."""
        return self.spread < _COLLAPSED_SPREAD or self.effective_rank < _COLLAPSED_RANK


def quality(
    vectors: NDArray[np.float32], cases: Sequence[object], places: NDArray[np.float64]
) -> Quality:
    """Measure vectors.

    Parameters
    ----------
    vectors
        Shape (n, d).
    cases
        Of each slice.
    places
        (n,), from 0 at one end of a stack to 1 at the other; NaN in a short stack, where a slice
        has no place.
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    retrieval, chance = _retrieval(unit, cases, places)
    centred = unit - unit.mean(axis=0)
    mean = unit.mean(axis=0, dtype=np.float64)
    return Quality(retrieval, chance, effective_rank(centred), 1.0 - float(mean @ mean))


def effective_rank(matrix: NDArray[np.float32]) -> float:
    """Return the effective rank of a matrix, 1 for one that is 0 everywhere."""
    values = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    total = values.sum()
    if total <= 0:
        return 1.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def places_in(positions: Sequence[int], stacks: Sequence[object]) -> NDArray[np.float64]:
    """Return the place of each slice in its stack, 0 to 1; NaN in a stack of fewer than three."""
    low, length = extents(positions, stacks)
    enough = length >= _FEWEST - 1
    found = np.full(len(low), np.nan)
    at = np.asarray(positions, dtype=np.float64)
    found[enough] = (at[enough] - low[enough]) / length[enough]
    return found


def extents(
    positions: Sequence[int], stacks: Sequence[object]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the first position of each slice's stack, and how far it is from there to the last."""
    at = np.asarray(positions, dtype=np.float64)
    names, of = np.unique(np.asarray(stacks), return_inverse=True)
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    np.minimum.at(low, of, at)
    np.maximum.at(high, of, at)
    return low[of], (high - low)[of]


def _retrieval(
    unit: NDArray[np.float32], cases: Sequence[object], places: NDArray[np.float64]
) -> tuple[float | None, float | None]:
    rows = np.flatnonzero(~np.isnan(places))
    of = np.unique(np.asarray(cases), return_inverse=True)[1][rows]
    if len(rows) == 0 or len(np.unique(of)) < 2:
        return None, None
    likeness = unit[rows] @ unit[rows].T
    others = of[:, np.newaxis] != of[np.newaxis]
    likeness[~others] = -np.inf
    near = np.abs(places[rows, np.newaxis] - places[rows]) <= SAME_PLACE + _ROUNDING
    nearest = likeness.argmax(axis=1)
    hits = near[np.arange(len(rows)), nearest]
    chance = (near & others).sum(axis=1) / others.sum(axis=1)
    return float(hits.mean()), float(chance.mean())
