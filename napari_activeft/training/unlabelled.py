"""Slices without labels, held in memory as small pictures, and in which order they are seen.

Symbols: n slices, c channels, s side of a picture, b slices of a batch.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from napari_activeft.embedding.quality import extents, places_in

if TYPE_CHECKING:
    import torch

_REACH: Final = 0.06
"""A neighbouring slice is at most this share of the stack away, or the next one."""
_MAY_BE_ALIKE: Final = 0.15
"""Slices this near in place, as a share of the stack, may show the same."""
_ORDER: Final = 5


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

    @cached_property
    def reach(self) -> NDArray[np.float64]:
        """How many slices away a neighbour of each slice lies at most."""
        _, length = extents(self.positions, self.stacks)
        return np.maximum(1.0, _REACH * (length + 1))

    def alike(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of b slices may show the same, (b, b).

        Those are a slice and itself, its neighbours, and what lies at its place in any stack.
        """
        which = np.asarray(rows)
        place, at = self.places[which], np.asarray(self.positions)[which]
        of = np.asarray(self.stacks)[which]
        apart = np.abs(place[:, np.newaxis] - place)
        near = apart <= _MAY_BE_ALIKE  # never of NaN, without a place
        beside = np.abs(at[:, np.newaxis] - at) <= self.reach[which]
        made: NDArray[np.bool_] = near | (beside & (of[:, np.newaxis] == of))
        return made

    def shown(
        self, rows: Sequence[int] | NDArray[np.int64], device: torch.device | None = None
    ) -> torch.Tensor:
        """Return pictures as a tensor (b, c, s, s), 0 to 1."""
        import torch

        return torch.from_numpy(self.values[np.asarray(rows)]).to(device).float() / 255

    def fingerprint(self) -> int:
        """Return a checksum of the pictures and where they are from."""
        told = f"{self.values.shape} {list(self.stacks)} {list(self.positions)} {list(self.cases)}"
        return zlib.crc32(np.ascontiguousarray(self.values).data, zlib.crc32(told.encode()))


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
