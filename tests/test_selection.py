"""What every selector must do, and what each of them promises beyond."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selectionmaking import Pool, asks

from napari_activeft.errors import Cancelled, UserError
from napari_activeft.selection import SELECTORS, select
from napari_activeft.selection.candidates import draw

EVERY = pytest.mark.parametrize("selector", SELECTORS)
EXTENDING = [name for name, entry in SELECTORS.items() if entry.prefix_stable]
SEEING = [name for name, entry in SELECTORS.items() if entry.needs_vectors]


def with_pools(selector: str):
    """Try the check that follows on many pools; on fewer where choosing takes longer."""
    slow = selector.startswith("activeft")
    examples = 8 if slow else 25 if selector in SEEING else 50
    return settings(max_examples=examples, deadline=None)


@EVERY
def test_a_selector_spends_its_budget_on_distinct_free_rows(selector):
    @with_pools(selector)
    @given(ask=asks())
    def holds(ask):
        pool, budget, labelled, forbidden, seed = ask
        ask = {"labelled": labelled, "forbidden": forbidden, "selector": selector, "seed": seed}

        choice = pool.choose(budget, **ask)

        picks = choice.rows.tolist()
        assert choice.rows.dtype == np.int64
        assert choice.gains.dtype == np.float64
        assert len(picks) == len(set(picks)) == len(choice.gains) == budget
        assert not set(picks) & {*labelled, *forbidden}
        assert set(picks) <= set(range(len(pool)))
        assert (choice.gains >= 0).all()
        assert np.isfinite(choice.gains).all()

    holds()


@EVERY
def test_the_order_of_the_rows_does_not_matter(selector):
    @with_pools(selector)
    @given(ask=asks(), data=st.data())
    def holds(ask, data):
        pool, budget, labelled, forbidden, seed = ask
        order = data.draw(st.permutations(range(len(pool))))
        ask = {"labelled": labelled, "forbidden": forbidden, "selector": selector, "seed": seed}

        assert pool.select(budget, order, **ask) == pool.select(budget, **ask)

    holds()


@EVERY
def test_the_numbers_of_the_volumes_do_not_matter(selector):
    @with_pools(selector)
    @given(ask=asks(), data=st.data())
    def holds(ask, data):
        pool, budget, labelled, forbidden, seed = ask
        ask = {"labelled": labelled, "forbidden": forbidden, "selector": selector, "seed": seed}
        plain = pool.select(budget, **ask)

        names = data.draw(st.permutations(range(100, 100 + len(pool.sizes))))
        pool.groups = [names[group] for group in pool.groups]
        pool.cases = [f"patient {case}" for case in pool.cases]

        assert pool.select(budget, **ask) == plain

    holds()


@EVERY
def test_the_same_seed_gives_the_same_rows(selector):
    pool = Pool(10, 20, 30)
    assert pool.select(12, selector=selector, seed=4) == pool.select(12, selector=selector, seed=4)


@EVERY
def test_another_seed_gives_other_rows_where_something_is_drawn(selector):
    pool = Pool(20, 40, 60)
    rounds = {tuple(pool.select(24, selector=selector, seed=seed)) for seed in range(4)}
    assert (len(rounds) > 1) == SELECTORS[selector].drawn


@EVERY
def test_a_budget_of_all_takes_all(selector):
    pool = Pool(5, 1, 3)
    assert sorted(pool.select(9, selector=selector)) == list(range(9))
    assert sorted(pool.select(6, labelled=[0, 8], forbidden=[4], selector=selector)) == [
        *(1, 2, 3, 5, 6, 7)
    ]


@EVERY
def test_a_pool_of_one_row_gives_that_row(selector):
    assert Pool(1).select(1, selector=selector) == [0]
    only = select([[3.0, -4.0]], 1, keys=["a"], scores=[0.5], selector=selector)
    assert only.rows.tolist() == [0]


@EVERY
def test_two_rows_in_one_dimension_can_be_told_apart_or_not(selector):
    for vectors in ([[2.0], [-1.0]], [[2.0], [1.0]]):
        for budget in (1, 2):
            picks = select(vectors, budget, keys=["a", "b"], scores=[0, 1], selector=selector).rows
            assert len(set(picks.tolist())) == budget


@EVERY
def test_one_row_may_be_asked_of_many(selector):
    assert len(Pool(50, 50).select(1, selector=selector)) == 1


@EVERY
def test_the_report_names_selector_seed_counts_and_caps(selector):
    pool = Pool(6)
    report = pool.choose(2, labelled=[1], forbidden=[2, 3], selector=selector, seed=3).report
    expected = {"selector": selector, "seed": 3, "pool": 6, "free": 3, "labelled": 1}
    assert expected.items() <= report.items()
    assert report["caps"] == {"per_case": None, "per_volume": None, "gap": 1}
    assert report["seconds"] >= 0
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize("selector", EXTENDING)
def test_a_larger_budget_extends_a_smaller_one(selector):
    @with_pools(selector)
    @given(ask=asks())
    def holds(ask):
        pool, budget, labelled, forbidden, seed = ask
        ask = {"labelled": labelled, "forbidden": forbidden, "selector": selector, "seed": seed}
        free = len(pool) - len({*labelled, *forbidden})
        assert pool.select(free, **ask)[:budget] == pool.select(budget, **ask)

    holds()


@pytest.mark.parametrize("selector", EXTENDING)
def test_two_rounds_choose_what_one_would_have_chosen(selector):
    @with_pools(selector)
    @given(ask=asks(kinds=("spread",)), data=st.data())
    def holds(ask, data):
        pool, budget, _, forbidden, seed = ask
        budget = min(budget, len(pool) - len(forbidden))
        first = data.draw(st.integers(0, budget))
        ask = {"forbidden": forbidden, "selector": selector, "seed": seed}
        fresh = pool.select(budget, **ask)

        labelled = pool.select(first, **ask) if first else []
        more = pool.select(budget - first, labelled=labelled, **ask) if budget > first else []

        assert labelled + more == fresh

    holds()


def test_rows_may_be_given_as_arrays_and_pools_as_lists():
    pool = Pool(6)
    ask = {"labelled": [1, 2], "forbidden": [4], "selector": "stratified_random"}
    plain = pool.select(3, **ask)
    arrays = {"labelled": np.array([1, 2]), "forbidden": np.array([4])}
    names = {"keys": pool.keys, "groups": np.array(pool.groups), "positions": pool.positions}
    given = select(None, 3, selector="stratified_random", **arrays, **names)
    assert given.rows.tolist() == plain


@EVERY
def test_masses_and_costs_are_taken_and_still_the_budget_is_spent(selector, rng):
    pool = Pool(6, 7, 8)
    weights = np.where(np.arange(21) < 15, 0.0, rng.random(21))  # most rows have no mass
    picks = pool.select(18, weights=weights, costs=1 + rng.random(21), selector=selector)
    assert len(set(picks)) == 18


@pytest.mark.parametrize("selector", SEEING)
def test_numbers_of_any_width_and_from_the_disk_give_the_same_rows(selector, tmp_path):
    pool = Pool(8, 8)
    narrow = pool.vectors.astype(np.float16)
    np.save(tmp_path / "vectors.npy", narrow)
    given_as = [
        narrow,
        narrow.astype(np.float32),
        1000.0 * narrow.astype(np.float64),  # only directions count
        np.load(tmp_path / "vectors.npy", mmap_mode="r"),
        narrow.tolist(),
    ]

    picks = [pool.select(5, embeddings=vectors, selector=selector) for vectors in given_as]

    assert all(rows == picks[0] for rows in picks)


@pytest.mark.parametrize("selector", SEEING)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
def test_a_vector_that_has_no_direction_is_refused_by_its_key(selector, value):
    pool = Pool(4, 4)
    what = "is zero" if value == 0 else "holds NaN or infinity"
    pool.vectors[5, slice(None) if value == 0 else 2] = value
    with pytest.raises(UserError, match=f"slice {pool.keys[5]} {what}"):
        pool.select(2, selector=selector)


@pytest.mark.parametrize("selector", SEEING)
def test_huge_and_tiny_vectors_have_directions_too(selector):
    pool = Pool(4, 4)
    scaled = pool.vectors.astype(np.float64) * np.logspace(-200, 200, 8)[:, None]
    assert len(pool.select(3, embeddings=scaled, selector=selector)) == 3


@pytest.mark.parametrize("selector", SEEING)
def test_who_computes_tells_how_far_it_is_and_can_be_stopped(selector):
    calls: list[tuple[int, int]] = []
    pool = Pool(10, 10)
    pool.select(5, selector=selector, on_progress=lambda *call: calls.append(call))
    assert calls
    assert all(0 <= done <= total for done, total in calls)

    def stop(done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        pool.select(5, selector=selector, on_progress=stop)


@pytest.mark.parametrize("selector", SEEING)
def test_a_selector_that_needs_vectors_says_so(selector):
    with pytest.raises(UserError, match=f"{selector} needs embeddings .*napari-activeft embed"):
        select(None, 1, keys=["a"], selector=selector)


@pytest.mark.parametrize("selector", SEEING)
def test_a_device_that_is_not_there_is_refused(selector):
    with pytest.raises(UserError, match="device"):
        Pool(3).select(1, device="cuda:99", selector=selector)


@pytest.mark.parametrize("selector", ["entropy", "bald"])
def test_a_selector_that_needs_scores_says_so(selector):
    with pytest.raises(UserError, match=f"{selector} needs scores"):
        select(None, 1, keys=["a"], selector=selector)


def test_every_free_row_has_the_same_chance_in_a_random_draw():
    pool = Pool(2, 8)
    drawn = Counter(
        row for seed in range(2000) for row in pool.select(3, selector="random", seed=seed)
    )
    # Six standard deviations of 2000 draws of probability 0.3.
    assert all(abs(drawn[row] - 600) < 6 * np.sqrt(2000 * 0.3 * 0.7) for row in range(10))


def test_every_row_has_nearly_the_same_chance_in_a_stratified_draw():
    pool = Pool(2, 8)
    drawn = Counter(
        row
        for seed in range(2000)
        for row in pool.select(3, selector="stratified_random", seed=seed)
    )
    small = (drawn[0] + drawn[1]) / 2000
    assert small == pytest.approx(0.6, abs=0.1)
    # Within a volume every row has the same chance.
    chance = drawn.total() - drawn[0] - drawn[1]
    assert all(abs(drawn[row] - chance / 8) < 6 * np.sqrt(chance / 8) for row in range(2, 10))
    assert abs(drawn[0] - drawn[1]) < 6 * np.sqrt(drawn[0] + drawn[1])


@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=8), seed=st.integers(0, 5))
def test_a_stratified_prefix_gives_every_volume_one_common_share(sizes, seed):
    pool = Pool(*sizes)
    picks = pool.select(len(pool), selector="stratified_random", seed=seed)

    for count in range(1, len(picks) + 1):
        taken = Counter(pool.groups[row] for row in picks[:count])
        # There is one share t so that every volume of n slices gave t n, less than one off.
        least = max((taken[group] - 1) / size for group, size in enumerate(sizes))
        most = min((taken[group] + 1) / size for group, size in enumerate(sizes))
        assert least < most


@given(volumes=st.integers(1, 8), slices=st.integers(1, 8), seed=st.integers(0, 5))
def test_a_stratified_prefix_of_equal_volumes_is_spread_evenly(volumes, slices, seed):
    pool = Pool(*([slices] * volumes))
    picks = pool.select(len(pool), selector="stratified_random", seed=seed)

    for count in range(1, len(picks) + 1):
        taken = Counter(pool.groups[row] for row in picks[:count])
        for group in range(volumes):
            assert abs(taken[group] - count / volumes) < 1


def test_a_stratified_draw_goes_where_nothing_is_labelled():
    pool = Pool(10, 10, 10)
    picks = pool.select(4, labelled=[0, 1, 2, 10, 11, 12], selector="stratified_random")
    assert Counter(pool.groups[row] for row in picks)[2] >= 3


def test_forbidden_rows_do_not_count_as_labelled():
    pool = Pool(6, 6)
    picks = pool.select(4, forbidden=[0, 1, 2], labelled=[], selector="stratified_random")
    taken = Counter(pool.groups[row] for row in picks)
    assert taken[0] in (1, 2)  # a third of the nine slices that are left


@pytest.mark.parametrize("budget", [1, 2, 5, 10, 20])
def test_fixed_intervals_are_equal(budget):
    pool = Pool(50, 30, 20)
    names = [
        min(key for key, g in zip(pool.keys, pool.groups, strict=True) if g == group)
        for group in range(3)
    ]
    end_to_end = sorted(range(100), key=lambda row: (names[pool.groups[row]], row))

    picks = pool.select(budget, selector="fixed_interval")

    places = sorted(end_to_end.index(row) for row in picks)
    assert all(b - a == 100 // budget for a, b in pairwise(places))
    assert places[0] == 100 // budget // 2


def test_fixed_intervals_draw_nothing():
    pool = Pool(9, 4)
    assert pool.select(5, selector="fixed_interval", seed=1) == pool.select(
        5, selector="fixed_interval", seed=2
    )


def test_whoever_stops_early_has_gone_through_the_whole_pool():
    pool = Pool(64)
    picks = pool.select(16, selector="fixed_interval")
    for count in (2, 4, 8):
        quarters = Counter(row * count // 64 for row in picks[:count])
        assert set(quarters.values()) == {1}


@EVERY
@pytest.mark.parametrize("budget", [0, -1, 4, 100])
def test_a_budget_that_cannot_be_spent_is_refused(selector, budget):
    with pytest.raises(UserError, match="3 slices of the pool are free"):
        Pool(5).select(budget, labelled=[0], forbidden=[4], selector=selector)
    with pytest.raises(UserError, match="every slice of the pool is labelled, asked or forbidden"):
        Pool(2).select(budget, labelled=[0], forbidden=[1], selector=selector)


def test_an_unknown_selector_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="random, stratified_random, fixed_interval"):
        select(None, 1, keys=["a"], selector="best")


@pytest.mark.parametrize(
    "wrong",
    [
        {"keys": []},
        {"keys": ["a", "a"]},
        {"groups": [1]},
        {"cases": ["x", "y"]},  # of one volume
        {"cases": ["x"]},
        {"positions": [1, 2, 3]},
        {"labelled": [2]},
        *({"labelled": rows} for rows in ([0.5], ["a"], np.array([True, False]))),
        {"forbidden": [-1]},
        {"weights": [0, 0]},
        {"weights": [1, -1]},
        {"weights": [1, np.nan]},
        {"costs": [1, 0]},
        {"scores": [1, -1]},
        {"scores": [[1, 1]]},
        {"embeddings": [[1.0]]},
        {"embeddings": [1.0, 2.0]},
        {"embeddings": [[], []]},
        {"embeddings": [["a"], ["b"]]},
    ],
    ids=lambda wrong: "-".join(wrong),
)
def test_arrays_that_do_not_belong_together_are_refused(wrong):
    ask = {"embeddings": [[1.0], [2.0]], "keys": ["a", "b"], **wrong}
    with pytest.raises(ValueError, match="give"):
        select(ask.pop("embeddings"), 1, selector="kcenter", **ask)


def test_draws_are_uniform_and_depend_on_seed_and_name():
    drawn = np.array([draw(0, f"slice {number}") for number in range(4000)])
    assert np.all((drawn >= 0) & (drawn < 1))
    counts, _ = np.histogram(drawn, bins=10, range=(0, 1))
    assert np.all(np.abs(counts - 400) < 6 * np.sqrt(400))
    assert draw(0, "a") == draw(0, "a") != draw(1, "a")
    assert draw(0, "a") != draw(0, "b")
