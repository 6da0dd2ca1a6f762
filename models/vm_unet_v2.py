"""VM-UNetV2 (Zhang et al. 2024): every scale of a VMamba encoder infused into every other.

Symbols: b batch, k image channels, h w image height and width, n classes, m channels of the fused
maps; scale i (1 is the finest) has h / (2 2^i) x w / (2 2^i) pixels and c_i channels.

``f_i = trans_i(sa_i(ca_i(stage input i)))``, ``g_i = sdi_i(f_1 .. f_4, anchor f_i)``, then from the
coarsest to the finest ``y_4 = g_4``, ``y_i = deconv(y_{i+1}) + g_i``, and a 1 x 1 convolution of
every y_i gives logits. Maps are channels-first outside the encoder.

The facts that the paper omits: the finest scale is the patch embedding itself, and the encoder's
last blocks, `deconv5` and the two coarsest logits influence nothing that is returned.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .card import Card
from .cbam import ChannelAttention, SpatialAttention
from .gated_encoder import GatedEncoder
from .sdi import SDI
from .segmenter import Segmenter
from .vm_unet import CLASSES, DROP_PATH, PATCH, WIDTHS

MID_CHANNELS = 48
SCALES = (1, 2, 3, 4)


class TransLayer(nn.Module):
    """Bring a scale to the common number of channels: 1 x 1 convolution and batch norm.

    Parameters
    ----------
    channels
        Channels ``c_i`` of the scale.
    mid_channels
        Channels ``m``.
    """

    def __init__(self, channels: int, mid_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, mid_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(mid_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c_i, h, w) to (b, m, h, w)."""
        mixed: Tensor = self.bn(self.conv(x))
        return mixed


class VMUNetV2(Segmenter):
    """VM-UNetV2, for images of any size and any number of channels and classes.

    With deep supervision ``forward_deep`` returns four maps of logits; the first is ``up4(z_1) +
    deconv6(up4(z_2))`` with the logits z_i of scale i (deconv6 on every class by itself, which for
    one class is the published output before its sigmoid), the others are ``up4(z_2) .. up4(z_4)``.
    Without it the one map is ``up4(z_1)``.

    Parameters
    ----------
    encoder
        Gives the four scales.
    widths
        Channels ``c_i`` of the scales.
    channels, classes
        ``k`` and ``n``.
    mid_channels
        ``m``.
    deep_supervision
        Whether a loss looks at coarser logits, too.
    keep_unused
        Hold the published parameters that meet no gradient, so that a published state dict fits.
    as_published
        Return probabilities instead of logits for one class.
    """

    encoder_name = "vmunet"

    def __init__(
        self,
        encoder: GatedEncoder,
        widths: Sequence[int],
        channels: int,
        classes: int,
        *,
        mid_channels: int = MID_CHANNELS,
        deep_supervision: bool = True,
        keep_unused: bool = True,
        as_published: bool = False,
    ) -> None:
        if as_published and deep_supervision and classes > 1:
            raise ValueError(
                f"as_published and deep supervision were asked for {classes} classes, but the "
                "published form has it for one class only: leave one of the two out"
            )
        super().__init__(channels, classes, as_published=as_published)
        self.deep_supervision = deep_supervision
        for i, width in zip(SCALES, widths, strict=True):
            self.add_module(f"ca_{i}", ChannelAttention(width))
            self.add_module(f"sa_{i}", SpatialAttention())
            self.add_module(f"Translayer_{i}", TransLayer(width, mid_channels))
            self.add_module(f"sdi_{i}", SDI(mid_channels, len(SCALES)))
        self._add_ways_up(mid_channels, classes, keep_unused)
        self.vmunet = encoder

    def _add_ways_up(self, mid_channels: int, classes: int, keep_unused: bool) -> None:
        """Make logits and transposed convolutions under their published names."""
        all_logits = self.deep_supervision or keep_unused
        self.seg_outs = nn.ModuleDict(
            {str(j): nn.Conv2d(mid_channels, classes, 1) for j in range(4) if all_logits or j == 3}
        )
        self.deconv2, self.deconv3, self.deconv4 = (doubling(mid_channels) for _ in range(3))
        if all_logits:
            self.deconv6 = nn.ConvTranspose2d(1, 1, 3, 2, 1, output_padding=1)
        if keep_unused:
            self.deconv5 = doubling(mid_channels)
            self.unused_parameters = ("vmunet.layers.3.", "deconv5.")
            if not self.deep_supervision:
                self.unused_parameters += ("deconv6.", *(f"seg_outs.{j}." for j in range(3)))

    def maps(self, x: Tensor) -> list[Tensor]:
        """Map (b, k, h, w), h and w multiples of 32, to logits, the finest (b, n, h, w)."""
        scales = [
            self._attend(i, made.permute(0, 3, 1, 2))
            for i, made in zip(SCALES, self.vmunet.stage_inputs(x), strict=True)
        ]
        g1, g2, g3, g4 = (
            self.get_submodule(f"sdi_{i}")(scales, anchor=anchor)
            for i, anchor in zip(SCALES, scales, strict=True)
        )
        y3 = self.deconv2(g4) + g3
        y2 = self.deconv3(y3) + g2
        y1 = self.deconv4(y2) + g1
        fine = enlarge(self.seg_outs["3"](y1))
        if not self.deep_supervision:
            return [fine]
        sides = [enlarge(self.seg_outs[j](y)) for j, y in (("2", y2), ("1", y3), ("0", g4))]
        each_class = sides[0].flatten(0, 1).unsqueeze(1)
        return [fine + self.deconv6(each_class).view_as(fine), *sides]

    def _attend(self, i: int, x: Tensor) -> Tensor:
        """Weigh scale i (b, c_i, h, w) by channel, then by pixel, and map it to (b, m, h, w)."""
        x = self.get_submodule(f"ca_{i}")(x) * x
        x = self.get_submodule(f"sa_{i}")(x) * x
        mixed: Tensor = self.get_submodule(f"Translayer_{i}")(x)
        return mixed


def doubling(channels: int) -> nn.ConvTranspose2d:
    """Make a layer from (b, m, h, w) to (b, m, 2h, 2w)."""
    return nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=False)


def enlarge(logits: Tensor) -> Tensor:
    """Interpolate (b, n, h, w) to (b, n, 4h, 4w), corners not aligned."""
    return F.interpolate(logits, scale_factor=PATCH, mode="bilinear", align_corners=False)


def vm_unet_v2(
    *,
    channels: int = 3,
    classes: int | None = None,
    scan: str | None = None,
    as_published: bool = False,
    deep_supervision: bool = True,
    depths: Sequence[int] = (2, 2, 9, 2),
) -> VMUNetV2:
    """Build VM-UNetV2; what is not given is the configuration of its authors."""
    encoder = GatedEncoder(channels, WIDTHS, depths, drop_path=DROP_PATH, scan=scan)
    return VMUNetV2(
        encoder,
        WIDTHS,
        channels,
        CLASSES if classes is None else classes,
        deep_supervision=deep_supervision,
        as_published=as_published,
    )


def vm_unet_v2_nano(
    *, channels: int = 3, classes: int | None = None, scan: str | None = None
) -> VMUNetV2:
    """Build a VM-UNetV2 of about 1 M parameters, with one state a channel and none unused."""
    encoder = GatedEncoder(
        channels, widths := (32, 64, 128, 256), (2, 2, 4), state=1, drop_path=0.0, scan=scan
    )
    classes = CLASSES if classes is None else classes
    return VMUNetV2(encoder, widths, channels, classes, mid_channels=24, keep_unused=False)


def vm_unet_v2_micro(
    *, channels: int = 3, classes: int | None = None, scan: str | None = None
) -> VMUNetV2:
    """Build a VM-UNetV2 of about 5 M parameters, with one state a channel and none unused."""
    encoder = GatedEncoder(
        channels, widths := (64, 128, 256, 512), (2, 2, 6), state=1, drop_path=0.1, scan=scan
    )
    classes = CLASSES if classes is None else classes
    return VMUNetV2(encoder, widths, channels, classes, mid_channels=48, keep_unused=False)


CARDS = [
    Card(
        "vm_unet_v2",
        "segmenter",
        vm_unet_v2,
        "VM-UNetV2 as its authors trained it, 23 M parameters",
    ),
    Card(
        "vm_unet_v2_micro",
        "segmenter",
        vm_unet_v2_micro,
        "VM-UNetV2 of 5 M parameters, our size for CPUs",
    ),
    Card(
        "vm_unet_v2_nano",
        "segmenter",
        vm_unet_v2_nano,
        "VM-UNetV2 of 1 M parameters, our size for CPUs",
    ),
]
