"""Semantics and detail infusion (SDI, Peng et al. 2023): every scale meets every other.

Symbols: b batch, m channels of every map, h_i w_i the size of map i. Maps are channels-first here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class SDI(nn.Module):
    """Bring all maps to the anchor's size and multiply them: ``prod_i conv_i(resize(x_i))``.

    Parameters
    ----------
    channels
        Channels ``m``.
    scales
        How many maps there are.
    """

    def __init__(self, channels: int, scales: int = 4) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(scales)
        )

    def forward(self, maps: Sequence[Tensor], anchor: Tensor) -> Tensor:
        """Map maps (b, m, h_i, w_i) and an anchor (b, m, h, w) to (b, m, h, w)."""
        fused: Tensor = self.convs[0](resize_to(maps[0], anchor))
        for conv, x in zip(self.convs[1:], maps[1:], strict=True):
            fused = fused * conv(resize_to(x, anchor))
        return fused


def resize_to(x: Tensor, anchor: Tensor) -> Tensor:
    """Average a larger map down to the anchor's size, interpolate a smaller one up.

    The corners are aligned, as published.
    """
    h, w = anchor.shape[2:]
    if x.shape[2:] == (h, w):
        return x
    if x.shape[2] >= h and x.shape[3] >= w:
        return F.adaptive_avg_pool2d(x, (h, w))
    return F.interpolate(x, (h, w), mode="bilinear", align_corners=True)
