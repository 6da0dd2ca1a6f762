"""The pool as selectors see it, and draws that depend on names alone.

Symbols: n rows of the pool, d numbers in a vector, k picks.

Whoever calls `select` may list the rows in any order and number volumes and cases as they like.
Selectors never see that: their rows are in ascending order of keys, and volumes and cases count
from 0 in the order of their smallest keys. So a selector that works through its arrays from the
front is independent of the order of the caller's rows, and the first of equals is the one whose
key is smallest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.devices import pick_device
from napari_activeft.errors import OnProgress, no_progress

if TYPE_CHECKING:
    import torch

    from napari_activeft.settings import ActiveFTSettings


@dataclass(frozen=True)
class Caps:
    """What a selection may not take too much of; labelled rows count as taken before.

    Attributes
    ----------
    per_case, per_volume
        Most slices of one case and of one volume, labelled ones included; None is no limit.
    gap
        Positions of two picks of one volume, or of a pick and a labelled slice, differ by at
        least this; 1 lets neighbours stand together.
    """

    per_case: int | None = None
    per_volume: int | None = None
    gap: int = 1

    def __post_init__(self) -> None:
        for name in ("per_case", "per_volume", "gap"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"the cap {name} is {value}: give 1 or more")


NO_CAPS = Caps()


@dataclass(frozen=True)
class Choice:
    """What a selector returns.

    Attributes
    ----------
    rows
        k rows of the candidates, the most valuable first.
    gains
        What each pick added, in the selector's own objective, at least 0; zeros for draws.
    report
        What there is to say about the choice; it can be written as JSON.
    """

    rows: list[int]
    gains: list[float]
    report: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def drawn(cls, rows: list[int]) -> Choice:
        """Return a choice by draw or by rule: no pick adds more than another."""
        return cls(rows, [0.0] * len(rows))


@dataclass(frozen=True)
class Candidates:
    """Rows of a pool in ascending order of their keys, some of them free.

    Attributes
    ----------
    keys
        n distinct names, ascending.
    groups, cases
        int64 (n,): the volume and the case of each row, both counted from 0 in the order of
        their smallest keys; a volume lies in one case.
    positions
        int64 (n,): place of each row in its volume.
    free
        Rows that may be chosen, ascending.
    labelled
        Rows that count as support.
    weights
        float64 (n,): mass of each row, at least 0, sum 1.
    vectors
        float32 (n, d), C-contiguous, in memory, every row of length 1; None where none were
        given.
    costs
        float64 (n,): relative effort of labelling a row, above 0; None is the same for all.
    scores
        float64 (n,): uncertainty of a row, at least 0; None where none were given.
    caps
        What may not be taken too much of; `Room` keeps account.
    device
        Where to compute: a name that `devices.pick_device` knows.
    options
        Settings of `activeft`; None are its defaults.
    """

    keys: Sequence[str]
    groups: NDArray[np.int64]
    cases: NDArray[np.int64]
    positions: NDArray[np.int64]
    free: list[int]
    labelled: frozenset[int]
    weights: NDArray[np.float64]
    vectors: NDArray[np.float32] | None = None
    costs: NDArray[np.float64] | None = None
    scores: NDArray[np.float64] | None = None
    caps: Caps = NO_CAPS
    device: str = "cpu"
    on_progress: OnProgress = no_progress
    options: ActiveFTSettings | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def features(self) -> NDArray[np.float32]:
        """The vectors, for selectors that are never called without.

        Raises
        ------
        ValueError
            If none were given.
        """
        if self.vectors is None:
            raise ValueError("no embeddings were given, this selector needs them: give one a row")
        return self.vectors

    @cached_property
    def tensor(self) -> torch.Tensor:
        """The vectors (n, d) on the device; on a CPU nothing is copied.

        A GPU whose memory they do not fit into leaves them to the CPU: whoever reports says where
        they lie.
        """
        import torch

        vectors = torch.from_numpy(self.features)
        try:
            return vectors.to(pick_device(self.device))
        except torch.OutOfMemoryError:
            return vectors

    @cached_property
    def free_rows(self) -> NDArray[np.int64]:
        """The free rows as an array, ascending."""
        return np.asarray(self.free, dtype=np.int64)

    @cached_property
    def support(self) -> NDArray[np.int64]:
        """The labelled rows as an array, ascending."""
        return np.asarray(sorted(self.labelled), dtype=np.int64)

    @cached_property
    def effort(self) -> NDArray[np.float64]:
        """float64 (n,): what a gain is divided by, the costs or ones."""
        return np.ones(len(self)) if self.costs is None else self.costs

    @cached_property
    def group_names(self) -> list[str]:
        """The smallest key of each volume: its number differs between projects, this does not."""
        _, first = np.unique(self.groups, return_index=True)
        return [self.keys[row] for row in first]

    def rows_by_group(self, rows: Collection[int]) -> list[list[int]]:
        """Return the rows of each volume by position, the volumes in the order of their names."""
        members: dict[int, list[int]] = {}
        for row in sorted(rows):
            members.setdefault(int(self.groups[row]), []).append(row)
        for inside in members.values():
            inside.sort(key=lambda row: (self.positions[row], row))
        return [members[group] for group in sorted(members)]


def draw(seed: int, name: str) -> float:
    """Return a uniform number in [0, 1) that depends on seed and name alone."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64


def draws(seed: int, names: Sequence[str]) -> NDArray[np.float64]:
    """Return one draw per name."""
    return np.fromiter((draw(seed, name) for name in names), dtype=np.float64, count=len(names))
