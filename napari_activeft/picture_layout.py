"""How the axes, colours and units of a picture or TIFF become a volume.

Imports no image library: `volume.py` opens the file and hands the library's object in.

Symbols: ``axes`` has one letter per axis as tifffile names them: Y X, S samples, C channel,
T time, any other a depth.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_activeft.geometry import Geometry, plain_geometry
from napari_activeft.voxels import VoxelError, convert, kept_dtype

_MM = {"mm": 1.0, "millimeter": 1.0, "cm": 10.0, "m": 1e3, "inch": 25.4, "nm": 1e-6, "pm": 1e-9}
_MM |= dict.fromkeys(("um", "µm", "μm", r"\u00b5m", "micron", "microns", "micrometer"), 1e-3)


class Pages(NamedTuple):
    """What the header of a TIFF tells.

    Attributes
    ----------
    alpha
        Whether the last sample is opacity.
    palette
        Colour of every index, uint8 (3, n), where colours are wanted; None otherwise.
    """

    axes: str
    alpha: bool
    palette: NDArray[np.uint8] | None
    geometry: Geometry
    channels: int
    dtype: np.dtype[Any]

    def arrange(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return what tifffile read as (z, y, x) or (c, z, y, x)."""
        arranged = arrange(convert(array), self.axes, alpha=self.alpha)
        return arranged if self.palette is None else self.palette[:, arranged]


class PictureHeader(NamedTuple):
    """What the header of a picture tells; ``mode`` is the Pillow mode to convert it to."""

    geometry: Geometry
    channels: int
    dtype: np.dtype[Any]
    mode: str

    def arrange(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return what Pillow read, (y, x) or (y, x, 3), as (1, y, x) or (3, 1, y, x)."""
        return arrange(convert(array), "YX" if array.ndim == 2 else "YXS", alpha=False)


def tiff_pages(tiff: Any, *, indices: bool) -> Pages:  # noqa: ANN401 - a tifffile.TiffFile
    """Judge an open TIFF file.

    Parameters
    ----------
    tiff
        A tifffile.TiffFile.
    indices
        Whether of a palette image the indices are wanted, and not the colours.

    Raises
    ------
    VoxelError
        If it holds several images, several files, or more axes than a volume has.
    """
    if len(tiff.series) != 1 or tiff.series[0].is_multifile:
        raise VoxelError(
            f"it holds {len(tiff.series)} images or continues in other files, and one image in "
            "one file is needed: export it as a plain stack"
        )
    (series,) = tiff.series
    photometric = getattr(series.keyframe.photometric, "name", "")
    if photometric in ("SEPARATED", "CIELAB", "ICCLAB"):
        raise VoxelError("its colours are not RGB (CMYK or Lab), and RGB is needed: convert it")
    samples = dict(zip(series.axes, series.shape, strict=False)).get("S", 1)
    alpha = samples == 4 if photometric == "RGB" else samples == 2
    channels, shape = layout(series.axes, series.shape, alpha=alpha)
    dtype = kept_dtype(series.dtype)
    palette = None
    if photometric == "PALETTE" and not indices:
        colours = np.asarray(series.keyframe.colormap)
        # TIFF says 16 bits; some programs write 8.
        palette = (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
        channels, dtype = 3, palette.dtype
    geometry = plain_geometry(shape, _tiff_spacing(tiff))
    return Pages(series.axes, alpha, palette, geometry, channels, dtype)


def picture_header(image: Any, path: Path, *, indices: bool) -> PictureHeader:  # noqa: ANN401
    """Judge an open picture.

    Parameters
    ----------
    image
        A PIL.Image.Image.
    path
        The file it was opened from.
    indices
        Whether of a palette image the indices are wanted, and not the colours.

    Raises
    ------
    VoxelError
        If it is a film, or has colours of 16 bits, which Pillow would halve in silence.
    """
    if getattr(image, "n_frames", 1) > 1:
        raise VoxelError(
            f"it holds {image.n_frames} pictures, and one is needed: save them one file each"
        )
    with path.open("rb") as file:
        start = file.read(26)
    if start[1:4] == b"PNG" and start[24] == 16 and start[25] in (2, 4, 6):
        raise VoxelError(
            "it is a PNG of 16-bit colours, of which only 8 bits could be read: save it as TIFF"
        )
    greys = {"1": "uint8", "L": "uint8", "I": "int32", "F": "float32"}
    greys |= dict.fromkeys(("I;16", "I;16B", "I;16L", "I;16N"), "uint16")
    if indices:
        greys["P"] = "uint8"
    mode = {"LA": "L", "La": "L"}.get(image.mode, image.mode)
    if mode not in greys:
        mode = "RGB"
    channels = 3 if mode == "RGB" else 1
    geometry = plain_geometry((1, image.height, image.width))
    return PictureHeader(geometry, channels, np.dtype(greys.get(mode, "uint8")), mode)


@contextmanager
def raising(logger: logging.Logger) -> Iterator[None]:
    """Raise `VoxelError` at the end where a library only logged that a file is damaged."""
    errors: list[str] = []
    thread = threading.get_ident()

    def keep(record: logging.LogRecord) -> bool:
        if record.thread != thread:
            return True
        if record.levelno >= logging.ERROR:
            errors.append(record.getMessage())
        return False

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
    if errors:
        what = re.sub(r"<[^>]*>", "", errors[0]).strip()
        raise VoxelError(f"it is cut off or damaged ({what}): copy or export it again")


def layout(axes: str, shape: tuple[int, ...], *, alpha: bool) -> tuple[int, tuple[int, int, int]]:
    """Return the channels and the (z, y, x) shape of an array with named axes.

    Parameters
    ----------
    axes
        One letter per axis.
    shape
        Length of each axis.
    alpha
        Whether the last sample is opacity, which is dropped.

    Raises
    ------
    VoxelError
        If more than one axis of depth, or more than one of channels, has a length above 1.
    """
    colour, depth = _long_axes(axes, shape)
    lengths = "axes " + ", ".join(f"{axis} {n}" for axis, n in zip(axes, shape, strict=True))
    if len(depth) > 1:
        what = "a time series of volumes" if "T" in depth else "of more than three dimensions"
        raise VoxelError(
            f"it is {what} ({lengths}), and one 3-D volume is needed: split it into one file each"
        )
    if len(colour) > 1:
        raise VoxelError(
            f"its channels are colour images ({lengths}), and one kind of channel is needed: "
            "split it into one file each"
        )
    length = dict(zip(axes, shape, strict=True))
    channels = length[colour] - alpha if colour else 1
    return channels, (length[depth] if depth else 1, length["Y"], length["X"])


def arrange(array: NDArray[Any], axes: str, *, alpha: bool) -> NDArray[Any]:
    """Return an array with named axes as (z, y, x), or (c, z, y, x) with several channels.

    Takes what `layout` takes, with the array itself.
    """
    colour, depth = _long_axes(axes, array.shape)
    keep = colour + depth + "YX"
    squeezed = array.squeeze(tuple(i for i, axis in enumerate(axes) if axis not in keep))
    left = [axis for axis in axes if axis in keep]
    ordered = squeezed.transpose([left.index(axis) for axis in keep])
    if not depth:
        ordered = np.expand_dims(ordered, -3)
    if colour and alpha:
        ordered = ordered[:-1]
    if colour and len(ordered) == 1:
        ordered = ordered[0]
    return np.ascontiguousarray(ordered)


def imagej_spacing(
    metadata: dict[str, Any], pixels_per_unit: tuple[float, float]
) -> tuple[float, float, float]:
    """Return mm per voxel along (z, y, x) of an ImageJ file; 1 mm where its unit is no length.

    Parameters
    ----------
    metadata
        What ImageJ wrote: ``unit``, ``yunit``, ``zunit`` and ``spacing``.
    pixels_per_unit
        Resolution along (y, x); 0 where there is none.
    """
    x_unit = metadata.get("unit")
    y_unit, z_unit = metadata.get("yunit", x_unit), metadata.get("zunit", x_unit)
    per_y, per_x = pixels_per_unit
    return (
        _millimetres(metadata.get("spacing", 1), z_unit),
        _millimetres(1 / per_y if per_y else 0, y_unit),
        _millimetres(1 / per_x if per_x else 0, x_unit),
    )


def ome_spacing(xml: str) -> tuple[float, float, float]:
    """Return mm per voxel along (z, y, x) of an OME file; 1 mm where it gives no size."""
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", xml)
    attributes = dict(re.findall(r'(\w+)="([^"]*)"', pixels.group())) if pixels else {}

    def along(axis: str) -> float:
        unit = attributes.get(f"PhysicalSize{axis}Unit", "µm").replace("&#181;", "µ")
        return _millimetres(attributes.get(f"PhysicalSize{axis}", 0), unit)

    return (along("Z"), along("Y"), along("X"))


def _tiff_spacing(tiff: Any) -> tuple[float, float, float]:  # noqa: ANN401 - see `tiff_pages`
    if tiff.is_ome:
        return ome_spacing(tiff.ome_metadata)
    if not tiff.is_imagej:
        return (1.0, 1.0, 1.0)
    tags = tiff.pages[0].tags
    ratios = [
        tags[name].value if name in tags else (0, 1) for name in ("YResolution", "XResolution")
    ]
    per_y, per_x = (above / below if below else 0.0 for above, below in ratios)
    return imagej_spacing(tiff.imagej_metadata or {}, (per_y, per_x))


def _millimetres(length: float | str, unit: str | None) -> float:
    """Return a length in mm, or 1 mm for what is no length."""
    factor = _MM.get((unit or "").strip().lower())
    try:
        millimetres = float(length) * factor if factor else 0.0
    except ValueError:
        return 1.0
    # ImageJ writes a negative spacing for a stack that runs downwards.
    return float(f"{abs(millimetres):.6g}") or 1.0


def _long_axes(axes: str, shape: tuple[int, ...]) -> tuple[str, str]:
    """Return the axes of channels and those of depth that are longer than 1."""
    if "Y" not in axes or "X" not in axes or len(axes) != len(set(axes)):
        raise VoxelError(
            f"its axes are {axes} with lengths {shape}, and one Y, one X and at most one depth "
            "are needed: export it as a plain stack"
        )
    long_axes = [axis for axis, n in zip(axes, shape, strict=True) if n > 1 and axis not in "YX"]
    colour = "".join(axis for axis in long_axes if axis in "SC")
    return colour, "".join(axis for axis in long_axes if axis not in "SC")
