"""The encoder of VM-UNet and VM-UNetV2: VMamba's first generation without its head.

Symbols: b batch, k image channels, h w image height and width, stage i works on maps of
h / (4 2^i) x w / (4 2^i) pixels with c_i channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .backbone import Backbone, PatchEmbed, Stage, drop_path_rates
from .layers import PatchMerging
from .vss_block import GatedVSSBlock


class GatedEncoder(Backbone):
    """Resolutions of gated 2-D selective scans, and the way down between them.

    Parameters
    ----------
    channels
        Image channels ``k``.
    widths
        Channels ``c_i`` of the resolutions, each twice the one before.
    depths
        Blocks of every stage; there may be one stage fewer than widths, then the coarsest map has
        no blocks.
    state
        States a channel of the scans.
    drop_path
        Drop path rate of the last block; the first block has 0, in between it grows evenly.
    scan
        Name of the scan to use, as in `selective_scan`.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        depths: Sequence[int],
        *,
        state: int = 16,
        drop_path: float = 0.0,
        scan: str | None = None,
    ) -> None:
        rates = drop_path_rates(depths, drop_path)
        blocks = gated_blocks(widths[: len(depths)], rates, state, scan)
        ways_down = [PatchMerging(width) for width in widths[:-1]] + [None]
        stages = [Stage(*parts) for parts in zip(blocks, ways_down, strict=False)]
        super().__init__(PatchEmbed(channels, widths[0]), stages, channels)
        self.reductions = len(widths) - 1

    def stage_inputs(self, x: Tensor) -> list[Tensor]:
        """Map images (b, k, h, w) to what every stage receives, (b, h / (4 2^i), w / (4 2^i), c_i).

        The blocks of the last resolution are not computed.
        """
        inputs: list[Tensor] = [self.patch_embed(x)]
        for stage in self.layers[: self.reductions]:
            inputs.append(stage(inputs[-1])[1])
        return inputs


def gated_blocks(
    widths: Sequence[int], rates: Sequence[Sequence[float]], state: int, scan: str | None
) -> list[list[GatedVSSBlock]]:
    """Make the blocks of stages of these widths, one for every drop path rate."""
    return [
        [GatedVSSBlock(width, state=state, drop_path=rate, scan=scan) for rate in of_stage]
        for width, of_stage in zip(widths, rates, strict=True)
    ]
