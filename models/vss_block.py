"""The blocks of VMamba: a residual 2-D selective scan, in its second generation with an MLP.

Symbols: b batch, h w map height and width, c channels.
"""

from __future__ import annotations

from torch import Tensor, nn

from .layers import NORM_EPS, DropPath, Mlp
from .ss2d_layer import SS2D


class VSSBlock(nn.Module):
    """Second generation: ``x += op(norm(x))``, then ``x += mlp(norm2(x))``.

    Parameters
    ----------
    channels
        Channels ``c``.
    state
        States a channel of the scan.
    ratio
        Channels of the scan per channel.
    mlp_ratio
        Hidden channels of the MLP per channel.
    drop_path
        Share of samples that either branch is left out for while training.
    conv_bias
        Whether the depthwise convolution has a bias.
    scan
        Name of the scan to use, as in `selective_scan`.
    """

    def __init__(
        self,
        channels: int,
        *,
        state: int = 1,
        ratio: float = 2.0,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        conv_bias: bool = False,
        scan: str | None = None,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS)
        self.op = SS2D(channels, state=state, ratio=ratio, conv_bias=conv_bias, scan=scan)
        self.norm2 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.mlp = Mlp(channels, int(mlp_ratio * channels))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (b, h, w, c)."""
        x = x + self.drop_path(self.op(self.norm(x)))
        y: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return y


class GatedVSSBlock(nn.Module):
    """First generation: ``x += self_attention(ln_1(x))`` with a gated scan and no MLP.

    Parameters
    ----------
    channels
        Channels ``c``.
    state
        States a channel of the scan.
    drop_path
        Share of samples that the branch is left out for while training.
    scan
        Name of the scan to use, as in `selective_scan`.
    """

    def __init__(
        self,
        channels: int,
        *,
        state: int = 16,
        drop_path: float = 0.0,
        scan: str | None = None,
    ) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.self_attention = SS2D(channels, state=state, gated=True, conv_bias=True, scan=scan)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (b, h, w, c)."""
        y: Tensor = x + self.drop_path(self.self_attention(self.ln_1(x)))
        return y
