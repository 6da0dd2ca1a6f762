"""A feasible plan from the whole pool to a support: exact where affordable, from lists above.

Symbols: n rows with masses a, s points with masses b, m points in a row's list, g potentials of
the points, eps the entropy's weight.

Above `EXACT_PAIRS` each row keeps the list of its nearest points. Sinkhorn over these lists alone
prices the points (g), and then mass is handed out: in every round each row asks the point of its
list that is cheapest at these prices and has room; a point serves first the rows whose second
choice is worst. Where all of a row's list is full, the points that still have room make a new
list. So both marginals hold, memory is n x m, and the cost is an upper bound of the exact one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_activeft.selection.blocks import Flows, distances_between
from napari_activeft.selection.swaps import exact_plan

EXACT_PAIRS = 4_000_000
"""Largest n x s that is solved exactly."""
MOST_LISTED = 48
"""Points in a row's list at most."""
_LISTS_NUMBERS = 32_000_000
_STEPS = 40


@dataclass(frozen=True)
class WholePlan:
    """A plan of the whole pool.

    Attributes
    ----------
    flows
        Which row goes where; both marginals hold.
    cost
        Mean distance.
    exact
        Whether it is the least there is.
    """

    flows: Flows
    cost: float
    exact: bool


def whole_plan(
    vectors: NDArray[np.float32],
    masses: NDArray[np.float64],
    points: NDArray[np.float32],
    wanted: NDArray[np.float64],
    *,
    rows: NDArray[np.int64] | None = None,
    device: str = "cpu",
) -> WholePlan:
    """Transport the pool to points.

    Parameters
    ----------
    vectors
        Shape (n, d), rows of length 1.
    masses
        Shape (n,), sum 1; rows without mass send nothing.
    points
        Shape (s, d).
    wanted
        Shape (s,), above 0, sum 1.
    rows
        Int64, shape (s,): which rows of the pool the points are, if they are.
    """
    there = np.flatnonzero(masses > 0)
    if len(there) * len(points) > EXACT_PAIRS:
        return _listed_plan(vectors, masses, points, wanted, device)
    costs = distances_between(vectors[there], points)
    if rows is not None:
        costs[there[:, None] == rows] = 0.0
    plan = exact_plan(costs, masses[there], wanted)
    return WholePlan(Flows.of(plan.masses, there), plan.cost, True)


def _listed_plan(
    vectors: NDArray[np.float32],
    masses: NDArray[np.float64],
    points: NDArray[np.float32],
    wanted: NDArray[np.float64],
    device: str,
) -> WholePlan:
    lists, costs = _lists(vectors, points, device)
    prices = list_potentials(lists, costs, masses, wanted)
    handing = _Handing(masses, wanted)
    handing.hand_out(np.arange(len(vectors)), lists, costs, prices)
    while (left := handing.rows_left()).size:
        room = handing.points_left()
        more, costs = _lists(vectors[left], points[room], device)
        handing.hand_out(left, room[more], costs, prices)
    flows = handing.flows()
    cost = 0.0
    for start in range(0, len(flows.row), 65536):
        part = slice(start, start + 65536)
        apart = vectors[flows.row[part]] - points[flows.point[part]]
        cost += float(flows.mass[part] @ np.sqrt((apart.astype(np.float64) ** 2).sum(axis=1)))
    return WholePlan(flows, cost, False)


def _lists(
    vectors: NDArray[np.float32], points: NDArray[np.float32], device: str
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    import torch

    from napari_activeft.selection.neighbours import nearest_lists

    count = min(len(points), MOST_LISTED, max(8, _LISTS_NUMBERS // len(vectors)))
    at = torch.device(device)
    step = max(1024, 2**26 // vectors.shape[1])  # a quarter of a gigabyte
    there = torch.from_numpy(points).to(at)
    found = np.empty((len(vectors), count), dtype=np.int64)
    squared = np.empty((len(vectors), count), dtype=np.float32)
    for start in range(0, len(vectors), step):
        part = slice(start, start + step)
        here = torch.from_numpy(np.ascontiguousarray(vectors[part])).to(at)
        listed, apart = nearest_lists(here, there, count)
        found[part], squared[part] = listed.cpu().numpy(), apart.cpu().numpy()
    return found, np.sqrt(squared)


def list_potentials(
    lists: NDArray[np.int64],
    costs: NDArray[np.float32],
    masses: NDArray[np.float64],
    wanted: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Return potentials g (s,) by annealed Sinkhorn steps over lists (n, m)."""
    import torch

    at, cost = torch.from_numpy(lists), torch.from_numpy(costs)
    b = torch.from_numpy(wanted.astype(np.float32))
    a = torch.from_numpy(masses.astype(np.float32))
    g = torch.zeros_like(b)
    scale = max(float(cost[:, : max(2, cost.shape[1] // 4)].mean()), 1e-4)
    for step in range(_STEPS):
        eps = scale * max(0.01, 0.2 * 0.9**step)
        plan = torch.softmax((g[at] - cost) / eps, dim=1).mul_(a[:, None])
        received = torch.zeros_like(b).index_add_(0, at.ravel(), plan.ravel())
        # A point on no list receives nothing: its price falls by a bounded step.
        g = g + eps * (b / received.clamp_min(1e-6 * float(b.min()))).log().clamp(-8.0, 8.0)
    prices: NDArray[np.float32] = g.numpy()
    return prices


class _Handing:
    """Mass that is left at the rows, room that is left at the points, and what was handed out."""

    def __init__(self, masses: NDArray[np.float64], wanted: NDArray[np.float64]) -> None:
        self.left, self.room = masses.copy(), wanted * (masses.sum() / wanted.sum())
        self.dust = 1e-9 * float(min(wanted.min(), masses[masses > 0].min()))
        self._rows: list[NDArray[np.int64]] = []
        self._points: list[NDArray[np.int64]] = []
        self._masses: list[NDArray[np.float64]] = []

    def rows_left(self) -> NDArray[np.int64]:
        """Rows that still have mass, none once no point has room but for rounding."""
        if not (self.room > self.dust).any():
            return np.zeros(0, dtype=np.int64)
        return np.flatnonzero(self.left > self.dust)

    def points_left(self) -> NDArray[np.int64]:
        """Points that still have room."""
        return np.flatnonzero(self.room > self.dust)

    def hand_out(
        self,
        rows: NDArray[np.int64],
        lists: NDArray[np.int64],
        costs: NDArray[np.float32],
        prices: NDArray[np.float32],
    ) -> None:
        """Serve rows from their lists until each is served or its list is full."""
        reduced = costs - prices[lists]
        waiting = np.flatnonzero(self.left[rows] > self.dust)
        while len(waiting):
            here = np.where(self.room[lists[waiting]] > self.dust, reduced[waiting], np.inf)
            best = here.argmin(axis=1)
            choice = np.arange(len(waiting))
            first = here[choice, best]
            here[choice, best] = np.inf
            can = np.isfinite(first)
            regret = np.where(can, np.minimum(here.min(axis=1), 1e6) - first, 0.0)
            waiting, points = waiting[can], lists[waiting, best][can]
            self._serve(rows[waiting], points, regret[can])
            waiting = waiting[self.left[rows[waiting]] > self.dust]

    def _serve(
        self, rows: NDArray[np.int64], points: NDArray[np.int64], regret: NDArray[np.float64]
    ) -> None:
        order = np.lexsort((rows, -regret, points))
        rows, points = rows[order], points[order]
        asked = self.left[rows]
        through = np.cumsum(asked)
        first = np.searchsorted(points, points, side="left")
        before = through - asked - (through[first] - asked[first])
        given = np.clip(self.room[points] - before, 0.0, asked)
        served = given > 0
        rows, points, given = rows[served], points[served], given[served]
        self.left[rows] -= given
        np.subtract.at(self.room, points, given)
        self._rows.append(rows)
        self._points.append(points)
        self._masses.append(given)

    def flows(self) -> Flows:
        """Return what was handed out."""
        return Flows(
            np.concatenate(self._rows), np.concatenate(self._points), np.concatenate(self._masses)
        )
