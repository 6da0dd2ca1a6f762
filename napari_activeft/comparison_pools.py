"""The pools that selectors are compared on: vectors of files, or a project's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import UserError
from napari_activeft.extras import need_compute
from napari_activeft.feature_sets import FeatureSet
from napari_activeft.project import Project
from napari_activeft.vectors import embeddings, load_vectors

if TYPE_CHECKING:
    from pathlib import Path

    from napari_activeft.settings import CompareSettings

_CHUNK_ROWS = 65_536


def feature_sets(project: Project | None, settings: CompareSettings) -> list[FeatureSet]:
    """Return the pools to compare selectors on: those of files, else the project's embeddings.

    Raises
    ------
    UserError
        If a file cannot be read or a vector in it has no direction, or there is neither a file
        nor an embedding.
    """
    need_compute("comparing")
    if settings.files:
        return [_read(file, settings.outside) for file in settings.files]
    if project is None:
        raise UserError(
            "neither files of vectors were named nor lies a project here: name .npy files, or a "
            "project with --project"
        )
    pool = project.store.pool_slices()
    names = list(dict.fromkeys(one.encoder for one in embeddings(project)))
    if settings.encoder is not None:
        names = [settings.encoder]  # what it lacks, `load_vectors` says
    if not names:
        raise UserError("no slice was embedded yet: run `napari-activeft embed`")
    return [
        FeatureSet(
            name=name,
            vectors=load_vectors(project, pool, name)[1],
            keys=[row.key for row in pool],
            groups=[row.volume_id for row in pool],
            cases=[row.case for row in pool],
            positions=[row.position for row in pool],
            emptiness=np.array([row.emptiness for row in pool]),
        )
        for name in names
    ]


def _read(file: Path, outside: Path | None) -> FeatureSet:
    pool = FeatureSet.read(file, outside)
    _see_directions(file, pool.vectors)
    if outside is not None and pool.outside is not None:
        _see_directions(outside, pool.outside)
    return pool


def _see_directions(file: Path, vectors: NDArray[np.float32]) -> None:
    """Refuse vectors (n, d) of which one is zero or not finite, by its row in the file."""
    for start in range(0, len(vectors), _CHUNK_ROWS):
        lengths = np.linalg.norm(vectors[start : start + _CHUNK_ROWS].astype(np.float64), axis=1)
        bad = ~(np.isfinite(lengths) & (lengths > 0))
        if bad.any():
            at = int(np.argmax(bad))
            what = "is zero" if lengths[at] == 0 else "holds NaN or infinity"
            raise UserError(
                f"row {start + at} of {file} {what}, and a direction is needed to compare it: "
                "embed that slice again, or leave it out"
            )
