"""Entropic transport against the plain solvers of POT, plans from lists, and assignments."""

from __future__ import annotations

import math

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from napari_activeft.selection import plans, transport
from napari_activeft.selection.assignment import assign
from napari_activeft.selection.blocks import distances_between
from napari_activeft.selection.candidates import Candidates, Caps
from napari_activeft.selection.centres import diversity, diversity_gradient
from napari_activeft.selection.room import Room
from napari_activeft.selection.transport import Pool, objective_gradient, solve, sweep


def unit(rng, n, d=6):
    vectors = rng.normal(size=(n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def problem(rng):
    """60 rows of unequal mass, 9 points, squared chords between them."""
    vectors, points = unit(rng, 60), unit(rng, 9)
    masses = rng.uniform(0.5, 1.5, size=60)
    return Pool(vectors, masses / masses.sum()), vectors, masses / masses.sum(), points


def chords(vectors, points):
    return np.maximum(2.0 - 2.0 * vectors.astype(float) @ points.T.astype(float), 0.0)


def uniform(k):
    return torch.full((k,), 1.0 / k)


def test_the_cost_is_that_of_pots_sinkhorn_log(problem):
    pool, vectors, masses, points = problem

    found = solve(pool, torch.from_numpy(points), uniform(9), 0.05, tolerance=1e-5, steps=1000)

    costs = chords(vectors, points)
    plan = ot.sinkhorn(
        masses, np.full(9, 1 / 9), costs, 0.05, method="sinkhorn_log", numItermax=5000
    )
    assert found.converged
    assert found.cost == pytest.approx(float((plan * costs).sum()), rel=1e-4)


def test_the_cost_nears_the_exact_one_as_epsilon_falls(problem):
    pool, vectors, masses, points = problem
    exact = ot.emd2(masses, np.full(9, 1 / 9), chords(vectors, points))

    gaps, potentials = [], None
    for eps in (0.3, 0.1, 0.03, 0.01):
        found = solve(
            pool,
            torch.from_numpy(points),
            uniform(9),
            eps,
            potentials=potentials,
            steps=1000,
            tolerance=1e-3,
        )
        potentials = found.potentials
        gaps.append(found.cost - exact)

    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 0.01 * exact


def test_a_relaxed_marginal_is_that_of_pots_unbalanced_solver(problem):
    pool, vectors, masses, points = problem
    eps, rho = 0.1, 0.3

    found = solve(pool, torch.from_numpy(points), uniform(9), eps, rho=rho, steps=300, tolerance=0)

    plan = ot.unbalanced.sinkhorn_unbalanced(
        masses,
        np.full(9, 1 / 9),
        chords(vectors, points),
        eps,
        (math.inf, rho),
        numItermax=5000,
        stopThr=1e-12,
    )
    np.testing.assert_allclose(found.masses.numpy(), plan.sum(axis=0), rtol=2e-3)


def test_the_relaxed_cost_does_not_rise_as_rho_falls(problem):
    pool, _, _, points = problem

    costs = [
        solve(pool, torch.from_numpy(points), uniform(9), 0.02, rho=rho, steps=1000).cost
        for rho in (math.inf, 1.0, 0.3, 0.1, 0.03)
    ]

    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 0.98 * costs[0]


def test_the_marginal_error_is_what_columns_miss_and_a_short_solve_says_so(problem):
    pool, vectors, masses, points = problem

    found = solve(pool, torch.from_numpy(points), uniform(9), 0.01, steps=2, tolerance=1e-6)

    assert not found.converged
    assert found.steps == 2
    log_plan = np.log(1 / 9) + (found.potentials.numpy() - chords(vectors, points)) / 0.01
    plan = np.exp(log_plan - np.logaddexp.reduce(log_plan, axis=1, keepdims=True))
    missed = np.abs((masses[:, None] * plan).sum(axis=0) - found.masses.numpy()).sum()
    assert missed < 1e-4
    assert found.marginal_error == pytest.approx(np.abs(found.masses.numpy() - 1 / 9).sum())


def test_chunks_change_nothing(problem, monkeypatch):
    pool, vectors, masses, points = problem
    ask = (torch.from_numpy(points), uniform(9), torch.zeros(9), 0.1)
    whole = sweep(pool, *ask, barycentres=True)
    monkeypatch.setattr(transport, "CHUNK_NUMBERS", 1)
    big = np.tile(vectors, (4, 1))
    small = Pool(big, np.tile(masses, 4) / 4)

    parts = sweep(small, *ask, barycentres=True)

    assert small.chunks == 4
    torch.testing.assert_close(parts.masses, whole.masses)
    torch.testing.assert_close(parts.barycentres, whole.barycentres)
    assert parts.cost == pytest.approx(whole.cost, rel=1e-5)


def test_the_envelope_gradient_is_that_of_finite_differences(problem):
    pool, vectors, masses, points = problem
    eps, support = 0.2, torch.from_numpy(points)

    def entropic(moved):
        _, log = ot.sinkhorn(
            masses,
            np.full(9, 1 / 9),
            ((vectors[:, None].astype(float) - moved[None]) ** 2).sum(axis=2),
            eps,
            method="sinkhorn_log",
            numItermax=1000,
            stopThr=1e-10,
            log=True,
        )
        return masses @ log["log_u"] * eps + log["log_v"].mean() * eps

    solved = solve(pool, support, uniform(9), eps, steps=300, tolerance=1e-5)
    gradient = objective_gradient(solved, pool, support, uniform(9), eps).numpy()

    for at in ((0, 0), (3, 2), (8, 5)):
        step = np.zeros(points.shape)
        step[at] = 1e-4
        slope = (entropic(points + step) - entropic(points - step)) / 2e-4
        assert gradient[at] == pytest.approx(slope, rel=0.02, abs=2e-4)


def test_the_diversity_gradient_is_that_of_autograd(rng):
    points = torch.from_numpy(unit(rng, 7)).double().requires_grad_()
    distances = torch.pdist(points)
    (-distances.mean().log()).backward()

    found = diversity_gradient(points.detach())

    torch.testing.assert_close(found, points.grad)
    assert diversity(points.detach().float().numpy()) == pytest.approx(
        -math.log(float(distances.detach().mean())), rel=1e-3
    )


def test_an_exact_plan_costs_what_pot_says(rng):
    vectors = unit(rng, 80)
    rows = rng.choice(80, 7, replace=False)
    masses, wanted = np.full(80, 1 / 80), np.full(7, 1 / 7)

    plan = plans.whole_plan(vectors, masses, vectors[rows], wanted, rows=rows)

    assert plan.exact
    assert plan.cost == pytest.approx(
        ot.emd2(masses, wanted, distances_between(vectors, vectors[rows])), abs=1e-4
    )


@pytest.mark.parametrize("listed", [2, 48])
def test_a_plan_from_lists_holds_both_marginals_and_costs_little_more(rng, monkeypatch, listed):
    vectors = unit(rng, 300, d=4)
    masses = rng.uniform(0.5, 1.5, size=300)
    masses /= masses.sum()
    rows, wanted = rng.choice(300, 40, replace=False), np.full(40, 1 / 40)
    ask = (vectors, masses, vectors[rows], wanted)
    exact = plans.whole_plan(*ask, rows=rows)
    monkeypatch.setattr(plans, "EXACT_PAIRS", 0)
    monkeypatch.setattr(plans, "MOST_LISTED", listed)

    found = plans.whole_plan(*ask, rows=rows)

    assert not found.exact
    flows = found.flows
    np.testing.assert_allclose(np.bincount(flows.row, flows.mass), masses, atol=1e-9)
    np.testing.assert_allclose(np.bincount(flows.point, flows.mass), wanted, atol=1e-7)
    assert exact.cost - 1e-4 <= found.cost < (1.06 if listed == 48 else 1.5) * exact.cost


def candidates_of(vectors, caps=Caps(), **more):  # noqa: B008 - frozen
    n = len(vectors)
    columns = {
        "keys": [f"{row:04d}" for row in range(n)],
        "groups": np.arange(n) // 5,
        "cases": np.arange(n) // 10,
        "positions": np.arange(n) % 5,
        "free": list(range(n)),
        "labelled": frozenset(),
        "weights": np.full(n, 1 / n),
    } | more
    return Candidates(vectors=vectors, caps=caps, **columns)


def test_without_caps_the_assignment_is_the_cheapest_there_is(rng):
    vectors, centres = unit(rng, 40), unit(rng, 12)
    candidates = candidates_of(vectors)

    rows = assign(centres, vectors, candidates.free_rows, Room(candidates, 12))

    costs = chords(centres, vectors)
    best = costs[linear_sum_assignment(costs)].sum()
    assert len(set(rows)) == 12
    assert costs[np.arange(12), rows].sum() == pytest.approx(best, abs=1e-5)


def test_from_lists_each_centre_gets_a_row_of_its_own(rng, monkeypatch):
    monkeypatch.setattr("napari_activeft.selection.assignment.EXACT_NUMBERS", 0)
    vectors = unit(rng, 50)
    centres = np.repeat(unit(rng, 1), 30, axis=0)  # lists of 12: most centres find theirs taken
    candidates = candidates_of(vectors)

    rows = assign(centres, vectors, candidates.free_rows, Room(candidates, 30))

    nearest = np.argsort(-vectors @ centres[0])[:30]
    assert set(rows) == set(nearest)


def test_an_assignment_keeps_the_caps(rng):
    vectors = unit(rng, 40)
    candidates = candidates_of(vectors, Caps(per_case=3, per_volume=2, gap=2))

    rows = assign(
        np.repeat(vectors[:1], 12, axis=0), vectors, candidates.free_rows, Room(candidates, 12)
    )

    assert np.bincount(candidates.cases[rows]).max() <= 3
    assert np.bincount(candidates.groups[rows]).max() <= 2
    for group in set(candidates.groups[rows]):
        places = np.sort(candidates.positions[rows[candidates.groups[rows] == group]])
        assert (np.diff(places) >= 2).all()
