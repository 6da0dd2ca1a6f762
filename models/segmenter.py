"""What every segmentation network shares: which images it takes and what its calls return.

Symbols: b batch, k image channels, h w image height and width, n classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from .backbone import RGB, check_image

STRIDE = 32  # one pixel of the coarsest map stands for 32 x 32 pixels of the image


class Segmenter(nn.Module, ABC):
    """Base of the segmentation networks: pad, compute logits in `maps`, crop.

    ``forward`` returns logits at the size of the image, ``forward_deep`` the list of all logits
    that a loss may look at, highest resolution first; item i holds (ceil(h / 2^i), ceil(w / 2^i))
    pixels, as ``target[..., ::2**i, ::2**i]`` does. Without deep supervision the list has one item.

    An image whose size is no multiple of the stride is padded at its lower and right edge by
    repeating the last row and column, and the logits are cropped back: unlike reflection this works
    for an image of any size, and unlike zeros it draws no edge that is not in the image (zero is
    not the background's value once intensities are normalised). A size that fits is not touched.

    Parameters
    ----------
    channels
        Image channels ``k``. One-channel images go into a three-channel network too: they are
        repeated.
    classes
        Classes ``n``; 1 is a foreground's logit.
    as_published
        Return from ``forward`` what the publication's code returns: probabilities for one class. A
        loss wants logits: it takes them from ``forward_deep``, which never gives anything else.
    """

    encoder_name: ClassVar[str]
    """Name of the part that a pre-trained VMamba starts."""
    sigmoid_as_published: ClassVar[bool] = True
    deep_supervision: bool = False
    unused_parameters: tuple[str, ...] = ()
    """Beginnings of the names of parameters that exist for a published file's sake only: they meet
    no gradient."""

    def __init__(self, channels: int, classes: int, *, as_published: bool = False) -> None:
        super().__init__()
        self.channels, self.classes, self.as_published = channels, classes, as_published

    @abstractmethod
    def maps(self, x: Tensor) -> list[Tensor]:
        """Map images (b, k, h, w), h and w multiples of 32, to logits, highest resolution first."""

    def forward(self, x: Tensor) -> Tensor:
        """Map images (b, k, h, w) to logits (b, n, h, w)."""
        logits = self.forward_deep(x)[0]
        if self.as_published and self.classes == 1 and self.sigmoid_as_published:
            return logits.sigmoid()
        return logits

    def forward_deep(self, x: Tensor) -> list[Tensor]:
        """Map images (b, k, h, w) to logits (b, n, h, w), (b, n, h/2, w/2), ..., rounded up."""
        x = repeat_grey(x, self.channels)
        h, w = x.shape[2:]
        logits = self.maps(pad_to_stride(x))
        return [
            part[:, :, : -(-h // 2**i), : -(-w // 2**i)].contiguous()
            for i, part in enumerate(logits)
        ]

    def is_unused(self, parameter: str) -> bool:
        """Say whether the parameter of this name meets no gradient."""
        return parameter.startswith(self.unused_parameters) if self.unused_parameters else False


def repeat_grey(x: Tensor, channels: int) -> Tensor:
    """Bring images (b, 1 or k, h, w) to (b, k, h, w): grey is repeated to red, green and blue."""
    if x.dim() == 4 and x.shape[1] == 1 and channels == RGB:
        x = x.expand(-1, RGB, -1, -1)
    check_image(x, channels)
    return x


def pad_to_stride(x: Tensor, stride: int = STRIDE) -> Tensor:
    """Repeat the last row and column of (b, k, h, w) until h and w are multiples of the stride."""
    h, w = x.shape[2:]
    if h % stride == 0 and w % stride == 0:
        return x
    return F.pad(x, (0, -w % stride, 0, -h % stride), mode="replicate")
