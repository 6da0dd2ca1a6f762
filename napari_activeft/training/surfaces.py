"""How far the surfaces of two masks are apart.

A surface is made of the voxels that share a face with a voxel outside, or with the rim of the
array. Distances are between the centres of voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def surface_distances(
    one: NDArray[np.bool_], other: NDArray[np.bool_], spacing: Sequence[float] | NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how far each surface voxel of one mask is from the other's surface, both ways.

    The distances are in no order.

    Parameters
    ----------
    one, other
        Masks of one shape, of up to three axes, neither empty; around them lies nothing.
    spacing
        Millimetres per voxel along each axis.
    """
    if one.ndim == 0:  # one voxel in all, in both
        return np.zeros(1), np.zeros(1)
    first, second = _surface(one), _surface(other)
    return _nearest(first, second, spacing), _nearest(second, first, spacing)


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels that share a face with one outside."""
    from scipy.ndimage import binary_erosion

    surface: NDArray[np.bool_] = mask & ~binary_erosion(mask)
    return surface


def _nearest(
    here: NDArray[np.bool_], there: NDArray[np.bool_], spacing: Sequence[float] | NDArray[Any]
) -> NDArray[np.float64]:
    """Return the distance of each voxel of one surface to the nearest of another, in mm.

    By a tree of surface points and not a distance map: a large organ would need gigabytes for it.
    """
    from scipy.spatial import cKDTree

    apart = here & ~there
    distances = np.zeros(np.count_nonzero(here))
    if apart.any():  # voxels of both are at distance 0
        tree = cKDTree(np.argwhere(there) * np.asarray(spacing), balanced_tree=False)
        distances[: np.count_nonzero(apart)], _ = tree.query(
            np.argwhere(apart) * np.asarray(spacing)
        )
    return distances
