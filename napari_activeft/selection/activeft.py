"""`activeft`: the slices whose equal shares of mass lie nearest to the whole pool.

Symbols: n rows of the pool, d numbers a vector, b labelled rows, k picks, a masses of the rows.

The aim is the earth mover's distance between the pool and labelled rows and picks together, each
of these standing for 1 / (b + k) of the mass, at distances on the unit sphere; mixed, as the
setting `nearest` says, with the mean distance to the nearest one, which spares the slices that
equal shares would leave far from any pick. The walk:

1. Free centres under entropic balanced transport, eps annealed, labelled rows at rest.
2. To each centre a slice of its own, under the caps; as many cases as a stratified draw reaches.
3. The slices themselves are improved: blocks of neighbouring picks, solved exactly. What snapping
   to slices lost comes back here, and more; so the centres need not be exact.
4. Small pools begin anew a few times; the best picks stay.
5. Ranked, so that every prefix is a good selection.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.devices import pick_device
from napari_activeft.selection.account import Account
from napari_activeft.selection.assignment import assign
from napari_activeft.selection.candidates import Candidates, Choice
from napari_activeft.selection.centres import TOLERANCE, Annealing, find_centres
from napari_activeft.selection.coarse import coarse_pool
from napari_activeft.selection.improving import (
    MARGINAL_TOLERANCE,
    Problem,
    improve,
    nearest_distances,
)
from napari_activeft.selection.plans import whole_plan
from napari_activeft.selection.ranking import rank
from napari_activeft.selection.reaching import cases_of_a_draw, reach_cases
from napari_activeft.selection.room import Room
from napari_activeft.selection.transport import Pool
from napari_activeft.settings import ActiveFTSettings

SMALL_PAIRS = 150_000
"""Pool times support, up to which there is time to begin more than once."""


def activeft(candidates: Candidates, budget: int, seed: int) -> Choice:
    """Choose the picks that, with the labelled rows, are nearest to the pool in transport cost."""
    import torch

    device = str(pick_device(candidates.device))
    try:
        return _choose(candidates, budget, seed, device)
    except torch.cuda.OutOfMemoryError:
        # A new one: the old one keeps its vectors on the device that has no room for them.
        choice = _choose(replace(candidates, device="cpu"), budget, seed, "cpu")
        choice.report["device_note"] = f"{device} ran out of memory even in chunks: ran on the CPU"
        return choice


def _choose(candidates: Candidates, budget: int, seed: int, device: str) -> Choice:
    options, started = candidates.options, time.perf_counter()
    settings = options if isinstance(options, ActiveFTSettings) else ActiveFTSettings()
    small = len(candidates) * (len(candidates.labelled) + budget) <= SMALL_PAIRS
    starts = settings.starts if small and 1 < budget < len(candidates.free) else 1
    best = min(
        (
            _Start(candidates, settings, budget, device, [seed, start], (start, starts)).run()
            for start in range(starts)
        ),
        key=lambda start: start.objective,
    )
    order, gains = rank(candidates.features, best.masses, best.picks, candidates.support)
    seconds = round(time.perf_counter() - started, 3)
    candidates.on_progress(best.steps, best.steps)
    report = best.report | {"starts": starts, "device": device, "seconds": seconds}
    return Choice([int(row) for row in order], [float(gain) for gain in gains], report)


class _Start:
    """One walk from free centres to improved picks."""

    def __init__(
        self,
        candidates: Candidates,
        settings: ActiveFTSettings,
        budget: int,
        device: str,
        seeds: list[int],
        turn: tuple[int, int],
    ) -> None:
        self.candidates, self.settings, self.budget = candidates, settings, budget
        self.device, self.seeds, self.turn = device, seeds, turn
        self.vectors, self.labelled = candidates.features, candidates.support
        self.masses = pool_masses(candidates, settings)
        self.room = Room(candidates, budget)
        self.annealing = Annealing(start=max(0.3, settings.epsilon), end=settings.epsilon)
        sweeps = len(self.annealing.values()) * self.annealing.sweeps
        self._steps, self._done = sweeps + settings.walks + 1, 0
        self.picks = np.zeros(0, dtype=np.int64)
        self.report: dict[str, Any] = {}

    @property
    def steps(self) -> int:
        """Steps of all starts."""
        return self.turn[1] * self._steps

    @property
    def objective(self) -> float:
        """Of the picks; 0 where there was no choice."""
        return float(self.report.get("objective", 0.0))

    def run(self) -> _Start:
        """Walk, and keep the picks."""
        if self.budget == len(self.candidates.free):
            self.picks = np.asarray(self.room.take_first(self.candidates.free), dtype=np.int64)
            whole = {"kind": "all free slices", "marginal_error": 0.0}
            self.report = {"converged": True, "search_finished": True, "plan": whole}
        else:
            self.picks = self._improved(self._snapped(self._centres()))
        return self

    def _beat(self) -> None:
        start, starts = self.turn
        self.candidates.on_progress(start * self._steps + self._done, starts * self._steps)

    def _step(self) -> None:
        self._done = min(self._done + 1, self._steps - 1)
        self._beat()

    def _centres(self) -> NDArray[np.float32]:
        import torch

        settings = self.settings
        rng = np.random.default_rng(self.seeds)
        coarse = coarse_pool(self.vectors, self.masses, self.budget + len(self.labelled), rng)
        start = np.sort(rng.choice(self.candidates.free_rows, self.budget, replace=False))
        pool = Pool(coarse.vectors, coarse.masses, self.device)
        at = torch.device(self.device)
        points = len(self.labelled) + self.budget
        found = find_centres(
            pool,
            torch.from_numpy(coarse.project(self.vectors[self.labelled])).to(at),
            torch.from_numpy(coarse.project(self.vectors[start])).to(at),
            torch.full((points,), 1.0 / points, device=at),
            self.annealing,
            rho=settings.rho,
            lam=settings.lam,
            on_step=self._step,
        )
        self.report["entropic"] = {
            "converged": found.solved.converged,
            "marginal_error": found.solved.marginal_error,
            "tolerance": TOLERANCE,
            "epsilon": found.eps,
            "steps": found.steps,
            "chunks": pool.chunks,
            "rows": len(pool),
            "numbers": int(coarse.vectors.shape[1]),
        }
        if pool.halvings:
            self.report["device_note"] = (
                f"{self.device} ran short of memory: chunks were halved {pool.halvings} times"
            )
        self._coarse = coarse
        return found.points.cpu().numpy()

    def _snapped(self, centres: NDArray[np.float32]) -> NDArray[np.int64]:
        whole = self._coarse.whole
        vectors = self.vectors if whole is None else whole
        if whole is None:
            points = np.concatenate([self.vectors[self.labelled], centres])
            self.report["objective_of_centres"] = self._cost(points)
        picks = assign(centres, vectors, self.candidates.free_rows, self.room)
        del self._coarse
        least = cases_of_a_draw(self.candidates, self.budget) if self.settings.cover_cases else 0
        self.account = Account(self.candidates, self.room, picks, 0)
        picks = reach_cases(self.candidates, self.vectors, self.account, picks, least)
        self.account.least_cases = min(least, self.account.reached)
        return picks

    def _cost(self, points: NDArray[np.float32]) -> float:
        wanted = np.full(len(points), 1.0 / len(points))
        plan = whole_plan(self.vectors, self.masses, points, wanted, device=self.device)
        mu, pool = self.settings.nearest, self.candidates.tensor
        near = nearest_distances(pool, pool.new_tensor(points))
        return (1.0 - mu) * plan.cost + mu * float(self.masses @ near)

    def _improved(self, picks: NDArray[np.int64]) -> NDArray[np.int64]:
        support = np.concatenate([self.labelled, picks])
        problem = Problem(
            self.candidates,
            self.settings,
            self.masses,
            np.full(len(support), 1.0 / len(support)),
            self.device,
        )
        improved = improve(
            problem, support, self.account, self.seeds, on_block=self._beat, on_walk=self._step
        )
        self.report |= improved.report()
        self.report["converged"] = (
            bool(self.report["entropic"]["converged"])
            and improved.marginal_error <= MARGINAL_TOLERANCE
            and improved.finished
        )
        self.report["cases_reached"] = self.account.reached
        return improved.picks


def pool_masses(candidates: Candidates, settings: ActiveFTSettings) -> NDArray[np.float64]:
    """Return the mass of each row (n,): its weight, levelled by volume, mixed with the scores."""
    masses = candidates.weights.copy()
    if settings.reweight > 0:
        volumes = np.bincount(candidates.groups, masses)
        masses *= np.maximum(volumes[candidates.groups], 1e-300) ** -settings.reweight
        masses /= masses.sum()
    scores = candidates.scores
    if settings.uncertainty > 0 and scores is not None and float(masses @ scores) > 0:
        uncertain = masses * scores / float(masses @ scores)
        masses = (1 - settings.uncertainty) * masses + settings.uncertainty * uncertain
    return masses
