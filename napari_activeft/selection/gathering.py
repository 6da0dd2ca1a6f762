"""From the caller's arrays, in any order of rows, to `Candidates` in the order of the keys."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_activeft.errors import UserError

_CHUNK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Rows:
    """The rows of a caller, by key.

    Attributes
    ----------
    keys
        Ascending.
    order
        int64 (n,): the caller's row behind each key.
    """

    keys: list[str]
    order: NDArray[np.int64]

    @classmethod
    def of(cls, keys: Sequence[str]) -> Rows:
        """Sort the keys.

        Raises
        ------
        ValueError
            If there are none or two are the same.
        """
        if not len(keys):
            raise ValueError("no rows were given: give a pool of at least one slice")
        if len(set(keys)) != len(keys):
            raise ValueError("two rows bear the same key: give each row a name of its own")
        order = sorted(range(len(keys)), key=keys.__getitem__)
        return cls([keys[row] for row in order], np.asarray(order, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.keys)

    def taken(self, rows: Collection[int]) -> frozenset[int]:
        """Return where rows of the caller stand in the order of keys.

        Raises
        ------
        ValueError
            If a row is no whole number or outside of the pool.
        """
        if not len(rows):
            return frozenset()
        for row in rows:
            if isinstance(row, (bool, np.bool_)) or not isinstance(row, (int, np.integer)):
                raise ValueError(
                    f"{row!r} was given as a taken row: give rows as whole numbers, of a mask "
                    "numpy.flatnonzero(mask)"
                )
        if not 0 <= min(rows) <= max(rows) < len(self):
            raise ValueError(
                f"rows {min(rows)} to {max(rows)} were given as taken, the pool has rows 0 to "
                f"{len(self) - 1}: give rows of this pool"
            )
        place = np.empty(len(self), dtype=np.int64)
        place[self.order] = np.arange(len(self))
        return frozenset(int(place[row]) for row in rows)

    def column(
        self, name: str, values: Sequence[int] | Sequence[str] | ArrayLike
    ) -> NDArray[np.generic]:
        """Return one value per row in the order of keys.

        Raises
        ------
        ValueError
            If there is not one per row.
        """
        column = np.asarray(values)
        if column.shape != (len(self),):
            raise ValueError(
                f"{len(self)} keys and {name} of shape {column.shape} were given: give one per row"
            )
        sorted_column: NDArray[np.generic] = column[self.order]
        return sorted_column

    def amounts(
        self, name: str, values: ArrayLike | None, *, least: str
    ) -> NDArray[np.float64] | None:
        """Return finite numbers, one per row in the order of keys; None for None.

        Parameters
        ----------
        least
            "above 0" or "of 0 or more".

        Raises
        ------
        ValueError
            If one is not finite, negative, or 0 where it must be above.
        """
        if values is None:
            return None
        column = self.column(name, values).astype(np.float64)
        right = np.isfinite(column) & ((column > 0) if least == "above 0" else (column >= 0))
        if not right.all():
            row = int(np.argmin(right))
            raise ValueError(
                f"{name} of {self.keys[row]!r} is {column[row]}: give finite numbers {least}"
            )
        return column

    def vectors(self, embeddings: ArrayLike | None) -> NDArray[np.float32]:
        """Return the vectors at length 1 in the order of keys, float32 (n, d).

        Rows are read in chunks: an array on the disk is never in memory twice.

        Raises
        ------
        ValueError
            If there is not one vector per row.
        UserError
            If a vector holds NaN or infinity, or is zero.
        """
        given = np.asanyarray(embeddings)
        if given.ndim != 2 or len(given) != len(self) or given.shape[1] < 1:
            raise ValueError(
                f"{len(self)} keys and embeddings of shape {given.shape} were given: give one "
                "vector per row, shape (n, d)"
            )
        if given.dtype.kind not in "fiub":
            raise ValueError(f"embeddings of type {given.dtype} were given: give real numbers")
        made = np.empty(given.shape, dtype=np.float32)
        step = max(1, _CHUNK_BYTES // (8 * given.shape[1]))
        for start in range(0, len(self), step):
            part = np.asarray(given[self.order[start : start + step]], dtype=np.float64)
            largest = np.abs(part).max(axis=1, keepdims=True)
            self._see_usable(largest[:, 0], start)
            part /= largest  # so that squares neither overflow nor vanish
            part /= np.linalg.norm(part, axis=1, keepdims=True)
            made[start : start + step] = part
        return made

    def _see_usable(self, largest: NDArray[np.float64], start: int) -> None:
        for wrong, what in (
            (~np.isfinite(largest), "holds NaN or infinity"),
            (largest == 0, "is zero"),
        ):
            if wrong.any():
                key = self.keys[start + int(np.argmax(wrong))]
                raise UserError(
                    f"the vector of slice {key} {what}, and a direction is needed to compare it: "
                    "embed the pool again, or forbid this slice and give it another vector"
                )


def numbered(column: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return distinct values as numbers from 0 in the order in which they first appear."""
    _, first, inverse = np.unique(column, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    found: NDArray[np.int64] = rank[inverse]
    return found
