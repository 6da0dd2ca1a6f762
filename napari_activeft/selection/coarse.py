"""A smaller stand-in for a large pool, on which centres are found in reasonable time.

Symbols: n rows, d numbers a vector, s points of the support.

The centres are only where the search among real slices begins, and that search sees the whole pool
at full length. So above `MOST_WORK` products vectors are shortened to their main axes, and above
`MOST_PAIRS` pairs every row no longer takes part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_WORK = 2e10
MOST_PAIRS = 6e7
AXES = 64
_ROWS_FOR_AXES = 8192


@dataclass(frozen=True)
class Coarse:
    """The stand-in.

    Attributes
    ----------
    vectors
        Float32, shape (m, p), rows of length 1.
    masses
        Float64, shape (m,), above 0, sum 1.
    axes
        Float32, shape (d, p); None where vectors keep their length.
    whole
        Float32, shape (n, p): all rows on the axes; None where vectors keep their length.
    """

    vectors: NDArray[np.float32]
    masses: NDArray[np.float64]
    axes: NDArray[np.float32] | None
    whole: NDArray[np.float32] | None

    def project(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return vectors (m, d) as the stand-in has them, of length 1."""
        return vectors if self.axes is None else on_axes(vectors, self.axes)


def coarse_pool(
    vectors: NDArray[np.float32],
    masses: NDArray[np.float64],
    points: int,
    rng: np.random.Generator,
) -> Coarse:
    """Return the pool itself if it is small, else its stand-in for a support of ``points``."""
    n, d = vectors.shape
    axes = whole = None
    if float(n) * points * d > MOST_WORK and d > AXES:
        axes = main_axes(vectors, rng)
        whole = on_axes(vectors, axes)
    rows = np.flatnonzero(masses > 0)
    most = max(int(MOST_PAIRS / points), 8 * points)
    if len(rows) > most:
        rows = np.sort(rng.choice(rows, most, replace=False))
    mass = masses[rows] / masses[rows].sum()
    source = vectors if whole is None else whole
    taken = source if len(rows) == n else source[rows]
    return Coarse(taken, mass, axes, whole)


def main_axes(vectors: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the directions (d, p) in which vectors differ most, by a sample of them."""
    rows = np.sort(rng.choice(len(vectors), min(len(vectors), _ROWS_FOR_AXES), replace=False))
    sample = vectors[rows].astype(np.float64)
    _, found = np.linalg.eigh(sample.T @ sample)
    axes: NDArray[np.float32] = found[:, ::-1][:, :AXES].astype(np.float32)
    return axes


def on_axes(vectors: NDArray[np.float32], axes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors (m, p) on the axes, of length 1."""
    short = vectors @ axes
    short /= np.maximum(np.linalg.norm(short, axis=1, keepdims=True), 1e-12)
    found: NDArray[np.float32] = short
    return found
