"""`hog`: histograms of oriented gradients (Dalal and Triggs, 2005), the shapes in a slice."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 128
# Cells of an eighth of the picture: organs are larger than that, textures are not.
_HISTOGRAM = {"orientations": 9, "pixels_per_cell": (16, 16), "cells_per_block": (2, 2)}


class Hog:
    """Histograms of oriented gradients; of several channels the strongest gradient counts.

    Parameters
    ----------
    channels
        Of the pictures.
    side
        Of the pictures, at least 32.
    """

    name = "hog"

    def __init__(self, channels: int, side: int = SIDE) -> None:
        cells = side // 16
        self.channels, self.side = channels, side
        self.size = (cells - 1) ** 2 * 4 * 9
        written = json.dumps([_HISTOGRAM, side], sort_keys=True)
        self.weight_hash = hashlib.sha256(written.encode()).hexdigest()

    def identity(self) -> dict[str, Any]:
        """Return all that changes the vectors."""
        return {"weight_hash": self.weight_hash}

    def embed(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map pictures (n, c, side, side) to vectors (n, d)."""
        from skimage.feature import hog

        histograms = [hog(picture, channel_axis=0, **_HISTOGRAM) for picture in pictures]
        vectors = np.asarray(histograms, dtype=np.float32).reshape(len(pictures), self.size)
        # Without any gradient no direction prevails; a vector of length zero has none of its own.
        vectors[~vectors.any(axis=1)] = self.size**-0.5
        return vectors
