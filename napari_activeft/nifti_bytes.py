"""The bytes of a NIfTI file, read and judged before any library repairs them in silence."""

from __future__ import annotations

import gzip
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import UserError
from napari_activeft.geometry import Geometry, check_spacing, has_shear

# Bytes of a NIfTI-1 and of a NIfTI-2 header, each followed by four bytes that announce extensions.
SIZES = (348, 540)
# What of a header says where the voxels lie. The rest (description, file names, display range) is
# not carried into label maps: it is about other voxels, and may name the patient.
GEOMETRY_FIELDS = (
    *("dim_info", "dim", "pixdim", "xyzt_units", "qform_code", "sform_code"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z"),
)
# Deflate cannot shrink anything further than this.
_MOST_COMPRESSION = 1040


class NiftiError(UserError, ValueError):
    """A NIfTI header that no volume can have."""


def open_plain(path: Path) -> BufferedReader | gzip.GzipFile:
    """Open a .nii or .nii.gz file for reading its unpacked bytes.

    Raises
    ------
    NiftiError
        If the name and the first two bytes do not agree on whether the file is gzip.
    """
    named_gzip = path.name.lower().endswith(".gz")
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    if named_gzip and not is_gzip:
        raise NiftiError("its name ends in .gz but it is not gzip: rename it, or compress it")
    if is_gzip and not named_gzip:
        raise NiftiError("it is gzip but its name does not end in .gz: rename it, or unpack it")
    return gzip.open(path) if is_gzip else path.open("rb")


def read_header(path: Path) -> bytes:
    """Return the header of a NIfTI file, 348 or 540 bytes, in the byte order of the file.

    Raises
    ------
    NiftiError
        If the file is no single-file NIfTI.
    """
    with open_plain(path) as file:
        start = file.read(max(SIZES))
    for order in ("little", "big"):
        size = int.from_bytes(start[:4], order)
        if size not in SIZES or len(start) < size:
            continue
        magic = start[344:348] if size == SIZES[0] else start[4:8]
        if magic[:3] in (b"n+1", b"n+2"):
            return start[:size]
        raise NiftiError(
            "it is Analyze or half of a NIfTI pair, and a single-file NIfTI is needed: convert it "
            "to .nii.gz"
        )
    raise NiftiError("it does not begin with a NIfTI header: export it again")


def disk_shape(dim: NDArray[Any], pixdim: NDArray[Any]) -> tuple[int, int, int]:
    """Return the voxels along (x, y, z) from the raw fields ``dim`` and ``pixdim``.

    Raises
    ------
    NiftiError
        If the image is a time series, or has no or a nonsensical size.
    GeometryError
        If a spacing is not above 0, which libraries would replace by a guess.
    """
    dimensions = int(dim[0])
    lengths = [int(n) for n in dim[1 : dimensions + 1]]
    if not 1 <= dimensions <= 7 or min(lengths) < 1:
        raise NiftiError(
            f"its header gives {dimensions} dimensions of {lengths} voxels, and up to three of at "
            "least 1 are needed: export it again"
        )
    if max(lengths[3:], default=1) > 1:
        what = "a time series" if len(lengths) == 4 else "an image of vectors or more dimensions"
        raise NiftiError(
            f"it is {what} of shape {tuple(lengths)}, and a 3-D volume is needed: split it into "
            "3-D volumes"
        )
    check_spacing([float(mm) for mm in pixdim[1 : min(dimensions, 3) + 1]][::-1])
    x, y, z = [*lengths, 1, 1][:3]
    return (x, y, z)


def set_geometry(header: Any, like: Geometry) -> None:  # noqa: ANN401 - nibabel is untyped
    """Fill the geometry of a new nibabel header from an affine."""
    header.set_data_shape(like.shape[::-1])
    header.set_xyzt_units("mm")
    header.set_sform(like.affine, code=1)
    # Quaternions cannot lean: of a sheared volume only the sform tells the truth.
    header.set_qform(like.affine, code=0 if has_shear(like.affine) else 1)


def copy_geometry(header: Any, old: Any, like: Geometry) -> None:  # noqa: ANN401 - see above
    """Fill the geometry of a new nibabel header from that of the source, byte by byte.

    Raises
    ------
    NiftiError
        If the source's header is of another grid than ``like``.
    """
    grid = disk_shape(old["dim"], old["pixdim"])
    if grid != like.shape[::-1]:
        raise NiftiError(
            f"its grid (x, y, z) is {like.shape[::-1]}, and that of the header it comes with is "
            f"{grid}: give the geometry as it was read"
        )
    for field in GEOMETRY_FIELDS:
        header[field] = old[field]


def check_length(path: Path, needed: int) -> None:
    """Raise unless a file can hold as many bytes as its header promises.

    Only what is impossible is found here, before memory is asked for; reading finds the rest.

    Parameters
    ----------
    path
        A .nii or .nii.gz file.
    needed
        Bytes of header and voxels.
    """
    there = path.stat().st_size
    most = there * _MOST_COMPRESSION if path.name.lower().endswith(".gz") else there
    if needed > most:
        raise NiftiError(
            f"it is cut off ({there} bytes, its header promises {needed} unpacked ones): copy or "
            "export it again"
        )


def read_voxels(path: Path, offset: int, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    """Return ``count`` stored numbers from byte ``offset`` on, flat and writable.

    Raises
    ------
    NiftiError
        If the file ends too early.
    """
    values = np.empty(count, dtype=dtype)
    view = values.view(np.uint8).data
    with open_plain(path) as file:
        file.seek(offset)
        done = 0
        while done < len(view):
            read = file.readinto(view[done:])
            if not read:
                raise NiftiError(
                    f"it is cut off ({done} bytes of voxels, {len(view)} are needed): copy or "
                    "export it again"
                )
            done += read
        # gzip compares its checksum only at the end: without it, damage would go unseen.
        while file.read(1 << 20):
            pass
    return values


@contextmanager
def replacing(path: Path) -> Iterator[BufferedWriter | gzip.GzipFile]:
    """Open a new file beside ``path`` that takes its place only once it is complete.

    Names in .gz are compressed, always to the same bytes: no time and no name goes in.
    """
    partial = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with partial.open("xb") as raw:
            if path.name.lower().endswith(".gz"):
                with gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed:
                    yield packed
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
