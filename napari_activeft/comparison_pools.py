"""The pools that selectors are compared on: vectors of files, or a project's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_activeft.errors import UserError
from napari_activeft.extras import need_compute
from napari_activeft.feature_sets import FeatureSet
from napari_activeft.project import Project
from napari_activeft.vectors import embeddings, load_vectors

if TYPE_CHECKING:
    from napari_activeft.settings import CompareSettings


def feature_sets(project: Project | None, settings: CompareSettings) -> list[FeatureSet]:
    """Return the pools to compare selectors on: those of files, else the project's embeddings.

    Raises
    ------
    UserError
        If a file cannot be read, or there is neither a file nor an embedding.
    """
    need_compute("comparing")
    if settings.files:
        return [FeatureSet.read(file, settings.outside) for file in settings.files]
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
