"""Arrays that are in a viewer and in no file: written into the project's folder, to be added."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
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
        If an image has other axes than a slice or a volume, or cannot be written.
    """
    named = safe_file_names(dict.fromkeys(one.name for one in images if one.file is None))
    return [
        _written(project.folder / FOLDER, named[one.name], one) if one.file is None else one.file
        for one in images
    ]


def _written(folder: Path, stem: str, image: Shown) -> Path:
    data = np.asarray(image.data)
    axes = data.ndim - int(image.rgb)
    if axes not in (2, 3) or (image.rgb and (axes == 3 or data.shape[-1] < _COLOURS)):
        raise UserError(
            f"the layer {image.name!r} has the shape {data.shape}, and a slice (y, x), a volume "
            "(z, y, x) or a colour picture (y, x, 3) is needed: split it into such layers first"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as refusal:
        raise UserError(
            f"{folder} cannot be made ({refusal.strerror}): make the project's folder writable"
        ) from refusal
    if image.rgb:
        path = folder / f"{stem}.png"
        write_png(path, np.ascontiguousarray(data[..., :_COLOURS].astype(np.uint8)))
        return path
    path = folder / f"{stem}.nii.gz"
    spacing = tuple(abs(float(step)) or 1.0 for step in image.spacing[-axes:])
    deep = data if axes == 3 else data[np.newaxis]
    z, y, x = (1.0, *spacing)[-3:]
    write_image(path, _storable(deep), plain_geometry(deep.shape, (z, y, x)))
    return path


def _storable(data: NDArray[Any]) -> NDArray[Any]:
    """Return voxels in a type that a NIfTI file has."""
    if data.dtype == np.bool_:
        return data.astype(np.uint8)
    return data.astype(np.float32) if data.dtype == np.float16 else data
