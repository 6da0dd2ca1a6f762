"""Opened images: how headers become volumes, and how failures become one sentence.

Opens no file itself: `volume.py` does, and hands in a header and a function that reads the voxels.
Symbols: arrays are (z, y, x), or (c, z, y, x) with more than one channel.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_activeft import voxels
from napari_activeft.errors import UserError
from napari_activeft.geometry import Geometry
from napari_activeft.image_names import JPEG, suffix_of

if TYPE_CHECKING:
    from napari_activeft.volume import Source


class VolumeError(UserError, ValueError):
    """An image file that cannot be taken, or written, in one sentence that names it."""


class Opened(NamedTuple):
    """What the header of an image tells, and how to get its voxels.

    ``read`` returns (z, y, x), or (c, z, y, x) with more than one channel.
    """

    geometry: Geometry
    channels: int
    dtype: np.dtype[Any]
    read: Callable[[], NDArray[Any]]


class Volume:
    """One volume: its header now, its voxels when they are first asked for.

    Attributes
    ----------
    source
        The files it is read from.
    geometry
        Shape (z, y, x), spacing and affine.
    channels
        1, or the length of the first axis of `data`.
    dtype
        Of `data`, after scaling: an integer type or float32.
    """

    def __init__(self, source: Source, opened: Opened) -> None:
        self.source = source
        self.geometry = opened.geometry
        self.channels = opened.channels
        self.dtype = opened.dtype
        self._read = opened.read

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres per voxel along (z, y, x)."""
        return self.geometry.spacing

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel index (x, y, z) as on disk to world mm, RAS; shape (4, 4)."""
        return self.geometry.affine

    @cached_property
    def data(self) -> NDArray[Any]:
        """The voxels, (z, y, x) or (c, z, y, x), read once and kept.

        Raises
        ------
        VolumeError
            If the voxels cannot be read, which a header does not tell.
        """
        with blaming(self.source.paths[0]):
            return read_as_promised(self)


def read_as_promised(image: Volume | Opened) -> NDArray[Any]:
    """Read the voxels and compare them with the header, which a file may outlive.

    Raises
    ------
    VoxelError
        If they have another shape or type than the header said.
    """
    data = image._read() if isinstance(image, Volume) else image.read()
    shape = ((image.channels,) if image.channels > 1 else ()) + image.geometry.shape
    if data.shape != shape or data.dtype != image.dtype:
        raise voxels.VoxelError(
            f"its voxels are {data.dtype} of shape {data.shape}, and its header says "
            f"{image.dtype} of shape {shape}: open it again, or export it again"
        )
    return data


def check_voxels(volume: Volume) -> None:
    """Read all voxels of a volume.

    Raises
    ------
    VolumeError
        If they are truncated or damaged, or if any is NaN or infinite.
    """
    bad = voxels.count_not_finite(volume.data)
    if bad:
        raise VolumeError(
            f"{volume.source.paths[0]}: {bad} of its {volume.data.size} voxels are NaN, "
            "infinite or beyond float32, and finite numbers are needed: replace them or export it "
            "again"
        )


def join_channels(paths: Sequence[Path], images: Sequence[Opened]) -> Opened:
    """Return one image of several files, one channel each.

    Raises
    ------
    VolumeError
        If a file has channels of its own, or lies elsewhere than the first.
    """
    first = images[0]
    for path, image in zip(paths, images, strict=True):
        if image.channels > 1:
            raise VolumeError(
                f"{path}: it has {image.channels} channels of its own, and one is needed where "
                "every file is a channel: give it alone, or split it"
            )
        misfit = image.geometry.difference(first.geometry)
        if misfit:
            raise VolumeError(
                f"{path}: it does not fit the channel {paths[0].name}, {misfit}: resample it to "
                "the same grid"
            )
    return _together(paths, images, first.geometry, axis=0, channels=len(images))


def stack_pictures(folder: Path, paths: Sequence[Path], images: Sequence[Opened]) -> Opened:
    """Return one volume of a folder of 2-D images, one slice each, in the given order.

    Raises
    ------
    VolumeError
        If an image is a stack itself, or differs from the first in size or channels.
    """
    first = images[0]
    for path, image in zip(paths, images, strict=True):
        if image.geometry.shape[0] > 1:
            raise VolumeError(
                f"{path}: it holds {image.geometry.shape[0]} slices, and 2-D images are needed in "
                "a folder that is one volume: give it alone"
            )
        found = (*image.geometry.shape[1:], image.channels)
        needed = (*first.geometry.shape[1:], first.channels)
        if found != needed:
            raise VolumeError(
                f"{path}: its height, width and channels are {found}, and {needed} as in "
                f"{paths[0].name} are needed: keep only the slices of one volume in {folder.name}"
            )
    _, y, x = first.geometry.shape
    geometry = Geometry((len(images), y, x), first.geometry.spacing, first.geometry.affine)
    return _together(paths, images, geometry, axis=-3, channels=first.channels)


def refuse_lossy(files: Sequence[Path]) -> None:
    """Raise `VoxelError` if a label map lies in JPEG files, which blur class ids."""
    if any(suffix_of(file) in JPEG for file in files):
        raise voxels.VoxelError(
            "it is JPEG, which changes class ids as it compresses them, and a lossless format is "
            "needed: save it as PNG, TIFF or NIfTI from where it was drawn"
        )


def refuse_channels(labels: Opened) -> None:
    """Raise `VoxelError` if a label map has several numbers per voxel."""
    if labels.channels > 1:
        raise voxels.VoxelError(
            f"it has {labels.channels} channels, and class ids need one number per voxel: export "
            "it as a grey or palette image"
        )


def label_map_on(labels: Opened, like: Geometry, *, grid_known: bool) -> voxels.LabelMap:
    """Read class ids that must lie on the grid of an image.

    Parameters
    ----------
    labels
        The opened label map.
    like
        Geometry of the image.
    grid_known
        Whether spacing and affine of the label map mean anything; shape always does.

    Raises
    ------
    VoxelError
        If the grids differ, or for what `voxels.as_label_map` refuses.
    """
    found = labels.geometry
    if not grid_known:
        found = Geometry(found.shape, like.spacing, like.affine)
    misfit = found.difference(like)
    if misfit:
        raise voxels.VoxelError(
            f"the label map does not fit its image, {misfit}: give the one that was drawn on this "
            "image, or resample it to the image's grid"
        )
    return voxels.as_label_map(read_as_promised(labels))


def _together(
    paths: Sequence[Path], images: Sequence[Opened], geometry: Geometry, *, axis: int, channels: int
) -> Opened:
    """Return images whose arrays are joined along an axis; new channels are stacked."""
    dtype = voxels.kept_dtype(np.result_type(*(image.dtype for image in images)))

    def read() -> NDArray[Any]:
        shape = ((channels,) if channels > 1 else ()) + geometry.shape
        joined = np.empty(shape, dtype=dtype)
        for path, image, target in zip(paths, images, np.moveaxis(joined, axis, 0), strict=True):
            with blaming(path):
                values = read_as_promised(image)
            target[...] = values.reshape(target.shape)
        return joined

    geometry.check()
    return Opened(geometry, channels, dtype, read)


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """Turn whatever fails inside into a `VolumeError` of one sentence that names the file."""
    try:
        yield
    except VolumeError:
        raise
    except UserError as error:
        raise VolumeError(f"{path}: {error}") from error
    except Exception as error:
        # The libraries raise nearly everything, from struct.error to RuntimeError: a file they
        # cannot read is for the user to mend, whatever the class.
        raise VolumeError(f"{path}: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    """Return what went wrong and what to do, in words rather than those of a library."""
    match error:
        case FileNotFoundError():
            return "there is no such file: check the path, or plug in the drive it lies on"
        case PermissionError():
            return "it may not be read or written: ask for the permission, or copy it elsewhere"
        case IsADirectoryError() | NotADirectoryError():
            return "a file is needed where a folder is, or the other way round: check the path"
        case MemoryError():
            return "it does not fit into memory: close other programs, or crop or split it"
        case EOFError() | zlib.error() | gzip.BadGzipFile():
            return "its compressed data are cut off or damaged: copy or export it again"
        case OSError() if error.strerror:
            return f"it cannot be read or written ({error.strerror}): check the disk and the path"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # ITK ends in a "Reason:" that is that of the operating system, and nearly always wrong.
    words = lines[-1] if lines and not lines[-1].startswith("Reason:") else ""
    if not words or "Unable to determine ImageIO" in words:
        return "it is cut off, damaged or not what its name says: copy or export it again"
    words = words.removeprefix("sitk::ERROR:").replace(": ", ", ").strip().rstrip(".")
    return f"it is damaged or not supported ({words[:160]}): copy or export it again"
