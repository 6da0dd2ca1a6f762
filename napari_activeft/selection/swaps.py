"""Improving a set of picks on the exact objective, one block of neighbouring picks at a time.

Symbols: n rows with masses w, m columns (picks and labelled rows) with masses b, q rows that may
serve as picks, c costs (n, q), u v the optimal duals of the block's transport problem.

A block is a small transport problem that the plan of the whole cuts out: what its columns receive,
and from whom. Whatever lowers its cost lowers the cost of the whole by as much, or more.

What is lowered: ``(1 - mu) transport + mu sum_i w_i min(o_i, min_j c_ij)`` and prices, o_i being
what row i would pay to the nearest point outside the block.

Two moves. *Medoid*: under the fixed plan, each pick moves to the row that what it receives reaches
most cheaply; the cost after solving anew can only be lower still. *Swap*: pick j gives way to row
r anywhere in the block. Which pairs to try says a bound. Leave all duals but the new one as they
are: then ``sum_i w_i min(min_{l != j}(c_il - v_l), c_ir - v_r) + b . v`` is, at the best v_r, a
lower bound of the new transport, found by one sort; what the nearest ones cost then is known.
Pairs are solved exactly in the order of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SLACK = 1e-12
"""Gains below this are rounding."""
_TwoSmallest = tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]


class Rules(Protocol):
    """Who may take whose place; it keeps account of the picks."""

    def may_replace(self, pick: int, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the caps let each of these rows take the place of a pick."""

    def replace(self, pick: int, row: int) -> None:
        """Let a row take the place of a pick."""


@dataclass(frozen=True)
class Block:
    """A transport problem with columns that may move.

    Attributes
    ----------
    rows
        Int64, shape (q,): rows of the pool that the candidates are.
    costs
        Float64, shape (n, q).
    masses
        Float64, shape (n,).
    wanted
        Float64, shape (m,), with the sum of ``masses``.
    columns
        Int64, shape (m,): which of the q candidates each column is.
    movable
        Bool, shape (m,).
    open
        Bool, shape (q,): candidates that nobody has taken.
    prices
        Float64, shape (q,): added to the objective for a pick.
    outside
        Float64, shape (n,): distance of each row to the nearest point outside the block; inf where
        there is none.
    nearest
        mu, 0 to 1: the share of the objective that is the distance to the nearest point.
    """

    rows: NDArray[np.int64]
    costs: NDArray[np.float64]
    masses: NDArray[np.float64]
    wanted: NDArray[np.float64]
    columns: NDArray[np.int64]
    movable: NDArray[np.bool_]
    open: NDArray[np.bool_]
    prices: NDArray[np.float64]
    outside: NDArray[np.float64]
    nearest: float = 0.0


@dataclass(frozen=True)
class Plan:
    """An optimal plan of a block.

    Attributes
    ----------
    masses
        Float64, shape (n, m).
    v
        Float64, shape (m,): duals of the columns.
    cost
        Of the transport.
    """

    masses: NDArray[np.float64]
    v: NDArray[np.float64]
    cost: float


def exact_plan(
    costs: NDArray[np.float64], masses: NDArray[np.float64], wanted: NDArray[np.float64]
) -> Plan:
    """Solve a transport problem by the network simplex of POT."""
    import ot

    if costs.shape[1] == 1:
        return Plan(masses[:, None].copy(), np.zeros(1), float(masses @ costs[:, 0]))
    # The sums differ by rounding, which POT would complain about.
    plan, log = ot.emd(
        masses,
        wanted * (masses.sum() / wanted.sum()),
        np.ascontiguousarray(costs),
        log=True,
        numItermax=10_000_000,
        check_marginals=False,
        center_dual=False,
    )
    return Plan(plan, np.asarray(log["v"]), float(log["cost"]))


class BlockSearch:
    """Medoid moves and swaps inside one block until neither gains.

    Parameters
    ----------
    block
        The problem.
    rules
        What the caps allow.
    tries
        Swaps solved exactly after the last one that gained.
    """

    def __init__(self, block: Block, rules: Rules, tries: int) -> None:
        self.block, self.rules, self.tries = block, rules, tries
        self.columns, self.open = block.columns.copy(), block.open.copy()
        self.plan = self._solved(self.columns)
        self.solved = 1

    @property
    def objective(self) -> float:
        """Transport, nearest distances and prices now."""
        return self._objective(self.plan, self.columns)

    def _objective(self, plan: Plan, columns: NDArray[np.int64]) -> float:
        block, mu = self.block, self.block.nearest
        total = (1.0 - mu) * plan.cost + float(block.prices[columns].sum())
        if mu > 0:
            near = np.minimum(block.outside, block.costs[:, columns].min(axis=1))
            total += mu * float(block.masses @ near)
        return total

    def run(self) -> BlockSearch:
        """Move until nothing gains."""
        while self._move_to_medoids() or self._swap():
            pass
        return self

    def _solved(self, columns: NDArray[np.int64]) -> Plan:
        block = self.block
        return exact_plan(block.costs[:, columns], block.masses, block.wanted)

    def _may(self, column: int) -> NDArray[np.bool_]:
        """Which candidates may take the place of a column's, bool (q,)."""
        may = self.open.copy()
        rows = self.block.rows
        may[may] = self.rules.may_replace(int(rows[self.columns[column]]), rows[may])
        return may

    def _move_to_medoids(self) -> bool:
        served = self._served().T @ self.block.costs + self.block.prices
        moved, objective = False, self.objective
        for column in np.flatnonzero(self.block.movable):
            here = served[column, self.columns[column]] - SLACK
            if not (self.open & (served[column] < here)).any():
                continue
            there = np.where(self._may(int(column)), served[column], np.inf)
            best = int(there.argmin())
            if there[best] < here:
                self._commit(int(column), best)
                moved = True
        if moved:
            self.plan = self._solved(self.columns)
            self.solved += 1
            moved = self.objective < objective - SLACK
        return moved

    def _served(self) -> NDArray[np.float64]:
        """Return the mass with which each distance counts in the objective, (n, m)."""
        block, mu = self.block, self.block.nearest
        if mu == 0:
            return self.plan.masses
        costs = block.costs[:, self.columns]
        at = costs.argmin(axis=1)
        inside = costs[np.arange(len(at)), at] <= block.outside
        served: NDArray[np.float64] = (1.0 - mu) * self.plan.masses
        served[np.flatnonzero(inside), at[inside]] += mu * block.masses[inside]
        return served

    def _commit(self, column: int, candidate: int) -> None:
        rows = self.block.rows
        self.rules.replace(int(rows[self.columns[column]]), int(rows[candidate]))
        self.open[self.columns[column]], self.open[candidate] = True, False
        self.columns[column] = candidate

    def _swap(self) -> bool:
        bounds = self.bounds()
        order = np.argsort(bounds, axis=None, kind="stable")
        failed, gained = 0, False
        for flat in order:
            column, candidate = divmod(int(flat), bounds.shape[1])
            if bounds[column, candidate] > -SLACK or failed >= self.tries:
                break
            if not self._fits(column, candidate):
                continue
            columns = self.columns.copy()
            columns[column] = candidate
            plan = self._solved(columns)
            self.solved += 1
            if self._objective(plan, columns) < self.objective - SLACK:
                self._commit(column, candidate)
                self.plan, gained = plan, True
                bounds[column] = np.inf  # of the pick that is gone
            else:
                failed += 1
        return gained

    def _fits(self, column: int, candidate: int) -> bool:
        if not self.open[candidate]:
            return False
        pick, row = self.block.rows[[self.columns[column], candidate]]
        return bool(self.rules.may_replace(int(pick), np.array([row]))[0])

    def bounds(self) -> NDArray[np.float64]:
        """Return lower bounds of the objective's change for each swap, shape (m, q)."""
        block, v = self.block, self.plan.v
        out = np.full((len(self.columns), block.costs.shape[1]), np.inf)
        at = np.flatnonzero(self.open)
        if len(self.columns) == 1 or not len(at):
            return out  # the medoid of all is the best there is
        reduced = block.costs[:, self.columns] - v
        nearest, smallest, second = _two_smallest(reduced)
        base, mu = float(block.masses @ smallest), block.nearest
        near = _two_smallest(block.costs[:, self.columns]) if mu > 0 else None
        costs = np.ascontiguousarray(block.costs[:, at].T)
        for column in np.flatnonzero(block.movable):
            others = np.where(nearest == column, second, smallest)
            change = _bound_of(costs, others, block.masses, block.wanted[column])
            out[column, at] = change - base - block.wanted[column] * v[column]
            if near is not None:
                out[column, at] *= 1.0 - mu
                out[column, at] += mu * self._farther(int(column), costs, near)
            out[column, at] += block.prices[at] - block.prices[self.columns[column]]
        return out

    def _farther(
        self, column: int, costs: NDArray[np.float64], near: _TwoSmallest
    ) -> NDArray[np.float64]:
        """Return by how much nearest distances change as each candidate, costs (q, n), comes in."""
        block, (nearest, smallest, second) = self.block, near
        others = np.minimum(np.where(nearest == column, second, smallest), block.outside)
        before = float(block.masses @ np.minimum(smallest, block.outside))
        after: NDArray[np.float64] = np.minimum(costs, others) @ block.masses
        return after - before


def _two_smallest(reduced: NDArray[np.float64]) -> _TwoSmallest:
    """Return where the smallest of each row is, the smallest, and the second smallest."""
    at = reduced.argmin(axis=1)
    rows = np.arange(len(reduced))
    smallest = reduced[rows, at]
    rest = reduced.copy()
    rest[rows, at] = np.inf
    return at, smallest, rest.min(axis=1)


def _bound_of(
    costs: NDArray[np.float64],
    others: NDArray[np.float64],
    masses: NDArray[np.float64],
    wanted: float,
) -> NDArray[np.float64]:
    """Return max over v of ``sum_i w_i min(others_i, c_ir - v) + b v`` for each candidate (q,).

    ``costs`` is (q, n). Only the rows that fill ``wanted`` first take part, so only those of the
    smallest detours are sorted: as many as the lightest rows would be.
    """
    detour = (costs - others).astype(np.float32)
    enough = wanted * (1 - 1e-9)
    most = int(np.searchsorted(np.cumsum(np.sort(masses)), enough)) + 1
    at = np.argpartition(detour, most - 1, axis=1)[:, :most] if most < len(masses) else None
    if at is not None:
        detour = np.take_along_axis(detour, at, axis=1)
    order = np.argsort(detour, axis=1)
    detour = np.take_along_axis(detour, order, axis=1)
    held = masses[order if at is None else np.take_along_axis(at, order, axis=1)]
    full = np.minimum((np.cumsum(held, axis=1) < enough).sum(axis=1), held.shape[1] - 1)
    v = detour[np.arange(len(detour)), full]
    gain = (np.minimum(detour - v[:, None], 0.0) * held).sum(axis=1)
    bound: NDArray[np.float64] = masses @ others + gain + wanted * v
    return bound
