"""Slices that people ask or leave out themselves, corrections of proposals, and the file itself."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari_activeft.annotation_db import (
    BY_HAND,
    HandCounts,
    StaleSubmitError,
    Store,
    StoreError,
    UnknownRecordError,
)
from projectmaking import assert_sentence, select
from storemaking import HandClock, a_mask, add_run, answer_next, make_store, new_round

from napari_activeft.choosing import offered
from napari_activeft.session.outlook import outlook
from napari_activeft.settings import Budget, SelectSettings


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def store(tmp_path, clock):
    # Of eight slices the first three are asked.
    with make_store(tmp_path / "p.sqlite", volumes=2, queries=3, clock=clock) as made:
        add_run(made.path)
        yield made


def ids(store):
    return [row.slice_id for row in store.pool_slices()]


def states(store):
    return {query.slice_id: query.state for query in store.queries()}


def waiting(store):
    return [query.slice_id for query in store.queries() if query.state == "open"]


# Asking


def test_slices_asked_by_hand_come_after_all_that_wait_in_the_order_given(store):
    first, second, third, _, fifth, *_, last = ids(store)

    assert store.ask([last, fifth, last], "ann") == HandCounts(changed=2, unchanged=0)

    assert waiting(store) == [first, second, third, last, fifth]
    made = store.rounds()[-1]
    assert (made.number, made.selector, made.budget) == (2, BY_HAND, 2)


def test_what_is_asked_with_somebody_or_answered_is_not_asked_again(store):
    answered, _ = answer_next(store)
    leased = store.lease_next("bob")
    open_one = waiting(store)[0]
    before = store.queries(), store.last_event()

    counts = store.ask([answered.slice_id, leased.slice_id, open_one], "ann")

    assert counts == HandCounts(changed=0, unchanged=3)
    assert (store.queries(), store.last_event()) == before
    assert len(store.rounds()) == 1


def test_a_slice_with_a_mask_that_was_never_asked_is_not_asked_either(store):
    labelled, free = ids(store)[4:6]
    store.add_mask(labelled, a_mask(1), "bob", started_from=None)

    assert store.ask([labelled, free], "ann") == HandCounts(changed=1, unchanged=1)
    assert store.leave_out([labelled], "blurred", "ann") == HandCounts(changed=0, unchanged=1)

    assert labelled not in states(store)
    assert states(store)[free] == "open"


def test_a_slice_whose_mask_was_rejected_can_be_asked_though_it_never_was(store):
    slice_id = ids(store)[5]
    made = store.add_mask(slice_id, a_mask(1), "bob", started_from=None)
    store.review(made.revision_id, "reject", "eva", "too small")

    assert store.ask([slice_id], "ann").changed == 1

    leases = [store.lease_next("ann", another=True) for _ in range(4)]
    assert (leases[-1].slice_id, leases[-1].review_comment) == (slice_id, "too small")


def test_slices_skipped_or_left_out_wait_again_when_they_are_asked(store):
    lease = store.lease_next("ann")
    store.skip(lease.token, "blurred")
    left_out = ids(store)[6]
    store.leave_out([left_out], "cut off", "eva")

    assert store.ask([lease.slice_id, left_out], "ann") == HandCounts(2, 0)

    assert {states(store)[lease.slice_id], states(store)[left_out]} == {"open"}
    assert {query.skip_reason for query in store.queries()} == {None}


def test_an_expired_lease_frees_its_slice_to_be_left_out(store, clock):
    lease = store.lease_next("ann")
    assert store.leave_out([lease.slice_id], "blurred", "eva").changed == 0

    clock.pass_minutes(31)

    assert store.leave_out([lease.slice_id], "blurred", "eva").changed == 1
    assert states(store)[lease.slice_id] == "skipped"


def test_no_slice_is_no_round_and_an_unknown_one_changes_nothing(store):
    before = store.queries(), len(store.rounds())

    assert store.ask([], "ann") == store.leave_out([], "", "ann") == HandCounts(0, 0)
    with pytest.raises(StoreError) as refusal:
        store.ask([ids(store)[5], 999], "ann")
    assert_sentence(str(refusal.value))

    assert (store.queries(), len(store.rounds())) == before


# Leaving out


def test_slices_left_out_are_not_handed_out_and_answered_ones_stay(store):
    answered, revision = answer_next(store)
    asked, fresh = waiting(store)[0], ids(store)[7]

    counts = store.leave_out([answered.slice_id, asked, fresh], "blurred", "eva")

    assert counts == HandCounts(changed=2, unchanged=1)
    assert {states(store)[asked], states(store)[fresh]} == {"skipped"}
    reasons = {query.slice_id: query.skip_reason for query in store.queries()}
    assert (reasons[asked], reasons[fresh], reasons[answered.slice_id]) == (
        "blurred",
        "blurred",
        None,
    )
    assert [record.revision_id for record in store.accepted()] == [revision]
    given_out = {store.lease_next("ann", another=True).slice_id for _ in range(1)}
    assert given_out.isdisjoint({asked, fresh})
    assert store.lease_next("ann", another=True) is None


def test_a_slice_that_somebody_labels_just_now_is_not_taken_from_them(store):
    lease = store.lease_next("ann")

    assert store.leave_out([lease.slice_id], "blurred", "eva") == HandCounts(0, 1)
    assert not store.submit(lease.token, a_mask(1)).conflict


def test_a_later_round_goes_on_from_the_rounds_by_hand(store):
    store.ask(ids(store)[4:5], "ann")
    store.leave_out(ids(store)[5:6], "blurred", "ann")

    assert store.add_round(new_round(ids(store)[6:7]), "maker").number == 4
    with pytest.raises(StoreError, match="were queued meanwhile"):
        store.add_round(new_round(ids(store)[5:6]), "maker")


@settings(max_examples=5, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 7))), max_size=5))
def test_whatever_is_asked_and_left_out_the_newest_wish_holds(tmp_path_factory, wishes):
    with make_store(tmp_path_factory.mktemp("s") / "p.sqlite", volumes=2, queries=2) as made:
        pool = ids(made)
        expected = dict.fromkeys(pool[:2], "open")
        for asked, places in wishes:
            chosen = [pool[place] for place in sorted(places)]
            wish = "open" if asked else "skipped"
            moved = sum(expected.get(one) != wish for one in chosen)

            counts = made.ask(chosen, "a") if asked else made.leave_out(chosen, "no", "a")

            assert counts == HandCounts(moved, len(chosen) - moved)
            expected |= dict.fromkeys(chosen, wish)
        assert states(made) == expected
        assert made.query_counts()["open"] == sum(s == "open" for s in expected.values())


# And a selection


@pytest.mark.parametrize("selector", ["stratified_random", "random"])
def test_a_selection_chooses_neither_what_was_left_out_nor_what_was_asked(project, selector):
    pool = ids(project.store)
    project.store.ask(pool[:3], "ann")
    project.store.leave_out(pool[3:8], "blurred", "ann")
    assert offered(project, SelectSettings(budget=Budget(count=1), selector="random"))[0].free == 4

    select(project, "4", selector=selector)

    chosen = {one.slice_id for one in project.store.queries() if one.round_number == 3}
    assert chosen == set(pool[8:])


def test_the_selection_and_the_outlook_agree_on_what_is_free(project):
    pool = ids(project.store)
    select(project, "2")
    answer_next_in(project.store)
    project.store.ask(pool[:2], "ann")
    project.store.leave_out(pool[4:7], "blurred", "ann")
    unasked = next(one for one in pool if one not in states(project.store))
    project.store.add_mask(unasked, np.zeros((9, 11), np.uint8), "ann", started_from=None)

    offer, _ = offered(project, SelectSettings(budget=Budget(count=1), selector="random"))

    assert 0 < outlook(project).free == offer.free


def answer_next_in(store):
    lease = store.lease_next("ann")
    return store.submit(lease.token, np.zeros((9, 11), np.uint8))


# Corrections of what a run proposes


def propose(store, slice_id, seed=9):
    return store.add_prediction(slice_id, a_mask(seed), run_id=1, author="model")


def correct(store, slice_id, proposal, seed=5, **how):
    return store.add_mask(slice_id, a_mask(seed), "ann", started_from=proposal, **how)


def accepted(store):
    return {record.slice_id: record.revision_id for record in store.accepted()}


def test_a_corrected_proposal_counts_and_has_the_proposal_as_its_parent(store):
    slice_id = ids(store)[5]
    proposal = propose(store, slice_id)
    assert store.standing_id(slice_id) is None

    made = correct(store, slice_id, proposal)

    assert (made.parent_id, made.source, made.conflict) == (proposal, "corrected", False)
    assert accepted(store) == {slice_id: made.revision_id}
    assert store.standing_id(slice_id) == made.revision_id


def test_a_correction_of_an_approved_proposal_is_in_time(store):
    slice_id = ids(store)[5]
    proposal = propose(store, slice_id)
    store.review(proposal, "approve", "rita")
    assert store.standing_id(slice_id) == proposal

    assert not correct(store, slice_id, proposal).conflict


def test_a_correction_of_a_proposal_is_in_time_beside_an_older_mask_of_people(store):
    slice_id = ids(store)[5]
    older = store.add_mask(slice_id, a_mask(1), "bob", started_from=None)
    proposal = propose(store, slice_id)
    assert store.standing_id(slice_id) == older.revision_id

    made = correct(store, slice_id, proposal)

    assert (made.parent_id, made.conflict) == (proposal, False)
    assert accepted(store) == {slice_id: made.revision_id}


def test_a_newer_proposal_makes_no_correction_stale(store):
    slice_id = ids(store)[5]
    proposal = propose(store, slice_id)
    propose(store, slice_id, seed=10)

    assert correct(store, slice_id, proposal).parent_id == proposal


def test_a_correction_is_stale_once_somebody_made_a_newer_mask_and_counts_on_top(store):
    slice_id = ids(store)[5]
    proposal = propose(store, slice_id)
    theirs = store.add_mask(slice_id, a_mask(1), "bob", started_from=None)

    with pytest.raises(StaleSubmitError) as refusal:
        correct(store, slice_id, proposal)
    assert_sentence(str(refusal.value))
    assert accepted(store) == {slice_id: theirs.revision_id}
    kept = store.revisions(slice_id)[-1]
    assert (kept.revision_id, kept.parent_id, kept.conflict) == (
        refusal.value.revision_id,
        proposal,
        True,
    )
    assert store.standing_id(slice_id) == theirs.revision_id

    made = correct(store, slice_id, proposal, on_top=True)

    assert made.parent_id == theirs.revision_id
    assert accepted(store) == {slice_id: made.revision_id}


def test_a_correction_is_stale_once_a_newer_proposal_was_approved(store):
    slice_id = ids(store)[5]
    proposal = propose(store, slice_id)
    newer = propose(store, slice_id, seed=10)
    store.review(newer, "approve", "rita")

    with pytest.raises(StaleSubmitError):
        correct(store, slice_id, proposal)
    assert accepted(store) == {slice_id: newer}


@pytest.mark.parametrize("standing", [False, True])
def test_a_lease_may_answer_with_a_corrected_proposal(store, standing):
    slice_id = ids(store)[0]
    if standing:
        store.review(answer_next(store, "bob", seed=1)[1], "reject", "rita")
    proposal = propose(store, slice_id)
    lease = store.lease_next("ann")
    assert lease.slice_id == slice_id

    made = store.submit(lease.token, a_mask(5), started_from=proposal)
    again = store.submit(lease.token, a_mask(5), started_from=proposal)

    assert (made.parent_id, made.source, made.conflict) == (proposal, "corrected", False)
    assert again == made
    assert states(store)[slice_id] == "submitted"


def test_a_leased_correction_is_stale_after_a_newer_mask_and_counts_on_top(store, clock):
    slice_id = ids(store)[0]
    proposal = propose(store, slice_id)
    late = store.lease_next("ann")
    clock.pass_minutes(31)
    _, theirs = answer_next(store, "bob", seed=1)

    with pytest.raises(StaleSubmitError, match=r"another mask .* by bob"):
        store.submit(late.token, a_mask(5), started_from=proposal)
    made = store.submit(late.token, a_mask(5), started_from=proposal, on_top=True)

    assert made.parent_id == theirs
    assert accepted(store) == {slice_id: made.revision_id}


def test_a_mask_that_starts_from_none_is_stale_where_one_stands(store):
    slice_id = ids(store)[5]
    store.add_mask(slice_id, a_mask(1), "bob", started_from=None)

    with pytest.raises(StaleSubmitError):
        store.add_mask(slice_id, a_mask(2), "ann", started_from=None)


def test_a_mask_that_starts_from_an_older_one_of_people_is_stale(store):
    slice_id = ids(store)[5]
    first = store.add_mask(slice_id, a_mask(1), "bob", started_from=None).revision_id
    store.add_mask(slice_id, a_mask(2), "bob", started_from=first)

    with pytest.raises(StaleSubmitError):
        store.add_mask(slice_id, a_mask(3), "ann", started_from=first)


def test_a_mask_that_starts_from_what_nobody_knows_is_refused(store):
    with pytest.raises(UnknownRecordError, match="no revision 99") as refusal:
        correct(store, ids(store)[5], 99)
    assert_sentence(str(refusal.value))
    assert accepted(store) == {}


# The file, and what was done last


def test_the_fingerprint_changes_with_a_write_of_any_program_and_only_then(store):
    before = store.fingerprint()
    store.queries()
    assert store.fingerprint() == before

    store.ask(ids(store)[4:5], "ann")
    mine = store.fingerprint()
    assert mine != before

    with Store.open(store.path) as other:
        other.leave_out(ids(store)[5:6], "blurred", "bob")
        assert store.fingerprint() != mine


def test_the_last_event_is_a_number_that_rises_with_what_people_do(store):
    before = store.last_event()
    job = store.add_job("embed", {}, "ann")
    queued = store.last_event()
    assert queued > before

    store.job_progress(job.job_id, 1, 5)
    assert store.last_event() == queued
    with Store.open(store.path) as other:
        other.ask(ids(store)[4:5], "bob")
    assert store.last_event() == queued + 1


def test_the_last_event_of_nobody_is_zero(tmp_path):
    with Store.create(tmp_path / "p.sqlite", "new", {}) as store:
        assert store.last_event() == 0


def removed(path, apart):
    del apart
    path.unlink()


def moved(path, apart):
    path.rename(apart)


def replaced(path, apart):
    shutil.copyfile(path, apart)
    apart.replace(path)


@pytest.mark.parametrize("how", [removed, moved, replaced])
def test_a_file_that_is_no_longer_in_its_place_is_told(store, tmp_path, how):
    store.see_in_place()
    how(store.path, tmp_path / "apart.sqlite")

    with pytest.raises(StoreError, match="moved, removed or replaced") as refusal:
        store.see_in_place()
    assert_sentence(str(refusal.value))


def test_a_file_that_was_put_back_is_in_its_place_again(store, tmp_path):
    store.path.rename(tmp_path / "apart.sqlite")
    (tmp_path / "apart.sqlite").rename(store.path)

    store.see_in_place()


def test_what_others_write_into_the_file_leaves_it_in_its_place(store):
    with Store.open(store.path) as other:
        other.ask(ids(store)[4:5], "bob")

    store.see_in_place()
