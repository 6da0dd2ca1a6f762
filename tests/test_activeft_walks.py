"""What `activeft` reports of its stages, and the objective after each of its walks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from activeftmaking import chosen, cost, patients, unit, w1
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from napari_activeft.selection import activeft as module
from napari_activeft.selection import centres, improving, plans
from napari_activeft.selection.account import Account
from napari_activeft.selection.candidates import Candidates, Caps
from napari_activeft.selection.room import Room

torch.set_num_threads(1)


def after_walks(vectors, budget, walks, **more):
    """Choose with so many walks, from one and the same start."""
    options = {"walks": walks, "starts": 1} | more.pop("options", {})
    return chosen(vectors, budget, options=options, **more)


def objective_of(vectors, rows, lam):
    return cost(vectors, rows) - lam * np.log(pdist(vectors[rows].astype(float)).mean())


@hypothesis_settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), lam=st.sampled_from([0.0, 0.2, 5.0]))
def test_the_objective_computed_from_the_rows_falls_walk_by_walk(seed, lam):
    vectors = unit(np.random.default_rng(seed).normal(size=(40, 4)))

    found = [after_walks(vectors, 9, walks, seed=seed, options={"lam": lam}) for walks in range(4)]

    objectives = [objective_of(vectors, one.rows, lam) for one in found]
    assert all(after <= before + 1e-6 for before, after in pairwise(objectives))
    for one, objective in zip(found, objectives, strict=True):
        assert one.report["objective"] == pytest.approx(objective, abs=1e-5)


def test_plans_from_lists_cost_no_less_than_exact_ones_and_fall(rng, monkeypatch):
    vectors = unit(rng.normal(size=(40, 4)))
    monkeypatch.setattr(plans, "EXACT_PAIRS", 0)

    found = [after_walks(vectors, 9, walks) for walks in (0, 1, 12)]

    reported = [one.report["objective"] for one in found]
    assert reported == sorted(reported, reverse=True)
    assert reported[-1] < reported[0]
    assert all(one.report["objective"] >= cost(vectors, one.rows) - 1e-6 for one in found)


def test_a_walk_that_raises_the_objective_is_undone_with_all_it_left(rng, monkeypatch):
    vectors, cases = patients(rng, cases=6, slices=6)
    accounts, raised = [], []
    real = improving.Problem.beside

    def dearer(problem, support):
        raised.append(support.picks)
        return real(problem, support) + (1e3 if len(raised) == 2 else 0.0)  # after one walk

    def keeping(problem, support, rules, *rest, **more):
        accounts.append(rules)
        return improve(problem, support, rules, *rest, **more)

    improve = improving.improve
    monkeypatch.setattr(improving.Problem, "beside", dearer)
    monkeypatch.setattr(module, "improve", keeping)
    caps = Caps(per_case=3)
    found = after_walks(vectors, 9, 12, groups=cases, caps=caps, labelled=[0])

    assert len(raised) == 2
    assert set(raised[1]) != set(raised[0]) == set(found.rows)
    assert not found.report["search_finished"]
    assert not found.report["converged"]
    assert found.report["plan"]["marginal_error"] < 1e-9
    expected = np.bincount(cases[[0, *found.rows]], minlength=6)
    assert list(accounts[0].in_case) == list(expected)
    rest = np.setdiff1d(np.arange(1, 36), found.rows)
    for pick in found.rows:  # the caps count the picks that were there before the walk
        left = 3 - expected + (np.arange(6) == cases[pick])
        accounts[0].room.release(int(pick))
        assert list(accounts[0].room.mask(rest)) == list(left[cases[rest]] > 0)
        accounts[0].room.take(int(pick))


def test_picks_are_restored_where_the_gap_leaves_nothing_to_spare(rng):
    vectors, cases = patients(rng, cases=2, slices=7)
    n = len(vectors)
    candidates = Candidates(
        [f"{row:02d}" for row in range(n)],
        cases,
        cases,
        np.tile(np.arange(7), 2),
        list(range(n)),
        frozenset(),
        np.full(n, 1 / n),
        caps=Caps(gap=3),
    )
    before, now = np.array([0, 3, 6, 7, 10]), np.array([0, 3, 6, 8, 11])
    room = Room(candidates, 5)
    room.take_first(before)
    account = Account(candidates, room, before, 0)
    for pick, row in ((10, 11), (7, 8)):
        account.replace(pick, row)

    account.restore(now, before)

    assert list(account.in_case) == [3, 2]
    room.release(7)
    free = np.setdiff1d(np.arange(n), before)
    assert list(free[room.mask(free)]) == [13]


def test_a_large_lam_spreads_the_picks_and_stays_feasible(rng):
    vectors, cases = patients(rng)

    found = chosen(vectors, 12, cases, {"lam": 50.0})
    plain = chosen(vectors, 12, cases)

    assert objective_of(vectors, found.rows, 1.0) - cost(vectors, found.rows) < (
        objective_of(vectors, plain.rows, 1.0) - cost(vectors, plain.rows)
    )
    assert found.report["plan"]["marginal_error"] < 1e-9
    assert found.report["objective"] == pytest.approx(
        objective_of(vectors, found.rows, 50.0), abs=1e-3
    )


def test_it_counts_as_converged_only_if_each_of_its_stages_did(rng, monkeypatch):
    vectors, cases = patients(rng)

    stopped = after_walks(vectors, 30, 0, groups=cases).report
    monkeypatch.setattr(centres, "TOLERANCE", 1e-12)
    rough = chosen(vectors, 30, cases).report

    assert stopped["entropic"]["converged"]
    assert not stopped["search_finished"]
    assert not stopped["converged"]
    assert not rough["entropic"]["converged"]
    assert rough["search_finished"]
    assert not rough["converged"]


def test_rho_shapes_the_centres_and_picks_stand_for_equal_shares(rng):
    vectors = unit(np.concatenate([rng.normal(size=(90, 6)) * 0.05 + 1, rng.normal(size=(30, 6))]))

    found = [
        chosen(vectors, 12, options={"rho": rho, "nearest": 0.0}) for rho in (0.01, float("inf"))
    ]

    costs = [one.report["objective_of_centres"] for one in found]
    assert costs[0] > 1.05 * costs[1]  # equal shares are not what these centres stand for
    for one in found:
        assert one.report["objective"] == pytest.approx(w1(vectors, one.rows), abs=1e-6)
