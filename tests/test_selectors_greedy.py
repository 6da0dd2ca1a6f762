"""Greedy selectors against the plain greedy way, written out on full tables in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selectionmaking import Pool, asks

from napari_activeft.selection import greedy_cover, neighbours, select

pytest.importorskip("torch")


class Table:
    """Distances of a pool in the order of its keys, and the greedy loop over an objective."""

    def __init__(self, pool: Pool, labelled, forbidden, weights=None, costs=None) -> None:
        self.order = sorted(range(len(pool)), key=pool.keys.__getitem__)
        place = {row: index for index, row in enumerate(self.order)}
        x = pool.vectors[self.order].astype(np.float64)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        self.distances = np.sqrt(((x[:, None] - x[None]) ** 2).sum(axis=2))
        self.middle = x @ (np.full(len(x), 1 / len(x)) @ x)
        n = len(pool)
        self.weights = np.full(n, 1 / n) if weights is None else weights[self.order]
        self.weights = self.weights / self.weights.sum()
        self.costs = np.ones(n) if costs is None else costs[self.order]
        self.chosen = sorted(place[row] for row in labelled)
        taken = {*self.chosen, *(place[row] for row in forbidden)}
        self.free = [row for row in range(n) if row not in taken]

    def greedy(self, gain, budget: int) -> list[int]:
        """Take the row of the largest gain per cost, the first of equals, again and again."""
        picks: list[int] = []
        for _ in range(budget):
            worth = {
                row: gain(self.chosen, row) / self.costs[row]
                for row in self.free
                if row not in picks
            }
            best = max(worth.values())
            row = min(row for row, value in worth.items() if value >= best - 1e-6 * abs(best))
            picks.append(row)
            self.chosen = [*self.chosen, row]
        return [self.order[row] for row in picks]

    def farness(self, chosen, row) -> float:
        return self.distances[row, chosen].min() if chosen else 3 + self.middle[row]

    def more_cover(self, chosen, row) -> float:
        kernel = np.exp(-(self.distances**2))
        before = kernel[:, chosen].max(axis=1) if chosen else np.zeros(len(kernel))
        return float(self.weights @ (np.maximum(before, kernel[:, row]) - before))

    def energy(self, chosen) -> float:
        to_pool = self.weights @ self.distances
        spread = to_pool @ self.weights
        if not chosen:
            return spread
        within = self.distances[np.ix_(chosen, chosen)].mean()
        return float(2 * to_pool[chosen].mean() - spread - within)

    def less_energy(self, chosen, row) -> float:
        return self.energy(chosen) - self.energy([*chosen, row])


SELECTORS = {"kcenter": Table.farness, "maxherding": Table.more_cover, "energy": Table.less_energy}
EACH = pytest.mark.parametrize("selector", SELECTORS)


@EACH
def test_picks_are_those_of_the_plain_greedy_way(selector):
    @settings(max_examples=25, deadline=None)
    @given(ask=asks(kinds=("spread",)))
    def holds(ask):
        pool, budget, labelled, forbidden, _ = ask
        table = Table(pool, labelled, forbidden)
        plain = table.greedy(lambda *at: SELECTORS[selector](table, *at), budget)
        picks = pool.select(budget, labelled=labelled, forbidden=forbidden, selector=selector)
        assert picks == plain

    holds()


@EACH
@pytest.mark.parametrize("chunk", [2**22, 100])
def test_picks_of_a_larger_pool_are_too_and_in_pieces(selector, chunk, monkeypatch):
    monkeypatch.setattr(neighbours, "CHUNK_FLOATS", chunk)
    monkeypatch.setattr(greedy_cover, "_KEPT_FLOATS", 10 * chunk)
    pool = Pool(30, 40, 50, size=8)
    table = Table(pool, [3, 70], [4, 5])
    plain = table.greedy(lambda *at: SELECTORS[selector](table, *at), 40)
    assert pool.select(40, labelled=[3, 70], forbidden=[4, 5], selector=selector) == plain


@pytest.mark.parametrize("selector", ["kcenter", "maxherding"])
@given(seed=st.integers(0, 20))
@settings(max_examples=10, deadline=None)
def test_costs_divide_gains_and_masses_weigh_them(selector, seed):
    rng = np.random.default_rng(seed)
    pool = Pool(20, 20)
    costs, weights = rng.uniform(0.5, 2.0, 40), rng.uniform(0.1, 1.0, 40)
    table = Table(pool, [7], [], weights, costs)
    plain = table.greedy(lambda *at: SELECTORS[selector](table, *at), 15)
    assert pool.select(15, labelled=[7], costs=costs, weights=weights, selector=selector) == plain


def test_masses_move_the_herd():
    pool = Pool(30)
    weights = np.where(np.arange(30) == 11, 1.0, 1e-3)
    table = Table(pool, [], [], weights)
    assert pool.select(1, weights=weights, selector="energy") == [11]
    plain = table.greedy(lambda *at: Table.less_energy(table, *at), 6)
    assert pool.select(6, weights=weights, selector="energy") == plain


@pytest.mark.parametrize("selector", ["kcenter", "maxherding", "energy"])
def test_of_two_copies_the_cheaper_one_is_taken_first(selector):
    pool = Pool(8)
    pool.vectors[4:] = pool.vectors[:4]
    costs = np.where(np.arange(8) < 4, 2.0, 1.0)
    assert pool.select(1, costs=costs, selector=selector)[0] >= 4


@pytest.mark.parametrize("selector", ["kcenter", "maxherding"])
def test_copies_come_last(selector):
    pool = Pool(8)
    pool.vectors[4:] = pool.vectors[:4]
    choice = pool.choose(8, selector=selector)
    assert sorted(choice.rows[:4] % 4) == [0, 1, 2, 3]
    assert (choice.gains[:4] > 0).all()
    assert (choice.gains[4:] == 0).all()


def test_gains_of_k_center_fall_and_the_last_is_the_radius():
    pool = Pool(40)
    choice = pool.choose(10, selector="kcenter")
    assert (np.diff(choice.gains) <= 0).all()
    table = Table(pool, [], [])
    nine = [table.order.index(row) for row in choice.rows[:9]]
    assert choice.gains[9] == pytest.approx(table.distances[:, nine].min(axis=1).max(), abs=1e-5)


def test_gains_of_maxherding_fall_and_add_up_to_what_is_covered():
    choice = Pool(40).choose(10, selector="maxherding")
    assert (np.diff(choice.gains) <= 1e-6).all()
    assert choice.gains.sum() == pytest.approx(choice.report["covered"], abs=1e-5)


def test_the_energy_distance_of_all_is_nothing():
    report = Pool(12).choose(12, selector="energy").report
    assert report["energy_distance"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("selector", ["maxherding", "energy", "probcover"])
def test_a_large_pool_is_measured_on_a_part_drawn_by_name(selector, monkeypatch, rng):
    monkeypatch.setattr(greedy_cover, "_PAIRS", 0)
    monkeypatch.setattr(greedy_cover, "_LEAST_ANCHORS", 150)
    centres = np.eye(6)[rng.integers(6, size=300)]
    vectors = centres + 0.05 * rng.normal(size=(300, 6))
    keys = [f"{number:03}" for number in range(300)]
    choice = select(vectors, 6, keys=keys, selector=selector)
    assert choice.report["measured_on"] == 150
    assert sorted(centres[choice.rows].argmax(axis=1)) == list(range(6))
