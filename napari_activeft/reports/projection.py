"""A pool in two dimensions, for a map."""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

_UMAP_LEAST_ROWS = 16
_SAMPLE = 20_000  # vectors at once


def flattened(
    vectors: NDArray[np.float32], seed: int = 0, method: str = "auto"
) -> tuple[str, NDArray[np.float64]]:
    """Return the method's name and a point (n, 2) for each vector (n, d).

    Parameters
    ----------
    method
        pca, umap, or auto: UMAP where umap-learn is installed. Fewer than 16 rows, which have no
        neighbourhood to speak of, are always laid out by PCA.
    """
    rows = np.asarray(vectors, dtype=np.float32)
    if len(rows) >= _UMAP_LEAST_ROWS and (
        method == "umap" or (method == "auto" and find_spec("umap"))
    ):
        return "UMAP", _umap(rows, seed)
    return "PCA", _pca(rows)


def principal_points(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return a point (n, 2) for each vector (n, d) on the plane of largest variance.

    A large pool is laid out by the directions of a sample, in parts, so that vectors on the disk
    need not lie in memory.
    """
    if len(vectors) <= _SAMPLE:
        return _pca(np.asarray(vectors, dtype=np.float32))
    sample = np.asarray(vectors[:: -(-len(vectors) // _SAMPLE)], dtype=np.float64)
    mean = sample.mean(axis=0)
    values, directions = np.linalg.eigh((sample - mean).T @ (sample - mean))
    top = directions[:, np.argsort(values)[::-1][:2]]
    parts = range(0, len(vectors), _SAMPLE)
    points = np.concatenate([(vectors[at : at + _SAMPLE] - mean) @ top for at in parts])
    return _turned(points)


def _pca(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Project on the two directions of largest variance; each points to its heaviest side."""
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    few = centred if len(rows) > rows.shape[1] else centred.T
    values, directions = np.linalg.eigh(few.T @ few)
    top = directions[:, np.argsort(values)[::-1][:2]]
    points = centred @ top if few is centred else top * np.sqrt(np.sort(values)[::-1][:2].clip(0))
    return _turned(np.pad(points, ((0, 0), (0, 2 - points.shape[1]))))


def _turned(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Let each axis point to its heaviest side: the sign of a direction means nothing."""
    skew = (points**3).sum(axis=0)
    turned: NDArray[np.float64] = points * np.where(skew < 0, -1.0, 1.0)
    return turned


def _umap(rows: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba and of umap's own threads: nothing to act on
        reducer = import_module("umap").UMAP(
            n_components=2, metric="cosine", random_state=seed, n_jobs=1
        )
        return np.asarray(reducer.fit_transform(rows), dtype=np.float64)
