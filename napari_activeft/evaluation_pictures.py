"""The slices that an evaluation shows: of the volumes with the best, the median and the worst Dice.

Which these are is known only at the end. Until then the masks of a few slices of each volume are
kept compressed; images are read at the end, of the volumes that are shown.

Symbols: d slices of h x w pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.annotation_db import PackedMask, VolumeRecord, pack, unpack
from napari_activeft.errors import UserError
from napari_activeft.geometry import Geometry
from napari_activeft.pool import normalise, picture, slice_spacing, take_slice
from napari_activeft.project import Project
from napari_activeft.reports.evaluation_pictures import Example, ExampleSlice
from napari_activeft.training.metrics import TOGETHER, Compared
from napari_activeft.voxels import UNLABELLED, LabelMap

SHOWN = 3
"""Slices of a volume."""


@dataclass(frozen=True)
class _Kept:
    volume: VolumeRecord
    dice: float
    slices: dict[int, tuple[PackedMask, PackedMask, float]]


class Gallery:
    """Keeps what may be shown in the end."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._kept: list[_Kept] = []

    def keep(
        self,
        volume: VolumeRecord,
        truth: Mapping[int, LabelMap],
        prediction: LabelMap,
        compared: Compared,
    ) -> None:
        """Keep a few slices of a volume.

        Parameters
        ----------
        truth, prediction
            Class values (h, w) by position, and (d, h, w).
        """
        dice = _dice(compared)
        if math.isnan(dice):
            return
        slices = {
            at: (pack(truth[at]), pack(prediction[at]), compared.slices[at][TOGETHER]["dice"])
            for at in shown_positions(truth, prediction)
        }
        self._kept.append(_Kept(volume, dice, slices))

    def examples(self) -> list[Example]:
        """Return the volumes with the best, the median and the worst Dice, each once."""
        ranked = sorted(self._kept, key=lambda one: (-one.dice, one.volume.name))
        places = {0: "Best", len(ranked) - 1: "Worst", len(ranked) // 2: "Median"}
        if len(ranked) < 3:
            places = {0: "Best", len(ranked) - 1: "Worst"}
        if len(ranked) < 2:
            places = {0: "The only one"}
        return [self._example(ranked[at], places[at]) for at in sorted(places) if ranked]

    def _example(self, kept: _Kept, rank: str) -> Example:
        volume = kept.volume
        slices = [
            ExampleSlice(
                position=at,
                image=self._image(volume, at),
                truth=_unpacked(truth),
                prediction=_unpacked(prediction),
                dice=dice,
            )
            for at, (truth, prediction, dice) in sorted(kept.slices.items())
        ]
        spacing = slice_spacing(Geometry.from_json(volume.geometry), volume.axis)
        return Example(rank, volume.name, kept.dice, spacing, slices)

    def _image(self, volume: VolumeRecord, position: int) -> NDArray[np.uint8] | None:
        """Return the picture of a slice; None where its image cannot be read."""
        try:
            data = self._project.cache.volume(volume.volume_id).data
        except UserError:
            return None
        ranges = [(low, high) for low, high in volume.intensity_range]
        return picture(normalise(take_slice(data, volume.axis, position), ranges))


def shown_positions(truth: Mapping[int, LabelMap], prediction: NDArray[Any]) -> list[int]:
    """Return the slice with the most wrong pixels, and others spread over those that hold a class.

    Parameters
    ----------
    truth, prediction
        Class values (h, w) by position, and (d, h, w).
    """
    wrong, held = {}, []
    for at, mask in sorted(truth.items()):
        known = mask != UNLABELLED
        wrong[at] = int(np.count_nonzero((mask != prediction[at]) & known))
        if np.any(known & ((mask > 0) | (prediction[at] > 0))):
            held.append(at)
    held = held or list(wrong)
    chosen = {max(held, key=lambda at: (wrong[at], -at))}
    # The ends of an organ first say little: quarters of the way, then whatever is left.
    for share in (0.5, 0.25, 0.75, 0.0, 1.0):
        if len(chosen) < SHOWN:
            chosen.add(held[round(share * (len(held) - 1))])
    return sorted(chosen)


def _dice(compared: Compared) -> float:
    """Return the Dice of a volume, or the mean of its slices' where it was not measured whole."""
    if compared.volume is not None:
        return compared.volume[TOGETHER]["dice"]
    told = [figures[TOGETHER]["dice"] for figures in compared.slices.values()]
    defined = [dice for dice in told if not math.isnan(dice)]
    return sum(defined) / len(defined) if defined else math.nan


def _unpacked(packed: PackedMask) -> LabelMap:
    return unpack(packed.payload, packed.checksum, "a mask to be shown")
