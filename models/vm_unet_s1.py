"""A VM-UNet of second-generation blocks: one state a channel, so that VMamba-S weights start it.

Symbols: b batch, k image channels, h w image height and width, n classes, c channels of a map;
stage i works on maps of h / (4 2^i) x w / (4 2^i) pixels.

Unlike in VM-UNet a skip is the *output* of an encoder stage, normed, and is added after the patch
expanding, at its own resolution: ``x = blocks(expand(x) + norm_i(stage_i))``.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .backbone import drop_path_rates
from .card import Card
from .normed_encoder import NormedEncoder
from .patch_expand import PatchExpand
from .segmenter import Segmenter
from .vm_unet import DROP_PATH, PATCH
from .vmamba import SIZES
from .vss_block import VSSBlock

CLASSES = 1


class SkipStage(nn.Module):
    """The way up, a skip, then blocks.

    Parameters
    ----------
    channels
        Channels ``c`` after the way up.
    rates
        Drop path rates, one for every block.
    scan
        Name of the scan to use, as in `selective_scan`.
    """

    def __init__(self, channels: int, rates: Sequence[float], scan: str | None) -> None:
        super().__init__()
        self.upsample = PatchExpand(2 * channels, channels)
        self.blocks = nn.Sequential(
            *(VSSBlock(channels, drop_path=rate, scan=scan) for rate in rates)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (b, h, w, 2c) and a skip (b, 2h, 2w, c) to (b, 2h, 2w, c)."""
        finer: Tensor = self.blocks(self.upsample(x) + skip)
        return finer


class VMUNetS1(Segmenter):
    """Encoder and decoder of second-generation blocks.

    Parameters
    ----------
    encoder
        Gives four normed maps.
    widths
        Channels of the maps.
    channels, classes
        ``k`` and ``n``.
    up_depths
        Blocks of the three decoder stages, coarsest first.
    drop_path
        Drop path rate of the decoder's first block; it falls evenly to 0.
    scan
        Name of the decoder's scan.
    """

    encoder_name = "encoder"

    def __init__(
        self,
        encoder: NormedEncoder,
        widths: Sequence[int],
        channels: int,
        classes: int,
        *,
        up_depths: Sequence[int] = (2, 2, 2),
        drop_path: float = DROP_PATH,
        scan: str | None = None,
    ) -> None:
        super().__init__(channels, classes)
        self.encoder = encoder
        rates = drop_path_rates(up_depths[::-1], drop_path)[::-1]
        self.layers_up = nn.ModuleList(
            SkipStage(width, of_stage[::-1], scan)
            for width, of_stage in zip(widths[-2::-1], rates, strict=True)
        )
        self.final_up = PatchExpand(widths[0], widths[0] // PATCH, PATCH)
        self.final_conv = nn.Conv2d(widths[0] // PATCH, classes, 1)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Map (b, k, h, w), h and w multiples of 32, to one item of logits (b, n, h, w)."""
        *skips, y = self.encoder(x)
        for layer, skip in zip(self.layers_up, reversed(skips), strict=True):
            y = layer(y, skip)
        return [self.final_conv(self.final_up(y).permute(0, 3, 1, 2))]


def vm_unet_s1(
    *, channels: int = 3, classes: int | None = None, scan: str | None = None
) -> VMUNetS1:
    """Build the network on the encoder of ``vmamba_small_s2l15``, two blocks a decoder stage."""
    size = SIZES["vmamba_small_s2l15"]
    encoder = NormedEncoder(size, channels, drop_path=DROP_PATH, scan=scan)
    widths = [size.width * 2**i for i in range(4)]
    return VMUNetS1(encoder, widths, channels, CLASSES if classes is None else classes, scan=scan)


CARDS = [
    Card(
        "vm_unet_s1",
        "segmenter",
        vm_unet_s1,
        "VM-UNet on a VMamba-S encoder, one state a channel, 56 M parameters",
    )
]
