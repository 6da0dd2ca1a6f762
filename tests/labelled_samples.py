"""Sources on disk, written by libraries of others, and accepted masks on them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from napari_activeft.exports import ClassLabel, LabelledVolume
from napari_activeft.volume import Source, open_volume

# Ids with gaps, names that dataset.json, TSV and JSON must carry unharmed.
CLASSES = (
    ClassLabel(1, "left kidney", "#ff0000"),
    ClassLabel(5, "Läsion", "#00ff00"),
    ClassLabel(300, "腫瘍", "#0000ff"),
)


def oblique_affine(spacing_xyz=(0.7, 0.9, 2.5)):
    """Return voxel to world, turned about two axes, with an origin that is no round number."""
    a, b = 0.3, -0.2
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag(spacing_xyz)
    affine[:3, 3] = (-81.3, 40.7, 12.9)
    return affine


def write_source(path: Path, shape=(5, 6, 7), dtype=np.int16, seed=0, affine=None) -> Source:
    """Write an image (z, y, x) with nibabel."""
    values = np.random.default_rng(seed).integers(0, 200, size=shape).astype(dtype)
    image = nib.Nifti1Image(values.T, oblique_affine() if affine is None else affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return Source((path,))


def random_masks(shape, axis, positions, values, seed=0):
    """Return masks by position in which every value occurs."""
    rng = np.random.default_rng(seed)
    plane = tuple(n for i, n in enumerate(shape) if i != axis)
    masks = {}
    for position in positions:
        mask = rng.choice([0, *values], size=plane)
        mask.ravel()[: len(values)] = values
        masks[position] = mask.astype(np.uint16 if max(values, default=0) > 255 else np.uint8)
    return masks


def label(
    source: Source,
    *,
    name: str,
    case: str = "case 1",
    split: str = "pool",
    axis: int = 0,
    positions=(1, 3),
    values=(1, 5),
    intensity_range=((0.0, 199.0),),
) -> LabelledVolume:
    """Return a volume with masks at these positions; ``positions=None`` labels all."""
    geometry = open_volume(source).geometry
    if positions is None:
        positions = range(geometry.shape[axis])
    masks = random_masks(geometry.shape, axis, positions, values)
    return LabelledVolume(case, name, split, source, geometry, axis, lambda: masks, intensity_range)


def expected_label_map(volume: LabelledVolume) -> np.ndarray:
    """Return what (z, y, x) should hold, written slice by slice."""
    expected = np.zeros(volume.geometry.shape, dtype=int)
    for position, mask in volume.masks().items():
        where = [np.s_[:]] * 3
        where[volume.axis] = position
        expected[tuple(where)] = mask
    return expected
