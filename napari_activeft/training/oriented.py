"""Histograms of oriented gradients (Dalal and Triggs, 2005) of many pictures at once, by torch.

Symbols: b pictures, c channels, h w height and width, s side of a cell, o orientations.
"""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

ORIENTATIONS: Final = 9
_LEAST: Final = 0.02
"""Added to the norm of a histogram, so that noise in an empty cell stays small."""


def oriented_histograms(x: Tensor, cell: int) -> Tensor:
    """Return how strong edges of each direction are in each cell.

    Of several channels the mean counts. Each histogram is divided by its norm, those of its
    neighbours included, so that contrast does not count.

    Parameters
    ----------
    x
        Shape (b, c, h, w), 0 to 1; h and w are multiples of ``cell``.
    cell
        Side of a cell in pixels, s.

    Returns
    -------
    histograms
        Shape (b, o, h/s, w/s), 0 to 1.
    """
    grey = F.pad(x.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = grey[:, :, 1:-1, 2:] - grey[:, :, 1:-1, :-2]
    down = grey[:, :, 2:, 1:-1] - grey[:, :, :-2, 1:-1]
    strength = (across.square() + down.square()).sqrt()
    place = torch.atan2(down, across).remainder(math.pi) * (ORIENTATIONS / math.pi)
    low = place.floor()
    share = place - low
    bins = torch.arange(ORIENTATIONS, device=x.device).view(1, -1, 1, 1)
    first = (low.remainder(ORIENTATIONS) == bins).float() * (1 - share)
    second = ((low + 1).remainder(ORIENTATIONS) == bins).float() * share
    pooled = F.avg_pool2d((first + second) * strength, cell)
    around = F.avg_pool2d(
        pooled.square().sum(dim=1, keepdim=True), 3, stride=1, padding=1, count_include_pad=False
    )
    return pooled / (around.sqrt() + _LEAST)
