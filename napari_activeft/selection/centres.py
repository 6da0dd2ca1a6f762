"""Free centres under entropic balanced transport: where picks would lie if any point were a slice.

Symbols: n rows, s points of the support, the first of them labelled (fixed), the last k centres,
d numbers a vector, eps the entropy's weight, b masses of the support.

Annealed: eps falls by a factor per step, the potentials stay, and each centre moves to the
barycentre of what it receives (back onto the sphere). For squared chords that is the exact minimum
over the centre under a fixed plan, so no step size is needed. The diversity term
``-log mean |theta_i - theta_j|``, over all pairs of the support as in the improvement, adds its
gradient, in the step that the barycentre and the mass received imply.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_activeft.selection.blocks import distances_between
from napari_activeft.selection.transport import Pool, Solved, solve, sweep

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 0.02
"""Marginal error, of at most 2, under which the last potentials count as converged."""


@dataclass(frozen=True)
class Annealing:
    """How eps falls.

    Attributes
    ----------
    start, end
        Of eps, as shares of the median cost.
    factor
        Per step.
    sweeps
        Per step.
    polish
        Sweeps at the end, the centres at rest, at most; some 70 were needed at worst on pools of
        858 to 4016 slices.
    """

    start: float = 0.3
    end: float = 0.05
    factor: float = 0.7
    sweeps: int = 2
    polish: int = 200

    def values(self) -> list[float]:
        """Return the shares, falling, the last one ``end``."""
        steps = max(0, math.ceil(math.log(self.end / self.start) / math.log(self.factor)))
        return [max(self.end, self.start * self.factor**step) for step in range(steps + 1)]


@dataclass(frozen=True)
class Centres:
    """Where the centres came to rest.

    Attributes
    ----------
    points
        Float32, shape (k, d), of length 1.
    solved
        The last transport problem.
    eps
        The last one, in units of the cost.
    steps
        Sweeps in all.
    """

    points: Tensor
    solved: Solved
    eps: float
    steps: int


def median_cost(pool: Pool, support: Tensor) -> float:
    """Return the median squared chord between up to 512 rows and up to 512 points, above 0."""
    rows = np.linspace(0, len(pool) - 1, min(len(pool), 512)).astype(np.int64)
    points = support[:: max(1, len(support) // 512)].cpu().numpy()
    costs = 2.0 - 2.0 * (pool.vectors[rows] @ points.T)
    return max(float(np.median(costs)), 1e-4)


def find_centres(
    pool: Pool,
    fixed: Tensor,
    start: Tensor,
    wanted: Tensor,
    annealing: Annealing,
    *,
    rho: float,
    lam: float,
    on_step: Callable[[], None],
) -> Centres:
    """Move centres from ``start`` (k, d) beside ``fixed`` points (s - k, d).

    Parameters
    ----------
    wanted
        Float32, shape (s,): b.
    rho
        As a multiple of the median cost, or infinite.
    lam
        Of the diversity term.
    on_step
        Called after every sweep.
    """
    import torch

    points, first = start.clone(), len(fixed)
    scale = median_cost(pool, torch.cat([fixed, points]))
    potentials, steps = torch.zeros_like(wanted), 0
    rho, eps = rho * scale, scale
    for share in annealing.values():
        eps = share * scale
        for _ in range(annealing.sweeps):
            support = torch.cat([fixed, points])
            done = sweep(pool, support, wanted, potentials, eps, rho=rho, barycentres=True)
            moved = done.barycentres[first:]
            if lam > 0 and len(support) > 1:
                received = done.masses[first:, None].clamp_min(1e-12)
                moved = moved - lam * diversity_gradient(support)[first:] / (2 * received)
            points = torch.nn.functional.normalize(moved, dim=1)
            potentials, steps = done.potentials, steps + 1
            on_step()
    support = torch.cat([fixed, points])
    solved = solve(
        pool,
        support,
        wanted,
        eps,
        rho=rho,
        potentials=potentials,
        steps=annealing.polish,
        tolerance=TOLERANCE,
    )
    return Centres(points, solved, eps, steps + solved.steps)


def diversity_gradient(points: Tensor) -> Tensor:
    """Return the gradient (k, d) of ``-log mean |theta_i - theta_j|`` over pairs."""
    import torch

    apart = (2.0 - 2.0 * (points @ points.T)).clamp_min_(1e-6).sqrt_()
    apart.fill_diagonal_(math.inf)
    inverse = 1.0 / apart
    pull = points * inverse.sum(dim=1, keepdim=True) - inverse @ points
    apart.fill_diagonal_(0.0)
    total: Tensor = apart.sum() / 2
    return -pull / torch.clamp_min(total, 1e-12)


def diversity(vectors: NDArray[np.float32]) -> float:
    """Return ``-log mean |theta_i - theta_j|`` of rows (k, d) of length 1; 0 for one row."""
    k = len(vectors)
    if k < 2:
        return 0.0
    total = 0.0
    for start in range(0, k, 1024):
        total += float(distances_between(vectors[start : start + 1024], vectors).sum())
    return -math.log(max(total / (k * (k - 1)), 1e-12))
