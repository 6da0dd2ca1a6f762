"""Runs in the store, the masks they propose, and reviews of many masks at once."""

from __future__ import annotations

import numpy as np
import pytest
from napari_activeft.annotation_db import MaskError, StoreError, UnknownRecordError
from storemaking import HandClock, a_mask, answer_next, make_store, raw_sql


@pytest.fixture
def store(tmp_path):
    # The third and fourth slice are never asked.
    with make_store(tmp_path / "p.sqlite", queries=2, clock=HandClock()) as made:
        yield made


def ids(store):
    return [row.slice_id for row in store.pool_slices()]


def by_slice(proposals):
    return {one.slice_id: one for one in proposals}


# Runs


def test_a_run_collects_its_figures_and_ends(store):
    run = store.add_run("vmunet", {"steps": 10}, "ann", round_number=1)
    assert (run.run_id, run.round_number, run.state, run.metrics) == (1, 1, "running", {})

    store.update_run(1, metrics={"dice": 0.5, "steps": 4}, checkpoint="runs/run-001")
    store.end_run(1, "done", metrics={"dice": 0.75})

    run = store.run(1)
    assert run.metrics == {"dice": 0.75, "steps": 4}
    assert (run.state, run.checkpoint, run.settings) == ("done", "runs/run-001", {"steps": 10})
    assert run.ended_at == run.created_at
    again = store.update_run(1, state="running")
    assert (again.state, again.ended_at) == ("running", None)
    assert store.add_run("other", {}, "ann").round_number is None
    assert [one.name for one in store.runs()] == ["vmunet", "other"]


def test_what_is_no_run_is_refused_with_those_there_are(store):
    with pytest.raises(UnknownRecordError, match="no run 3 in this project: make one with"):
        store.run(3)
    store.add_run("a", {}, "ann")
    for ask in (store.run, store.proposals, lambda n: store.propose_masks(n, {})):
        with pytest.raises(UnknownRecordError, match="no run 3 in this project: choose one of 1"):
            ask(3)
    with pytest.raises(UnknownRecordError, match="no round 9"):
        store.add_run("b", {}, "ann", round_number=9)
    with pytest.raises(StoreError, match="not 'finished': name one of these"):
        store.end_run(1, "finished")


# Proposals


def test_proposals_do_not_count_and_are_listed_with_what_stands_beside_them(store):
    run = store.add_run("net", {}, "ann").run_id
    lease, drawn = answer_next(store)
    masks = {slice_id: a_mask(n) for n, slice_id in enumerate(ids(store))}

    revisions = store.propose_masks(run, masks)

    assert [record.revision_id for record in store.accepted()] == [drawn]
    found = store.proposals(run)
    assert [one.revision_id for one in found] == revisions
    assert [one.position for one in found] == [0, 1, 2, 3]
    assert [one.query_state for one in found] == ["submitted", "open", None, None]
    assert [one.standing_id for one in found] == [drawn, None, None, None]
    assert all(
        np.array_equal(store.mask(r), masks[s]) for r, s in zip(revisions, masks, strict=True)
    )
    row = store.revisions(lease.slice_id)[-1]
    assert (row.author, row.source, row.parent_id, row.run_id) == ("net", "model", drawn, run)


def test_the_same_mask_is_proposed_once_and_another_one_follows_it(store):
    run, other = (store.add_run(name, {}, "ann").run_id for name in "ab")
    first, second, *_ = ids(store)
    before = store.propose_masks(run, {first: a_mask(1), second: a_mask(2)})

    again = store.propose_masks(run, {first: a_mask(1), second: a_mask(3)})

    assert again[0] == before[0]
    assert again[1] > before[1]
    assert [one.revision_id for one in store.proposals(run)] == again
    assert store.propose_masks(other, {first: a_mask(1)})[0] > again[1]
    assert store.mask_count() == 4


def test_a_volume_of_proposals_is_stored_as_a_whole_or_not_at_all(store):
    run = store.add_run("net", {}, "ann").run_id
    first, second, *_ = ids(store)

    with pytest.raises(MaskError, match="holds class 9"):
        store.propose_masks(run, {first: a_mask(1), second: np.full_like(a_mask(), 9)})

    assert (store.mask_count(), store.proposals(run)) == (0, [])


def test_accepted_proposals_count_rejected_ones_do_not_and_both_are_kept(store):
    run = store.add_run("net", {}, "ann").run_id
    masks = {slice_id: a_mask(n) for n, slice_id in enumerate(ids(store))}
    first, second, third, fourth = store.propose_masks(run, masks)

    store.review([first, third], "approve", "rita")
    store.review([second, fourth], "reject", "rita", "no heart")

    assert [record.revision_id for record in store.accepted()] == [first, third]
    assert [query.state for query in store.queries()] == ["approved", "open"]
    assert [one.verdict for one in store.proposals(run)] == ["approve", "reject"] * 2
    assert store.mask_count() == 4
    with raw_sql(store.path) as connection:
        comments = connection.execute("SELECT comment FROM reviews").fetchall()
        events = connection.execute("SELECT actor FROM events WHERE verb = 'reject'").fetchall()
    assert sorted(comments) == [("",), ("",), ("no heart",), ("no heart",)]
    assert events == [("rita",), ("rita",)]


def test_one_mask_that_cannot_be_reviewed_stops_the_review_of_all(store):
    run = store.add_run("net", {}, "ann").run_id
    (proposed,) = store.propose_masks(run, {ids(store)[2]: a_mask()})

    with pytest.raises(UnknownRecordError, match="no revision 99"):
        store.review([proposed, 99], "approve", "rita")

    assert store.accepted() == []


def test_the_standing_masks_say_who_made_and_who_reviewed_them(store):
    lease, drawn = answer_next(store)
    run = store.add_run("net", {}, "ann").run_id
    (accepted,) = store.propose_masks(run, {ids(store)[2]: a_mask(4)})
    store.propose_masks(run, {ids(store)[3]: a_mask(4)})
    store.review(accepted, "approve", "otto")
    store.review(drawn, "approve", "otto")
    store.review(drawn, "reject", "rita")

    first, second = store.standing()

    assert (first.revision_id, first.author, first.source) == (drawn, "ann", "drawn")
    assert (first.verdict, first.reviewer, first.query_id) == ("reject", "rita", lease.query_id)
    assert (second.revision_id, second.source, second.verdict) == (accepted, "model", "approve")
    assert (second.query_id, second.leased, first.leased) == (None, False, False)
    store.lease_next("bob")
    assert [one.leased for one in store.standing()] == [True, False]
