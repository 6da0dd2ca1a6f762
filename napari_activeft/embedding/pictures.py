"""Slices of any size as square pictures of one size, their shape kept.

Symbols: n slices, c channels, h w height and width in pixels, side of the square.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

VERSION = 1
"""Raised whenever a slice would become another picture: its vector is then made anew."""


def pictures(
    slices: NDArray[np.float32], spacing: tuple[float, float], side: int
) -> NDArray[np.float32]:
    """Scale slices to ``side x side`` with anti-aliasing.

    Proportions are those in millimetres: the longer side fills the square, the rest of it is 0,
    the darkest intensity, in equal parts on both sides. A squeezed organ would look like another
    one to a network that was trained on photographs.

    Parameters
    ----------
    slices
        Shape (n, c, h, w), intensities 0 to 1.
    spacing
        Millimetres per pixel down and across.
    side
        Of the pictures.

    Returns
    -------
    pictures
        Shape (n, c, side, side), 0 to 1.
    """
    import torch
    from torch.nn.functional import interpolate

    n, c, h, w = slices.shape
    height, width = fitted(h * spacing[0], w * spacing[1], side)
    scaled = interpolate(
        torch.from_numpy(np.ascontiguousarray(slices)),
        size=(height, width),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    square = np.zeros((n, c, side, side), dtype=np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    square[:, :, top : top + height, left : left + width] = scaled.numpy()
    return square


def fitted(height: float, width: float, side: int) -> tuple[int, int]:
    """Return the pixels of an area of the given proportions that just fits into a square."""
    scale = side / max(height, width)
    return max(round(height * scale), 1), max(round(width * scale), 1)
