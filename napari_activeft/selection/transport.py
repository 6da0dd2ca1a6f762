"""Entropic optimal transport from the pool to a support, in the log domain and in row chunks.

Symbols: n rows of the pool, k points of the support, d numbers a vector, a masses of the rows,
b masses of the support, c costs (n, k), g potentials of the support, eps the entropy's weight,
rho the weight of the support's marginal (infinite: both marginals hold, the earth mover's case).

With the row potentials eliminated the plan is
``p_ij = a_i softmax_j(log b_j + (g_j - c_ij) / eps)``: its rows hold exactly, its columns hold
once g has converged. One sweep over the rows gives the columns' log masses (accumulated online),
and with them the next g, the marginal error, and the barycentres of what each point receives.
Nothing of size n x k is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_activeft.selection.products import dots

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CHUNK_NUMBERS = 500_000
"""Numbers of one n x k chunk: 2 MB of float32, so that a few of them stay in a CPU's cache."""
LEAST_CHUNK_NUMBERS = 250_000
"""Where a GPU has no room for this, there is none to work in."""


class Pool:
    """Vectors of unit length and their masses, read in row chunks.

    Parameters
    ----------
    vectors
        Float32, shape (n, d), rows of length 1; may lie in a file.
    masses
        Float64, shape (n,), above 0, their sum 1.
    device
        Of torch.
    """

    def __init__(
        self, vectors: NDArray[np.float32], masses: NDArray[np.float64], device: str = "cpu"
    ) -> None:
        import torch

        self.vectors, self.device = vectors, torch.device(device)
        self.log_masses = torch.as_tensor(np.log(masses), dtype=torch.float32).to(self.device)
        self.chunk_numbers = CHUNK_NUMBERS * (1 if self.device.type == "cpu" else 128)
        self.chunks = self.halvings = 0

    def __len__(self) -> int:
        return int(self.vectors.shape[0])

    def chunked(self, width: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield chunks of the vectors and of their log masses for a support of ``width``."""
        import torch

        rows = max(64, self.chunk_numbers // max(width, 1))
        self.chunks = math.ceil(len(self) / rows)
        for start in range(0, len(self), rows):
            part = np.ascontiguousarray(self.vectors[start : start + rows])
            yield (
                torch.from_numpy(part).to(self.device),
                self.log_masses[start : start + rows],
            )


@dataclass(frozen=True)
class Sweep:
    """What one pass over the pool found.

    Attributes
    ----------
    potentials
        Float32, shape (k,): the next g.
    masses
        Float32, shape (k,): what each point of the support received under the g before.
    marginal_error
        Sum over the support of |received - wanted|, 0 to 2, under the g before.
    cost
        Transport cost of that plan, without entropy.
    barycentres
        Float32, shape (k, d): mean of the vectors that each point received; (0, d) if not asked.
    """

    potentials: Tensor
    masses: Tensor
    marginal_error: float
    cost: float
    barycentres: Tensor


def costs_between(rows: Tensor, points: Tensor) -> Tensor:
    """Return the (n, k) costs of unit vectors: squared chords."""
    return dots(rows, points).mul_(-2.0).add_(2.0).clamp_min_(0.0)


def sweep(
    pool: Pool,
    support: Tensor,
    wanted: Tensor,
    potentials: Tensor,
    eps: float,
    *,
    rho: float = math.inf,
    barycentres: bool = False,
) -> Sweep:
    """Do one Sinkhorn step for every point of the support.

    Parameters
    ----------
    pool
        n rows.
    support
        Float32, shape (k, d).
    wanted
        Float32, shape (k,): b, above 0, sum 1.
    potentials
        Float32, shape (k,): g, zeros at first.
    eps
        Above 0, in units of the cost.
    rho
        Above 0, or infinite.
    """
    import torch

    while True:
        try:
            return _sweep(pool, support, wanted, potentials, eps, rho, barycentres)
        except torch.cuda.OutOfMemoryError:
            if pool.chunk_numbers < 2 * LEAST_CHUNK_NUMBERS:
                raise
            pool.chunk_numbers //= 2
            pool.halvings += 1


def _sweep(
    pool: Pool,
    support: Tensor,
    wanted: Tensor,
    potentials: Tensor,
    eps: float,
    rho: float,
    barycentres: bool,
) -> Sweep:
    import torch

    log_b = wanted.log()
    received = torch.full_like(potentials, -math.inf)
    sums = torch.zeros_like(support if barycentres else support[:0])
    cost = 0.0
    for rows, log_a in pool.chunked(len(support)):
        c = costs_between(rows, support)
        log_plan = (log_b + potentials / eps) - c / eps
        log_plan -= (torch.logsumexp(log_plan, dim=1) - log_a)[:, None]
        received = torch.logaddexp(received, torch.logsumexp(log_plan, dim=0))
        plan = log_plan.exp_()
        cost += float((plan * c).sum())
        if barycentres:
            sums.addmm_(plan.T, rows)
    masses = received.exp()
    shrink = 1.0 if math.isinf(rho) else rho / (rho + eps)
    return Sweep(
        shrink * (potentials + eps * (log_b - received)),
        masses,
        float((masses - wanted).abs().sum()),
        cost,
        sums / masses[: len(sums), None].clamp_min(1e-30),
    )


@dataclass(frozen=True)
class Solved:
    """A transport problem after its last sweep.

    Attributes
    ----------
    potentials
        Float32, shape (k,).
    masses
        Float32, shape (k,), what each point receives.
    cost
        Transport cost without entropy.
    marginal_error
        Balanced: sum of |received - wanted|. Relaxed: the last change of the masses.
    steps
        Sweeps done, at least one.
    converged
        Whether the marginal error came below the tolerance.
    """

    potentials: Tensor
    masses: Tensor
    cost: float
    marginal_error: float
    steps: int
    converged: bool


def solve(
    pool: Pool,
    support: Tensor,
    wanted: Tensor,
    eps: float,
    *,
    rho: float = math.inf,
    potentials: Tensor | None = None,
    steps: int = 500,
    tolerance: float = 1e-3,
) -> Solved:
    """Sweep until the marginal holds to ``tolerance``; start from ``potentials`` if given.

    The potentials returned are those under which masses, cost and error were found.
    """
    import torch

    g = torch.zeros_like(wanted) if potentials is None else potentials
    before: torch.Tensor | None = None
    for step in range(1, steps + 1):
        done = sweep(pool, support, wanted, g, eps, rho=rho)
        error = done.marginal_error
        if not math.isinf(rho):
            error = math.inf if before is None else float((done.masses - before).abs().sum())
            before = done.masses
        if error <= tolerance or step == steps:
            break
        g = done.potentials
    return Solved(g, done.masses, done.cost, error, step, error <= tolerance)


def objective_gradient(
    solved: Solved,
    pool: Pool,
    support: Tensor,
    wanted: Tensor,
    eps: float,
    rho: float = math.inf,
) -> Tensor:
    """Return the gradient (k, d) of the entropic cost by the support, for squared chords.

    The envelope theorem: at the optimum the plan counts as constant, so with
    ``c_ij = |f_i - theta_j|^2`` the gradient is ``2 sum_i p_ij (theta_j - f_i)``.
    """
    done = sweep(pool, support, wanted, solved.potentials, eps, rho=rho, barycentres=True)
    return 2.0 * done.masses[:, None] * (support - done.barycentres)
