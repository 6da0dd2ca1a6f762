"""Arrays that are in a viewer and in no file: written into the project's folder, to be added."""

from __future__ import annotations

import filecmp
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import UserError
from napari_activeft.exports.names import safe_file_names
from napari_activeft.geometry import plain_geometry
from napari_activeft.project import Project
from napari_activeft.volume import write_image, write_png

FOLDER: Final = "from_viewer"
_COLOURS: Final = 3
_LARGEST_BYTE: Final = 255


@dataclass(frozen=True)
class Shown:
    """An image as a viewer holds it.

    Attributes
    ----------
    name
        Of its layer.
    data
        (y, x) or (z, y, x), with three colours last if ``rgb``.
    spacing
        Of its axes, without the colours; taken for millimetres.
    rgb
        Whether the last axis is colour.
    file
        It was read from; None without.
    """

    name: str
    data: Any
    spacing: tuple[float, ...]
    rgb: bool = False
    file: Path | None = None


def files_of(project: Project, images: list[Shown]) -> list[Path]:
    """Return the files of some images, those without one written first.

    Raises
    ------
    UserError
        If an image has other axes than a slice or a volume, or cannot be written; those before it
        are written then.
    """
    named = safe_file_names(dict.fromkeys(one.name for one in images if one.file is None))
    return [
        _written(project.folder / FOLDER, named[one.name], one) if one.file is None else one.file
        for one in images
    ]


def _written(folder: Path, stem: str, image: Shown) -> Path:
    data = np.asarray(image.data)
    axes = data.ndim - int(image.rgb)
    coloured = image.rgb and axes == 2 and data.shape[-1] >= _COLOURS
    if not data.size or not (coloured if image.rgb else axes in (2, 3)):
        raise UserError(
            f"the layer {image.name!r} has the shape {data.shape}, and a slice (y, x), a volume "
            "(z, y, x) or a colour picture (y, x, 3) is needed: split it into such layers first"
        )
    if data.dtype.kind not in "biuf":
        raise UserError(
            f"the layer {image.name!r} holds {data.dtype} voxels, and real numbers are needed: "
            "convert it first"
        )
    if image.rgb:
        colours = _bytes(data[..., :_COLOURS])
        return _kept(folder, stem, ".png", lambda path: write_png(path, colours))
    spacing = tuple(abs(float(step)) or 1.0 for step in image.spacing[-axes:])
    deep = data if axes == 3 else data[np.newaxis]
    z, y, x = (1.0, *spacing)[-3:]
    geometry = plain_geometry(deep.shape, (z, y, x))
    stored = _storable(deep)
    return _kept(folder, stem, ".nii.gz", lambda path: write_image(path, stored, geometry))


def _kept(folder: Path, stem: str, suffix: str, write: Callable[[Path], None]) -> Path:
    """Write a file under a name of its own; return the one that is there if it is the same.

    Another layer of this name may be in the pool already, and its masks belong to its file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".") as apart:
            made, number = Path(apart) / f"{stem}{suffix}", 1
            write(made)
            path = folder / made.name
            while path.exists():
                if filecmp.cmp(made, path, shallow=False):
                    return path
                number += 1
                path = folder / f"{stem}-{number}{suffix}"
            made.replace(path)
    except OSError as refusal:
        raise UserError(
            f"{folder} cannot be written ({refusal.strerror}): make the project's folder writable"
        ) from refusal
    return path


def _bytes(colours: NDArray[Any]) -> NDArray[np.uint8]:
    """Return colours (y, x, 3) as a viewer shows them: floats are 0 to 1, large integers scaled."""
    if colours.dtype.kind in "fb":
        share = np.nan_to_num(colours.astype(np.float64)).clip(0.0, 1.0)
        return np.asarray(np.round(share * _LARGEST_BYTE).astype(np.uint8))
    positive = colours.clip(0)
    if int(positive.max()) > _LARGEST_BYTE:
        positive = np.round(positive * (_LARGEST_BYTE / np.iinfo(colours.dtype).max))
    return np.ascontiguousarray(positive, dtype=np.uint8)


def _storable(data: NDArray[Any]) -> NDArray[Any]:
    """Return voxels in a type that a NIfTI file has."""
    if data.dtype == np.bool_:
        return data.astype(np.uint8)
    return data.astype(np.float32) if data.dtype == np.float16 else data
