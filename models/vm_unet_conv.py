"""The study's network: a pre-trained VMamba encoder and a convolutional decoder.

Symbols: b batch, k image channels, h w image height and width, n classes; stage i works on maps of
h / (4 2^i) x w / (4 2^i) pixels with c_i channels, e channels of the finest decoder map.

Decoder: ``x = relu(conv3x3([up(x), skip_i]))`` for i = 2, 1, 0 with a transposed convolution ``up``
of kernel and stride 2, once more without a skip, then a 1 x 1 convolution gives logits at half the
image's resolution, which are interpolated.

What the study's notebook did wrong and this network does not: its depthwise convolutions had a bias
that the pre-trained weights do not hold, so random numbers stood in the encoder and its features
changed with the seed; and the norm in front of the pooled vector was untrained, where
`load_encoder` now puts the norm of the pre-trained classifier. ``as_published=True`` brings both
back. The pre-trained encoder expects images normalised with ImageNet's mean and deviation, in
training and prediction alike (the notebook trained on [0, 1]).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .card import Card
from .normed_encoder import NormedEncoder
from .segmenter import Segmenter, repeat_grey
from .vmamba import SIZES

CLASSES = 4  # of the heart data set of the study
DROP_PATH = 0.1
FINEST_CHANNELS = 64


class VMUNetConv(Segmenter):
    """VMamba encoder, transposed convolutions, concatenated skips.

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
    as_published
        Leave the output norms untrained when a pre-trained encoder is loaded, and accept that its
        depthwise convolutions have biases that stay random.
    """

    encoder_name = "encoder"
    sigmoid_as_published = False

    def __init__(
        self,
        encoder: NormedEncoder,
        widths: Sequence[int],
        channels: int,
        classes: int,
        *,
        finest_channels: int = FINEST_CHANNELS,
        as_published: bool = False,
    ) -> None:
        super().__init__(channels, classes, as_published=as_published)
        self.encoder = encoder
        c0, c1, c2, c3 = widths
        self.up4, self.conv4 = nn.ConvTranspose2d(c3, c2, 2, 2), _conv_relu(2 * c2, c2)
        self.up3, self.conv3 = nn.ConvTranspose2d(c2, c1, 2, 2), _conv_relu(2 * c1, c1)
        self.up2, self.conv2 = nn.ConvTranspose2d(c1, c0, 2, 2), _conv_relu(2 * c0, c0)
        self.up1 = nn.ConvTranspose2d(c0, finest_channels, 2, 2)
        self.conv1 = _conv_relu(finest_channels, finest_channels)
        self.final = nn.Conv2d(finest_channels, classes, 1)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Map (b, k, h, w), h and w multiples of 32, to one item of logits (b, n, h, w)."""
        s0, s1, s2, y = (made.permute(0, 3, 1, 2) for made in self.encoder(x))
        y = self.conv4(torch.cat([self.up4(y), s2], dim=1))
        y = self.conv3(torch.cat([self.up3(y), s1], dim=1))
        y = self.conv2(torch.cat([self.up2(y), s0], dim=1))
        y = self.final(self.conv1(self.up1(y)))
        return [F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False)]

    def pooled(self, x: Tensor) -> Tensor:
        """Map images (b, k, h, w) to the mean over pixels of the normed last map (b, c_3)."""
        last: Tensor = self.encoder(repeat_grey(x, self.channels))[-1]
        return last.mean(dim=(1, 2))


def _conv_relu(channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out_channels, 3, padding=1), nn.ReLU())


def _build(
    size_name: str,
    finest_channels: int,
    channels: int,
    classes: int | None,
    scan: str | None,
    *,
    as_published: bool = False,
) -> VMUNetConv:
    size = SIZES[size_name]
    encoder = NormedEncoder(size, channels, drop_path=DROP_PATH, conv_bias=as_published, scan=scan)
    return VMUNetConv(
        encoder,
        [size.width * 2**i for i in range(4)],
        channels,
        CLASSES if classes is None else classes,
        finest_channels=finest_channels,
        as_published=as_published,
    )


def vm_unet_conv(
    *,
    channels: int = 3,
    classes: int | None = None,
    scan: str | None = None,
    as_published: bool = False,
) -> VMUNetConv:
    """Build the study's network on the encoder of ``vmamba_small_s2l15``."""
    return _build(
        "vmamba_small_s2l15", FINEST_CHANNELS, channels, classes, scan, as_published=as_published
    )


def vm_unet_conv_nano(
    *, channels: int = 3, classes: int | None = None, scan: str | None = None
) -> VMUNetConv:
    """Build the study's network on the encoder of ``vmamba_nano``, about 1 M parameters."""
    return _build("vmamba_nano", 16, channels, classes, scan)


def vm_unet_conv_micro(
    *, channels: int = 3, classes: int | None = None, scan: str | None = None
) -> VMUNetConv:
    """Build the study's network on the encoder of ``vmamba_micro``, about 5 M parameters."""
    return _build("vmamba_micro", 32, channels, classes, scan)


CARDS = [
    Card(
        "vm_unet_conv",
        "segmenter",
        vm_unet_conv,
        "VMamba-S encoder and convolutional decoder, 54 M parameters",
    ),
    Card(
        "vm_unet_conv_micro",
        "segmenter",
        vm_unet_conv_micro,
        "VMamba micro encoder and convolutional decoder, our size for CPUs",
    ),
    Card(
        "vm_unet_conv_nano",
        "segmenter",
        vm_unet_conv_nano,
        "VMamba nano encoder and convolutional decoder, our size for CPUs",
    ),
]
