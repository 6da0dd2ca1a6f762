"""Predicted volumes as NIfTI files in the geometry of their images.

Symbols: d slices of h x w pixels along one axis of (z, y, x), n classes with the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import UserError
from napari_activeft.geometry import Geometry
from napari_activeft.volume import write_image, write_label_map
from napari_activeft.voxels import LabelMap


def write_predicted(
    folder: Path,
    stem: str,
    labels: LabelMap,
    axis: int,
    geometry: Geometry,
    *,
    probabilities: NDArray[np.float32] | None = None,
    class_values: Sequence[int] = (),
) -> None:
    """Write ``<stem>.nii.gz``, and ``<stem>_probability-<value>.nii.gz`` for each class.

    A file takes the place of an earlier one only when it is complete.

    Parameters
    ----------
    labels
        Class values, (d, h, w).
    axis
        Of the (z, y, x) array along which slices follow each other.
    probabilities
        float32 (n, d, h, w), background first; None to write none.
    class_values
        Of the outputs after the background.

    Raises
    ------
    UserError
        If the folder or a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as refusal:
        raise UserError(
            f"the folder {folder} cannot be made ({refusal.strerror}): choose another --nifti"
        ) from refusal
    write_label_map(folder / f"{stem}.nii.gz", np.moveaxis(labels, 0, axis), geometry)
    if probabilities is None:
        return
    for value, volume in zip((0, *class_values), probabilities, strict=True):
        path = folder / f"{stem}_probability-{value}.nii.gz"
        write_image(path, np.moveaxis(volume, 0, axis), geometry)
