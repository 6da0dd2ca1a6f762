"""Our own network: a VMamba encoder beside a shallow convolutional path at full resolution.

Symbols: b batch, k image channels, h w image height and width, n classes; stage i of the encoder
works on maps of h / (4 2^i) x w / (4 2^i) pixels with c_i channels; e channels at full resolution.

A VMamba sees blocks of 4 x 4 pixels from its first layer on; outlines that are thinner, as the
wall of a heart is, have to be guessed from them. Two blocks of convolutions at full and at half
resolution keep what the stem throws away and meet the decoder as skips. They are few channels wide,
so most of the network's time still goes to the encoder. Every block is ``leaky(norm(conv3x3))``
twice, with the norm of each image's own channel (Ulyanov et al., "Instance Normalization", 2016),
which does not mind small batches. Logits at 1, 1/2, 1/4 and 1/8 of the resolution serve a
loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from .card import Card
from .normed_encoder import NormedEncoder
from .segmenter import Segmenter
from .vmamba import SIZES

CLASSES = 4
DROP_PATH = 0.1
SLOPE = 0.01
_OUTPUTS = 4


class VMUNetDetail(Segmenter):
    """VMamba encoder, convolutional skips at full and half resolution, convolutional decoder.

    Parameters
    ----------
    encoder
        Gives four maps.
    widths
        Channels ``c_i`` of the maps.
    channels, classes
        ``k`` and ``n``.
    finest_channels
        ``e``.
    """

    encoder_name = "encoder"
    sigmoid_as_published = False
    deep_supervision = True

    def __init__(
        self,
        encoder: NormedEncoder,
        widths: Sequence[int],
        channels: int,
        classes: int,
        *,
        finest_channels: int,
    ) -> None:
        super().__init__(channels, classes)
        e = finest_channels
        self.encoder = encoder
        self.fine = _block(channels, e)
        self.halved = _block(e, 2 * e, stride=2)
        # From the finest level to the coarsest: what comes up, and what it is joined with.
        levels = [e, 2 * e, *widths]
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(below, own, 2, 2) for own, below in pairwise(levels)
        )
        self.joins = nn.ModuleList(_block(2 * own, own) for own in levels[:-1])
        self.heads = nn.ModuleList(nn.Conv2d(own, classes, 1) for own in levels[:_OUTPUTS])

    def maps(self, x: Tensor) -> list[Tensor]:
        """Map (b, k, h, w), h and w multiples of 32, to logits at 1, 1/2, 1/4 and 1/8."""
        fine = self.fine(x)
        skips = [fine, self.halved(fine)]
        skips += [made.permute(0, 3, 1, 2) for made in self.encoder(x)]
        y, logits = skips.pop(), []
        for level in reversed(range(len(skips))):
            y = self.joins[level](torch.cat([self.ups[level](y), skips[level]], dim=1))
            if level < _OUTPUTS:
                logits.append(self.heads[level](y))
        return logits[::-1]


class InstanceNorm(nn.GroupNorm):
    """Norm of each image's channel over its pixels, with a weight and a bias a channel.

    ``nn.InstanceNorm2d`` refuses a map of one pixel in training; as groups of one channel it is the
    same formula, and such a map becomes its bias.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)


def _block(channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 3, stride, 1, bias=False),
        InstanceNorm(out_channels),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False),
        InstanceNorm(out_channels),
        nn.LeakyReLU(SLOPE),
    )


def _build(
    size_name: str, finest_channels: int, channels: int, classes: int | None, scan: str | None
) -> VMUNetDetail:
    size = SIZES[size_name]
    return VMUNetDetail(
        NormedEncoder(size, channels, drop_path=DROP_PATH, scan=scan),
        [size.width * 2**i for i in range(4)],
        channels,
        CLASSES if classes is None else classes,
        finest_channels=finest_channels,
    )


def vm_unet_detail(
    *, channels: int = 3, classes: int | None = None, scan: str | None = None
) -> VMUNetDetail:
    """Build it on the encoder of ``vmamba_small_s2l15``."""
    return _build("vmamba_small_s2l15", 32, channels, classes, scan)


def vm_unet_detail_nano(
    *, channels: int = 3, classes: int | None = None, scan: str | None = None
) -> VMUNetDetail:
    """Build it on the encoder of ``vmamba_nano``, about 1 M parameters."""
    return _build("vmamba_nano", 16, channels, classes, scan)


def vm_unet_detail_micro(
    *, channels: int = 3, classes: int | None = None, scan: str | None = None
) -> VMUNetDetail:
    """Build it on the encoder of ``vmamba_micro``, about 5 M parameters."""
    return _build("vmamba_micro", 20, channels, classes, scan)


CARDS = [
    Card(
        "vm_unet_detail",
        "segmenter",
        vm_unet_detail,
        "VMamba-S encoder with convolutions at full resolution beside it",
    ),
    Card(
        "vm_unet_detail_micro",
        "segmenter",
        vm_unet_detail_micro,
        "VMamba micro encoder with convolutions at full resolution beside it, for CPUs",
    ),
    Card(
        "vm_unet_detail_nano",
        "segmenter",
        vm_unet_detail_nano,
        "VMamba nano encoder with convolutions at full resolution beside it, for CPUs",
    ),
]
