"""Slices to learn from that need no project: discs and bars on noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.settings import TrainSettings
from napari_activeft.training.dataset import LabelledVolume, SliceDataset
from napari_activeft.training.network_spec import ClassName, NetworkSpec
from napari_activeft.training.view import View

SIDE = 64
CLASSES = (ClassName(3, "disc"), ClassName(7, "bar"))
VIEW = View(None, (SIDE, SIDE))


def drawn_volumes(
    cases: int, *, seed: int = 0, slices: int = 2, bar: bool = True, split: str = "pool"
) -> list[LabelledVolume]:
    """Return one volume a case; every slice shows a disc (3) and a bar (7)."""
    rng = np.random.default_rng(seed)
    return [_drawn(rng, f"{split}{seed}-{at}", split, slices, bar) for at in range(cases)]


def _drawn(
    rng: np.random.Generator, case: str, split: str, slices: int, bar: bool
) -> LabelledVolume:
    down, across = np.mgrid[:SIDE, :SIDE]
    masks: dict[int, NDArray[Any]] = {}
    images = np.empty((slices, 1, SIDE, SIDE), np.float32)
    for at in range(slices):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        row = rng.integers(0, SIDE // 4)
        mask[row : row + SIDE // 6] = 7 if bar else 0
        centre = rng.integers(SIDE // 2, SIDE - SIDE // 6, 2)
        mask[(down - centre[0]) ** 2 + (across - centre[1]) ** 2 < (SIDE / 6) ** 2] = 3
        bright = np.where(mask == 3, 0.8, np.where(mask == 7, 0.2, 0.5))
        images[at] = (bright + rng.normal(0, 0.1, mask.shape)).clip(0, 1)
        masks[at] = mask

    def read(positions: Sequence[int]) -> NDArray[np.float32]:
        return images[list(positions)]

    return LabelledVolume(
        case, case, split, (1.0, 1.0), (1, SIDE, SIDE), slices, read=read, masks=masks
    )


def drawn_slices(cases: int, **how: Any) -> SliceDataset:
    """Return the slices of `drawn_volumes`."""
    values = [one.value for one in CLASSES]
    training = how.get("split", "pool") == "pool"
    return SliceDataset(drawn_volumes(cases, **how), VIEW, values, training=training)


def spec_of(network: str, *, classes: tuple[ClassName, ...] = CLASSES) -> NetworkSpec:
    """Return what a network for drawn slices is."""
    return NetworkSpec(network, 1, classes, VIEW)


def quick(**changes: Any) -> TrainSettings:
    """Return settings of a run of seconds."""
    usual: dict[str, Any] = {
        "network": "vm_unet_nano",
        "steps": 6,
        "batch": 2,
        "check_every": 3,
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
        "augmentation": "none",
    }
    return TrainSettings(**(usual | changes))
