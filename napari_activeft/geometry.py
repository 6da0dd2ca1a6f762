"""Where the voxels of a volume lie: shape, spacing and affine, without any image library.

Symbols: ``shape`` and ``spacing`` are in array order (z, y, x); ``affine`` maps the voxel index
(x, y, z), as on disk, to world millimetres in RAS. LPS, which ITK and DICOM speak, is RAS with
the first two world axes negated.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_activeft.errors import UserError

# How far a corner may lie from where it should, in voxels: rounding of headers (float32, or six
# digits of text) stays below, any shift that could be seen does not.
CORNER_TOLERANCE = 0.01
# How uneven the gaps between the images of a stack may be, as a part of the gap.
GAP_TOLERANCE = 0.02


class GeometryError(UserError, ValueError):
    """A geometry that no image can have, or that does not fit another."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """Shape, spacing and affine of one volume.

    Attributes
    ----------
    shape
        Voxels along (z, y, x), each at least 1.
    spacing
        Millimetres per voxel along (z, y, x), each above 0.
    affine
        float64 (4, 4): voxel index (x, y, z) as on disk to world mm, RAS.
    nifti_header
        The source's header bytes where the source is NIfTI, so that a label map can carry the
        same geometry to the byte; None otherwise.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    affine: NDArray[np.float64]
    nifti_header: bytes | None = field(default=None, repr=False)

    def check(self) -> None:
        """Raise unless an image can have this geometry.

        A single slice, one axis of one voxel, is an image.

        Raises
        ------
        GeometryError
            If the shape is empty or that of a line or a point, if a spacing is not above 0, or
            if the affine is not finite or cannot be inverted.
        """
        if min(self.shape) < 1:
            raise GeometryError(
                f"its shape (z, y, x) is {_listed(self.shape)}, an image needs at least one voxel "
                "along every axis: export it again"
            )
        if sum(n == 1 for n in self.shape) > 1:
            raise GeometryError(
                f"its shape (z, y, x) is {_listed(self.shape)}, and a line or a point is no "
                "image: give an image with at least two axes of more than one voxel"
            )
        check_spacing(self.spacing)
        _check_affine(self.affine)

    def difference(self, other: Geometry) -> str | None:
        """Return a phrase that names what differs from ``other``, or None where nothing does.

        Shape is compared first, then spacing, then affine, by where the eight corners lie.
        """
        if self.shape != other.shape:
            return f"the shape (z, y, x) is {_listed(self.shape)} and not {_listed(other.shape)}"
        if not np.allclose(self.spacing, other.spacing, rtol=1e-3, atol=0):
            return (
                f"the spacing (z, y, x) is {_listed(self.spacing)} mm and not "
                f"{_listed(other.spacing)} mm"
            )
        mine, theirs = self._corners(), other._corners()
        shifts = np.linalg.norm(mine - theirs, axis=1)
        # Written so that a NaN counts as a difference.
        if np.all(shifts <= CORNER_TOLERANCE * min(other.spacing)):
            return None
        worst = int(np.argmax(shifts))
        return (
            f"the affine differs, a corner of the volume lies at {_listed(mine[worst])} mm and "
            f"not at {_listed(theirs[worst])} mm"
        )

    def slice_geometry(self, axis: int, position: int) -> Geometry:
        """Return the geometry of one slice as a volume of its own.

        Parameters
        ----------
        axis
            Array axis the slice is cut across: 0 is z, 1 is y, 2 is x.
        position
            Index along that axis, from 0.

        Returns
        -------
        Geometry
            One voxel along ``axis``, in the place it has in the whole volume.

        Raises
        ------
        GeometryError
            If the volume has no such slice.
        """
        if axis not in (0, 1, 2) or not 0 <= position < self.shape[axis]:
            raise GeometryError(
                f"slice {position} along axis {axis} was asked of a volume of shape "
                f"{_listed(self.shape)}: ask for one that the volume has"
            )
        column = 2 - axis  # the affine counts (x, y, z)
        affine = self.affine.copy()
        affine[:3, 3] += position * affine[:3, column]
        z, y, x = (1 if i == axis else n for i, n in enumerate(self.shape))
        return Geometry(shape=(z, y, x), spacing=self.spacing, affine=affine)

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and strings, for the store and for tickets."""
        header = self.nifti_header
        return {
            "shape": list(self.shape),
            "spacing": list(self.spacing),
            "affine": self.affine.tolist(),
            "nifti_header": None if header is None else base64.b64encode(header).decode("ascii"),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Geometry:
        """Return the geometry that `to_json` wrote."""
        z, y, x = (int(n) for n in stored["shape"])
        dz, dy, dx = (float(mm) for mm in stored["spacing"])
        header = stored.get("nifti_header")
        return cls(
            shape=(z, y, x),
            spacing=(dz, dy, dx),
            affine=np.asarray(stored["affine"], dtype=np.float64),
            nifti_header=None if header is None else base64.b64decode(header),
        )

    def _corners(self) -> NDArray[np.float64]:
        """Return the centres of the eight corner voxels in world mm, shape (8, 3)."""
        z, y, x = self.shape
        indices = np.array(list(product((0, x - 1), (0, y - 1), (0, z - 1))), dtype=np.float64)
        corners: NDArray[np.float64] = indices @ self.affine[:3, :3].T + self.affine[:3, 3]
        return corners


def plain_geometry(
    shape: tuple[int, int, int], spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> Geometry:
    """Return the geometry of a picture that knows no patient: ``diag(dx, dy, dz, 1)``.

    Parameters
    ----------
    shape
        Voxels along (z, y, x).
    spacing
        Millimetres per voxel along (z, y, x).
    """
    return Geometry(shape, spacing, np.diag([*spacing[::-1], 1.0]))


def spacing_of(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return mm per voxel along (z, y, x): how long the columns of an affine are.

    Six digits are kept, which is what a float32 header holds, so that the equal spacings of an
    oblique volume stay equal.
    """
    dx, dy, dz = (float(f"{mm:.6g}") for mm in np.linalg.norm(affine[:3, :3], axis=0))
    return (dz, dy, dx)


def swap_lps_ras(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn an affine to LPS into one to RAS, or back; shape (4, 4)."""
    swapped: NDArray[np.float64] = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    return swapped


def affine_from_itk(
    origin: Sequence[float], direction: ArrayLike, spacing: Sequence[float]
) -> NDArray[np.float64]:
    """Return the RAS affine of what ITK says in LPS.

    Parameters
    ----------
    origin
        World mm of the first voxel, LPS.
    direction
        Nine cosines, row by row; its columns are the index axes (x, y, z).
    spacing
        Millimetres per voxel along (x, y, z).
    """
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(direction, (3, 3)) * np.asarray(spacing, dtype=np.float64)
    affine[:3, 3] = origin
    return swap_lps_ras(affine)


def has_shear(affine: NDArray[np.float64]) -> bool:
    """Tell whether the axes of an affine are not at right angles (a tilted gantry)."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4)


def order_slices(
    origins: NDArray[np.float64], normal: NDArray[np.float64]
) -> tuple[list[int], NDArray[np.float64]]:
    """Return in which order parallel images make a volume, and the step between them.

    The step need not be along the normal: with a tilted gantry it leans, and so does the affine
    made of it.

    Parameters
    ----------
    origins
        World mm of the first pixel of each image, shape (n, 3), n at least 2.
    normal
        Unit normal of the images, shape (3,).

    Returns
    -------
    order
        Indices of the images, along the normal.
    step
        Millimetres from one image to the next, shape (3,).

    Raises
    ------
    GeometryError
        If two images share a position, or if the positions are not evenly spaced on a line.
    """
    offsets = origins @ normal
    order = np.argsort(offsets, kind="stable")
    gaps = np.diff(offsets[order])
    typical = float(np.median(gaps))
    shared = int(np.sum(gaps <= max(GAP_TOLERANCE * typical, 1e-4)))
    if shared:
        raise GeometryError(
            f"{shared} of its {len(origins)} images lie where another one lies already, as in a "
            "time series, and a volume needs one image at each position: split it into one series "
            "per time or contrast"
        )
    if np.max(np.abs(gaps - typical)) > GAP_TOLERANCE * typical:
        raise GeometryError(
            f"the gaps between its {len(origins)} images run from {gaps.min():.6g} to "
            f"{gaps.max():.6g} mm, and a volume needs equal gaps: add the missing images or "
            "resample the series"
        )
    sorted_origins = origins[order]
    step = (sorted_origins[-1] - sorted_origins[0]) / (len(origins) - 1)
    expected = sorted_origins[0] + np.arange(len(origins))[:, None] * step
    astray = float(np.linalg.norm(sorted_origins - expected, axis=1).max())
    if astray > max(GAP_TOLERANCE * typical, 1e-3):
        raise GeometryError(
            f"its images lie up to {astray:.6g} mm away from a straight line, and a volume needs "
            "them on one: resample the series"
        )
    return [int(i) for i in order], step


def check_spacing(spacing: Iterable[float]) -> None:
    """Raise `GeometryError` unless every spacing, in mm along (z, y, x), is a number above 0."""
    spacing = tuple(spacing)
    if not all(np.isfinite(mm) and mm > 0 for mm in spacing):
        raise GeometryError(
            f"its spacing (z, y, x) is {_listed(spacing)} mm, and every spacing must be a number "
            "above 0: correct the header or export the image again"
        )


def _check_affine(affine: NDArray[np.float64]) -> None:
    """Raise `GeometryError` unless the affine is finite and can be inverted."""
    if affine.shape != (4, 4) or not np.all(np.isfinite(affine)):
        raise GeometryError(
            "its affine holds NaN or infinite numbers, and 4 x 4 finite ones are needed: correct "
            "the header or export the image again"
        )
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    # Relative to the voxel's size: a voxel of a micron has a tiny but honest determinant.
    if not abs(np.linalg.det(affine[:3, :3])) > 1e-6 * np.prod(lengths):
        raise GeometryError(
            "its affine is singular (two axes point the same way or one has no length), and three "
            "separate axes are needed: correct the header or export the image again"
        )


def _listed(numbers: Iterable[float]) -> str:
    return "(" + ", ".join(f"{n:.6g}" for n in numbers) + ")"
