"""The 2-D selective scan as a layer: projections, a depthwise convolution, `ss2d`, a norm.

Symbols: b batch, h w map height and width, c channels of the block, d = ratio c channels of the
scan, n states a channel, r = ceil(c / 16) rank of the step size's projection, 4 directions.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import NORM_EPS, init_linears
from .linear import Linear
from .ss2d import DIRECTIONS, ss2d

RANK_DIVISOR = 16
STEP_RANGE = (1e-3, 1e-1)  # of softplus(dt_bias) at the start
STEP_FLOOR = 1e-4


class SS2D(nn.Module):
    """Mix the pixels of a map by four selective scans.

    ``y = out_proj(norm(ss2d(silu(conv(in_proj x)))))``; gated (first generation): ``[x, z] =
    in_proj x`` and the norm's output is multiplied by ``silu(z)``.

    Parameters
    ----------
    channels
        Channels ``c``.
    state
        States ``n`` a channel.
    ratio
        Channels of the scan per channel of the block.
    gated
        Whether half of ``in_proj`` is a gate.
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
        gated: bool = False,
        conv_bias: bool = False,
        scan: str | None = None,
    ) -> None:
        super().__init__()
        inner, rank = int(ratio * channels), math.ceil(channels / RANK_DIVISOR)
        self.gated, self.scan = gated, scan
        self.in_proj = Linear(channels, 2 * inner if gated else inner, bias=False)
        self.conv2d = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=conv_bias)
        self.x_proj_weight = nn.Parameter(torch.empty(DIRECTIONS, rank + 2 * state, inner))
        self.dt_projs_weight = nn.Parameter(torch.empty(DIRECTIONS, inner, rank))
        self.dt_projs_bias = nn.Parameter(torch.empty(DIRECTIONS, inner))
        self.A_logs = nn.Parameter(torch.empty(DIRECTIONS * inner, state))
        self.Ds = nn.Parameter(torch.empty(DIRECTIONS * inner))
        self.out_norm = nn.LayerNorm(inner, eps=NORM_EPS)
        self.out_proj = Linear(inner, channels, bias=False)
        self._init_scan()
        init_linears(self)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (b, h, w, c)."""
        z = None
        x = self.in_proj(x)
        if self.gated:
            x, z = x.chunk(2, dim=3)
        x = F.silu(self.conv2d(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        y = ss2d(
            x,
            self.x_proj_weight,
            self.dt_projs_weight,
            self.dt_projs_bias,
            self.A_logs,
            self.Ds,
            backend=self.scan,
        )
        y = self.out_norm(y)
        if z is not None:
            y = y * F.silu(z)
        mixed: Tensor = self.out_proj(y)
        return mixed

    @torch.no_grad()
    def _init_scan(self) -> None:
        """Start from A = -1 .. -n, D = 1 and step sizes spread log-evenly over `STEP_RANGE`."""
        rank, inner = self.dt_projs_weight.shape[2], self.dt_projs_weight.shape[1]
        nn.init.uniform_(self.x_proj_weight, -(inner**-0.5), inner**-0.5)
        nn.init.uniform_(self.dt_projs_weight, -(rank**-0.5), rank**-0.5)
        low, high = (math.log(step) for step in STEP_RANGE)
        step = torch.empty_like(self.dt_projs_bias).uniform_(low, high).exp().clamp(min=STEP_FLOOR)
        self.dt_projs_bias.copy_(step + torch.log(-torch.expm1(-step)))  # softplus undone
        states = torch.arange(1, self.A_logs.shape[1] + 1, dtype=self.A_logs.dtype)
        self.A_logs.copy_(states.log().expand_as(self.A_logs))
        nn.init.ones_(self.Ds)

    def extra_repr(self) -> str:
        """Show what the parts do not."""
        return f"states={self.A_logs.shape[1]}, gated={self.gated}, scan={self.scan}"
