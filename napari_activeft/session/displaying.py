"""How a volume is laid out in a viewer: which axes are seen, which values its layers get.

Symbols: data (z, y, x) or (c, z, y, x); a slice (h, w) lies along one axis of three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.annotation_db import ClassRecord, VolumeRecord
from napari_activeft.geometry import Geometry
from napari_activeft.volume import Volume
from napari_activeft.voxels import UNLABELLED, LabelMap

_BRUSH_SHARE = 0.04
_RGB = 3
_LARGEST_BYTE = 255


@dataclass(frozen=True)
class Displayed:
    """A volume as layers take it.

    Attributes
    ----------
    name
        Of the volume.
    channels
        Arrays (z, y, x), one for each image layer, or one (z, y, x, 3) that is shown in colour.
    rgb
        Whether it is shown in colour.
    limits
        Low and high intensity of each layer; None in colour.
    scale
        Millimetres along (z, y, x).
    metadata
        Of every layer: the case, the affine as on disk, and how the volume is sliced.
    axis
        Along which it is sliced.
    """

    name: str
    channels: Sequence[NDArray[Any]]
    rgb: bool
    limits: Sequence[tuple[float, float]] | None
    scale: tuple[float, float, float]
    metadata: Mapping[str, Any]
    axis: int

    @property
    def order(self) -> tuple[int, int, int]:
        """Axes for the viewer: the one that is sliced along, then rows and columns."""
        down, across = (axis for axis in range(3) if axis != self.axis)
        return self.axis, down, across

    def layer_name(self, channel: int) -> str:
        """Return the name of the layer of a channel."""
        return self.name if len(self.channels) == 1 else f"{self.name}, channel {channel}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (z, y, x)."""
        z, y, x = self.channels[0].shape[:3]
        return z, y, x

    @property
    def brush(self) -> int:
        """Pixels of a brush that suits a slice."""
        sides = [self.shape[axis] for axis in self.order[1:]]
        return max(2, round(_BRUSH_SHARE * min(sides)))


def displayed(record: VolumeRecord, volume: Volume) -> Displayed:
    """Return how a volume is shown; its voxels are not copied, but for colour."""
    geometry = Geometry.from_json(record.geometry)
    data = volume.data
    channels = [data] if data.ndim == 3 else list(data)
    rgb = len(channels) == _RGB and data.dtype == np.uint8
    limits = None if rgb else [(low, _above(low, high)) for low, high in record.intensity_range]
    return Displayed(
        name=record.name,
        channels=[np.stack(channels, axis=-1)] if rgb else channels,
        rgb=rgb,
        limits=limits,
        scale=geometry.spacing,
        metadata={
            "case": record.case,
            "volume": record.name,
            "affine": geometry.affine,
            "axis": record.axis,
        },
        axis=record.axis,
    )


def _above(low: float, high: float) -> float:
    """Return an upper limit that is above the lower one, which a viewer needs."""
    return high if high > low else low + 1.0


def label_data(record: VolumeRecord, masks: Mapping[int, LabelMap], largest: int) -> LabelMap:
    """Return a label map (z, y, x) with masks (h, w) in their positions.

    Parameters
    ----------
    largest
        Value of a class: the array holds it.
    """
    wide = max([largest, *(int(mask.max(initial=0)) for mask in masks.values())]) > _LARGEST_BYTE
    shape = Geometry.from_json(record.geometry).shape
    made: LabelMap = np.zeros(shape, np.uint16) if wide else np.zeros(shape, np.uint8)
    along: Any = np.moveaxis(made, record.axis, 0)
    for position, mask in masks.items():
        along[position] = mask
    return made


def colours(classes: Sequence[ClassRecord]) -> dict[int | None, str]:
    """Return the colour of every value of a mask; what is no class is grey."""
    known: dict[int | None, str] = {record.value: record.colour for record in classes}
    return {0: "#00000000", UNLABELLED: "#ffffff40", **known, None: "#9e9e9e"}
