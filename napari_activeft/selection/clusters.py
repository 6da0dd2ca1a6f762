"""k-means on vectors of length 1, with centres that stay where they are.

Symbols: n rows, k centres to find, f fixed ones, d numbers in a vector.

Labelled slices are fixed centres: what they stand for needs no other. scikit-learn's k-means has
no such thing; without fixed centres the two agree (`tests/test_selectors_clusters.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import OnProgress, no_progress
from napari_activeft.selection.neighbours import nearest

if TYPE_CHECKING:
    import torch

_ITERATIONS = 50
_STILL = 1e-6
_START_ROWS_PER_CENTRE = 32
_START_ROWS = 50_000


@dataclass(frozen=True)
class Clusters:
    """What k-means found.

    Attributes
    ----------
    centres
        float32 (k, d), the fixed ones left out.
    members
        int64 (n,): the centre nearest to each row; k and above are fixed ones.
    masses
        float64 (k,): weight of each cluster.
    inertia
        Mean squared distance of the rows from their centres.
    iterations
        Until it stood still, or the most that are made.
    """

    centres: torch.Tensor
    members: NDArray[np.int64]
    masses: NDArray[np.float64]
    inertia: float
    iterations: int


def find_clusters(
    vectors: torch.Tensor,
    count: int,
    *,
    seed: int,
    weights: NDArray[np.float64],
    fixed: torch.Tensor | None = None,
    start: torch.Tensor | None = None,
    on_progress: OnProgress = no_progress,
) -> Clusters:
    """Move ``count`` centres to the means of what lies nearest to them, until nothing moves.

    Parameters
    ----------
    vectors
        (n, d).
    count
        k, 1 to n.
    weights
        (n,): mass of each row.
    fixed
        (f, d): centres that take part but do not move.
    start
        (k, d): where to begin; by default rows drawn far from one another (k-means++).
    """
    import torch

    shares = vectors.new_tensor(weights)
    held = vectors[:0] if fixed is None else fixed
    centres = spread_rows(vectors, count, seed, weights, held) if start is None else start.clone()
    scale = float(((vectors - shares @ vectors) ** 2).sum(dim=1) @ shares)
    step = 0
    while True:
        on_progress(step, _ITERATIONS)
        members, distances = nearest(vectors, torch.cat([centres, held]))
        masses = torch.zeros(count + len(held), device=vectors.device).index_add_(
            0, members, shares
        )
        if step == _ITERATIONS:
            break
        moved = _means(vectors, shares, members, masses[:count], centres)
        _fill_empty(moved, masses[:count], vectors, distances * shares)
        shift = float(((moved - centres) ** 2).sum())
        step += 1
        if shift <= _STILL * scale:
            break
        centres = moved
    return Clusters(
        centres,
        members.cpu().numpy(),
        masses[:count].double().cpu().numpy(),
        float(distances @ shares),
        step,
    )


def _means(
    vectors: torch.Tensor,
    shares: torch.Tensor,
    members: torch.Tensor,
    masses: torch.Tensor,
    before: torch.Tensor,
) -> torch.Tensor:
    """Return the weighted mean of each cluster, (k, d); an empty one stays where it was."""
    sums = vectors.new_zeros((int(members.max()) + 1 + len(before), vectors.shape[1]))
    step = max(1, 2**22 // vectors.shape[1])
    for begin in range(0, len(vectors), step):
        part = slice(begin, begin + step)
        sums.index_add_(0, members[part], vectors[part] * shares[part, None])
    means = sums[: len(before)] / masses.clamp(min=1e-30)[:, None]
    return means.where(masses[:, None] > 0, before)


def _fill_empty(
    centres: torch.Tensor, masses: torch.Tensor, vectors: torch.Tensor, misfit: torch.Tensor
) -> None:
    """Put centres of empty clusters on the rows that are served worst, if any is served badly."""
    empty = (masses == 0).nonzero()[:, 0]
    if len(empty):
        worst = misfit.topk(min(len(empty), len(misfit))).indices
        worst = worst[misfit[worst] > 0]
        centres[empty[: len(worst)]] = vectors[worst]


def spread_rows(
    vectors: torch.Tensor,
    count: int,
    seed: int,
    weights: NDArray[np.float64],
    fixed: torch.Tensor,
) -> torch.Tensor:
    """Draw rows with chances that grow with the squared distance from those drawn (k-means++).

    Of a large pool only a part, drawn before, takes part: the centres move anyhow.

    Returns
    -------
    rows
        (k, d).
    """
    generator = np.random.default_rng(seed)
    most = max(_START_ROWS, _START_ROWS_PER_CENTRE * count)
    if len(vectors) > most:
        part = np.sort(generator.choice(len(vectors), most, replace=False))
        vectors, weights = vectors[part], weights[part]
    weights = weights if weights.any() else np.ones(len(vectors))
    distances = np.full(len(vectors), 4.0)
    if len(fixed):
        distances = nearest(vectors, fixed)[1].double().cpu().numpy()
    chosen: list[int] = []
    for _ in range(count):
        chances = np.cumsum(distances * weights)
        if chances[-1] <= 0:  # all rows are copies of those drawn
            chances = np.cumsum(weights)
        row = int(np.searchsorted(chances, generator.random() * chances[-1], side="right"))
        row = min(row, len(vectors) - 1)
        chosen.append(row)
        new = (2.0 - 2.0 * (vectors @ vectors[row])).double().cpu().numpy()
        np.minimum(distances, np.maximum(new, 0.0), out=distances)
    return vectors[chosen]
