"""The plan of the whole cut into blocks of neighbouring picks, each improved exactly.

Symbols: n rows of the pool, s points of the support (labelled rows and picks), m of them in a
block.

The plan of the whole is a list of flows: row, point, mass. A block is a point with its m - 1
nearest ones and all flows into them. Blocks overlap, and after every walk through them the plan of
the whole is solved anew where that is affordable. So mass finds its way across blocks, and the
cost of the whole never rises.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_activeft.selection.swaps import Block, BlockSearch, Rules

MOST_ROWS = 400
"""Rows of a block that may serve as picks; of larger blocks those nearest to what is served."""
AROUND = 3
"""Points looked at for who is nearest to the rows of a block, as a multiple of its own."""
TABLE_NUMBERS = 1_000_000
"""Costs of one block at most, where that leaves enough rows to choose from."""


@dataclass
class Flows:
    """A feasible plan: ``mass[t]`` goes from row ``row[t]`` to point ``point[t]``.

    Attributes
    ----------
    row, point
        Int64, shape (t,).
    mass
        Float64, shape (t,), above 0.
    """

    row: NDArray[np.int64]
    point: NDArray[np.int64]
    mass: NDArray[np.float64]

    @classmethod
    def of(cls, plan: NDArray[np.float64], rows: NDArray[np.int64] | None = None) -> Flows:
        """Read the flows from a dense plan (n, s)."""
        row, point = np.nonzero(plan > 0)
        return cls(row if rows is None else rows[row], point, plan[row, point])

    def by_point(self, points: int) -> list[NDArray[np.int64]]:
        """Return which flows go into each point."""
        order = np.argsort(self.point, kind="stable")
        ends = np.searchsorted(self.point[order], np.arange(points + 1))
        return [order[ends[point] : ends[point + 1]] for point in range(points)]


def costs_of(
    vectors: NDArray[np.float32], rows: NDArray[np.int64], others: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the distances (n, q) between rows, exactly 0 from a row to itself."""
    distances = distances_between(vectors[rows], vectors[others])
    distances[rows[:, None] == others] = 0.0
    return distances


def distances_between(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the distances (n, q) between vectors (n, d) and (q, d)."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    # The vectors are float32: their squared lengths are 1 but for 1e-7.
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2.0 * (a @ b.T)
    distances: NDArray[np.float64] = np.sqrt(np.maximum(squared, 0.0))
    return distances


@dataclass
class Support:
    """Where the plan ends, and the plan.

    Attributes
    ----------
    rows
        Int64, shape (s,): labelled rows and picks.
    movable
        Bool, shape (s,): the picks.
    wanted
        Float64, shape (s,): mass of each, sum 1.
    flows
        The plan.
    """

    rows: NDArray[np.int64]
    movable: NDArray[np.bool_]
    wanted: NDArray[np.float64]
    flows: Flows

    @property
    def picks(self) -> NDArray[np.int64]:
        """The rows that are picks."""
        return self.rows[self.movable]


@dataclass
class Walk:
    """One walk over all blocks.

    Attributes
    ----------
    gain_of_transport
        By how much the cost of the plan fell, prices left out.
    blocks, solved
        Blocks that were searched, transport problems that were solved in them.
    changed
        Bool, shape (s,): points in blocks that gained.
    """

    gain_of_transport: float
    blocks: int
    solved: int
    changed: NDArray[np.bool_]

    @classmethod
    def none(cls, points: int) -> Walk:
        """Return a walk that has not begun."""
        return cls(0.0, 0, 0, np.zeros(points, dtype=bool))


class BlockWalk:
    """Improves a support block by block.

    Parameters
    ----------
    vectors
        Float32, shape (n, d), rows of length 1.
    free
        Bool, shape (n,): rows that may be picks; picks are not free.
    prices
        Float64, shape (n,): added to the objective for each pick.
    rules
        What the caps allow.
    size
        Points m of a block.
    tries
        Swaps tried in vain until a block counts as improved.
    nearest
        mu, as in `swaps.Block`.
    seeds
        Of the order of the blocks, and of what is drawn in large ones.
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        free: NDArray[np.bool_],
        prices: NDArray[np.float64],
        rules: Rules,
        *,
        size: int,
        tries: int,
        nearest: float,
        seeds: list[int],
    ) -> None:
        self.vectors, self.free, self.prices, self.rules = vectors, free, prices, rules
        self.size, self.tries, self.nearest = size, tries, nearest
        self.rng = np.random.default_rng(seeds)
        self._points = vectors[:0]
        self.last = Walk.none(0)

    def walk(self, support: Support, stale: NDArray[np.bool_]) -> Iterator[int]:
        """Improve the support in place, yield how many blocks are done; `last` says what came."""
        done = self.last = Walk.none(len(support.rows))
        into = support.flows.by_point(len(support.rows))
        flows = {point: _Inflow.of(support.flows, at) for point, at in enumerate(into)}
        waiting, self._points = stale.copy(), self.vectors[support.rows]
        for centre in self.rng.permutation(len(support.rows)):
            if not waiting[centre]:
                continue
            members, around = self._neighbours(support, int(centre))
            waiting[members] = False
            if support.movable[members].any():
                self._improve(support, flows, members, around, done)
                yield done.blocks
        support.flows = _joined(flows)

    def _neighbours(
        self, support: Support, centre: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the points of a block, and those around it that may be nearer to its rows."""
        near = self._points @ self._points[centre]
        near[centre] = np.inf
        size = min(self.size, len(near))
        if self.nearest == 0 or size == len(near):
            found = np.argpartition(-near, size - 1)[:size]
            return np.sort(found).astype(np.int64), np.zeros(0, dtype=np.int64)
        most = min(AROUND * size, len(near))
        found = np.argpartition(-near, (size - 1, most - 1))[:most]
        return np.sort(found[:size]).astype(np.int64), found[size:].astype(np.int64)

    def _improve(
        self,
        support: Support,
        flows: dict[int, _Inflow],
        members: NDArray[np.int64],
        around: NDArray[np.int64],
        done: Walk,
    ) -> None:
        rows, masses = _gathered([flows[int(point)] for point in members])
        block = self._block(support, members, around, (rows, masses))
        search = BlockSearch(block, self.rules, self.tries)
        before = search.objective
        transport = sum(
            float(flow.masses @ block.costs[np.searchsorted(rows, flow.rows), place])
            for place, flow in enumerate(flows[int(point)] for point in members)
        )
        search.run()
        after = block.rows[search.columns]
        self.free[support.rows[members[block.movable]]] = True
        support.rows[members], self._points[members] = after, self.vectors[after]
        self.free[after[block.movable]] = False
        for place, point in enumerate(members):
            at = search.plan.masses[:, place] > 0
            flows[int(point)] = _Inflow(rows[at], search.plan.masses[at, place])
        done.gain_of_transport += transport - search.plan.cost
        done.blocks, done.solved = done.blocks + 1, done.solved + search.solved
        if before - search.objective > 1e-9:
            done.changed[members] = True

    def _block(
        self,
        support: Support,
        members: NDArray[np.int64],
        around: NDArray[np.int64],
        served: tuple[NDArray[np.int64], NDArray[np.float64]],
    ) -> Block:
        rows, masses = served
        taken = support.rows[members]
        others = rows[self.free[rows]]
        room = max(48, TABLE_NUMBERS // (len(rows) * len(members)))
        others = self._some(others, min(MOST_ROWS, room))
        candidates = np.concatenate([taken, others])
        is_open = np.arange(len(candidates)) >= len(members)
        return Block(
            rows=candidates,
            costs=costs_of(self.vectors, rows, candidates),
            masses=masses,
            wanted=support.wanted[members],
            columns=np.arange(len(members)),
            movable=support.movable[members],
            open=is_open,
            prices=np.where(
                np.isin(candidates, taken[~support.movable[members]]), 0.0, self.prices[candidates]
            ),
            outside=self._outside(rows, support.rows[around]),
            nearest=self.nearest,
        )

    def _outside(self, rows: NDArray[np.int64], points: NDArray[np.int64]) -> NDArray[np.float64]:
        if not len(points):
            return np.full(len(rows), np.inf)
        nearest: NDArray[np.float64] = costs_of(self.vectors, rows, points).min(axis=1)
        return nearest

    def _some(self, others: NDArray[np.int64], most: int) -> NDArray[np.int64]:
        """Return the rows in the middle of the block and, as the other half, some drawn."""
        if len(others) <= most:
            return others
        middle = self.vectors[others] @ self.vectors[others].mean(axis=0)
        central = np.argpartition(-middle, most // 2)[: most // 2]
        rest = np.setdiff1d(np.arange(len(others)), central)
        drawn = self.rng.choice(rest, most - len(central), replace=False)
        some: NDArray[np.int64] = others[np.sort(np.concatenate([central, drawn]))]
        return some


@dataclass
class _Inflow:
    rows: NDArray[np.int64]
    masses: NDArray[np.float64]

    @classmethod
    def of(cls, flows: Flows, at: NDArray[np.int64]) -> _Inflow:
        return cls(flows.row[at], flows.mass[at])


def _gathered(flows: list[_Inflow]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the distinct rows of some inflows, ascending, and their masses."""
    rows, at = np.unique(np.concatenate([flow.rows for flow in flows]), return_inverse=True)
    masses = np.bincount(at, np.concatenate([flow.masses for flow in flows]))
    return rows, masses.astype(np.float64)


def _joined(flows: dict[int, _Inflow]) -> Flows:
    return Flows(
        np.concatenate([flow.rows for flow in flows.values()]),
        np.concatenate([np.full(len(flow.rows), point) for point, flow in flows.items()]),
        np.concatenate([flow.masses for flow in flows.values()]),
    )
