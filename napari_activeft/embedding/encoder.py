"""What every encoder offers, and the names of those that need no weights."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

WEIGHTLESS = ("pixels_pca", "hog")
"""Encoders that compute with nothing but the pool; every other name is a network's."""


class Encoder(Protocol):
    """Turns prepared pictures into vectors.

    Attributes
    ----------
    name
        As the user writes it.
    side
        Height and width of the pictures it takes.
    channels
        Of the pictures it takes.
    size
        Numbers in a vector, d.
    weight_hash
        SHA-256 of what it learnt; it tells two encoders of one name apart.
    """

    name: str
    side: int
    channels: int
    size: int
    weight_hash: str

    def identity(self) -> dict[str, Any]:
        """Return all that changes the vectors, as JSON can hold it."""

    def embed(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map pictures (n, c, side, side) in 0..1 to vectors (n, d)."""
