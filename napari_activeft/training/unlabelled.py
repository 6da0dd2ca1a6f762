"""Slices without labels, held in memory as small pictures, and which of them show the same.

Symbols: n slices, c channels, s side of a picture.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_activeft.embedding.quality import places_in

_REACH = 0.06
"""A neighbouring slice is at most this share of the stack away, or the next one."""


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

    @property
    def places(self) -> NDArray[np.float64]:
        """From 0 at one end of a stack to 1 at the other, see `places_in`."""
        return places_in(self.positions, self.stacks)

    def fingerprint(self) -> int:
        """Return a checksum of the pictures and where they are from."""
        told = f"{self.values.shape} {list(self.stacks)} {list(self.positions)} {list(self.cases)}"
        return zlib.crc32(np.ascontiguousarray(self.values).data, zlib.crc32(told.encode()))


class Companions:
    """Finds to each slice others that show nearly the same.

    These are its neighbours in the stack, and the slices at its place in other stacks of the case
    (another phase, another sequence).
    """

    def __init__(self, pictures: Pictures) -> None:
        stacks, at = np.asarray(pictures.stacks), np.asarray(pictures.positions)
        places, cases = pictures.places, np.asarray(pictures.cases)
        rows_of = {int(stack): np.flatnonzero(stacks == stack) for stack in np.unique(stacks)}
        siblings: dict[str, list[int]] = {}
        for stack, rows in rows_of.items():
            if np.isnan(places[rows]).any():  # too short for a place
                continue
            siblings.setdefault(str(cases[rows[0]]), []).append(stack)
        self._of: list[NDArray[np.int64]] = []
        for row in range(len(pictures)):
            own = rows_of[int(stacks[row])]
            reach = max(1.0, _REACH * (at[own].max() - at[own].min() + 1))
            found = [own[np.abs(at[own] - at[row]) <= reach]]
            for stack in siblings.get(str(cases[row]), ()):
                if stack != stacks[row] and not np.isnan(places[row]):
                    others = rows_of[stack]
                    nearest = np.abs(places[others] - places[row]).argmin()
                    found.append(others[nearest : nearest + 1])
            self._of.append(np.concatenate(found))

    def drawn(self, rows: Sequence[int], rng: np.random.Generator) -> NDArray[np.int64]:
        """Return one companion of each row; a slice is among its own."""
        return np.array([rng.choice(self._of[row]) for row in rows])
