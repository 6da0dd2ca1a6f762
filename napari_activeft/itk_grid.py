"""Grids of the formats that SimpleITK reads, judged by their headers alone.

World coordinates in headers are LPS, as ITK and DICOM have them; the geometry that comes out is
RAS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_activeft.geometry import (
    Geometry,
    GeometryError,
    affine_from_itk,
    order_slices,
    spacing_of,
    swap_lps_ras,
)
from napari_activeft.image_names import is_dicom, may_hold_dicom_image

NUMBERS = (
    *(f"{kind}{bits}" for kind in ("UInt", "Int") for bits in (8, 16, 32, 64)),
    "Float32",
    "Float64",
)
"""Pixel types of SimpleITK with one real number per voxel; in lower case, those of numpy."""


class Header(NamedTuple):
    """What SimpleITK tells of a file without reading its voxels.

    Attributes
    ----------
    size
        Voxels along (x, y), (x, y, z) or more.
    origin
        World mm of the first voxel, LPS.
    direction
        Cosines, row by row; the columns are the index axes.
    spacing
        Millimetres per voxel along (x, y, ...).
    dtype
        In which the voxels are handed out.
    """

    path: Path
    size: tuple[int, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    spacing: tuple[float, ...]
    dtype: np.dtype[Any]


def volume_geometry(header: Header) -> Geometry:
    """Return the geometry of a file that is one volume, or one 2-D image.

    Raises
    ------
    GeometryError
        If it has more than three dimensions.
    """
    given = len(header.size)
    size = [*header.size, 1]
    if max(size[3:], default=1) > 1:
        raise GeometryError(
            f"it has {given} dimensions of {header.size} voxels, as a time series has, and a 3-D "
            "volume is needed: split it into 3-D volumes"
        )
    direction = np.eye(max(given, 3))
    direction[:given, :given] = np.reshape(header.direction, (given, given))
    origin, (dx, dy, dz) = [*header.origin, 0.0][:3], [*header.spacing, 1.0][:3]
    # The spacing is that of the header: in the affine, one below 0 would only look like another
    # direction, and `Geometry.check` could not see it.
    affine = affine_from_itk(origin, direction[:3, :3], (dx, dy, dz))
    return Geometry((size[2], size[1], size[0]), (dz, dy, dx), affine)


def choose_series(
    folder: Path, found: Mapping[str, Sequence[Path]], series: str | None
) -> list[Path]:
    """Return the files of the series that is meant.

    Parameters
    ----------
    folder
        The folder that was searched.
    found
        Files of each series in it.
    series
        Series instance UID; None where the folder holds only one.

    Raises
    ------
    GeometryError
        If there is no such series, more than one to choose from, or a DICOM file that could not
        be read and may belong to it.
    """
    if series is None and len(found) == 1:
        (series,) = found
    known = {path.name for files in found.values() for path in files}
    for path in sorted(folder.iterdir()):
        # GDCM passes over a damaged file in silence, and the volume would be a slice short.
        if path.name not in known and is_dicom(path) and may_hold_dicom_image(path):
            raise GeometryError(
                f"the DICOM file {path.name} in it is cut off or damaged, and all of a series is "
                "needed: copy it again, or move it elsewhere if it does not belong here"
            )
    if series is None or series not in found:
        what = f"the series {series}" if series else "which series is meant"
        raise GeometryError(
            f"the folder holds {len(found)} DICOM series and no PNG, JPEG, BMP or TIFF, and "
            f"{what} cannot be told: give a folder of 2-D images, or one of its series"
        )
    return sorted(found[series])


def stack_geometry(headers: Sequence[Header]) -> tuple[Geometry, list[Path]]:
    """Return the geometry of a DICOM series and its files in the order of z.

    Raises
    ------
    GeometryError
        If the images differ in size, direction or spacing, hold several frames, share a
        position or leave a gap.
    """
    first = headers[0]
    for header in headers:
        _check_alike(header, first)
    width, height, _ = first.size
    affine = swap_lps_ras(affine_from_itk(first.origin, first.direction, first.spacing))
    order = [0]
    if len(headers) > 1:
        origins = np.array([header.origin for header in headers], dtype=np.float64)
        normal = np.reshape(first.direction, (3, 3))[:, 2]
        order, affine[:3, 2] = order_slices(origins, normal)
        affine[:3, 3] = origins[order[0]]
    affine = swap_lps_ras(affine)
    geometry = Geometry((len(headers), height, width), spacing_of(affine), affine)
    return geometry, [headers[i].path for i in order]


def _check_alike(header: Header, first: Header) -> None:
    """Raise `GeometryError` unless an image can lie in one volume with the first."""
    if header.size[2] > 1:
        raise GeometryError(
            f"{header.path.name} holds {header.size[2]} frames, and one image per file is needed: "
            "convert it to NIfTI, for example with dcm2niix"
        )
    alike = (
        ("size", header.size, first.size, 0.0),
        ("orientation", header.direction, first.direction, 1e-3),
        ("pixel spacing", header.spacing[:2], first.spacing[:2], 1e-4),
    )
    for what, mine, theirs, tolerance in alike:
        if not np.allclose(mine, theirs, rtol=0, atol=tolerance):
            raise GeometryError(
                f"the {what} of {header.path.name} is not that of {first.path.name}, and the "
                "images of one volume must agree: move those that do not belong to it elsewhere"
            )
