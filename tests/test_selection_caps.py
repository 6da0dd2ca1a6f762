"""Caps: per case, per volume, and a gap between slices of one volume."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selectionmaking import Pool, asks, some_caps

from napari_activeft.errors import UserError
from napari_activeft.selection import SELECTORS, Candidates, Caps, select
from napari_activeft.selection.room import Room, check_caps

EVERY = pytest.mark.parametrize("selector", SELECTORS)


def most_that_fit(pool: Pool, caps: Caps, labelled: list[int], forbidden: list[int]) -> int:
    """Count by trying every subset of every volume."""
    by_case: Counter[str] = Counter()
    for group in set(pool.groups):
        rows = [row for row, of in enumerate(pool.groups) if of == group]
        had = [row for row in rows if row in labelled]
        free = [row for row in rows if row not in {*labelled, *forbidden}]
        most = 0
        for size in range(len(free), 0, -1):
            if caps.per_volume is not None and size + len(had) > caps.per_volume:
                continue
            if any(
                keeps_the_gap(pool, [*had], subset, caps.gap) for subset in combinations(free, size)
            ):
                most = size
                break
        by_case[pool.cases[rows[0]]] += most
    if caps.per_case is not None:
        for case in by_case:
            had_of_case = sum(pool.cases[row] == case for row in labelled)
            by_case[case] = min(by_case[case], max(0, caps.per_case - had_of_case))
    return by_case.total()


def keeps_the_gap(pool: Pool, labelled: list[int], picks: tuple[int, ...], gap: int) -> bool:
    places = [pool.positions[row] for row in picks]
    others = [pool.positions[row] for row in labelled]
    return all(abs(a - b) >= gap for a, b in combinations(places, 2)) and all(
        abs(a - b) >= gap for a in places for b in others
    )


def obeys(pool: Pool, picks: list[int], caps: Caps, labelled: list[int]) -> bool:
    for limit, name in ((caps.per_volume, pool.groups), (caps.per_case, pool.cases)):
        had = Counter(name[row] for row in labelled)
        new = Counter(name[row] for row in picks)
        if limit is not None and any(had[one] + new[one] > limit for one in new):
            return False
    for group in {pool.groups[row] for row in picks}:
        inside = tuple(row for row in picks if pool.groups[row] == group)
        before = [row for row in labelled if pool.groups[row] == group]
        if caps.gap > 1 and not keeps_the_gap(pool, before, inside, caps.gap):
            return False
    return True


@EVERY
def test_caps_are_obeyed_and_refused_only_where_nothing_could_obey_them(selector):
    examples = 8 if selector.startswith("activeft") else 30

    @settings(max_examples=examples, deadline=None)
    @given(ask=asks(), caps=some_caps())
    def holds(ask, caps):
        pool, budget, labelled, forbidden, seed = ask
        most = most_that_fit(pool, caps, labelled, forbidden)
        ask = {"labelled": labelled, "forbidden": forbidden, "selector": selector, "seed": seed}

        if budget > most:
            with pytest.raises(UserError, match=f"at most {most} of .*{budget - most} too few"):
                pool.select(budget, caps=caps, **ask)
        if most:
            picks = pool.select(min(budget, most), caps=caps, **ask)
            assert len(set(picks)) == min(budget, most)
            assert not set(picks) & {*labelled, *forbidden}
            assert obeys(pool, picks, caps, labelled)

    holds()


@EVERY
@pytest.mark.parametrize("caps", [Caps(gap=3), Caps(per_volume=4, gap=2), Caps(3, 2, 2)])
def test_all_that_the_caps_leave_can_be_taken(selector, caps):
    pool = Pool(7, 8, 9, 1)
    labelled = [3, 20]
    most = most_that_fit(pool, caps, labelled, [])
    picks = pool.select(most, labelled=labelled, caps=caps, selector=selector)
    assert len(set(picks)) == most
    assert obeys(pool, picks, caps, labelled)


@settings(max_examples=60, deadline=None)
@given(ask=asks(), caps=some_caps(), data=st.data())
def test_room_stays_whatever_is_taken_and_given_back(ask, caps, data):
    pool, budget, labelled, forbidden, _ = ask
    budget = min(budget, most_that_fit(pool, caps, labelled, forbidden))
    if not budget:
        return
    candidates = candidates_of(pool, caps, labelled, forbidden)
    room = Room(candidates, budget)
    taken: list[int] = []
    for _ in range(2 * budget):
        if taken and data.draw(st.booleans()):
            room.release(taken.pop(data.draw(st.integers(0, len(taken) - 1))))
        fitting = np.flatnonzero(room.mask(np.arange(len(pool)))).tolist()
        assert fitting == [row for row in range(len(pool)) if room.fits(row)]
        assert bool(fitting) == (len(taken) < budget)
        if fitting:
            taken.append(data.draw(st.sampled_from(fitting)))
            room.take(taken[-1])
        assert obeys(pool, taken, caps, labelled)


def candidates_of(pool: Pool, caps: Caps, labelled: list[int], forbidden: list[int]) -> Candidates:
    """Return the pool in its own order."""
    cases = sorted(set(pool.cases))
    return Candidates(
        keys=pool.keys,
        groups=np.array(pool.groups),
        cases=np.array([cases.index(case) for case in pool.cases]),
        positions=np.array(pool.positions),
        free=[row for row in range(len(pool)) if row not in {*labelled, *forbidden}],
        labelled=frozenset(labelled),
        weights=np.full(len(pool), 1 / len(pool)),
        caps=caps,
    )


def test_a_row_that_does_not_fit_cannot_be_taken():
    room = Room(candidates_of(Pool(3), Caps(gap=2), [], []), 2)
    # The one in the middle would shut out both others, and two are wanted.
    assert room.mask(np.arange(3)).tolist() == [True, False, True]
    with pytest.raises(ValueError, match="row 1 does not fit"):
        room.take(1)


def test_the_middle_may_be_taken_where_there_is_room_to_spare():
    room = Room(candidates_of(Pool(3), Caps(gap=2), [], []), 1)
    assert room.fits(1)


@pytest.mark.parametrize(
    ("caps", "budget", "sentence"),
    [
        (Caps(per_case=2), 9, "caps of 2 slices per case leave at most 4 of 16 free slices"),
        (Caps(per_volume=2), 9, "caps of 2 slices per volume leave at most 8 of 16 free slices"),
        (Caps(gap=3), 9, "caps of a gap of 3 positions leave at most 8 of 16 free slices"),
        (Caps(per_case=3, gap=2), 7, "caps of 3 slices per case and a gap of 2 positions leave at"),
        (Caps(per_case=3, gap=2), 7, "(with 3 slices per case alone 6)"),
        (Caps(per_case=3, gap=2), 7, "6 of 16 free slices"),
        (Caps(per_case=3, gap=2), 7, "1 too few: lower the budget to 6 or loosen these caps"),
    ],
)
def test_caps_that_cannot_be_met_say_which_and_by_how_many_slices(caps, budget, sentence):
    with pytest.raises(UserError) as refusal:
        check_caps(candidates_of(Pool(4, 4, 4, 4), caps, [], []), budget)
    assert sentence in str(refusal.value)


def test_labelled_slices_count_towards_the_caps():
    pool = Pool(4, 4)
    with pytest.raises(UserError, match=r"labelled ones counted, leave at most 1 of 6"):
        pool.select(2, labelled=[0, 7], caps=Caps(per_case=3), selector="random")
    assert pool.select(2, labelled=[0], caps=Caps(gap=3), forbidden=[4, 5], selector="random")


def test_caps_that_bind_only_together_are_named_together():
    pool = Pool(6, 2)
    pool.cases = ["a"] * 6 + ["b"] * 2
    # Each cap leaves 2 and 2, or 3 and 1; both leave 2 and 1.
    with pytest.raises(UserError, match=r"at most 3 of 8 .*\(each of them alone leaves enough\)"):
        pool.select(4, caps=Caps(per_case=2, gap=2), selector="random")


@pytest.mark.parametrize("wrong", [{"per_case": 0}, {"per_volume": -1}, {"gap": 0}])
def test_a_cap_below_one_is_refused(wrong):
    with pytest.raises(ValueError, match="give 1 or more"):
        Caps(**wrong)


def test_a_long_line_under_a_gap_that_leaves_nothing_to_spare_is_filled():
    keys = [f"{number:04}" for number in range(1000)]
    picks = select(None, 200, keys=keys, caps=Caps(gap=5), selector="random").rows
    assert np.diff(np.sort(picks)).min() >= 5
    with pytest.raises(UserError, match="at most 200"):
        select(None, 201, keys=keys, caps=Caps(gap=5), selector="random")
