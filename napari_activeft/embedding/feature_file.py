"""Vectors on disk: rows are only ever added, and a row counts once it is wholly there.

A folder holds ``embedding.json`` (what made the vectors), ``features.f32`` (rows of little-endian
float32) and ``keys.txt`` (the slice of each row). The keys are written after their rows have
reached the disk, so a process that dies in between loses its last rows and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import UserError

_COPIED_ROWS = 4096


class FeatureFile:
    """The vectors of one encoder.

    Parameters
    ----------
    folder
        Where they lie; made if it is not there.
    size
        Numbers in a vector, d.

    Attributes
    ----------
    keys
        Of the slices that have a vector, in the order of the rows.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self._features, self._keys = folder / "features.f32", folder / "keys.txt"
        self.keys: list[str] = []

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the vectors that a folder holds, to read them."""
        about = read_about(folder)
        found = cls(folder, int(about["size"]))
        found.keys = found._whole_rows()
        return found

    @classmethod
    @contextmanager
    def writing(cls, folder: Path, size: int, about: dict[str, Any]) -> Iterator[Self]:
        """Open a folder to add rows; what a killed process left half-written is cut off.

        Raises
        ------
        UserError
            If another process adds rows to it now, or the folder cannot be written.
        """
        with locked(folder, "lock"):
            made = cls(folder, size)
            made._start(about)
            yield made

    def append(self, keys: Sequence[str], features: NDArray[np.float32]) -> None:
        """Add rows, (n, d) for n keys; on return they have reached the disk."""
        rows = np.ascontiguousarray(features, dtype="<f4")
        if rows.shape != (len(keys), self.size):
            raise ValueError(f"{rows.shape} vectors for {len(keys)} keys of size {self.size}")
        lines = "".join(f"{key}\n" for key in keys).encode("ascii")
        # Behind the last whole row, not at the end: an earlier write may have failed half-way.
        _write_behind(self._features, len(self.keys) * self.size * 4, rows.tobytes())
        _write_behind(self._keys, sum(len(key) + 1 for key in self.keys), lines)
        self.keys.extend(keys)

    def matrix(self) -> NDArray[np.float32]:
        """Return all rows, (n, d), mapped from the disk and read only."""
        if not self.keys:
            return np.empty((0, self.size), dtype=np.float32)
        shape = (len(self.keys), self.size)
        return np.memmap(self._features, dtype="<f4", mode="r", shape=shape)

    def rows_of(self, keys: Sequence[str]) -> NDArray[np.float32]:
        """Return the rows of some slices in their order, mapped from the disk.

        Where the file holds them in another order, a copy in this one is written beside it.

        Raises
        ------
        KeyError
            If a slice has no row.
        """
        row_of = {key: row for row, key in enumerate(self.keys)}
        rows = np.fromiter((row_of[key] for key in keys), dtype=np.int64, count=len(keys))
        matrix = self.matrix()
        if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            found: NDArray[np.float32] = matrix[rows[0] : rows[0] + len(rows)]
            return found
        return self._ordered(matrix, rows)

    def _ordered(self, matrix: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        if not len(rows):
            return np.empty((0, self.size), dtype=np.float32)
        path = self.folder / f"ordered-{hashlib.sha256(rows.tobytes()).hexdigest()[:16]}.npy"
        if not path.exists():
            try:
                self._write_ordered(path, matrix, rows)
            except OSError as refusal:
                raise UserError(
                    f"{self.folder} cannot be written ({refusal.strerror or refusal}): free some "
                    "space or mend the rights of the folder"
                ) from refusal
        mapped: NDArray[np.float32] = np.load(path, mmap_mode="r")
        return mapped

    def _write_ordered(
        self, path: Path, matrix: NDArray[np.float32], rows: NDArray[np.int64]
    ) -> None:
        """Write rows in this order, and remove the copies for pools that have changed since."""
        for earlier in self.folder.glob("*ordered-*.npy"):
            with suppress(OSError):  # another process looks at it; the next one removes it
                earlier.unlink()
        beside = self.folder / f".ordered-{os.getpid()}.npy"
        head = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), self.size)}
        try:
            with beside.open("wb") as file:  # a full disk is an error here, and no crash later
                np.lib.format.write_array_header_1_0(file, head)
                for start in range(0, len(rows), _COPIED_ROWS):
                    file.write(matrix[rows[start : start + _COPIED_ROWS]].tobytes())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)

    def _start(self, about: dict[str, Any]) -> None:
        if not (self.folder / "embedding.json").exists():
            # The vectors of a folder that does not say what made them are of no use.
            self._features.unlink(missing_ok=True)
            self._keys.unlink(missing_ok=True)
            write_about(self.folder, about | {"size": self.size})
        self.keys = self._whole_rows()
        for path, length in (
            (self._features, len(self.keys) * self.size * 4),
            (self._keys, sum(len(key) + 1 for key in self.keys)),
        ):
            if path.exists() and path.stat().st_size != length:
                os.truncate(path, length)

    def _whole_rows(self) -> list[str]:
        """Return the keys whose line and row are wholly there."""
        if not (self._keys.exists() and self._features.exists()):
            return []
        *whole, _ = self._keys.read_text(encoding="ascii", errors="replace").split("\n")
        return whole[: self._features.stat().st_size // (4 * self.size)]


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Make a folder and hold the lock of this name in it; a process that dies lets go of it.

    Raises
    ------
    UserError
        If another process holds it, or the folder cannot be written, also later on.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / name, timeout=0):
            yield
    except Timeout:
        raise UserError(
            f"another process is embedding into {folder}: wait until it is done, or stop it"
        ) from None
    except OSError as refusal:
        raise UserError(
            f"{folder} cannot be written ({refusal.strerror or refusal}): free some space or "
            "mend the rights of the folder"
        ) from refusal


def read_about(folder: Path) -> dict[str, Any]:
    """Return what ``embedding.json`` of a folder says.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    try:
        about = json.loads((folder / "embedding.json").read_text(encoding="utf-8"))
        if isinstance(about, dict) and isinstance(about.get("size"), int):
            return about
        refusal = "it does not say what it holds"
    except (OSError, ValueError) as error:
        refusal = str(error)
    raise damaged(folder, refusal)


def damaged(folder: Path, what: str) -> UserError:
    """Return the refusal of a folder whose description cannot be used."""
    return UserError(
        f"{folder / 'embedding.json'} is damaged ({what}): remove the folder {folder} and run "
        "`napari-activeft embed` again"
    )


def write_about(folder: Path, about: dict[str, Any]) -> None:
    """Write ``embedding.json``, whole or not at all."""
    beside = folder / f".embedding-{os.getpid()}.json"
    with beside.open("wb") as file:
        _write_through(file, json.dumps(about, indent=2, sort_keys=True).encode("utf-8"))
    beside.replace(folder / "embedding.json")


def _write_behind(path: Path, length: int, content: bytes) -> None:
    """Make a file its first ``length`` bytes and ``content``, on the disk on return."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.truncate(length)
        file.seek(length)
        _write_through(file, content)


def _write_through(file: IO[bytes], content: bytes) -> None:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())
