"""What the numbers in an image file become, without any image library.

Symbols: arrays are (z, y, x), or (c, z, y, x) with more than one channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import UserError

LABEL_LIMIT = 65535
"""The largest value a label map holds (uint16)."""

UNLABELLED = 65535
"""In a mask: a pixel that nobody labelled. It is no class, and not background either."""


LabelMap = NDArray[np.uint8] | NDArray[np.uint16]


class VoxelError(UserError, ValueError):
    """Numbers, or an arrangement of them, that no volume or label map can hold."""


def kept_dtype(stored: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which stored numbers are handed out.

    Integers stay what they are, in the machine's byte order; booleans become uint8 and all
    floating point numbers float32.

    Raises
    ------
    VoxelError
        If a voxel is not one real number: complex, colour, vector or text.
    """
    if stored.kind == "b":
        return np.dtype(np.uint8)
    if stored.kind in "iu":
        return stored.newbyteorder("=")
    if stored.kind == "f":
        return np.dtype(np.float32)
    what = {"c": "complex numbers", "V": "colours or vectors"}.get(stored.kind, str(stored))
    raise VoxelError(f"its voxels are {what}, and one real number per voxel is needed: split it")


def convert(stored: NDArray[Any]) -> NDArray[Any]:
    """Return stored numbers in the dtype that `kept_dtype` names."""
    # A float64 beyond float32 becomes infinite, which `check_voxels` reports.
    with np.errstate(over="ignore"):
        return stored.astype(kept_dtype(stored.dtype), copy=False)


def scale(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[np.float32]:
    """Return ``slope * stored + intercept`` as float32, computed in float64 plane by plane."""
    scaled = np.empty(stored.shape, dtype=np.float32)
    with np.errstate(over="ignore"):
        for plane, target in zip(stored, scaled, strict=True):
            target[...] = plane * np.float64(slope) + np.float64(intercept)
    return scaled


def count_not_finite(data: NDArray[Any]) -> int:
    """Return how many voxels are NaN or infinite."""
    if data.dtype.kind != "f":
        return 0
    return sum(int(plane.size - np.count_nonzero(np.isfinite(plane))) for plane in data)


def as_label_map(values: NDArray[Any]) -> LabelMap:
    """Return whole numbers as the smallest of uint8 and uint16 that holds them.

    Raises
    ------
    VoxelError
        If a value is no whole number, below 0 or above 65535.
    """
    if values.dtype.kind == "f":
        odd = values[values != np.floor(values)]  # NaN differs from itself, so it is odd as well
        if odd.size:
            raise VoxelError(
                f"{odd.size} of its voxels are no whole numbers (such as {odd[0]:.6g}), and class "
                "ids are whole numbers: give the label map and not a probability or a "
                "resampled one"
            )
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    if low < 0 or high > LABEL_LIMIT:
        raise VoxelError(
            f"its values run from {low:.6g} to {high:.6g}, and class ids lie from 0 to "
            f"{LABEL_LIMIT}: renumber the classes"
        )
    return values.astype(np.uint8) if high <= 255 else values.astype(np.uint16)


def fit_mask(values: NDArray[Any], shape: tuple[int, int]) -> LabelMap:
    """Return the class ids of one slice.

    Parameters
    ----------
    values
        Two axes, or three of which one is a single voxel long and is squeezed.
    shape
        Height and width of the slice.

    Raises
    ------
    VoxelError
        If the shape is another one, or for what `as_label_map` refuses.
    """
    if values.ndim == 3 and 1 in values.shape:
        values = values.squeeze(values.shape.index(1))
    if values.shape != shape:
        turned = "transpose it" if values.shape == shape[::-1] else "give a mask of this one slice"
        raise VoxelError(
            f"the shape of the mask is {values.shape}, and its slice has {shape}: {turned}"
        )
    return as_label_map(values)
