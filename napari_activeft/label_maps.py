"""The label maps that belong to a project's volumes: what they hold, and masks taken from them."""

from __future__ import annotations

import numpy as np

from napari_activeft.annotation_db import UNLABELLED, ImportCounts, VolumeRecord
from napari_activeft.errors import OnProgress, UserError
from napari_activeft.geometry import Geometry
from napari_activeft.pool import take_slice
from napari_activeft.project import Project
from napari_activeft.volume import read_label_map
from napari_activeft.voxels import LabelMap


def label_values(project: Project, on_progress: OnProgress) -> set[int]:
    """Return every class id that occurs in a label map of the project; 0 is one of them.

    65535 is none: it says that nobody labelled a pixel.
    """
    volumes = [volume for volume in project.store.volumes() if volume.label_file]
    if not volumes:
        raise UserError(
            "no volume has a label map to take classes from: add the folder again with --labels"
        )
    values: set[int] = set()
    for done, volume in enumerate(volumes, start=1):
        label_map = _label_map(project, volume)
        values |= set(np.flatnonzero(np.bincount(label_map.ravel())).tolist())
        on_progress(done, len(volumes))
    return values - {UNLABELLED}


def import_volume(
    project: Project,
    volume: VolumeRecord,
    positions: set[int] | None,
    author: str,
    unlabelled: int | None = None,
) -> ImportCounts:
    """Store the label map of one volume as masks.

    Parameters
    ----------
    positions
        Of the slices; None for all.
    unlabelled
        The value of the voxels that nobody labelled, see `with_unlabelled`.

    Raises
    ------
    UserError
        If the label map is missing or does not fit its image.
    MaskError
        If it holds a value that is no class of the project; nothing of it is stored then.
    """
    label_map = with_unlabelled(_label_map(project, volume), unlabelled)
    wanted = range(volume.slice_count) if positions is None else sorted(positions)
    masks = {position: take_slice(label_map, volume.axis, position) for position in wanted}
    return project.store.import_masks(volume.volume_id, masks, author)


def with_unlabelled(values: LabelMap, unlabelled: int | None) -> LabelMap:
    """Return class ids with one value turned into `UNLABELLED`, which is uint16.

    Parameters
    ----------
    unlabelled
        The value that says in this file that nobody labelled a pixel, such as the 4 of ACDC's
        scribbles; None where every pixel was labelled.
    """
    if unlabelled is None or not np.any(values == unlabelled):
        return values
    return np.where(values == unlabelled, np.uint16(UNLABELLED), values).astype(np.uint16)


def _label_map(project: Project, volume: VolumeRecord) -> LabelMap:
    path = project.label_path(volume)
    if path is None:
        raise UserError(f"{volume.name} has no label map: add its folder again with --labels")
    return read_label_map(path, Geometry.from_json(volume.geometry))
