"""A network over slices of any size: whole where they about fit its training size, else in windows.

Symbols: b slices, k input channels, n outputs, h w height and width, at the network's pixel size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from torch import Tensor

    Network = Callable[[Tensor], Tensor]
    """Maps (b, k, h, w) to (b, n, h, w)."""


STRIDE = 32
"""Sides that a network sees are multiples of this."""
WHOLE_UP_TO = 1.25
"""Sides of a slice over those of a training crop up to which it goes in whole, where not told."""


def over_slices(
    network: Network,
    x: Tensor,
    size: tuple[int, int],
    *,
    overlap: float,
    at_once: int,
    whole_up_to: float = WHOLE_UP_TO,
) -> Tensor:
    """Apply a network to slices in the size that it was trained at.

    A slice that is smaller is set into its own minimum, as in training, and cut out again. One that
    is larger is covered by overlapping windows, whose outputs are weighed by a Gaussian, so that
    the rim of a window, which sees little around it, counts little. One that is only a little
    larger goes in whole: four windows for a few rows and columns are three times the work.

    Parameters
    ----------
    x
        (b, k, h, w).
    size
        Height and width of a training crop.
    overlap
        Share that neighbouring windows have in common, 0 to below 1.
    at_once
        Windows that go through the network together.
    whole_up_to
        Sides of a slice over those of ``size`` up to which it goes in whole.

    Returns
    -------
    outputs
        (b, n, h, w).
    """
    height, width = x.shape[2:]
    if height <= whole_up_to * size[0] and width <= whole_up_to * size[1]:
        whole = (-(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE)
        framed, top, left = _framed(x, (max(whole[0], size[0]), max(whole[1], size[1])))
        outputs = network(framed)
    else:
        framed, top, left = _framed(x, size)
        from monai.inferers.utils import sliding_window_inference

        made = sliding_window_inference(
            framed, size, at_once, network, overlap=overlap, mode="gaussian"
        )
        outputs = cast("Tensor", made)
    return outputs[:, :, top : top + height, left : left + width]


def _framed(x: Tensor, size: tuple[int, int]) -> tuple[Tensor, int, int]:
    """Set slices that are smaller than ``size`` into the middle of their minimum.

    Returns
    -------
    framed, top, left
        (b, k, at least size), and where in it the slices begin.
    """
    height, width = x.shape[2:]
    larger = (max(height, size[0]), max(width, size[1]))
    if larger == (height, width):
        return x, 0, 0
    top, left = (larger[0] - height) // 2, (larger[1] - width) // 2
    framed = x.amin((2, 3), keepdim=True).expand(-1, -1, *larger).clone()
    framed[:, :, top : top + height, left : left + width] = x
    return framed, top, left
