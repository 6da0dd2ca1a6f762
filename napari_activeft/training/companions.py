"""Which slices of a pool without labels show nearly the same as others.

Symbols: n slices, d numbers that say how a slice looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from napari_activeft.embedding.quality import SAME_PLACE
from napari_activeft.training.unlabelled import Pictures

_SIBLINGS: Final = 16
_KIN: Final = 8
_LEAST_LIKENESS: Final = 0.5
"""Of the greatest there: what looks less alike is of another kind."""
_LOOK, _CELL = 64, 8  # pixels
_LEAST_DEVIATION: Final = 0.02
_AT_ONCE: Final = 256
_ROUNDING: Final = 1e-9


class Companions:
    """Finds to each slice others that show nearly the same.

    These are its neighbours in the stack, the slices at its place in other stacks of the case
    (another phase, another sequence), and, where ``across`` cases is asked for, of the slices that
    lie at its place in other cases the eight that look most like it.
    """

    def __init__(self, pictures: Pictures, *, across: bool = False) -> None:
        self._own = _within_cases(pictures)
        self._others = _across_cases(pictures) if across else {}

    def drawn(self, rows: Sequence[int], rng: np.random.Generator) -> NDArray[np.int64]:
        """Return one companion of each row; a slice is among its own.

        Every second one is of another case, where there are any.
        """
        return np.array([rng.choice(self._of(row, int(rng.integers(2)))) for row in rows])

    def _of(self, row: int, across: int) -> NDArray[np.int64]:
        return self._others[row] if across and row in self._others else self._own[row]


def _within_cases(pictures: Pictures) -> list[NDArray[np.int64]]:
    """Return to each slice its neighbours, and what lies at its place in other stacks of the case.

    Of a case with very many stacks some do, evenly spread.
    """
    stacks, at = np.asarray(pictures.stacks), np.asarray(pictures.positions)
    places, cases = pictures.places, np.asarray(pictures.cases)
    rows_of = {int(stack): np.flatnonzero(stacks == stack) for stack in np.unique(stacks)}
    stacks_of: dict[str, list[int]] = {}
    for stack, rows in rows_of.items():
        if not np.isnan(places[rows]).any():  # long enough for a place
            stacks_of.setdefault(str(cases[rows[0]]), []).append(stack)
    made: list[NDArray[np.int64]] = [np.empty(0, np.int64)] * len(pictures)
    for stack, rows in rows_of.items():
        beside = np.abs(at[rows, np.newaxis] - at[rows]) <= pictures.reach[rows, np.newaxis]
        siblings = [one for one in stacks_of.get(str(cases[rows[0]]), ()) if one != stack]
        step = -(-len(siblings) // _SIBLINGS) or 1
        there = [] if np.isnan(places[rows]).any() else siblings[stack % step :: step]
        found = [
            rows_of[one][np.abs(places[rows, np.newaxis] - places[rows_of[one]]).argmin(axis=1)]
            for one in there
        ]
        for number, row in enumerate(rows):
            opposite = np.array([one[number] for one in found], np.int64)
            made[row] = np.concatenate([rows[beside[number]], opposite])
    return made


def _across_cases(pictures: Pictures) -> dict[int, NDArray[np.int64]]:
    """Return to each slice those at its place in other cases that look most like it.

    What looks alike is told by histograms of oriented gradients, each number of mean 0 and
    deviation 1 over the pool. What is less like it than the pool is on average, or than half of
    the nearest, is left out: in a pool of several organs or sequences it keeps to its own kind.
    """
    places = pictures.places
    rows = np.flatnonzero(~np.isnan(places))
    cases = np.unique(np.asarray(pictures.cases), return_inverse=True)[1][rows]
    if len(rows) == 0 or len(np.unique(cases)) < 2:
        return {}
    looks = _looks(pictures, rows)
    found = {}
    for start in range(0, len(rows), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        # Rounded, so that another number of threads hardly ever gives another order.
        likeness = np.round(looks[part] @ looks.T, 4)
        apart = np.abs(places[rows[part], np.newaxis] - places[rows]) > SAME_PLACE + _ROUNDING
        likeness[apart | (cases[part, np.newaxis] == cases)] = -np.inf
        best = np.argsort(-likeness, axis=1, kind="stable")[:, :_KIN]
        near = np.take_along_axis(likeness, best, axis=1)
        enough = (near > 0) & (near >= _LEAST_LIKENESS * near[:, :1])
        for row, those, kept in zip(rows[part], best, enough, strict=True):
            if kept.any():
                found[int(row)] = rows[those[kept]]
    return found


def _looks(pictures: Pictures, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return vectors of length 1 that say how slices look, (n, d)."""
    from torch.nn.functional import interpolate

    from napari_activeft.training.oriented import oriented_histograms

    made = []
    for start in range(0, len(rows), _AT_ONCE):
        shown = pictures.shown(rows[start : start + _AT_ONCE])
        small = interpolate(shown, size=(_LOOK, _LOOK), mode="bilinear", antialias=True)
        made.append(oriented_histograms(small, _CELL).flatten(1).numpy())
    looks = np.concatenate(made)
    looks -= looks.mean(axis=0, dtype=np.float64).astype(np.float32)
    # A cell that is empty in nearly all slices must not decide for the few where it is not.
    looks /= np.maximum(looks.std(axis=0, dtype=np.float64), _LEAST_DEVIATION).astype(np.float32)
    looks /= np.maximum(np.linalg.norm(looks, axis=1, keepdims=True), _ROUNDING)
    return looks
