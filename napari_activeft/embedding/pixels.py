"""`pixels_pca`: the pixels themselves, reduced to the directions in which the pool varies most.

Symbols: n slices, c channels, d vector size.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import UserError

SIDE = 64
SIZE = 128
FITTED_SLICES = 2000
"""Slices from which the directions are learnt; more change them hardly."""


class PixelsPca:
    """Principal components of the pixels.

    Parameters
    ----------
    mean
        Of the pixels, (c side side).
    components
        Orthonormal directions, (d, c side side), the one of largest variance first.
    channels, side
        Of the pictures.
    """

    name = "pixels_pca"

    def __init__(
        self, mean: NDArray[np.float32], components: NDArray[np.float32], channels: int, side: int
    ) -> None:
        self.mean, self.components = mean, components
        self.channels, self.side, self.size = channels, side, len(components)
        self.weight_hash = hashlib.sha256(mean.tobytes() + components.tobytes()).hexdigest()

    @classmethod
    def fit(cls, pictures: NDArray[np.float32], seed: int) -> Self:
        """Learn the directions from pictures (n, c, side, side), at least two different ones.

        Raises
        ------
        UserError
            If the pictures do not differ.
        """
        from sklearn.decomposition import PCA

        n, channels, side, _ = pictures.shape
        pixels = pictures.reshape(n, -1)
        if n < 2 or not np.any(pixels != pixels[0]):
            raise UserError(
                f"pixels_pca learns from how slices differ, and the {n} of this pool do not: add "
                "volumes, or take `--encoder hog`"
            )
        size = min(SIZE, n - 1, pixels.shape[1])
        fitted = PCA(size, svd_solver="randomized", random_state=seed).fit(pixels)
        mean, components = fitted.mean_, fitted.components_
        return cls(mean.astype(np.float32), components.astype(np.float32), channels, side)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            return cls(held["mean"], held["components"], int(held["channels"]), int(held["side"]))

    def save(self, path: Path) -> None:
        """Write mean and components, whole or not at all."""
        beside = path.with_name(f".{path.name}-{os.getpid()}")
        with beside.open("wb") as file:
            np.savez(
                file,
                mean=self.mean,
                components=self.components,
                channels=self.channels,
                side=self.side,
            )
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)

    def identity(self) -> dict[str, Any]:
        """Return all that changes the vectors."""
        return {"weight_hash": self.weight_hash}

    def embed(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map pictures (n, c, side, side) to the coordinates along the components, (n, d)."""
        pixels = pictures.reshape(len(pictures), -1)
        return np.asarray((pixels - self.mean) @ self.components.T, dtype=np.float32)
