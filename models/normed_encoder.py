"""A second-generation VMamba without its head, whose stages' maps are normed for a decoder.

Symbols: b batch, k image channels, h w image height and width, stage i works on maps of
h / (4 2^i) x w / (4 2^i) pixels with c_i channels.
"""

from __future__ import annotations

from torch import Tensor, nn

from .backbone import Backbone, conv_stem, stages
from .layers import NORM_EPS
from .vmamba import Size


class NormedEncoder(Backbone):
    """The stages' maps, each through a norm of its own.

    Parameters
    ----------
    size
        How large the VMamba is; weights of that size fit.
    channels
        Image channels ``k``.
    drop_path
        Drop path rate of the last block.
    conv_bias
        Whether the depthwise convolutions have a bias. No published weights hold one.
    scan
        Name of the scan to use, as in `selective_scan`.
    """

    def __init__(
        self,
        size: Size,
        channels: int,
        *,
        drop_path: float,
        conv_bias: bool = False,
        scan: str | None = None,
    ) -> None:
        parts = stages(
            size.depths,
            size.width,
            ratio=size.ratio,
            drop_path=drop_path,
            conv_bias=conv_bias,
            scan=scan,
        )
        super().__init__(conv_stem(channels, size.width), parts, channels)
        for i in range(len(size.depths)):
            self.add_module(f"outnorm{i}", nn.LayerNorm(size.width * 2**i, eps=NORM_EPS))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images (b, k, h, w) to normed maps (b, h / (4 2^i), w / (4 2^i), c_i)."""
        maps = self.stage_maps(x)
        return [self.get_submodule(f"outnorm{i}")(made) for i, made in enumerate(maps)]
