"""The queue: no slice is given to two annotators, and no mask is lost on the way."""

from __future__ import annotations

import numpy as np
import pytest
from napari_activeft.annotation_db import StaleSubmitError, StoreError, UnknownRecordError
from storemaking import HandClock, a_mask, add_run, answer_next, make_store, new_round


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def store(tmp_path, clock):
    with make_store(tmp_path / "p.sqlite", clock=clock) as made:
        yield made


def states(store):
    return [query.state for query in store.queries()]


def test_queries_are_handed_out_by_round_and_rank(tmp_path):
    with make_store(tmp_path / "p.sqlite", volumes=2, slices=3, queries=0) as store:
        ids = [row.slice_id for row in store.pool_slices()]
        store.add_round(new_round([ids[4], ids[0]]), "maker")
        store.add_round(new_round([ids[2]]), "maker")

        given = [store.lease_next("ann", another=True) for _ in range(3)]

        assert [lease.slice_id for lease in given] == [ids[4], ids[0], ids[2]]
        assert [(lease.round_number, lease.rank) for lease in given] == [(1, 1), (1, 2), (2, 1)]
        assert store.lease_next("bob") is None


def test_whoever_asks_again_gets_the_same_slice_renewed(store, clock):
    first = store.lease_next("ann")
    clock.pass_minutes(20)
    second = store.lease_next("ann")

    assert second.token == first.token
    assert (second.expires_at - first.expires_at).total_seconds() == 20 * 60


def test_another_slice_is_leased_only_when_asked_for(store):
    tokens = {store.lease_next("ann", another=True).token for _ in range(4)}

    assert len(tokens) == 4
    assert store.lease_next("ann", another=True) is None
    assert store.lease_next("ann").token in tokens


def test_a_lease_lasts_thirty_minutes_and_not_a_second_less(store, clock):
    lease = store.lease_next("ann")
    clock.pass_minutes(30 - 1 / 60)
    assert store.lease_next("bob").query_id != lease.query_id

    clock.pass_minutes(1 / 60)
    assert store.lease_next("eva").query_id == lease.query_id


def test_heart_beats_keep_a_lease_for_hours(store, clock):
    lease = store.lease_next("ann")
    for _ in range(10):
        clock.pass_minutes(29)
        store.renew(lease.token)

    assert store.lease_next("bob").query_id != lease.query_id
    assert not store.submit(lease.token, a_mask()).conflict


def test_a_late_submit_revives_its_own_lease(store, clock):
    lease = store.lease_next("ann")
    clock.pass_minutes(300)

    assert not store.submit(lease.token, a_mask()).conflict
    assert states(store)[0] == "submitted"


def test_a_submit_after_somebody_else_took_the_slice_is_refused_and_kept(store, clock):
    late, mine = store.lease_next("ann"), a_mask(1)
    clock.pass_minutes(31)
    taken = store.lease_next("bob")
    assert taken.query_id == late.query_id

    with pytest.raises(StaleSubmitError, match="has ended") as refusal:
        store.submit(late.token, mine)
    assert np.array_equal(store.mask(refusal.value.revision_id), mine)
    assert store.accepted() == []

    kept = store.submit(taken.token, a_mask(2))
    assert [record.revision_id for record in store.accepted()] == [kept.revision_id]


def test_a_submit_on_a_changed_slice_is_refused_with_both_masks_kept(store, clock):
    late = store.lease_next("ann")
    clock.pass_minutes(31)
    _, standing = answer_next(store, "bob", seed=2)

    with pytest.raises(StaleSubmitError, match=r"another mask .* by bob") as refusal:
        store.submit(late.token, a_mask(1))

    both = store.revisions(late.slice_id)
    assert [(row.revision_id, row.author, row.conflict) for row in both] == [
        (standing, "bob", False),
        (refusal.value.revision_id, "ann", True),
    ]
    assert both[1].source == "drawn", "it was drawn on an empty slice, whatever came meanwhile"
    assert both[1].parent_id is None
    assert store.accepted()[0].revision_id == standing


def test_a_refused_mask_counts_once_it_is_submitted_on_top(store, clock):
    late = store.lease_next("ann")
    clock.pass_minutes(31)
    _, standing = answer_next(store, "bob", seed=2)
    with pytest.raises(StaleSubmitError):
        store.submit(late.token, a_mask(1))

    revision = store.submit(late.token, a_mask(1), on_top=True)

    assert (revision.source, revision.parent_id) == ("corrected", standing)
    assert store.accepted()[0].revision_id == revision.revision_id


def test_a_submit_whose_acknowledgement_was_lost_may_be_sent_again(store, clock):
    lease = store.lease_next("ann")
    first = store.submit(lease.token, a_mask(), seconds_spent=7.5)

    assert store.submit(lease.token, a_mask()) == first
    assert store.revisions(lease.slice_id) == [first]

    with pytest.raises(StaleSubmitError):
        store.submit(lease.token, a_mask(1))
    with pytest.raises(StaleSubmitError):
        store.submit(lease.token, a_mask(1))
    assert len(store.revisions(lease.slice_id)) == 2, "the refused one is kept once"


def test_a_skipped_slice_is_not_asked_again_and_says_why(store):
    lease = store.lease_next("ann")
    store.skip(lease.token, "blurred")

    again = [store.lease_next("bob", another=True) for _ in range(4)]

    assert lease.query_id not in {other.query_id for other in again if other}
    assert (store.queries()[0].state, store.queries()[0].skip_reason) == ("skipped", "blurred")


def test_a_slice_handed_back_goes_to_the_next_who_asks(store):
    lease = store.lease_next("ann")
    store.hand_back(lease.token)

    assert store.lease_next("bob").query_id == lease.query_id


def test_a_heart_beat_of_a_lease_that_passed_on_is_refused_with_what_to_do(store, clock):
    lease = store.lease_next("ann")
    clock.pass_minutes(31)
    store.lease_next("bob")

    for act in (store.renew, store.hand_back, lambda token: store.skip(token, "why")):
        with pytest.raises(StoreError, match="by ann has ended: run `napari-activeft next`"):
            act(lease.token)


def test_a_lease_that_passed_through_other_hands_does_not_come_back(store, clock):
    lease = store.lease_next("ann")
    clock.pass_minutes(31)
    store.hand_back(store.lease_next("bob").token)
    assert states(store)[0] == "open"

    with pytest.raises(StoreError, match="has ended"):
        store.renew(lease.token)
    with pytest.raises(StaleSubmitError, match="has ended"):
        store.submit(lease.token, a_mask())


def test_a_submit_on_top_ends_the_lease_of_whoever_labels_the_slice_now(store, clock):
    late = store.lease_next("ann")
    clock.pass_minutes(31)
    taken = store.lease_next("bob")

    store.submit(late.token, a_mask(1), on_top=True)

    assert (states(store)[0], store.queries()[0].annotator) == ("submitted", None)
    assert store.lease_next("bob").query_id != taken.query_id
    with pytest.raises(StaleSubmitError, match="another mask"):
        store.submit(taken.token, a_mask(2))


def test_an_answered_lease_cannot_be_renewed_even_after_a_rejection(store):
    lease, revision = answer_next(store)
    store.review(revision, "reject", "rita")

    with pytest.raises(StoreError, match="has ended"):
        store.renew(lease.token)


def test_a_heart_beat_does_not_take_back_what_was_handed_back(store):
    lease = store.lease_next("ann")
    store.hand_back(lease.token)

    with pytest.raises(StoreError, match="has ended"):
        store.renew(lease.token)
    assert store.lease_next("bob").query_id == lease.query_id


def test_a_mask_that_comes_after_its_slice_was_handed_back_is_refused_and_kept(store):
    lease = store.lease_next("ann")
    store.hand_back(lease.token)

    with pytest.raises(StaleSubmitError, match="kept aside") as refusal:
        store.submit(lease.token, a_mask(1))
    assert np.array_equal(store.mask(refusal.value.revision_id), a_mask(1))
    assert store.accepted() == []
    assert not store.submit(lease.token, a_mask(1), on_top=True).conflict


def test_a_foreign_token_is_named_as_such(store):
    with pytest.raises(UnknownRecordError, match="not known in this project"):
        store.submit("no such token", a_mask())


@pytest.mark.parametrize("how", ["expiry", "hand back"])
def test_a_rejected_slice_stays_first_when_its_lease_ends_unanswered(store, clock, how):
    lease, revision = answer_next(store)
    store.review(revision, "reject", "rita", "the apex is missing")
    again = store.lease_next("bob")
    if how == "expiry":
        clock.pass_minutes(31)
    else:
        store.hand_back(again.token)
    assert states(store)[0] == "rejected"
    assert store.query_counts()["rejected"] == 1

    third = store.lease_next("eva")

    assert third.query_id == lease.query_id
    assert third.review_comment == "the apex is missing"


def test_a_slice_approved_while_it_was_leased_is_not_asked_again(store, clock):
    lease = store.lease_next("ann")
    run_id = add_run(store.path)
    revision = store.add_prediction(lease.slice_id, a_mask(1), run_id=run_id, author="model")
    store.review(revision, "approve", "rita")
    clock.pass_minutes(31)

    assert store.lease_next("bob").query_id != lease.query_id
    assert states(store)[0] == "approved"


def test_a_slice_is_asked_once_only(store):
    asked = store.queries()[0].slice_id

    with pytest.raises(StoreError, match="1 of the chosen slices were queued meanwhile"):
        store.add_round(new_round([asked]), "maker")

    assert len(store.rounds()) == 1


def test_one_query_in_particular_can_be_asked_for(store):
    wanted = store.queries()[2].query_id

    lease = store.lease_query(wanted, "ann")

    assert (lease.query_id, lease.annotator) == (wanted, "ann")
    assert store.lease_query(wanted, "ann").token == lease.token
    with pytest.raises(StoreError, match="with ann already"):
        store.lease_query(wanted, "bob")
    with pytest.raises(UnknownRecordError):
        store.lease_query(10_000, "ann")


def test_who_holds_a_slice_is_known_until_the_lease_ends(store, clock):
    lease = store.lease_next("ann")
    assert store.holder(lease.slice_id) == "ann"
    assert store.holder(lease.slice_id + 1) is None

    clock.pass_minutes(31)
    assert store.holder(lease.slice_id) is None


def test_a_skipped_query_can_be_asked_for_again_and_an_answered_one_not(store):
    first, second = (store.lease_next("ann", another=True) for _ in range(2))
    store.skip(first.token, "blurred")
    store.submit(second.token, a_mask())

    assert store.lease_query(first.query_id, "bob").annotator == "bob"
    with pytest.raises(StoreError, match="is submitted already"):
        store.lease_query(second.query_id, "bob")


def test_a_slice_that_nobody_asked_for_can_get_a_mask(tmp_path):
    store = make_store(tmp_path / "other.sqlite", queries=0)
    free = store.pool_slices()[0]
    store.append_strokes(free.slice_id, "ann", [b"a stroke"])

    first = store.add_mask(free.slice_id, a_mask(), "ann", started_from=None, seconds_spent=7.0)
    second = store.add_mask(free.slice_id, a_mask(seed=1), "bob", started_from=first.revision_id)

    assert (first.source, first.seconds_spent) == ("drawn", 7.0)
    assert (second.source, second.parent_id) == ("corrected", first.revision_id)
    assert store.strokes(free.slice_id, "ann") == []
    assert [one.revision_id for one in store.accepted()] == [second.revision_id]
    store.close()


def test_a_mask_for_an_open_query_answers_it(store):
    query = store.queries()[0]
    store.add_mask(query.slice_id, a_mask(), "ann", started_from=None)

    assert store.queries()[0].state == "submitted"


def test_a_mask_drawn_on_an_older_one_is_kept_aside_until_it_is_put_on_top(store):
    slice_id = store.queries()[0].slice_id
    first = store.add_mask(slice_id, a_mask(), "ann", started_from=None)

    with pytest.raises(StaleSubmitError) as refusal:
        store.add_mask(slice_id, a_mask(seed=1), "bob", started_from=None)
    assert [one.revision_id for one in store.accepted()] == [first.revision_id]
    kept = next(r for r in store.revisions(slice_id) if r.revision_id == refusal.value.revision_id)
    assert (kept.conflict, kept.author) == (True, "bob")

    on_top = store.add_mask(slice_id, a_mask(seed=1), "bob", started_from=None, on_top=True)
    assert [one.revision_id for one in store.accepted()] == [on_top.revision_id]


def test_a_slice_that_somebody_is_labelling_is_left_to_them(store):
    lease = store.lease_next("ann")

    with pytest.raises(StoreError, match="ann is labelling this slice"):
        store.add_mask(lease.slice_id, a_mask(), "bob", started_from=None)
    assert store.revisions(lease.slice_id) == []


def test_the_volumes_whose_slices_come_next_are_those_of_rejected_ones_and_then_by_rank(tmp_path):
    with make_store(tmp_path / "p.sqlite", volumes=4, queries=16) as store:
        order = list(dict.fromkeys(one.volume_id for one in store.queries()))
        assert store.waiting_volumes(0, 9) == order
        assert store.waiting_volumes(order[0], 2) == order[1:3]

        last = store.queries()[-1]
        lease = store.lease_query(last.query_id, "ann")
        revision = store.submit(lease.token, a_mask())
        store.review(revision.revision_id, "reject", "boss", "no")
        assert store.waiting_volumes(0, 2) == [last.volume_id, order[0]]
        for query in store.queries():
            if query.volume_id == order[1]:
                store.skip(store.lease_query(query.query_id, "ann").token, "blurred")
        assert order[1] not in store.waiting_volumes(0, 9)
