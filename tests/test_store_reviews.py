"""Which mask counts: drawn, corrected, imported, predicted, approved, rejected."""

from __future__ import annotations

import numpy as np
import pytest
from napari_activeft.annotation_db import (
    UNLABELLED,
    ImportCounts,
    MaskError,
    StaleSubmitError,
    StoreError,
    UnknownRecordError,
)
from storemaking import WIDTH, HandClock, a_mask, add_run, answer_next, make_store, raw_sql


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def store(tmp_path, clock):
    # The third and fourth slice are never asked.
    with make_store(tmp_path / "p.sqlite", queries=2, clock=clock) as made:
        add_run(made.path)
        yield made


def slice_of(store, position):
    return store.pool_slices()[position].slice_id


def predict(store, slice_id, seed=9):
    return store.add_prediction(slice_id, a_mask(seed), run_id=1, author="model")


def accepted(store):
    return {record.slice_id: record.revision_id for record in store.accepted()}


def state(store, slice_id):
    return {query.slice_id: query.state for query in store.queries()}.get(slice_id)


def test_a_drawn_mask_counts_without_a_review(store):
    lease, revision = answer_next(store)

    assert accepted(store) == {lease.slice_id: revision}
    assert state(store, lease.slice_id) == "submitted"


def test_a_rejected_mask_counts_no_longer_and_no_older_one_takes_its_place(store):
    lease, first = answer_next(store, seed=1)
    store.review(first, "reject", "rita", "too small")
    again, second = answer_next(store, "bob", seed=2)
    assert again.slice_id == lease.slice_id
    assert again.review_comment == "too small"
    assert accepted(store) == {lease.slice_id: second}
    assert store.revisions(lease.slice_id)[1].source == "corrected"

    store.review(second, "reject", "rita")

    assert accepted(store) == {}
    assert state(store, lease.slice_id) == "rejected"


def test_the_newest_review_of_a_mask_is_the_one_that_counts(store):
    lease, revision = answer_next(store)
    for verdict, counting in [("reject", {}), ("approve", {lease.slice_id: revision})] * 2:
        store.review(revision, verdict, "rita")
        assert accepted(store) == counting

    assert state(store, lease.slice_id) == "approved"


def test_a_prediction_counts_only_after_somebody_approved_it(store):
    slice_id = slice_of(store, 0)
    revision = predict(store, slice_id)
    assert accepted(store) == {}
    assert state(store, slice_id) == "open"

    store.review(revision, "approve", "rita")

    assert accepted(store) == {slice_id: revision}
    assert state(store, slice_id) == "approved"
    assert np.array_equal(store.accepted_masks(1)[0], a_mask(9))


def test_a_rejected_prediction_leaves_the_query_as_it_is(store):
    slice_id = slice_of(store, 0)
    store.review(predict(store, slice_id), "reject", "rita")

    assert (accepted(store), state(store, slice_id)) == ({}, "open")


def test_an_approved_prediction_that_is_rejected_later_is_asked_again(store):
    slice_id = slice_of(store, 0)
    revision = predict(store, slice_id)
    store.review(revision, "approve", "rita")
    store.review(revision, "reject", "otto")

    assert accepted(store) == {}
    assert store.lease_next("ann").slice_id == slice_id


def test_taking_back_an_approved_prediction_brings_the_drawn_mask_back(store):
    lease, drawn = answer_next(store)
    prediction = predict(store, lease.slice_id)
    store.review(prediction, "approve", "rita")
    assert accepted(store) == {lease.slice_id: prediction}

    store.review(prediction, "reject", "rita")

    assert accepted(store) == {lease.slice_id: drawn}
    assert state(store, lease.slice_id) == "submitted"


def test_a_prediction_beside_a_drawn_mask_changes_nothing(store):
    lease, drawn = answer_next(store)
    store.review(drawn, "approve", "rita")
    prediction = predict(store, lease.slice_id)

    assert accepted(store) == {lease.slice_id: drawn}
    assert state(store, lease.slice_id) == "approved"
    row = store.revisions(lease.slice_id)[-1]
    assert (row.revision_id, row.parent_id, row.run_id) == (prediction, drawn, 1)


def test_a_mask_that_does_not_count_cannot_be_reviewed(store, clock):
    late = store.lease_next("ann")
    clock.pass_minutes(31)
    _, standing = answer_next(store, "bob", seed=1)
    with pytest.raises(StaleSubmitError) as refusal:
        store.submit(late.token, a_mask(2))

    with pytest.raises(StoreError, match=f"revision {standing} does: review that one"):
        store.review(refusal.value.revision_id, "approve", "rita")

    store.submit(late.token, a_mask(3), on_top=True)
    with pytest.raises(StoreError, match=f"revision {standing} does not count"):
        store.review(standing, "approve", "rita")


def test_a_review_needs_a_verdict_and_a_mask(store):
    _, revision = answer_next(store)

    with pytest.raises(StoreError, match="'maybe' was given: say 'approve' or 'reject'"):
        store.review(revision, "maybe", "rita")
    with pytest.raises(UnknownRecordError, match="no revision 999"):
        store.review(999, "approve", "rita")


def test_a_review_of_a_leased_slice_leaves_it_to_its_annotator_who_is_told_at_the_submit(store):
    lease = store.lease_next("ann")
    store.review(predict(store, lease.slice_id), "approve", "rita")
    assert state(store, lease.slice_id) == "leased"

    with pytest.raises(StaleSubmitError, match="by model"):
        store.submit(lease.token, a_mask())
    store.hand_back(lease.token)

    assert state(store, lease.slice_id) == "approved"


# Imports


def test_imported_masks_count_and_close_the_queries_that_wait(store):
    store.skip(store.lease_next("ann").token, "blurred")
    masks = {position: a_mask(position) for position in range(3)}

    assert store.import_masks(1, masks, "importer") == ImportCounts(stored=3, kept=0, leased=0)

    read = store.accepted_masks(1)
    assert read.keys() == masks.keys()
    assert all(np.array_equal(read[position], masks[position]) for position in masks)
    assert [query.state for query in store.queries()] == ["submitted", "submitted"]
    assert store.queries()[0].skip_reason is None
    assert store.lease_next("ann") is None


def test_an_import_keeps_what_is_accepted_and_what_is_being_labelled(store):
    answer_next(store)
    lease = store.lease_next("ann")
    masks = {position: a_mask(7) for position in range(4)}

    assert store.import_masks(1, masks, "importer") == ImportCounts(stored=2, kept=1, leased=1)

    assert not store.submit(lease.token, a_mask(8)).conflict
    assert store.import_masks(1, masks, "importer") == ImportCounts(stored=0, kept=4, leased=0)


def test_an_expired_lease_keeps_nobody_from_importing(store, clock):
    lease = store.lease_next("ann")
    clock.pass_minutes(31)

    assert store.import_masks(1, {0: a_mask(7)}, "importer") == ImportCounts(1, 0, 0)

    with pytest.raises(StaleSubmitError, match="by importer"):
        store.submit(lease.token, a_mask())


def test_an_import_replaces_a_rejected_mask(store):
    lease, revision = answer_next(store)
    store.review(revision, "reject", "rita")

    assert store.import_masks(1, {0: a_mask(7)}, "importer").stored == 1

    row = store.revisions(lease.slice_id)[-1]
    assert (row.source, row.parent_id) == ("imported", revision)
    assert state(store, lease.slice_id) == "submitted"


def test_an_import_with_one_bad_mask_stores_none(store):
    bad = {0: a_mask(1), 1: np.full_like(a_mask(), 9)}

    with pytest.raises(MaskError, match="holds class 9, the project knows 1, 2"):
        store.import_masks(1, bad, "importer")
    with pytest.raises(UnknownRecordError, match="no slice at position 4"):
        store.import_masks(1, {0: a_mask(1), 4: a_mask(1)}, "importer")

    assert store.accepted() == []


def test_import_counts_of_several_volumes_add_up():
    assert ImportCounts(1, 2, 3) + ImportCounts(10, 20, 30) == ImportCounts(11, 22, 33)


# Masks that do not fit


def test_a_mask_of_another_size_is_refused_and_the_lease_lives_on(store):
    lease = store.lease_next("ann")

    with pytest.raises(MaskError, match=r"is 5 x 6 pixels, its slice is 6 x 5"):
        store.submit(lease.token, a_mask().T)

    assert not store.submit(lease.token, a_mask()).conflict


def test_a_mask_of_an_unknown_class_is_refused_with_what_is_known(store):
    lease = store.lease_next("ann")
    mask = a_mask().astype(np.uint16)
    mask[0, :2] = 3, 65534

    with pytest.raises(MaskError, match="holds class 3, 65534, the project knows 1, 2"):
        store.submit(lease.token, mask)
    assert store.revisions(lease.slice_id) == []


def test_a_mask_of_sixteen_bits_in_any_byte_order_is_stored_as_it_is(store):
    lease = store.lease_next("ann")
    mask = a_mask(5).astype(">u2")

    revision = store.submit(lease.token, mask, seconds_spent=12.5)

    assert (revision.dtype, revision.width, revision.seconds_spent) == ("uint16", WIDTH, 12.5)
    assert np.array_equal(store.mask(revision.revision_id), mask)


def test_a_mask_may_hold_pixels_that_nobody_labelled(store):
    lease = store.lease_next("ann")
    mask = a_mask(5).astype(np.uint16)
    mask[2:4] = UNLABELLED

    revision = store.submit(lease.token, mask)

    assert UNLABELLED == 65535
    assert np.array_equal(store.accepted_masks(1)[lease.position], mask)
    assert (revision.dtype, accepted(store)) == (
        "uint16",
        {lease.slice_id: revision.revision_id},
    )


def test_a_prediction_for_an_unknown_slice_is_refused(store):
    with pytest.raises(UnknownRecordError, match="no slice 999"):
        predict(store, 999)


# Strokes


def test_strokes_come_back_in_order_until_their_mask_is_submitted(store):
    lease = store.lease_next("ann")
    store.append_strokes(lease.slice_id, "ann", [b"one", b"two"])
    store.append_strokes(lease.slice_id, "bob", [b"of bob"])
    store.append_strokes(lease.slice_id, "ann", [b"three"])
    assert [s.payload for s in store.strokes(lease.slice_id, "ann")] == [b"one", b"two", b"three"]
    assert store.slices_with_strokes("ann") == {lease.slice_id: 3}

    store.submit(lease.token, a_mask())

    assert store.strokes(lease.slice_id, "ann") == []
    assert len(store.strokes(lease.slice_id, "bob")) == 1
    assert store.discard_strokes(lease.slice_id, "bob") == 1
    assert store.discard_strokes(lease.slice_id, "bob") == 0


def test_a_refused_submit_keeps_its_strokes(store, clock):
    late = store.lease_next("ann")
    store.append_strokes(late.slice_id, "ann", [b"one"])
    clock.pass_minutes(31)
    answer_next(store, "bob", seed=1)

    with pytest.raises(StaleSubmitError):
        store.submit(late.token, a_mask(2))

    assert len(store.strokes(late.slice_id, "ann")) == 1


def test_a_damaged_stroke_is_named(store):
    store.append_strokes(1, "ann", [b"one", b"two"])
    with raw_sql(store.path) as connection:
        connection.execute("UPDATE journal SET payload = x'00' WHERE id = 2")

    with pytest.raises(StoreError, match="stroke 2 of ann on slice 1 is damaged"):
        store.strokes(1, "ann")


# Classes


def test_classes_may_be_renamed_but_not_taken_away_under_a_mask(store):
    renamed = [type(c)(c.value, c.name.upper(), c.colour) for c in store.classes()]
    answer_next(store)

    store.set_classes(renamed, "ann")
    with pytest.raises(StoreError, match="class 2 cannot be removed while 1 masks are stored"):
        store.set_classes(renamed[:1], "ann")

    assert store.classes() == renamed
