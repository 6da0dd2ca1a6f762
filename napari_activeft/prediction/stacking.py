"""A predicted volume as a whole: its label map, and how sure of each slice.

Symbols: d slices of h x w pixels, n classes with the background.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_activeft.prediction.predictor import Predictor
from napari_activeft.training.view import Read
from napari_activeft.voxels import LabelMap


class Slices(Protocol):
    """Slices of a volume, on their way to a network; see `Predictor.volume`."""

    @property
    def read(self) -> Read:
        """Takes positions, returns slices."""

    @property
    def depth(self) -> int:
        """Slices of the volume."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""

    @property
    def spacing(self) -> tuple[float, float]:
        """Millimetres per pixel down and across."""


@dataclass(frozen=True)
class PredictedVolume:
    """What networks say of one volume.

    Attributes
    ----------
    labels
        Class values, (d, h, w).
    doubts
        Uncertainty of each slice, and how far networks disagree on it, None where there is one.
    probabilities
        float32 (n, d, h, w), background first; None where they were not to be kept.
    entropy
        uint8 (d, h, w), 0 sure to 255, see `certainty.pixel_entropy`; None where it was not to be
        kept.
    """

    labels: LabelMap = field(repr=False)
    doubts: list[tuple[float, float | None]] = field(repr=False)
    probabilities: NDArray[np.float32] | None = field(repr=False)
    entropy: NDArray[np.uint8] | None = field(default=None, repr=False)


def stacked(
    predictor: Predictor,
    slices: Slices,
    on_slice: Callable[[int], None],
    *,
    keep: bool = False,
    keep_entropy: bool = False,
) -> PredictedVolume:
    """Predict a volume and put its slices together.

    Parameters
    ----------
    on_slice
        Called with the number of slices done; it may raise `Cancelled`.
    keep
        Keep the probabilities of the whole volume, four bytes a voxel and class.
    keep_entropy
        Keep the entropy of every pixel, a byte a voxel.
    """
    labels: list[NDArray[Any]] = []
    doubts: list[tuple[float, float | None]] = []
    probabilities: NDArray[np.float32] | None = None
    entropy: list[NDArray[np.uint8]] = []
    for one in predictor.volume(slices.read, slices.depth, slices.shape, slices.spacing):
        labels.append(one.labels)
        doubts.append((one.uncertainty, one.disagreement))
        if keep:
            if probabilities is None:
                classes, *sides = one.probabilities.shape
                probabilities = np.empty((classes, slices.depth, *sides), dtype=np.float32)
            probabilities[:, one.position] = one.probabilities
        if keep_entropy:
            entropy.append(np.round(one.entropy * 255).astype(np.uint8))
        on_slice(len(labels))
    unsure = np.stack(entropy) if keep_entropy else None
    return PredictedVolume(np.stack(labels), doubts, probabilities, unsure)
