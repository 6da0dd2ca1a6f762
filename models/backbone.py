"""What every VMamba-like encoder is made of: a stem, four stages of blocks, reductions between.

Symbols: b batch, k input channels, h w map height and width, c channels of a map.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from .layers import NORM_EPS, PatchMerging, ToChannelsFirst, ToChannelsLast
from .vss_block import GatedVSSBlock, VSSBlock

RGB = 3


class PatchEmbed(nn.Module):
    """First-generation stem: one 4 x 4 convolution with stride 4, and a norm.

    Parameters
    ----------
    channels
        Channels ``k`` of the image.
    width
        Channels ``c`` of the first stage.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, 4, stride=4)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, k, h, w) to (b, h/4, w/4, c), both rounded down."""
        embedded: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return embedded


def conv_stem(channels: int, width: int) -> nn.Sequential:
    """Make the second-generation stem: (b, k, h, w) to (b, h/4, w/4, c), both rounded up.

    The numbers of its parts are those of the published weights: convolutions 0 and 5, norms 2, 7.
    """
    return nn.Sequential(
        nn.Conv2d(channels, width // 2, 3, stride=2, padding=1),
        ToChannelsLast(),
        nn.LayerNorm(width // 2, eps=NORM_EPS),
        ToChannelsFirst(),
        nn.GELU(),
        nn.Conv2d(width // 2, width, 3, stride=2, padding=1),
        ToChannelsLast(),
        nn.LayerNorm(width, eps=NORM_EPS),
    )


def conv_reduction(channels: int) -> nn.Sequential:
    """Make the second-generation reduction: (b, h, w, c) to (b, h/2, w/2, 2c), rounded up.

    The numbers of its parts are those of the published weights: convolution 1, norm 3.
    """
    return nn.Sequential(
        ToChannelsFirst(),
        nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
        ToChannelsLast(),
        nn.LayerNorm(2 * channels, eps=NORM_EPS),
    )


class Stage(nn.Module):
    """Blocks at one resolution, then the reduction to the next.

    Parameters
    ----------
    blocks
        Each keeps (b, h, w, c).
    downsample
        Reduces the map for the next stage; None in the last one, which hands on what it made.
    """

    def __init__(self, blocks: Iterable[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = nn.Identity() if downsample is None else downsample

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the map (b, h, w, c) of the blocks and the one for the next stage."""
        x = self.blocks(x)
        return x, self.downsample(x)


class Backbone(nn.Module):
    """A stem and stages.

    Parameters
    ----------
    patch_embed
        The stem, from an image (b, k, h, w) to a map (b, h/4, w/4, c).
    stages
        In order; each halves the map for the next one.
    channels
        Channels ``k`` of the image.
    """

    def __init__(self, patch_embed: nn.Module, stages: Iterable[Stage], channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.patch_embed = patch_embed
        self.layers = nn.ModuleList(stages)

    def stage_maps(self, x: Tensor) -> list[Tensor]:
        """Map an image (b, k, h, w) to the stages' maps (b, h_i, w_i, c_i) before reduction."""
        check_image(x, self.channels)
        x = self.patch_embed(x)
        maps = []
        for stage in self.layers:
            made, x = stage(x)
            maps.append(made)
        return maps


def drop_path_rates(depths: Sequence[int], last: float) -> list[list[float]]:
    """Return the rates of all blocks, stage by stage, rising evenly from 0 to ``last``."""
    total = sum(depths)
    rates = iter([last * i / max(total - 1, 1) for i in range(total)])
    return [[next(rates) for _ in range(depth)] for depth in depths]


def stages(
    depths: Sequence[int],
    width: int,
    *,
    ratio: float,
    drop_path: float,
    conv_bias: bool = False,
    scan: str | None = None,
) -> list[Stage]:
    """Make second-generation stages: ``depths`` blocks each, channels doubling from ``width``."""
    made = []
    for i, rates in enumerate(drop_path_rates(depths, drop_path)):
        c = width * 2**i
        blocks = [
            VSSBlock(c, ratio=ratio, drop_path=rate, conv_bias=conv_bias, scan=scan)
            for rate in rates
        ]
        made.append(Stage(blocks, conv_reduction(c) if i < len(depths) - 1 else None))
    return made


def gated_stages(
    depths: Sequence[int],
    width: int,
    *,
    drop_path: float,
    odd: Literal["crop", "pad"] = "crop",
    scan: str | None = None,
) -> list[Stage]:
    """Make first-generation stages: gated blocks, channels doubling from ``width``."""
    made = []
    for i, rates in enumerate(drop_path_rates(depths, drop_path)):
        c = width * 2**i
        blocks = [GatedVSSBlock(c, drop_path=rate, scan=scan) for rate in rates]
        made.append(Stage(blocks, PatchMerging(c, odd) if i < len(depths) - 1 else None))
    return made


def adapt_stem(weight: Tensor, channels: int) -> Tensor:
    """Turn the first convolution's weight from RGB to another number of channels.

    Fewer than three: each channel gets the sum of the three kernels divided by their number. More:
    the kernels follow in turn (R, G, B, R, ...), each divided by how often it is used. In all cases
    an image whose channels are equal gives what it gave when repeated to RGB.

    Parameters
    ----------
    weight
        Shape (c, 3, kernel height, kernel width).
    channels
        Wanted number ``k``.

    Returns
    -------
    weight
        Shape (c, k, kernel height, kernel width).
    """
    if channels == RGB:
        return weight
    if channels < RGB:
        return weight.sum(dim=1, keepdim=True).div(channels).repeat(1, channels, 1, 1)
    turn = torch.arange(channels, device=weight.device) % RGB
    uses = torch.bincount(turn)[turn]
    return weight[:, turn] / uses.view(1, -1, 1, 1)


def check_image(x: Tensor, channels: int) -> None:
    """Refuse what is no batch of images with the right number of channels."""
    if x.dim() != 4 or x.shape[1] != channels:
        raise ValueError(
            f"the network got an input of shape {tuple(x.shape)}, but it needs (batch, {channels}, "
            "height, width): repeat or drop channels, or build it with another number of channels"
        )
    if 0 in x.shape[2:]:
        raise ValueError(
            f"the network got an input of shape {tuple(x.shape)}, but an image needs at least one "
            "pixel a side: leave out images without pixels"
        )
