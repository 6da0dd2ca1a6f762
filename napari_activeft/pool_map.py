"""The pool in two dimensions, kept beside its vectors, so that a window need not compute it.

Symbols: n slices, d numbers in a vector.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
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


def read_map(project: Project, pool: Sequence[SliceRow]) -> PoolMap | None:
    """Return the map by the encoder used last; None where nothing was embedded yet."""
    for one in embeddings(project):
        try:
            # Opened here: of a damaged archive numpy would leave the file open.
            with (one.folder / FILE).open("rb") as file, np.load(file) as held:
                keys, points = held["keys"], held["points"]
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
            continue  # made before maps were kept, or damaged: `embed` makes it anew
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
