"""From a volume to slices: the plane, how empty each slice is, and one slice ready to look at.

Symbols: ``data`` is (z, y, x) or (c, z, y, x); ``axis`` is the array axis (0 is z) along which
slices follow each other; ``position`` counts slices from 0.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import UserError
from napari_activeft.geometry import Geometry
from napari_activeft.volume import Volume, check_voxels

# Two spacings that differ by less are the same: headers round.
_SAME_SPACING = 1.01
# Share of voxels clipped at either end: a few hot voxels must not darken all others.
_CLIPPED = 0.005
# Enough voxels for a percentile that is right to a fraction of a per cent.
_SAMPLED_VOXELS = 2_000_000
# Side of the blocks that are averaged before structure is measured, so that noise in air is none.
_BLOCK = 4
# The structure (standard deviation in units of the intensity range) of a slice that is surely full.
_FULL_STRUCTURE = 0.1

PLANES = {"auto": None, "z": 0, "y": 1, "x": 2}
"""Names of the planes in settings, and the array axis of each; ``auto`` is `plane_axis`."""


def plane_axis(geometry: Geometry, plane: str = "auto") -> int:
    """Return the array axis along which a volume is sliced.

    A volume that has one voxel along an axis is sliced along it. Otherwise ``auto`` takes the axis
    of the coarsest spacing, where the pixels within a slice are finest; where spacing is isotropic
    (to 1 %) it is the last axis as stored on disk, array axis 0.

    Parameters
    ----------
    geometry
        Of the volume.
    plane
        ``"auto"``, or the axis to slice along: ``"z"``, ``"y"`` or ``"x"``.
    """
    single = [axis for axis, count in enumerate(geometry.shape) if count == 1]
    if single:
        return single[0]
    axis = PLANES[plane]
    if axis is not None:
        return axis
    coarsest = max(geometry.spacing)
    return next(a for a in range(3) if geometry.spacing[a] * _SAME_SPACING >= coarsest)


def slice_shape(geometry: Geometry, axis: int) -> tuple[int, int]:
    """Return height and width of the slices along ``axis`` in pixels."""
    height, width = (n for a, n in enumerate(geometry.shape) if a != axis)
    return height, width


def slice_spacing(geometry: Geometry, axis: int) -> tuple[float, float]:
    """Return millimetres per pixel of the slices along ``axis``, down and across."""
    down, across = (mm for a, mm in enumerate(geometry.spacing) if a != axis)
    return down, across


def take_slice(data: NDArray[Any], axis: int, position: int) -> NDArray[Any]:
    """Return one slice, (h, w) or (c, h, w), as a view of ``data``."""
    index: list[int | slice] = [slice(None)] * data.ndim
    index[axis + data.ndim - 3] = position
    view: NDArray[Any] = data[tuple(index)]
    return view


def intensity_range(data: NDArray[Any]) -> list[tuple[float, float]]:
    """Return, per channel, the intensities that become 0 and 1 in a normalised slice.

    They are the 0.5 and 99.5 percentiles of the volume; where these coincide (a volume that is
    nearly all background), its minimum and maximum.
    """
    channels = data if data.ndim == 4 else data[np.newaxis]
    return [_range_of(channel) for channel in channels]


def _range_of(channel: NDArray[Any]) -> tuple[float, float]:
    stride = max(1, channel.size // _SAMPLED_VOXELS)
    # A stride that shares a factor with the row length would visit some columns only.
    while math.gcd(stride, channel.shape[-1]) > 1:
        stride += 1
    sample = channel.reshape(-1)[::stride].astype(np.float64)
    low, high = np.quantile(sample, (_CLIPPED, 1 - _CLIPPED))
    if high <= low:
        low, high = float(channel.min()), float(channel.max())
    return float(low), float(high)


def normalise(pixels: NDArray[Any], ranges: Sequence[tuple[float, float]]) -> NDArray[np.float32]:
    """Map intensities to 0..1, clipped; a constant channel becomes 0.

    Parameters
    ----------
    pixels
        (h, w), or (c, ...) with one range per channel.
    ranges
        As `intensity_range` returns them.
    """
    lows = np.array([low for low, _ in ranges], dtype=np.float64)
    spans = np.array([high - low for low, high in ranges], dtype=np.float64)
    scales = np.divide(1.0, spans, out=np.zeros_like(spans), where=spans > 0)
    if len(ranges) > 1:
        sides = (-1,) + (1,) * (pixels.ndim - 1)
        lows, scales = lows.reshape(sides), scales.reshape(sides)
    scaled = (pixels.astype(np.float64) - lows) * scales
    return np.clip(scaled, 0.0, 1.0).astype(np.float32)


def emptiness(data: NDArray[Any], axis: int, ranges: Sequence[tuple[float, float]]) -> list[float]:
    """Return how empty each slice is, 0 (as full as the volume gets) to 1 (nothing in it).

    No label is looked at. A slice's structure is the standard deviation of its normalised
    intensities after averaging over blocks of 4 x 4 pixels, which removes noise; emptiness is what
    it lacks of the volume's 90th percentile, or of a fixed low level where the whole volume is
    poor in structure.
    """
    count = data.shape[axis + data.ndim - 3]
    structure = np.array(
        [_structure(normalise(take_slice(data, axis, p), ranges)) for p in range(count)]
    )
    full = max(float(np.quantile(structure, 0.9)), _FULL_STRUCTURE)
    return [float(value) for value in np.clip(1 - structure / full, 0.0, 1.0)]


def _structure(pixels: NDArray[np.float32]) -> float:
    """Return the standard deviation of block means, the largest over the channels of (c, h, w)."""
    height, width = pixels.shape[-2:]
    rows, columns = max(height // _BLOCK, 1), max(width // _BLOCK, 1)
    block = (height // rows, width // columns)
    whole = pixels[..., : rows * block[0], : columns * block[1]]
    blocks = whole.reshape(*pixels.shape[:-2], rows, block[0], columns, block[1])
    return float(np.max(np.std(blocks.mean(axis=(-3, -1)), axis=(-2, -1))))


def picture(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Map a normalised slice, (h, w) or (c, h, w), to 8-bit grey (h, w) or RGB (h, w, 3).

    Three channels are shown as RGB, of any other number the first.
    """
    if pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels[0]
    return np.round(pixels * 255).astype(np.uint8)


@dataclass(frozen=True)
class SlicedVolume:
    """A volume as the pool sees it.

    Attributes
    ----------
    axis
        Along which it is sliced.
    height, width
        Of a slice in pixels.
    ranges
        (low, high) intensity per channel, see `intensity_range`.
    emptiness
        One value per slice, see `emptiness`.
    """

    axis: int
    height: int
    width: int
    ranges: list[tuple[float, float]]
    emptiness: list[float]


def slice_up(volume: Volume, plane: str = "auto") -> SlicedVolume:
    """Read a volume and say how it becomes slices.

    Raises
    ------
    VolumeError
        If its voxels cannot be read or are not all finite.
    """
    check_voxels(volume)
    axis = plane_axis(volume.geometry, plane)
    height, width = slice_shape(volume.geometry, axis)
    ranges = intensity_range(volume.data)
    return SlicedVolume(axis, height, width, ranges, emptiness(volume.data, axis, ranges))


class VolumeCache:
    """Keeps the volumes used last in memory, so that a slice of one of them takes no reading.

    Threads may share it. Who asks for a volume that another thread is reading waits for it; who
    asks for one that is in memory never waits.

    Parameters
    ----------
    open_by_id
        Opens the volume of an id.
    max_bytes
        Voxels kept in memory; the volume just asked for is kept whatever its size.
    """

    def __init__(self, open_by_id: Callable[[int], Volume], max_bytes: int = 1 << 30) -> None:
        if max_bytes < 0:
            raise UserError(f"a cache of {max_bytes} bytes was asked: give 0 or more")
        self._open, self._max_bytes = open_by_id, max_bytes
        self._held: OrderedDict[int, Volume] = OrderedDict()
        self._lock = threading.Lock()  # of what is held
        self._reading: dict[int, threading.Lock] = {}

    def volume(self, volume_id: int) -> Volume:
        """Return a volume with its voxels in memory."""
        volume = self._found(volume_id)
        if volume is not None:
            return volume
        with self._lock:
            reading = self._reading.setdefault(volume_id, threading.Lock())
        with reading:
            volume = self._found(volume_id)
            if volume is None:
                volume = self._open(volume_id)
                size = volume.data.nbytes  # this reads it
                self._keep(volume_id, volume, size)
        return volume

    def holds(self, volume_id: int) -> bool:
        """Tell whether a volume is in memory."""
        with self._lock:
            return volume_id in self._held

    def _found(self, volume_id: int) -> Volume | None:
        with self._lock:
            if volume_id in self._held:
                self._held.move_to_end(volume_id)
            return self._held.get(volume_id)

    def _keep(self, volume_id: int, volume: Volume, size: int) -> None:
        with self._lock:
            while self._held and size + self._bytes() > self._max_bytes:
                self._held.popitem(last=False)
            self._held[volume_id] = volume

    def _bytes(self) -> int:
        return sum(volume.data.nbytes for volume in self._held.values())
