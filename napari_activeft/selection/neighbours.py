"""Which rows lie near to which, by chunks: no table of n x n ever stands in memory.

Symbols: n rows, q queries, m neighbours, d numbers in a vector. All vectors of the pool have
length 1, so the squared distance of two is 2 - 2 x . y, from 0 to 4.

faiss, where it is installed, finds the same lists (`tests/test_selection_neighbours.py`); it is
taken for lists, where torch has to sort what faiss keeps in a heap. For the one nearest, a matrix
product and a maximum are as quick without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_activeft.selection.products import dots

if TYPE_CHECKING:
    import torch

CHUNK_FLOATS = 2**22
"""Numbers in the largest table that stands in memory at once: 16 MB, the cache of a processor."""

SAME = 1e-6
"""Squared distances below this are rounding: the rows are the same."""

_PAIRS_WORTH_FAISS = 10**8


def chunks(rows: int, columns: int) -> Iterator[slice]:
    """Cut rows so that a table of a part of them and all columns stays small."""
    step = max(1, CHUNK_FLOATS // max(columns, 1))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def squared(dots: torch.Tensor) -> torch.Tensor:
    """Turn dot products of vectors of length 1 into squared distances, in place; equals get 0."""
    import torch

    distances: torch.Tensor = torch.threshold_(dots.mul_(-2.0).add_(2.0), SAME, 0.0)
    return distances


def nearest(queries: torch.Tensor, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return for each of q queries the nearest point and its squared distance, each (q,).

    Points need not have length 1. Of points equally near it is the first.
    """
    import torch

    halves = 0.5 * (points * points).sum(dim=1)
    found = torch.empty(len(queries), dtype=torch.int64, device=queries.device)
    distances = torch.empty(len(queries), device=queries.device)
    for part in chunks(len(queries), len(points)):
        closeness = dots(queries[part], points).sub_(halves)
        best, found[part] = closeness.max(dim=1)
        own = (queries[part] * queries[part]).sum(dim=1)
        distances[part] = (own - 2.0 * best).clamp_(min=0.0)
    return found, distances


def nearest_lists(
    queries: torch.Tensor, points: torch.Tensor, count: int, *, faiss: bool | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return for each query its ``count`` nearest points, nearest first.

    Parameters
    ----------
    queries, points
        (q, d) and (p, d), all of length 1.
    count
        m, 1 to p.
    faiss
        Whether to search with faiss; by default where it is installed and there is enough to do.

    Returns
    -------
    found
        int64 (q, m): of points equally near the first come first.
    distances
        float32 (q, m), squared.
    """
    if faiss is None:
        enough = len(queries) * len(points) >= _PAIRS_WORTH_FAISS
        faiss = enough and queries.device.type == "cpu" and find_spec("faiss") is not None
    found = _by_faiss(queries, points, count) if faiss else _by_torch(queries, points, count)
    return _in_order(queries, points, found)


def _by_torch(queries: torch.Tensor, points: torch.Tensor, count: int) -> torch.Tensor:
    import torch

    found = torch.empty((len(queries), count), dtype=torch.int64, device=queries.device)
    for part in chunks(len(queries), len(points)):
        found[part] = dots(queries[part], points).topk(count, dim=1).indices
    return found


def _by_faiss(queries: torch.Tensor, points: torch.Tensor, count: int) -> torch.Tensor:
    import torch

    faiss = import_module("faiss")  # its types are known nowhere
    index = faiss.IndexFlatIP(points.shape[1])
    index.add(points.numpy())
    _, found = index.search(queries.numpy(), count)
    return torch.from_numpy(found)


def _in_order(
    queries: torch.Tensor, points: torch.Tensor, found: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sort each list by distance, then row, measured one way whoever found it."""
    import torch

    found = found.sort(dim=1).values
    distances = torch.empty(found.shape, device=queries.device)
    for part in chunks(len(found), found.shape[1] * queries.shape[1]):
        dots = torch.einsum("qd,qmd->qm", queries[part], points[found[part]])
        distances[part], order = squared(dots).sort(dim=1, stable=True)
        found[part] = found[part].gather(1, order)
    return found, distances


def first_best(values: NDArray[np.float64], tolerance: float) -> int:
    """Return the first place whose value is the largest, up to a tolerance for rounding."""
    return int(np.argmax(values >= values.max() - tolerance))
