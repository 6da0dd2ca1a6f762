"""What every selector must do, and what each of them promises beyond."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_activeft.errors import UserError
from napari_activeft.selection import SELECTORS, select
from napari_activeft.selection.candidates import draw

EVERY = pytest.mark.parametrize("selector", SELECTORS)
EXTENDING = ("random", "stratified_random")


class Pool:
    """Volumes of these many slices; keys look like those of the store."""

    def __init__(self, *sizes: int) -> None:
        self.groups = [group for group, size in enumerate(sizes) for _ in range(size)]
        self.positions = [position for size in sizes for position in range(size)]
        self.keys = [
            f"{draw(7, str(group))}:0:{position}"
            for group, position in zip(self.groups, self.positions, strict=True)
        ]
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.keys)

    def select(self, budget: int, order: list[int] | None = None, **ask) -> list[int]:
        """Select with the rows in some order and return what they are in the plain order."""
        order = list(range(len(self))) if order is None else order
        place = {row: index for index, row in enumerate(order)}
        for name in ("labelled", "forbidden"):
            if name in ask:
                ask[name] = [place[row] for row in ask[name]]
        picks = select(
            budget,
            keys=[self.keys[row] for row in order],
            groups=[self.groups[row] for row in order],
            positions=[self.positions[row] for row in order],
            **ask,
        )
        assert picks.rows.dtype == np.int64
        return [order[row] for row in picks.rows.tolist()]


@st.composite
def asks(draw_):
    """Draw a pool, rows that are taken, and a budget that can be spent."""
    sizes = draw_(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    rows = st.integers(0, sum(sizes) - 1)
    labelled = draw_(st.sets(rows, max_size=sum(sizes) // 2))
    forbidden = draw_(st.sets(rows, max_size=sum(sizes) // 3))
    free = sum(sizes) - len(labelled | forbidden)
    if not free:
        labelled, forbidden, free = set(), set(), sum(sizes)
    budget = draw_(st.integers(1, free))
    return Pool(*sizes), budget, sorted(labelled), sorted(forbidden), draw_(st.integers(0, 3))


@EVERY
@given(ask=asks())
def test_a_selector_spends_its_budget_on_distinct_free_rows(selector, ask):
    pool, budget, labelled, forbidden, seed = ask

    picks = pool.select(
        budget, labelled=labelled, forbidden=forbidden, selector=selector, seed=seed
    )

    assert len(picks) == len(set(picks)) == budget
    assert not set(picks) & {*labelled, *forbidden}
    assert set(picks) <= set(range(len(pool)))


@EVERY
@given(ask=asks(), data=st.data())
def test_the_order_of_the_rows_does_not_matter(selector, ask, data):
    pool, budget, labelled, forbidden, seed = ask
    order = data.draw(st.permutations(range(len(pool))))
    ask = {"labelled": labelled, "forbidden": forbidden, "selector": selector, "seed": seed}

    assert pool.select(budget, order, **ask) == pool.select(budget, **ask)


@EVERY
@given(ask=asks(), data=st.data())
def test_the_numbers_of_the_volumes_do_not_matter(selector, ask, data):
    pool, budget, labelled, forbidden, seed = ask
    ask = {"labelled": labelled, "forbidden": forbidden, "selector": selector, "seed": seed}
    plain = pool.select(budget, **ask)

    names = data.draw(st.permutations(range(100, 100 + len(pool.sizes))))
    pool.groups = [names[group] for group in pool.groups]

    assert pool.select(budget, **ask) == plain


@EVERY
def test_the_same_seed_gives_the_same_rows(selector):
    pool = Pool(10, 20, 30)
    assert pool.select(12, selector=selector, seed=4) == pool.select(12, selector=selector, seed=4)


@pytest.mark.parametrize("selector", EXTENDING)
def test_another_seed_gives_other_rows(selector):
    pool = Pool(10, 20, 30)
    rounds = {tuple(pool.select(12, selector=selector, seed=seed)) for seed in range(5)}
    assert len(rounds) == 5


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
    assert select(1, keys=["a"], selector=selector).rows.tolist() == [0]


@EVERY
def test_one_row_may_be_asked_of_many(selector):
    assert len(Pool(50, 50).select(1, selector=selector)) == 1


@EVERY
def test_the_report_names_the_selector_and_counts(selector):
    report = select(
        2, keys=list("abcdef"), labelled=[1], forbidden=[2, 3], selector=selector
    ).report
    assert report == {"selector": selector, "pool": 6, "free": 3, "labelled": 1}


@pytest.mark.parametrize("selector", EXTENDING)
@given(ask=asks())
def test_a_larger_budget_extends_a_smaller_one(selector, ask):
    pool, budget, labelled, forbidden, seed = ask
    ask = {"labelled": labelled, "forbidden": forbidden, "selector": selector, "seed": seed}
    free = len(pool) - len({*labelled, *forbidden})
    assert pool.select(free, **ask)[:budget] == pool.select(budget, **ask)


@pytest.mark.parametrize("selector", EXTENDING)
@given(ask=asks(), data=st.data())
def test_two_rounds_choose_what_one_would_have_chosen(selector, ask, data):
    pool, budget, _, forbidden, seed = ask
    first = data.draw(st.integers(0, budget))
    budget = min(budget, len(pool) - len(forbidden))
    first = min(first, budget)
    ask = {"forbidden": forbidden, "selector": selector, "seed": seed}
    fresh = pool.select(budget, **ask)

    labelled = pool.select(first, **ask) if first else []
    more = pool.select(budget - first, labelled=labelled, **ask) if budget > first else []

    assert labelled + more == fresh


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
        select(budget, keys=list("abcde"), labelled=[0], forbidden=[4], selector=selector)


def test_an_unknown_selector_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="random, stratified_random, fixed_interval"):
        select(1, keys=["a"], selector="best")


@EVERY
@pytest.mark.parametrize(
    "wrong",
    [
        {"keys": ["a", "a"]},
        {"keys": ["a", "b"], "groups": [1]},
        {"keys": ["a", "b"], "positions": [1, 2, 3]},
        {"keys": ["a", "b"], "labelled": [2]},
        {"keys": ["a", "b"], "forbidden": [-1]},
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(selector, wrong):
    with pytest.raises(ValueError, match="give"):
        select(1, selector=selector, **wrong)


def test_draws_are_uniform_and_depend_on_seed_and_name():
    drawn = np.array([draw(0, f"slice {number}") for number in range(4000)])
    assert np.all((drawn >= 0) & (drawn < 1))
    counts, _ = np.histogram(drawn, bins=10, range=(0, 1))
    assert np.all(np.abs(counts - 400) < 6 * np.sqrt(400))
    assert draw(0, "a") == draw(0, "a") != draw(1, "a")
    assert draw(0, "a") != draw(0, "b")
