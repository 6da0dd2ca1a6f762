"""Small volumes to train on, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.training.dataset import LabelledVolume


def labelled_volume(
    image: NDArray[Any],
    masks: Mapping[int, NDArray[Any]] | None = None,
    *,
    name: str = "heart",
    case: str | None = None,
    split: str = "pool",
    spacing: tuple[float, float] = (1.0, 1.0),
    asked: list[list[int]] | None = None,
) -> LabelledVolume:
    """Return a volume of slices (d, h, w) or (d, c, h, w); ``asked`` collects what is read."""
    slices = (image if image.ndim == 4 else image[:, np.newaxis]).astype(np.float32)

    def read(positions: Sequence[int]) -> NDArray[np.float32]:
        if asked is not None:
            asked.append(list(positions))
        return slices[list(positions)]

    return LabelledVolume(
        name=name,
        case=case or name,
        split=split,
        spacing=spacing,
        shape=slices.shape[1:],
        depth=len(slices),
        read=read,
        masks=masks or {},
    )


def disc(shape: tuple[int, int], radius: float = 0.25) -> NDArray[np.uint8]:
    """Return a mask (h, w) of class 1 with a disc of class 2 in it, left of the middle."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    away = np.hypot(rows / shape[0] - 0.5, columns / shape[1] - 0.4)
    return (away < radius).astype(np.uint8) + (away < radius / 2).astype(np.uint8)
