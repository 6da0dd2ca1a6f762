"""VMamba (Liu et al., 2024): an image encoder of 2-D selective scans, in both generations.

Symbols: b batch, k input channels, h w map height and width, c_i channels of stage i (they double),
d channels of the last stage.

The second generation (``vmamba_tiny_s1l8`` and its like) has an MLP in every block, one state a
channel and no gate; the first (``vmamba_v0_*``) has a gate, sixteen states and no MLP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from .backbone import Backbone, PatchEmbed, Stage, check_image, conv_stem, gated_stages, stages
from .card import Card
from .layers import NORM_EPS, init_linears
from .linear import Linear

CLASSES = 1000  # of ImageNet-1k
SMALLEST_V0 = 32  # pixels a side from which the first generation's last map has one pixel


class Features(NamedTuple):
    """What an encoder sees in images.

    Attributes
    ----------
    maps
        Of the four stages, before their reductions, (b, c_i, h_i, w_i).
    pooled
        Mean over the pixels of the normed last map, (b, d).
    """

    maps: list[Tensor]
    pooled: Tensor


class Classifier(nn.Module):
    """Norm, mean over the pixels, linear layer.

    Parameters
    ----------
    channels
        Channels ``d`` of the last stage.
    classes
        Number of logits.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS)
        self.head = Linear(channels, classes)
        init_linears(self)


class VMamba(Backbone):
    """Second-generation VMamba.

    Parameters
    ----------
    patch_embed
        The stem.
    layers
        The stages.
    classifier
        Norm and head.
    channels
        Channels ``k`` of the image.
    """

    def __init__(
        self,
        patch_embed: nn.Module,
        layers: Sequence[Stage],
        classifier: Classifier,
        channels: int,
    ) -> None:
        super().__init__(patch_embed, layers, channels)
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """Map images (b, k, h, w) to class logits (b, classes)."""
        logits: Tensor = self.classifier.head(self.forward_features(x).pooled)
        return logits

    def forward_features(self, x: Tensor) -> Features:
        """Map images (b, k, h, w) to the stages' maps and the pooled vector."""
        return _features(self.stage_maps(x), self.classifier.norm)


class VMambaV0(Backbone):
    """First-generation VMamba; its norm and head lie at the top, as in its published weights.

    Its stem and reductions round sizes down, so that nothing would be left of an image below
    32 x 32 pixels. Such an image is first continued to 32 rows and columns by repeating its last
    row and column; its maps are those of the continued image. Larger images are not touched.

    Parameters
    ----------
    patch_embed
        The stem.
    layers
        The stages.
    classifier
        Norm and head.
    channels
        Channels ``k`` of the image.
    """

    def __init__(
        self,
        patch_embed: nn.Module,
        layers: Sequence[Stage],
        classifier: Classifier,
        channels: int,
    ) -> None:
        super().__init__(patch_embed, layers, channels)
        self.norm, self.head = classifier.norm, classifier.head

    def forward(self, x: Tensor) -> Tensor:
        """Map images (b, k, h, w) to class logits (b, classes)."""
        logits: Tensor = self.head(self.forward_features(x).pooled)
        return logits

    def forward_features(self, x: Tensor) -> Features:
        """Map images (b, k, h, w) to the stages' maps and the pooled vector."""
        check_image(x, self.channels)
        h, w = x.shape[2:]
        if h < SMALLEST_V0 or w < SMALLEST_V0:
            missing = max(SMALLEST_V0 - h, 0), max(SMALLEST_V0 - w, 0)
            x = F.pad(x, (0, missing[1], 0, missing[0]), mode="replicate")
        return _features(self.stage_maps(x), self.norm)


def _features(maps: list[Tensor], norm: nn.Module) -> Features:
    pooled = norm(maps[-1]).mean(dim=(1, 2))
    return Features([made.permute(0, 3, 1, 2) for made in maps], pooled)


@dataclass(frozen=True)
class Size:
    """How large a VMamba is.

    Attributes
    ----------
    depths
        Blocks of each stage.
    width
        Channels of the first stage; they double from stage to stage.
    drop_path
        Rate of the last block while training.
    ratio
        Channels of the scan per channel of a block; the first generation has 2.
    """

    depths: tuple[int, int, int, int]
    width: int
    drop_path: float
    ratio: float = 2.0


SIZES = {
    "vmamba_tiny_s1l8": Size((2, 2, 8, 2), 96, 0.2, 1.0),
    "vmamba_tiny_s2l5": Size((2, 2, 5, 2), 96, 0.2, 2.0),
    "vmamba_small_s2l15": Size((2, 2, 15, 2), 96, 0.3, 2.0),
    "vmamba_base_s2l15": Size((2, 2, 15, 2), 128, 0.6, 2.0),
    "vmamba_small_s1l20": Size((2, 2, 20, 2), 96, 0.3, 1.0),
    "vmamba_base_s1l20": Size((2, 2, 20, 2), 128, 0.5, 1.0),
    "vmamba_nano": Size((1, 1, 2, 1), 24, 0.0, 1.0),
    "vmamba_micro": Size((2, 2, 6, 2), 40, 0.1, 1.0),
}
SIZES_V0 = {
    "vmamba_v0_tiny": Size((2, 2, 9, 2), 96, 0.2),
    "vmamba_v0_small": Size((2, 2, 27, 2), 96, 0.3),
    "vmamba_v0_base": Size((2, 2, 27, 2), 128, 0.6),
}


def build_vmamba(
    size: Size, *, channels: int = 3, classes: int | None = None, scan: str | None = None
) -> VMamba:
    """Build a second-generation VMamba with fresh weights."""
    d = size.width * 2 ** (len(size.depths) - 1)
    return VMamba(
        conv_stem(channels, size.width),
        stages(size.depths, size.width, ratio=size.ratio, drop_path=size.drop_path, scan=scan),
        Classifier(d, CLASSES if classes is None else classes),
        channels,
    )


def build_vmamba_v0(
    size: Size, *, channels: int = 3, classes: int | None = None, scan: str | None = None
) -> VMambaV0:
    """Build a first-generation VMamba with fresh weights."""
    d = size.width * 2 ** (len(size.depths) - 1)
    return VMambaV0(
        PatchEmbed(channels, size.width),
        gated_stages(size.depths, size.width, drop_path=size.drop_path, scan=scan),
        Classifier(d, CLASSES if classes is None else classes),
        channels,
    )


def _summary(name: str, size: Size) -> str:
    own = ", our own size for CPUs" if name in ("vmamba_nano", "vmamba_micro") else ""
    first = ", first generation" if name in SIZES_V0 else ""
    depths = "-".join(str(depth) for depth in size.depths)
    return f"VMamba encoder, {depths} blocks from {size.width} channels{own}{first}"


CARDS = [
    Card(name, "encoder", partial(build, size), _summary(name, size))
    for build, sizes in ((build_vmamba, SIZES), (build_vmamba_v0, SIZES_V0))
    for name, size in sizes.items()
]
