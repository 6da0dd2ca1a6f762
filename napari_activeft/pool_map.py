"""The pool in two dimensions, kept beside its vectors, so that a window need not compute it.

Symbols: n slices, d numbers in a vector.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from napari_activeft.annotation_db import SliceRow
from napari_activeft.embedding.feature_file import FeatureFile
from napari_activeft.nifti_bytes import replacing
from napari_activeft.project import Project
from napari_activeft.reports.projection import principal_points
from napari_activeft.vectors import embeddings

FILE: Final = "map.npz"


@dataclass(frozen=True)
class PoolMap:
    """Where the slices of a pool lie.

    Attributes
    ----------
    encoder
        Whose vectors were laid out.
    points
        float32 (n, 2) in the order of the pool, NaN for a slice that has none yet.
    """

    encoder: str
    points: NDArray[np.float32] = field(repr=False)

    @property
    def missing(self) -> int:
        """Slices without a place."""
        return int(np.isnan(self.points[:, 0]).sum())


def write_map(file: FeatureFile) -> None:
    """Lay out all vectors of a file and keep their places beside them.

    A disk that refuses is no failure of the vectors; the map is made when they are completed next.
    """
    points = principal_points(file.matrix()).astype(np.float32)
    with suppress(OSError), replacing(file.folder / FILE) as out:
        np.savez(out, keys=np.array(file.keys), points=points)


def complete_map(file: FeatureFile) -> None:
    """Write the map anew unless there is one of just these vectors."""
    held = _held(file.folder)
    if held is None or held[0].tolist() != file.keys:
        write_map(file)


def read_map(project: Project, pool: Sequence[SliceRow]) -> PoolMap | None:
    """Return the map by the encoder used last; None where nothing was embedded yet."""
    for one in embeddings(project):
        held = _held(one.folder)
        if held is None:
            continue  # made before maps were kept, or damaged: `embed` makes it anew
        keys, points = held
        order = np.argsort(keys)
        wanted = np.array([row.key for row in pool], dtype=np.str_)
        places = np.searchsorted(keys, wanted, sorter=order).clip(0, max(len(keys) - 1, 0))
        found = np.full((len(pool), 2), np.nan, dtype=np.float32)
        if len(keys) and len(pool):
            rows = order[places]
            there = keys[rows] == wanted
            found[there] = points[rows[there]]
        return PoolMap(one.encoder, found)
    return None


def _held(folder: Path) -> tuple[NDArray[np.str_], NDArray[np.float32]] | None:
    """Return keys and points of a folder's map; None where there is none that can be read."""
    try:
        # Opened here: of a damaged archive numpy would leave the file open.
        with (folder / FILE).open("rb") as file, np.load(file) as held:
            return held["keys"], held["points"]
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error):
        return None
