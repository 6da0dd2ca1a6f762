"""ActiveFT as published: Xie et al., Active Finetuning, CVPR 2023.

Symbols: n rows f_i with masses a_i (published: 1/n), k centres theta_j, d numbers in a vector, tau
a temperature, b the balance, sg a stop of the gradient. All vectors have length 1.

    c_i   = argmax_j f_i . theta_j,   s_i = f_i . theta_{c_i}
    neg_j = sum_m exp(sg(theta_m) . theta_j / tau)
    J     = - sum_i a_i log[ exp(s_i / tau) / (exp(s_i / tau) + b neg_{c_i}) ]
          = sum_i a_i softplus(log b + log neg_{c_i} - s_i / tau)

The nearest centre c_i is constant almost everywhere, so the gradient needs no table of n x k: with
u_i = a_i sigmoid(log b + log neg_{c_i} - s_i / tau),

    tau dJ/dtheta_j = (sum_{i: c_i = j} u_i) sum_m softmax_m(theta_m . theta_j / tau) theta_m
                      - sum_{i: c_i = j} u_i f_i

Published are 300 steps of Adam at a rate of 1e-3 from k rows drawn at random, then for each centre
in turn the most similar row that is not taken yet. Above `_PAIRS` pairs fewer and larger steps are
taken, which shrink along a cosine, and each sees some of the rows; the report says so. By J its
picks are as good (``benchmarks/selection_speed.py``); without the cosine the last steps undo one
another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import cos, log, pi
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import OnProgress, no_progress
from napari_activeft.selection.candidates import Candidates, Choice, draws
from napari_activeft.selection.neighbours import CHUNK_FLOATS, chunks, nearest
from napari_activeft.selection.products import dots
from napari_activeft.selection.room import Room
from napari_activeft.selection.snapping import snap

if TYPE_CHECKING:
    import torch

_PAIRS = 5_000_000
_DECAY, _DECAY_OF_SQUARES, _TINY = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Steps:
    """How the centres are moved.

    Attributes
    ----------
    form
        Its name in the report.
    count, rate
        Steps of Adam and their size.
    shrinking
        Lower the size along half a cosine, to nothing.
    batch
        Rows that a step sees; None is all.
    temperature, balance
        tau and b.
    """

    form: str = "exact"
    count: int = 300
    rate: float = 1e-3
    shrinking: bool = False
    batch: int | None = None
    temperature: float = 0.07
    balance: float = 1.0

    def rate_at(self, step: int) -> float:
        """Return the size of a step, counted from 1."""
        if not self.shrinking:
            return self.rate
        return 0.5 * self.rate * (1.0 + cos(pi * (step - 1) / self.count))


EXACT = Steps()
FAST = Steps(form="minibatch", count=200, rate=8e-3, shrinking=True, batch=3072)
FAST_OF_FEW = Steps(form="large steps", count=70, rate=1.2e-2, shrinking=True)
FEW_ROWS = 4096
_ROWS_PER_CENTRE = 5


def activeft_cvpr2023(candidates: Candidates, budget: int, seed: int) -> Choice:
    """Choose by the published objective.

    It knows neither labelled rows as support nor costs nor an order of the picks: labelled rows
    are only not chosen again, picks stand in the order of the centres, and the gain of a pick is
    the mass of the rows that its centre served.
    """
    vectors = candidates.tensor
    free = candidates.free_rows
    chances = draws(seed, [candidates.keys[row] for row in candidates.free])
    start = vectors[free[np.argsort(chances, kind="stable")[:budget]]]
    steps = EXACT if len(candidates) * budget <= _PAIRS else fast_steps(len(candidates), budget)
    centres = move_centres(
        vectors,
        start,
        candidates.weights,
        steps,
        seed=seed,
        on_progress=candidates.on_progress,
    )
    picks = list(snap(candidates, Room(candidates, budget), vectors, centres))
    members = nearest(vectors, centres)[0].cpu().numpy()
    masses = np.bincount(members, candidates.weights, minlength=budget)
    report = {
        "form": steps.form,
        "steps": steps.count,
        "objective_start": round(objective(vectors, start, candidates.weights), 6),
        "objective_centres": round(objective(vectors, centres, candidates.weights), 6),
        "objective_picks": round(objective(vectors, vectors[picks], candidates.weights), 6),
    }
    return Choice(picks, masses.tolist(), report)


def fast_steps(rows: int, centres: int) -> Steps:
    """Return the fast form for this many rows and centres."""
    if rows <= FEW_ROWS:
        return FAST_OF_FEW
    return replace(FAST, batch=max(FAST.batch or 0, _ROWS_PER_CENTRE * centres))


def move_centres(
    vectors: torch.Tensor,
    start: torch.Tensor,
    weights: NDArray[np.float64],
    steps: Steps = EXACT,
    *,
    seed: int = 0,
    on_progress: OnProgress = no_progress,
) -> torch.Tensor:
    """Lower J by Adam and return the centres, (k, d) of length 1, in memory O(n + k d).

    Parameters
    ----------
    vectors, start
        (n, d) and (k, d).
    weights
        (n,): mass of each row.
    seed
        Of the rows that each step sees, where it does not see all.
    """
    import torch

    generator = np.random.default_rng(seed)
    shares = vectors.new_tensor(weights)
    free = start.clone()
    mean, squares = torch.zeros_like(free), torch.zeros_like(free)
    for step in range(1, steps.count + 1):
        on_progress(step - 1, steps.count)
        seen, masses = vectors, shares
        if steps.batch is not None and steps.batch < len(vectors):
            rows = torch.from_numpy(generator.integers(len(vectors), size=steps.batch))
            rows = rows.to(vectors.device)
            seen, masses = vectors[rows], shares[rows] * (len(vectors) / steps.batch)
        lengths = free.norm(dim=1, keepdim=True)
        centres = free / lengths
        slope = gradient(seen, centres, masses, steps)
        # The centres are the free vectors at length 1: along itself a vector may grow at will.
        slope = (slope - (slope * centres).sum(dim=1, keepdim=True) * centres) / lengths
        mean.lerp_(slope, 1.0 - _DECAY)
        squares.mul_(_DECAY_OF_SQUARES).addcmul_(slope, slope, value=1.0 - _DECAY_OF_SQUARES)
        root = (squares / (1.0 - _DECAY_OF_SQUARES**step)).sqrt_().add_(_TINY)
        free.addcdiv_(mean, root, value=-steps.rate_at(step) / (1.0 - _DECAY**step))
    moved: torch.Tensor = free / free.norm(dim=1, keepdim=True)
    return moved


def gradient(
    vectors: torch.Tensor, centres: torch.Tensor, masses: torch.Tensor, steps: Steps = EXACT
) -> torch.Tensor:
    """Return dJ/dtheta, (k, d), for centres of length 1 as if their lengths were free."""
    import torch

    tau = steps.temperature
    logs, pushes = _repulsion(centres, tau)
    served = torch.zeros(len(centres), device=centres.device)
    pulls = torch.zeros_like(centres)
    step = max(1, CHUNK_FLOATS // max(centres.shape))
    for begin in range(0, len(vectors), step):
        part = slice(begin, begin + step)
        closeness, members = dots(vectors[part], centres).max(dim=1)
        push = torch.sigmoid(log(steps.balance) + logs[members] - closeness / tau) * masses[part]
        served.index_add_(0, members, push)
        pulls.index_add_(0, members, vectors[part] * push[:, None])
    slope: torch.Tensor = (served[:, None] * pushes - pulls) / tau
    return slope


def _repulsion(centres: torch.Tensor, tau: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log neg (k,) and what each centre is pushed by, (k, d), by chunks of centres."""
    import torch

    logs = torch.empty(len(centres), device=centres.device)
    pushes = torch.empty_like(centres)
    for part in chunks(len(centres), len(centres)):
        scaled = dots(centres[part], centres) / tau
        logs[part] = scaled.logsumexp(dim=1)
        pushes[part] = dots(scaled.softmax(dim=1), centres.T)
    return logs, pushes


def objective(
    vectors: torch.Tensor,
    centres: torch.Tensor,
    weights: NDArray[np.float64],
    steps: Steps = EXACT,
) -> float:
    """Return J of centres, or of picked slices in their place."""
    import torch

    tau = steps.temperature
    logs, _ = _repulsion(centres, tau)
    total = 0.0
    shares = vectors.new_tensor(weights)
    for part in chunks(len(vectors), len(centres)):
        closeness, members = dots(vectors[part], centres).max(dim=1)
        worth = torch.nn.functional.softplus(log(steps.balance) + logs[members] - closeness / tau)
        total += float(worth @ shares[part])
    return total
