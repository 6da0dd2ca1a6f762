"""Channel and spatial attention (CBAM, Woo et al. 2018), as VM-UNetV2 uses them.

Symbols: b batch, c channels, h w map height and width. Maps are channels-first here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

REDUCTION = 16
KERNEL = 7


class ChannelAttention(nn.Module):
    """``sigmoid(mlp(mean over pixels) + mlp(max over pixels))``.

    Parameters
    ----------
    channels
        Channels ``c``; the layer between holds c / 16 of them, at least one.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // REDUCTION)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to weights (b, c, 1, 1)."""
        pooled = (x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True))
        mean, peak = (self.fc2(self.fc1(part).relu()) for part in pooled)
        return torch.sigmoid(mean + peak)


class SpatialAttention(nn.Module):
    """``sigmoid(conv7x7([mean over channels, max over channels]))``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, KERNEL, padding=KERNEL // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to weights (b, 1, h, w)."""
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return torch.sigmoid(self.conv1(both))
