"""Slices without labels, held in memory as small pictures, and which of them show the same.

Symbols: n slices, c channels, s side of a picture.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_activeft.embedding.quality import SAME_PLACE, places_in

_REACH = 0.06
"""A neighbouring slice is at most this share of the stack away, or the next one."""
MAY_BE_ALIKE = 0.15
"""Slices this near in place, as a share of the stack, may show the same."""
_KIN, _LOOK, _CELL = 8, 64, 8
_AT_ONCE, _SMALL, _ORDER = 256, 1e-6, 5


@dataclass(frozen=True)
class Pictures:
    """Slices that an encoder learns from.

    Attributes
    ----------
    values
        Shape (n, c, s, s), 0 to 255.
    stacks, positions
        Of each slice: its volume, and where it lies in it.
    cases
        Of each slice.
    """

    values: NDArray[np.uint8] = field(repr=False)
    stacks: Sequence[int]
    positions: Sequence[int]
    cases: Sequence[str]

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def places(self) -> NDArray[np.float64]:
        """From 0 at one end of a stack to 1 at the other, see `places_in`."""
        return places_in(self.positions, self.stacks)

    def alike(self, rows: Sequence[int]) -> NDArray[np.bool_]:
        """Return which of some slices may show the same, by their places, (b, b)."""
        at = self.places[list(rows)]
        near: NDArray[np.bool_] = np.abs(at[:, np.newaxis] - at) <= MAY_BE_ALIKE
        return near

    def fingerprint(self) -> int:
        """Return a checksum of the pictures and where they are from."""
        told = f"{self.values.shape} {list(self.stacks)} {list(self.positions)} {list(self.cases)}"
        return zlib.crc32(np.ascontiguousarray(self.values).data, zlib.crc32(told.encode()))


class Companions:
    """Finds to each slice others that show nearly the same.

    These are its neighbours in the stack, the slices at its place in other stacks of the case
    (another phase, another sequence), and, where ``across`` cases is asked for, of the slices that
    lie at its place in other cases those that look most like it.
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
    stacks, at = np.asarray(pictures.stacks), np.asarray(pictures.positions)
    places, cases = pictures.places, np.asarray(pictures.cases)
    rows_of = {int(stack): np.flatnonzero(stacks == stack) for stack in np.unique(stacks)}
    siblings: dict[str, list[int]] = {}
    for stack, rows in rows_of.items():
        if np.isnan(places[rows]).any():  # too short for a place
            continue
        siblings.setdefault(str(cases[rows[0]]), []).append(stack)
    made: list[NDArray[np.int64]] = []
    for row in range(len(pictures)):
        own = rows_of[int(stacks[row])]
        reach = max(1.0, _REACH * (at[own].max() - at[own].min() + 1))
        found = [own[np.abs(at[own] - at[row]) <= reach]]
        for stack in siblings.get(str(cases[row]), ()):
            if stack != stacks[row] and not np.isnan(places[row]):
                others = rows_of[stack]
                nearest = np.abs(places[others] - places[row]).argmin()
                found.append(others[nearest : nearest + 1])
        made.append(np.concatenate(found))
    return made


def _across_cases(pictures: Pictures) -> dict[int, NDArray[np.int64]]:
    """Return to each slice those at its place in other cases that look most like it.

    What looks alike is told by histograms of oriented gradients, each number of mean 0 and
    deviation 1 over the pool: in a pool of several organs or sequences it keeps to its own kind.
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
        likeness = np.round(looks[part] @ looks.T, 4)  # the same on any number of threads
        apart = np.abs(places[rows[part], np.newaxis] - places[rows]) > SAME_PLACE + 1e-9
        likeness[apart | (cases[part, np.newaxis] == cases)] = -np.inf
        best = np.argsort(-likeness, axis=1, kind="stable")[:, :_KIN]
        for at, row in enumerate(rows[part]):
            there = best[at][np.isfinite(likeness[at, best[at]])]
            if len(there):
                found[int(row)] = rows[there]
    return found


def _looks(pictures: Pictures, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return vectors of length 1 that say how slices look, (n, d)."""
    import torch
    from torch.nn.functional import interpolate

    from napari_activeft.training.oriented import oriented_histograms

    made = []
    for start in range(0, len(rows), _AT_ONCE):
        values = torch.from_numpy(pictures.values[rows[start : start + _AT_ONCE]]).float() / 255
        small = interpolate(values, size=(_LOOK, _LOOK), mode="bilinear", antialias=True)
        made.append(oriented_histograms(small, _CELL).flatten(1).numpy())
    looks = np.concatenate(made)
    looks -= looks.mean(axis=0)
    looks /= looks.std(axis=0) + _SMALL
    looks /= np.linalg.norm(looks, axis=1, keepdims=True) + _SMALL
    return looks


class Turns:
    """In which order slices are seen: all come once before the first comes again.

    Parameters
    ----------
    stacks
        Of each slice.
    together
        How many of one stack come in a row, so that a batch sets them against each other.
    seed
        Of the order.
    """

    def __init__(self, stacks: Sequence[int], together: int, seed: int) -> None:
        self._stacks = np.asarray(stacks)
        self._together, self._seed = together, seed
        self._turn, self._order = -1, np.empty(0, np.int64)

    def rows(self, start: int, count: int) -> list[int]:
        """Return the slices at so many places from a place on, of an order without end."""
        return [
            self._row(*divmod(place, len(self._stacks))) for place in range(start, start + count)
        ]

    def _row(self, turn: int, at: int) -> int:
        if turn != self._turn:
            self._turn, self._order = turn, self._drawn(turn)
        return int(self._order[at])

    def _drawn(self, turn: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self._seed, _ORDER, turn])
        mixed = rng.permutation(len(self._stacks))
        by_stack = mixed[np.argsort(self._stacks[mixed], kind="stable")]
        of = self._stacks[by_stack]
        first = np.searchsorted(of, of, side="left")
        group = np.cumsum((np.arange(len(of)) - first) % self._together == 0) - 1
        return by_stack[np.argsort(rng.permutation(group[-1] + 1)[group], kind="stable")]
