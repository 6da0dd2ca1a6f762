"""A part of a slice, of the size that a network is trained on.

Symbols: k channels of the network's input, H W height and width of a slice, h w of the crop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

IGNORED = -1
"""In a target: a pixel that nobody labelled, or that lies outside of the slice."""

# Of the crops of slices with foreground: they hold some. The others are anywhere.
_ON_FOREGROUND = 2 / 3

Crop = tuple[NDArray[np.float32], NDArray[np.int16]]


class Window(NamedTuple):
    """A part of a slice, which may reach over its edges; in pixels."""

    top: int
    left: int
    height: int
    width: int


Augment = Callable[
    [NDArray[np.float32], NDArray[np.int16], np.random.Generator, Window],
    Crop,
]
"""Takes image (k, H, W), target (H, W), a generator and the window to cut, and returns the crop."""


def cut(image: NDArray[np.float32], target: NDArray[np.int16], window: Window) -> Crop:
    """Return the part of a slice in a window, image (k, h, w) and target (h, w), as a copy."""
    shape = (window.height, window.width)
    cropped = np.empty((len(image), *shape), dtype=np.float32)
    cropped[:] = image.min((1, 2), keepdims=True)
    labels = np.full(shape, IGNORED, dtype=np.int16)
    rows, columns = (
        (max(start, 0), min(start + side, whole))
        for start, side, whole in zip(window[:2], window[2:], target.shape, strict=True)
    )
    inside = (slice(*rows), slice(*columns))
    there = (
        slice(rows[0] - window.top, rows[1] - window.top),
        slice(columns[0] - window.left, columns[1] - window.left),
    )
    cropped[(slice(None), *there)] = image[(slice(None), *inside)]
    labels[there] = target[inside]
    return cropped, labels


def place(target: NDArray[np.int16], size: tuple[int, int], rng: np.random.Generator) -> Window:
    """Return where to crop; along a side that is shorter than the crop, in its middle.

    Of slices that show a class, two thirds are placed so that a pixel of it lies in their inner
    half, or as near to it as the slice's edge allows; each class as often.

    Parameters
    ----------
    target
        Class indices (H, W), 0 the background.
    size
        Of the crop, (h, w).
    """
    wanted: tuple[int | None, int | None] = (None, None)
    if rng.random() < _ON_FOREGROUND and target.max() > 0:
        present = np.flatnonzero(np.bincount(target[target > 0]))
        pixels = np.flatnonzero(target == rng.choice(present))
        row, column = divmod(int(rng.choice(pixels)), target.shape[1])
        wanted = (row, column)
    starts = []
    for side, whole, at in zip(size, target.shape, wanted, strict=True):
        room = whole - side
        if room <= 0:
            starts.append(room // 2)
            continue
        low, high = (0, room) if at is None else _around(at, side, room)
        starts.append(int(rng.integers(low, high + 1)))
    return Window(starts[0], starts[1], *size)


def _around(at: int, side: int, room: int) -> tuple[int, int]:
    """Return the first and last start, 0 to ``room``, that bring a pixel to the inner half."""
    low, high = at - side + side // 4 + 1, at - side // 4
    return min(max(low, 0), room), min(max(high, 0), room)
