"""Small parts that the networks share. Maps are channels-last inside the networks.

Symbols: b batch, h w map height and width, c channels. A channels-last map (b, h, w, c) that a
convolution sees through a permuted view is torch's channels_last memory format: nothing is copied.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from .linear import Linear

NORM_EPS = 1e-5
LINEAR_STD = 0.02  # of the truncated normal that linear layers start from


class ToChannelsFirst(nn.Module):
    """Hand a map to a convolution."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, h, w, c) to (b, c, h, w), a view."""
        return x.permute(0, 3, 1, 2)


class ToChannelsLast(nn.Module):
    """Take a map from a convolution."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to (b, h, w, c), a view."""
        return x.permute(0, 2, 3, 1)


class DropPath(nn.Module):
    """Leave out a residual branch for some samples of a batch while training.

    Parameters
    ----------
    rate
        Share of samples left out, 0 to below 1; the kept ones are divided by ``1 - rate``.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"a drop path rate of {rate} was given: take one from 0 to below 1")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (b, ...)."""
        if self.rate == 0 or not self.training:
            return x
        kept = x.new_empty(x.shape[:1] + (1,) * (x.dim() - 1)).bernoulli_(1 - self.rate)
        return x * (kept / (1 - self.rate))

    def extra_repr(self) -> str:
        """Show the rate."""
        return f"rate={self.rate}"


class Mlp(nn.Module):
    """Two linear layers with an exact (erf) GELU between them.

    Parameters
    ----------
    channels
        Channels ``c`` of the input and the output.
    hidden
        Channels between the layers.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(channels, hidden)
        self.fc2 = Linear(hidden, channels)
        init_linears(self)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (b, h, w, c)."""
        mixed: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return mixed


class PatchMerging(nn.Module):
    """Join every 2 x 2 block of pixels into one of twice the channels (first generation).

    Parameters
    ----------
    channels
        Channels ``c`` of the input.
    odd
        What happens to a last odd row or column: VMamba v0 and VM-UNet ``crop`` it, today's VMamba
        would ``pad`` it with zeros.
    """

    def __init__(self, channels: int, odd: Literal["crop", "pad"] = "crop") -> None:
        super().__init__()
        self.odd = odd
        self.norm = nn.LayerNorm(4 * channels, eps=NORM_EPS)
        self.reduction = Linear(4 * channels, 2 * channels, bias=False)
        init_linears(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, h, w, c) to (b, h/2, w/2, 2c); h/2 and w/2 rounded down by crop, up by pad."""
        h, w = x.shape[1:3]
        if self.odd == "pad":
            x = F.pad(x, (0, 0, 0, w % 2, 0, h % 2))
        elif h < 2 or w < 2:
            raise ValueError(
                f"merging 2 x 2 pixels needs a map of at least 2 x 2, got {h} x {w}: "
                "give the network a larger image"
            )
        else:
            x = x[:, : h - h % 2, : w - w % 2]
        b, h, w, c = x.shape
        # The four pixels of a block in the order (0, 0), (1, 0), (0, 1), (1, 1), row first.
        blocks = x.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 4, 2, 5)
        merged: Tensor = self.reduction(self.norm(blocks.reshape(b, h // 2, w // 2, 4 * c)))
        return merged

    def extra_repr(self) -> str:
        """Show what happens to odd sizes."""
        return f"odd={self.odd}"


def init_linears(module: nn.Module) -> None:
    """Start every linear layer inside from a narrow truncated normal, its bias from zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=LINEAR_STD)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
