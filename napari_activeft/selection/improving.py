"""Improving the picks walk by walk, on the exact objective.

Symbols: n rows of the pool, b labelled rows, k picks, s = b + k points of the support.

The objective is ``(1 - mu)`` times the transport cost of the whole, plus ``mu`` times the mean
distance of the rows to the nearest point (what transport becomes where no point has a share of its
own), plus ``lam * -log mean |theta_i - theta_j|`` over the support, plus what the picks cost to
label. In blocks the diversity counts to first order, as a price per row, and the nearest distances
of their own rows only; after every walk the objective is computed in full. A walk that raised it
is undone, account and plan included, and ends the search. So the trace of objectives never rises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.selection.account import Account
from napari_activeft.selection.blocks import BlockWalk, Flows, Support, distances_between
from napari_activeft.selection.candidates import Candidates
from napari_activeft.selection.centres import diversity
from napari_activeft.selection.neighbours import SAME, nearest
from napari_activeft.selection.plans import WholePlan, whole_plan
from napari_activeft.settings import ActiveFTSettings

if TYPE_CHECKING:
    import torch

GAIN_TO_GO_ON = 1e-4
"""Share of the objective that a walk over all blocks must gain for another one."""
GAIN_TO_GO_ON_LISTS = 1e-3
"""The same where the pool is so large that its transport comes from lists."""
FULL_WALKS = 3
"""Walks through all blocks; later ones pass over those in which the last one changed nothing."""
MOST_ROWS_SERVED = 600
"""Rows in a block, by which the number of its points is lowered where picks are few."""
MARGINAL_TOLERANCE = 1e-6
"""Marginal error, of at most 2, up to which a plan of the whole counts as feasible."""
BLOCKS_ERR = 1e-3
"""Share of the objective by which a walk may raise it and still count as one that found nothing to
gain: a block sees diversity to first order, and nearest distances of its own rows only."""
_CHUNK_NUMBERS = 4_000_000


@dataclass(frozen=True)
class Problem:
    """What is to be improved.

    Attributes
    ----------
    candidates
        The pool, with vectors.
    settings
        Of the selector.
    masses
        Float64, shape (n,), sum 1.
    wanted
        Float64, shape (s,): what each point of the support stands for, sum 1.
    device
        Of torch.
    """

    candidates: Candidates
    settings: ActiveFTSettings
    masses: NDArray[np.float64]
    wanted: NDArray[np.float64]
    device: str

    def plan(self, rows: NDArray[np.int64]) -> WholePlan:
        """Transport the pool to a support (s,)."""
        vectors = self.candidates.features
        return whole_plan(
            vectors, self.masses, vectors[rows], self.wanted, rows=rows, device=self.device
        )

    def objective(self, plan: WholePlan, support: Support) -> float:
        """Return the objective of a support under a plan."""
        return (1.0 - self.settings.nearest) * plan.cost + self.beside(support)

    def beside(self, support: Support) -> float:
        """Return what the objective holds beside the transport."""
        total = 0.0
        if self.settings.nearest > 0:
            points = self.candidates.tensor[support.rows]
            distances = nearest_distances(self.candidates.tensor, points)
            total += self.settings.nearest * float(self.masses @ distances)
        if self.settings.lam > 0:
            total += self.settings.lam * diversity(self.candidates.features[support.rows])
        if self.candidates.costs is not None:
            total += float(self._effort(len(support.picks))[support.picks].sum())
        return total

    def prices(self, support: Support) -> NDArray[np.float64]:
        """Return `beside` per row, the diversity to first order around the support, (n,)."""
        vectors = self.candidates.features
        prices = np.zeros(len(vectors))
        if self.candidates.costs is not None:
            prices += self._effort(len(support.picks))
        if self.settings.lam > 0 and len(support.rows) > 1:
            apart = _summed_distances(vectors, vectors[support.rows])
            pairs = float(apart[support.rows].sum()) / 2
            prices -= self.settings.lam * apart / max(pairs, 1e-12)
        return prices

    def _effort(self, k: int) -> NDArray[np.float64]:
        effort = self.candidates.effort
        share: NDArray[np.float64] = effort * (self.settings.cost_weight / (effort.mean() * k))
        return share


@dataclass(frozen=True)
class Improved:
    """What came of it.

    Attributes
    ----------
    picks
        Int64, shape (k,).
    trace
        The objective before and after each walk, falling.
    exact
        Whether the transport of the whole was solved exactly.
    marginal_error
        Sum over the support of |received - wanted| in the last plan, 0 to 2.
    finished
        Whether the last walk found next to nothing to gain; not so where walks ran out, or where
        the last one raised the objective by more than blocks err, and was undone.
    solved
        Small transport problems solved.
    """

    picks: NDArray[np.int64]
    trace: list[float]
    exact: bool
    marginal_error: float
    finished: bool
    solved: int

    def report(self) -> dict[str, Any]:
        """Return it as JSON may hold it, without the picks."""
        return {
            "objective_of_snapped": self.trace[0],
            "objective": self.trace[-1],
            "objective_trace": self.trace,
            "plan": {
                "kind": "exact" if self.exact else "lists",
                "marginal_error": self.marginal_error,
            },
            "search_finished": self.finished,
            "problems_solved": self.solved,
        }


def improve(
    problem: Problem,
    rows: NDArray[np.int64],
    rules: Account,
    seeds: list[int],
    *,
    on_block: Callable[[], None],
    on_walk: Callable[[], None],
) -> Improved:
    """Walk through the blocks until that gains nothing, or the settings say enough.

    Parameters
    ----------
    rows
        Int64, shape (s,): the labelled rows, then the picks.
    rules
        What the caps allow; left in step with the picks that are returned.
    seeds
        Of the order of the blocks.
    on_block, on_walk
        Called after each.
    """
    movable = np.arange(len(rows)) >= len(problem.candidates.support)
    plan = problem.plan(rows)
    support = Support(rows.copy(), movable, problem.wanted, plan.flows)
    walking = _walking(problem, support, rules, seeds)
    trace, solved, still, raised = [problem.objective(plan, support)], 0, False, False
    stale = np.ones(len(rows), dtype=bool)
    while not still and len(trace) <= problem.settings.walks:
        walking.prices = problem.prices(support)
        before, plan_before = support.rows.copy(), plan
        for _block in walking.walk(support, stale):
            on_block()
        plan = _cheaper(problem, support, plan, walking.last.gain_of_transport)
        support.flows, solved = plan.flows, solved + walking.last.solved
        objective = problem.objective(plan, support)
        enough = GAIN_TO_GO_ON if plan.exact else GAIN_TO_GO_ON_LISTS
        still = trace[-1] - objective <= enough * abs(objective)
        if objective <= trace[-1]:
            trace.append(objective)
        else:
            raised = objective - trace[-1] > BLOCKS_ERR * abs(objective)
            rules.restore(support.picks, before[movable])
            support.rows, plan = before, plan_before
        stale = walking.last.changed if len(trace) > FULL_WALKS else stale
        on_walk()
    error = marginal_error(plan.flows, problem.wanted)
    return Improved(support.picks, trace, plan.exact, error, still and not raised, solved)


def marginal_error(flows: Flows, wanted: NDArray[np.float64]) -> float:
    """Return the sum over the support of |received - wanted|."""
    received = np.bincount(flows.point, flows.mass, minlength=len(wanted))
    return float(np.abs(received - wanted).sum())


def nearest_distances(vectors: torch.Tensor, points: torch.Tensor) -> NDArray[np.float64]:
    """Return the distance of each row (n, d) to the nearest point, (n,); equals get 0."""
    squares = nearest(vectors, points)[1].cpu().numpy().astype(np.float64)
    return np.sqrt(np.where(squares < SAME, 0.0, squares))


def _cheaper(problem: Problem, support: Support, before: WholePlan, gain: float) -> WholePlan:
    """Return the plan as the walk left it or a new one, whichever costs less."""
    new = problem.plan(support.rows)
    cost = before.cost - gain
    return new if new.exact or new.cost <= cost else WholePlan(support.flows, cost, False)


def _walking(problem: Problem, support: Support, rules: Account, seeds: list[int]) -> BlockWalk:
    vectors = problem.candidates.features
    free = np.zeros(len(vectors), dtype=bool)
    free[problem.candidates.free_rows] = True
    free[support.picks] = False
    fitting = int(MOST_ROWS_SERVED * len(support.rows) / len(vectors))
    return BlockWalk(
        vectors,
        free,
        np.zeros(len(vectors)),
        rules,
        size=max(4, min(problem.settings.neighbours, fitting)),
        tries=problem.settings.tries,
        nearest=problem.settings.nearest,
        seeds=seeds,
    )


def _summed_distances(
    vectors: NDArray[np.float32], points: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the sum of the distances from each row to all points, (n,)."""
    step = max(1, _CHUNK_NUMBERS // len(points))
    sums = np.zeros(len(vectors))
    for at in range(0, len(vectors), step):
        sums[at : at + step] = distances_between(vectors[at : at + step], points).sum(axis=1)
    return sums
