"""The selector `activeft`: near to the pool, under the caps, beside what is labelled."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch
from activeftmaking import chosen, cost, keys, nearest_mean, patients, unit, w1

from napari_activeft.errors import Cancelled
from napari_activeft.selection import activeft as module
from napari_activeft.selection import coarse, plans, select, transport
from napari_activeft.selection.blocks import costs_of
from napari_activeft.selection.candidates import Candidates, Caps
from napari_activeft.selection.ranking import rank
from napari_activeft.selection.reaching import cases_of_a_draw
from napari_activeft.selection.swaps import Block, BlockSearch

torch.set_num_threads(1)


def test_its_picks_are_nearer_to_the_pool_than_those_of_any_rival(rng):
    vectors, cases = patients(rng)

    for budget in (5, 17, 34):
        ours = w1(vectors, chosen(vectors, budget, cases).rows)
        for rival in ("kmeans", "maxherding", "energy", "stratified_random"):
            rows = select(
                vectors, budget, keys=keys(len(vectors)), groups=cases, selector=rival
            ).rows
            assert ours < w1(vectors, rows), (budget, rival)


def test_a_share_of_nearest_distances_brings_the_pool_nearer_to_its_nearest_picks(rng):
    vectors, cases = patients(rng)

    for budget in (17, 34):
        shares, mixed, medoids = (
            nearest_mean(vectors, chosen(vectors, budget, cases, {"nearest": nearest}).rows)
            for nearest in (0.0, 0.5, 1.0)
        )
        assert medoids < mixed < shares


@pytest.mark.parametrize(("n", "k", "neighbours", "slack"), [(24, 4, 12, 0.0), (48, 12, 4, 0.01)])
def test_no_single_exchange_makes_its_picks_much_nearer(rng, n, k, neighbours, slack):
    vectors = unit(rng.normal(size=(n, 5)))
    options = {"cover_cases": False, "tries": 1000, "neighbours": neighbours, "nearest": 0.0}
    rows = list(chosen(vectors, k, options=options).rows)

    best = min(
        w1(vectors, np.array([*rows[:at], other, *rows[at + 1 :]]))
        for at in range(k)
        for other in set(range(n)) - set(rows)
    )

    # Picks in blocks of 4 of 12: an exchange across blocks may be left, but next to no gain.
    assert w1(vectors, np.array(rows)) <= best * (1 + slack) + 1e-9


@pytest.mark.parametrize("nearest", [0.0, 0.5, 0.8])
def test_the_objective_reported_is_the_distance_from_pool_to_picks(rng, nearest):
    vectors, cases = patients(rng)

    found = chosen(vectors, 15, cases, {"nearest": nearest})

    report = found.report
    assert report["objective"] == pytest.approx(cost(vectors, found.rows, nearest), abs=1e-6)
    assert report["objective"] < report["objective_of_snapped"]
    assert report["plan"]["kind"] == "exact"
    assert report["plan"]["marginal_error"] < 1e-9
    entropic = report["entropic"]
    assert set(entropic) >= {"converged", "marginal_error", "epsilon", "steps", "chunks"}
    assert entropic["converged"]
    assert entropic["marginal_error"] <= entropic["tolerance"]
    assert report["search_finished"]
    assert report["converged"]


class Anything:
    """Caps that allow everything."""

    def may_replace(self, pick, rows):
        return np.ones(len(rows), dtype=bool)

    def replace(self, pick, row):
        pass


def block_of(rng, n=20, m=4, nearest=0.0):
    vectors = unit(rng.normal(size=(n, 4)))
    rows = np.arange(n)
    return Block(
        rows=rows,
        costs=costs_of(vectors, rows, rows),
        masses=np.full(n, 1 / n),
        wanted=np.full(m, 1 / m),
        columns=rng.choice(n, m, replace=False),
        movable=np.arange(m) > 0,
        open=np.ones(n, dtype=bool),
        prices=np.zeros(n),
        outside=np.full(n, np.inf),
        nearest=nearest,
    )


@pytest.mark.parametrize("nearest", [0.0, 0.4, 1.0])
def test_bounds_lie_below_what_exchanges_cost(rng, nearest):
    block = block_of(rng, nearest=nearest)
    block.open[block.columns] = False
    search = BlockSearch(block, Anything(), tries=0)

    bounds = search.bounds()

    assert np.isinf(bounds[0]).all()
    for column, candidate in np.argwhere(np.isfinite(bounds)):
        columns = block.columns.copy()
        columns[column] = candidate
        costs = np.ascontiguousarray(block.costs[:, columns])
        exact = (1 - nearest) * ot.emd2(block.masses, block.wanted, costs)
        exact += nearest * float(block.masses @ costs.min(axis=1))
        assert bounds[column, candidate] <= exact - search.objective + 1e-6


def test_labelled_columns_of_a_block_stay(rng):
    block = block_of(rng)
    block.open[block.columns] = False

    search = BlockSearch(block, Anything(), tries=20)
    before = search.objective
    search.run()

    assert search.columns[0] == block.columns[0]
    assert len(set(search.columns)) == 4
    assert search.objective < before


def test_a_second_round_is_nearly_as_good_as_a_fresh_run_of_the_total(rng):
    vectors, cases = patients(rng)
    first = chosen(vectors, 12, cases).rows

    second = chosen(vectors, 12, cases, labelled=first.tolist()).rows
    fresh = chosen(vectors, 24, cases).rows

    assert not set(first) & set(second)
    both = np.concatenate([first, second])
    assert w1(vectors, both) < 1.15 * w1(vectors, fresh)
    rest = np.setdiff1d(np.arange(168), first)
    draws = [w1(vectors, np.append(first, rng.choice(rest, 12, False))) for _ in range(10)]
    assert w1(vectors, both) < 0.9 * np.mean(draws)


def test_rows_do_not_depend_on_their_order(rng):
    vectors, cases = patients(rng)
    names = np.array(keys(len(vectors)))
    order = rng.permutation(len(vectors))

    straight = names[chosen(vectors, 20, cases).rows]
    mixed = names[order][chosen(vectors[order], 20, cases[order], keys=names[order].tolist()).rows]

    assert list(straight) == list(mixed)


@pytest.mark.parametrize(
    "caps", [Caps(per_case=2), Caps(per_volume=1), Caps(gap=4), Caps(per_case=3, gap=3)]
)
def test_caps_hold_after_all_exchanges(rng, caps):
    vectors, cases = patients(rng)
    volumes = np.arange(len(vectors)) // 6
    places = np.arange(len(vectors)) % 6

    found = chosen(vectors, 20, volumes, cases=cases, positions=places, caps=caps)

    rows = found.rows
    assert len(set(rows)) == 20
    assert np.bincount(cases[rows]).max() <= (caps.per_case or 20)
    assert np.bincount(volumes[rows]).max() <= (caps.per_volume or 20)
    for volume in set(volumes[rows]):
        inside = np.sort(places[rows[volumes[rows] == volume]])
        assert (np.diff(inside) >= caps.gap).all()
    ask = {"cases": cases, "positions": places, "caps": caps}
    snapped, improved = (
        chosen(vectors, 20, volumes, {"walks": walks, "starts": 1}, **ask).rows for walks in (0, 12)
    )
    assert w1(vectors, improved) < w1(vectors, snapped)


def test_it_reaches_as_many_cases_as_a_stratified_draw(rng):
    vectors, cases = patients(rng)
    vectors[cases < 12] = unit(vectors[:1] + 0.01 * rng.normal(size=(144, 12)))  # are alike
    free = {"keys": keys(168), "groups": cases, "selector": "stratified_random"}
    drawn = len(set(cases[select(None, 12, **free).rows]))

    with_ = chosen(vectors, 12, cases).rows
    without = chosen(vectors, 12, cases, {"cover_cases": False}).rows

    assert len(set(cases[without])) < drawn <= len(set(cases[with_]))


def test_cases_of_a_draw_are_those_of_many_draws(rng):
    sizes = rng.integers(3, 20, size=30)
    volumes = np.repeat(np.arange(30), sizes)
    cases = volumes // 2
    ask = {"keys": keys(len(volumes)), "groups": volumes, "cases": cases}
    draws = [
        len(set(cases[select(None, 12, **ask, selector="stratified_random", seed=seed).rows]))
        for seed in range(60)
    ]
    n = len(volumes)
    candidates = Candidates(
        ask["keys"], volumes, cases, np.arange(n), list(range(n)), frozenset(), np.full(n, 1 / n)
    )

    assert np.mean(draws) - 0.5 < cases_of_a_draw(candidates, 12) < np.mean(draws) + 1.5


def test_every_prefix_is_nearer_than_chance(rng):
    vectors, cases = patients(rng)
    found = chosen(vectors, 30, cases)

    assert (found.gains >= 0).all()
    assert (np.diff(found.gains) <= 1e-6).all()
    for length in (5, 10, 20):
        draws = [w1(vectors, rng.choice(168, length, replace=False)) for _ in range(10)]
        assert w1(vectors, found.rows[:length]) < np.mean(draws)


def test_ranking_takes_what_lowers_the_mean_distance_most(rng):
    vectors = unit(rng.normal(size=(50, 4)))
    picks, labelled = np.array([3, 9, 27, 40]), np.array([1, 2])

    order, gains = rank(vectors, np.full(50, 1 / 50), picks, labelled)

    nearest = costs_of(vectors, np.arange(50), labelled).min(axis=1)
    for row, gain in zip(order, gains, strict=True):
        each = costs_of(vectors, np.arange(50), picks)
        decreases = np.maximum(nearest[:, None] - each, 0).mean(axis=0)
        assert gain == pytest.approx(decreases.max(), abs=1e-3)
        assert decreases[list(picks).index(row)] == pytest.approx(gain, abs=1e-3)
        nearest = np.minimum(nearest, each[:, list(picks).index(row)])


def test_weights_scores_and_volumes_shift_the_picks(rng):
    vectors = unit(np.concatenate([rng.normal(size=(80, 6)) + 3, rng.normal(size=(20, 6)) - 3]))
    volumes, last = (np.arange(100) >= 80).astype(int), np.arange(100) >= 80

    def share(**more):
        return last[chosen(vectors, 10, volumes, **more).rows].mean()

    assert share() == pytest.approx(0.2, abs=0.01)
    assert share(options={"reweight": 1.0}) == pytest.approx(0.5, abs=0.01)
    assert share(weights=np.where(last, 0.8 / 20, 0.2 / 80)) == pytest.approx(0.8, abs=0.01)
    uncertain = {"scores": last.astype(float), "options": {"uncertainty": 0.75}}
    assert share(**uncertain) == pytest.approx(0.8, abs=0.01)


def test_dear_slices_are_avoided_where_others_serve(rng):
    vectors = unit(rng.normal(size=(60, 5)))
    costs = np.where(np.arange(60) % 2, 1.0, 5.0)

    plain = chosen(vectors, 12, costs=costs, options={"cost_weight": 0.0}).rows
    cheap = chosen(vectors, 12, costs=costs, options={"cost_weight": 0.5}).rows

    assert costs[cheap].mean() < costs[plain].mean()


def test_on_large_pools_lists_axes_and_samples_stand_in(rng, monkeypatch):
    vectors, cases = patients(rng, d=80)
    exact = w1(vectors, chosen(vectors, 24, cases).rows)
    monkeypatch.setattr(plans, "EXACT_PAIRS", 0)
    monkeypatch.setattr(coarse, "MOST_WORK", 0)
    monkeypatch.setattr(coarse, "MOST_PAIRS", 0)
    monkeypatch.setattr("napari_activeft.selection.assignment.EXACT_NUMBERS", 0)

    found = chosen(vectors, 10, cases)
    many = chosen(vectors, 24, cases)

    assert found.report["entropic"] | {"rows": 80, "numbers": 64} == found.report["entropic"]
    assert found.report["plan"]["kind"] == "lists"
    assert w1(vectors, many.rows) < 1.05 * exact


def test_equal_vectors_rank_by_row_and_gain_nothing_twice(rng):
    same = unit(np.tile(rng.normal(size=(1, 300)), (9, 1)))
    order, gains = rank(same, np.full(9, 1 / 9), np.array([7, 2, 4]), np.array([], dtype=int))

    assert list(order) == [2, 4, 7]
    assert gains[0] == pytest.approx(2.0, abs=1e-12)
    assert list(gains[1:]) == [0.0, 0.0]

    twice = np.tile(unit(rng.normal(size=(20, 300))), (2, 1))
    order, gains = rank(twice, np.full(40, 1 / 40), np.arange(40), np.array([], dtype=int))
    assert sorted(order[:20]) == list(range(20))
    assert list(gains[20:]) == [0.0] * 20


@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 1), (7, 7), (30, 29)])
def test_duplicates_and_tiny_pools_are_served(n, k):
    vectors = np.ones((n, 3), dtype=np.float32)

    found = chosen(vectors, k)

    assert sorted(set(found.rows)) == sorted(found.rows)
    assert len(found.rows) == k


def test_a_user_may_stop_it_within_a_walk(rng):
    vectors, cases = patients(rng)
    calls = []

    def stop(done, total):
        calls.append((done, total))
        if len(calls) == 16:  # 14 sweeps came before
            raise Cancelled

    with pytest.raises(Cancelled):
        chosen(vectors, 20, cases, on_progress=stop)
    assert len(calls) == 16

    seen = []
    chosen(vectors, 20, cases, on_progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1]


def test_a_gpu_short_of_memory_gets_smaller_chunks(rng, monkeypatch):
    vectors, cases = patients(rng)
    real, seen = transport._sweep, []

    def short(pool, *rest):
        seen.append(pool.chunk_numbers)
        if pool.chunk_numbers > 300_000:
            raise torch.cuda.OutOfMemoryError
        return real(pool, *rest)

    monkeypatch.setattr(transport, "_sweep", short)
    found = chosen(vectors, 10, cases)

    assert "halved" in found.report["device_note"]
    assert min(seen) == 250_000


def test_a_gpu_without_any_memory_leaves_it_to_the_cpu(rng, monkeypatch):
    vectors, cases = patients(rng)
    expected = chosen(vectors, 10, cases).rows
    real, calls = module.find_centres, []

    def out_at_first(*ask, **more):
        calls.append(1)
        if len(calls) == 1:
            raise torch.cuda.OutOfMemoryError
        return real(*ask, **more)

    monkeypatch.setattr(module, "find_centres", out_at_first)
    found = chosen(vectors, 10, cases)

    assert list(found.rows) == list(expected)
    assert "ran on the CPU" in found.report["device_note"]
