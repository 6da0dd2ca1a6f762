"""Patch expanding: the way up in a network of tokens.

Symbols: b batch, h w map height and width, c channels, p how many times finer the map becomes, e
channels after.
"""

from __future__ import annotations

from torch import Tensor, nn

from .layers import NORM_EPS, init_linears
from .linear import Linear


class PatchExpand(nn.Module):
    """Spread every pixel over p x p pixels: linear layer, rearrangement, norm.

    Parameters
    ----------
    channels
        Channels ``c`` of the input.
    out_channels
        Channels ``e`` of the output.
    factor
        ``p``.
    """

    def __init__(self, channels: int, out_channels: int, factor: int = 2) -> None:
        super().__init__()
        self.factor, self.out_channels = factor, out_channels
        self.expand = Linear(channels, factor * factor * out_channels, bias=False)
        self.norm = nn.LayerNorm(out_channels, eps=NORM_EPS)
        init_linears(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, h, w, c) to (b, p h, p w, e)."""
        b, h, w, _ = x.shape
        p, e = self.factor, self.out_channels
        blocks = self.expand(x).view(b, h, w, p, p, e).permute(0, 1, 3, 2, 4, 5)
        finer: Tensor = self.norm(blocks.reshape(b, p * h, p * w, e))
        return finer

    def extra_repr(self) -> str:
        """Show the factor."""
        return f"factor={self.factor}"
