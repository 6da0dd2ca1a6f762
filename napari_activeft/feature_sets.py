"""Pools as files: anybody's features as ``.npy``, and what each row is as ``.csv`` beside it.

``napari-activeft embed --out`` writes both. The table has the columns row, case, volume, position,
key and, if known, emptiness; without a table every row is a volume of its own.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import UserError

_COLUMNS = ("row", "case", "volume", "position", "key")
_EMPTINESS = "emptiness"


@dataclass(frozen=True)
class FeatureSet:
    """A pool of n slices, seen through one encoder.

    Attributes
    ----------
    name
        What tables call it.
    vectors
        float32 (n, d).
    keys, groups, cases, positions
        n names, volume numbers, cases and positions.
    outside
        (m, d): slices whose cases are not in the pool; None without any.
    emptiness
        (n,), 0 to 1; None where it is not known.
    """

    name: str
    vectors: NDArray[np.float32]
    keys: Sequence[str]
    groups: Sequence[int]
    cases: Sequence[str]
    positions: Sequence[int]
    outside: NDArray[np.float32] | None = None
    emptiness: NDArray[np.float64] | None = None

    @classmethod
    def of(
        cls,
        name: str,
        vectors: NDArray[Any],
        *,
        keys: Sequence[str] | None = None,
        groups: Sequence[int] | None = None,
        cases: Sequence[str] | None = None,
        positions: Sequence[int] | None = None,
        outside: NDArray[Any] | None = None,
        emptiness: NDArray[np.float64] | None = None,
    ) -> FeatureSet:
        """Return a pool of vectors (n, d); by default each row is a volume and a case of its own.

        Parameters are the attributes of the class.
        """
        count = len(vectors)
        groups = list(range(count)) if groups is None else groups
        return cls(
            name,
            np.ascontiguousarray(vectors, dtype=np.float32),
            [f"{row:08d}" for row in range(count)] if keys is None else keys,
            groups,
            [f"{group:08d}" for group in groups] if cases is None else cases,
            [0] * count if positions is None else positions,
            None if outside is None else np.ascontiguousarray(outside, dtype=np.float32),
            emptiness,
        )

    @classmethod
    def read(cls, path: Path, outside: Path | None = None) -> FeatureSet:
        """Read a ``.npy`` file and the table beside it where there is one.

        Parameters
        ----------
        outside
            A second ``.npy`` file by the same encoder, of cases that are not in the pool.

        Raises
        ------
        UserError
            If a file cannot be read or they do not belong together.
        """
        vectors = _matrix(path)
        table = path.with_suffix(".csv")
        pool = cls.of(path.stem, vectors, **(_rows(table, len(vectors)) if table.exists() else {}))
        if outside is None:
            return pool
        other = _matrix(outside)
        if other.shape[1] != vectors.shape[1]:
            raise UserError(
                f"{outside} holds vectors of {other.shape[1]} numbers, {path} of "
                f"{vectors.shape[1]}: give files by the same encoder"
            )
        return dataclasses.replace(pool, outside=other)

    @cached_property
    def digest(self) -> str:
        """First 16 digits of the SHA-256 of vectors, outside vectors, emptiness and names."""
        summed = hashlib.sha256(np.ascontiguousarray(self.vectors).tobytes())
        if self.outside is not None:
            summed.update(np.ascontiguousarray(self.outside).tobytes())
        if self.emptiness is not None:
            summed.update(np.ascontiguousarray(self.emptiness, dtype=np.float64).tobytes())
        rows = zip(self.keys, self.groups, self.cases, self.positions, strict=True)
        summed.update("\n".join(repr(row) for row in rows).encode())
        return summed.hexdigest()[:16]

    def part(self, name: str, rows: Sequence[int], outside: Sequence[int] = ()) -> FeatureSet:
        """Return some rows as a pool of their own, and some others as its outside."""
        return FeatureSet(
            name,
            self.vectors[list(rows)],
            [self.keys[row] for row in rows],
            [self.groups[row] for row in rows],
            [self.cases[row] for row in rows],
            [self.positions[row] for row in rows],
            outside=self.vectors[list(outside)] if outside else None,
            emptiness=None if self.emptiness is None else self.emptiness[list(rows)],
        )


def _matrix(path: Path) -> NDArray[np.float32]:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as refusal:
        raise UserError(
            f"{path} cannot be read as .npy ({refusal}): name a file of numbers, one row per slice"
        ) from refusal
    if not isinstance(found, np.ndarray) or found.ndim != 2 or not found.size:
        shape = getattr(found, "shape", "several arrays")
        raise UserError(
            f"{path} holds {shape}, but vectors are needed as one matrix: a row per slice"
        )
    if found.dtype.kind not in "fiu":
        raise UserError(f"{path} holds {found.dtype}, but numbers are needed: write floats")
    return np.ascontiguousarray(found, dtype=np.float32)


def _rows(table: Path, count: int) -> dict[str, Any]:
    """Return keys, groups, cases, positions and emptiness of the n rows of a table."""
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        named = reader.fieldnames or ()
        lacking = [name for name in _COLUMNS if name not in named]
        if lacking:
            raise UserError(
                f"{table} has no column {lacking[0]!r}: give {', '.join(_COLUMNS)}, or remove it"
            )
        lines = list(reader)
    try:
        lines.sort(key=lambda line: int(line["row"]))
        positions = [int(line["position"]) for line in lines]
        numbers = [int(line["row"]) for line in lines]
    except (TypeError, ValueError) as refusal:
        raise UserError(
            f"{table} has a row or position that is no whole number ({refusal}): mend it"
        ) from refusal
    if numbers != list(range(count)):
        raise UserError(
            f"{table} describes {len(lines)} rows, the vectors are rows 0 to {count - 1}: give one "
            "line per row"
        )
    volumes = {name: at for at, name in enumerate(sorted({line["volume"] for line in lines}))}
    return {
        "keys": [line["key"] for line in lines],
        "groups": [volumes[line["volume"]] for line in lines],
        "cases": [line["case"] for line in lines],
        "positions": positions,
        # Tables of earlier versions, and of other programs, have none.
        "emptiness": _emptiness(table, lines) if _EMPTINESS in named else None,
    }


def _emptiness(table: Path, lines: Sequence[dict[str, str]]) -> NDArray[np.float64]:
    for at, line in enumerate(lines):
        try:
            within = 0.0 <= float(line[_EMPTINESS]) <= 1.0
        except (TypeError, ValueError):
            within = False
        if not within:
            raise UserError(
                f"{table} has an emptiness of {line[_EMPTINESS]!r} in row {at}: give a number from "
                "0 (full) to 1 (empty) in every row, or remove the column"
            )
    return np.array([float(line[_EMPTINESS]) for line in lines])
