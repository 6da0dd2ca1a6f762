"""How sure networks are: of each pixel, and of a slice.

Symbols: b slices, n classes with the background, h w height and width of a slice.

**Of a slice.** The mean entropy of all its pixels would follow the size of what is in it: most of a
large organ's uncertainty lies on its long, well-understood edge. The mean over the predicted
foreground alone is blind to what the network missed, and a stray pixel makes it as large as it
gets. So a slice's uncertainty is the mean entropy over the pixels that matter, those predicted as
foreground or not surely background, and never over fewer than half a per cent of the slice: an
empty slice with a few doubtful pixels stays a sure one. It is 0 where all is sure, 1 where all is
open. Disagreement (BALD) is averaged over the same pixels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

UNSURE = 0.1
"""Entropy, 0 to 1, above which a background pixel counts: of two classes at 1.3 to 98.7 %."""
LEAST_SHARE = 0.005
"""Of a slice's pixels, over which its uncertainty is averaged at least."""


def pixel_entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy of each pixel over that of a draw among all classes.

    Parameters
    ----------
    probabilities
        (b, n, h, w), sums over n are 1.

    Returns
    -------
    entropy
        (b, h, w), 0 (sure) to 1 (each class as likely).
    """
    classes = probabilities.shape[1]
    if classes < 2:
        raise ValueError(
            f"probabilities of {classes} class were given, and entropy needs the background beside "
            "at least one: give (b, n, h, w) with n of 2 or more"
        )
    # p log p is 0 at 0: the product with a finite logarithm.
    terms = probabilities * probabilities.clamp_min(1e-12).log()
    return (-terms.sum(1) / math.log(classes)).clamp(0.0, 1.0)


def slice_means(entropy: Tensor, foreground: Tensor, *others: Tensor) -> list[Tensor]:
    """Return means over the pixels that matter, see this file's head.

    Parameters
    ----------
    entropy
        (b, h, w), 0 to 1; with the foreground it says which pixels matter.
    foreground
        bool (b, h, w): predicted as any class but the background.
    others
        More values of pixels, (b, h, w), averaged over the same.

    Returns
    -------
    means
        (b,) each: of the entropy, then of the others.
    """
    matters = foreground | (entropy > UNSURE)
    least = LEAST_SHARE * entropy[0].numel()
    count = matters.sum((1, 2)).clamp_min(least)
    return [(values * matters).sum((1, 2)) / count for values in (entropy, *others)]
