"""A volume on the desk: which strokes count, one undo for all slices, and what submit stores."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from napari_activeft.annotation_db import StaleSubmitError
from projectmaking import assert_sentence, filled, select

from napari_activeft.errors import UserError
from napari_activeft.session.journal_writer import JournalWriter
from napari_activeft.session.labelling import Labelling
from napari_activeft.session.volume_work import VolumeWork


@pytest.fixture
def asked(project):
    select(project, "3", selector="random")
    return project


@pytest.fixture
def labelling(asked):
    with JournalWriter(asked.store.path, "ann") as journal:
        yield Labelling(asked, "ann", journal)


@pytest.fixture
def work(asked, labelling):
    task = labelling.next()
    return VolumeWork(labelling, task, asked.store.accepted_masks(task.volume.volume_id))


def other(work):
    return (work.main.position + 1) % work.main.volume.slice_count


def test_strokes_on_the_slice_that_was_asked_for_count(work):
    assert work.edited(work.main.position, filled(1)) is None
    assert work.changed == [work.main.position]
    assert (work.mask(work.main.position) == 1).all()


def test_strokes_on_another_slice_are_held_back_with_a_notice(asked, work):
    shown = work.edited(other(work), filled(1))

    assert shown.position == other(work)
    assert not shown.mask.any()
    assert "was not asked for" in shown.notice
    assert_sentence(shown.notice)
    assert work.changed == []
    assert asked.store.slices_with_strokes("ann") == {}


def test_a_stroke_held_back_leaves_the_accepted_mask_that_was_there(asked, labelling, work):
    at = other(work)
    slice_id = asked.store.slice_id(work.main.volume.volume_id, at)
    asked.store.add_mask(slice_id, filled(2, 3), "bob", started_from=None)
    again = VolumeWork(labelling, work.main, asked.store.accepted_masks(work.main.volume.volume_id))

    assert (again.edited(at, filled(1)).mask == filled(2, 3)).all()


def test_another_slice_is_labelled_too_when_that_is_meant(asked, work):
    work.others = True
    assert work.edited(other(work), filled(2)) is None
    assert work.edited(work.main.position, filled(1)) is None

    first, last = work.submit()

    volume = work.main.volume.volume_id
    accepted = asked.store.accepted_masks(volume)
    assert (accepted[other(work)] == 2).all()
    assert (accepted[work.main.position] == 1).all()
    assert (first.slice_id, last.slice_id) == (
        asked.store.slice_id(volume, other(work)),
        work.main.slice_id,
    )
    assert asked.store.slices_with_strokes("ann") == {}


def test_a_slice_that_a_colleague_is_labelling_is_left_to_them(asked, labelling, work):
    work.others = True
    asked_too = next(
        query for query in asked.store.queries() if query.slice_id != work.main.slice_id
    )
    asked.store.lease_query(asked_too.query_id, "bob")
    with pytest.raises(UserError, match="bob is labelling") as refusal:
        labelling.slice(asked_too.volume_id, asked_too.position)
    assert_sentence(str(refusal.value))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    actions=st.lists(
        st.one_of(
            st.sampled_from(["undo", "redo"]), st.tuples(st.integers(0, 3), st.integers(0, 2))
        ),
        max_size=14,
    )
)
def test_one_undo_serves_all_slices_in_the_order_of_the_strokes(asked, labelling, actions):
    task = labelling.query(asked.store.queries()[0].query_id)
    while task.drawing.can_undo:  # what the example before has left
        labelling.undo(task)
    work = VolumeWork(labelling, task, {})
    work.others = True
    now = {at: work.mask(at).copy() for at in range(4)}
    past, future = [], []
    for action in actions:
        if action == "undo" and past:
            future.append({at: mask.copy() for at, mask in now.items()})
            now = past.pop()
        elif action == "redo" and future:
            past.append({at: mask.copy() for at, mask in now.items()})
            now = future.pop()
        elif isinstance(action, tuple) and (now[action[0]] != action[1]).any():
            past.append({at: mask.copy() for at, mask in now.items()})
            future = []
            now[action[0]] = filled(action[1])
        if isinstance(action, tuple):
            assert work.edited(action[0], filled(action[1])) is None
        else:
            shown = work.undo() if action == "undo" else work.redo()
            assert shown is None or (shown.mask == now[shown.position]).all()
        for at in range(4):
            assert (work.mask(at) == now[at]).all()
    for left in labelling.left():
        labelling.discard(left.slice_id)


def test_an_empty_slice_is_one_click_and_can_be_undone(work):
    work.edited(work.main.position, filled(1))

    shown = work.empty()
    assert shown.position == work.main.position
    assert not shown.mask.any()
    assert (work.undo().mask == 1).all()


def test_an_empty_slice_is_submitted_as_an_answer(asked, work):
    work.empty()
    (revision,) = work.submit()

    assert not asked.store.mask(revision.revision_id).any()
    assert asked.store.queries()[0].state == "submitted"


def test_what_is_refused_stays_on_the_desk(asked, work):
    at = work.main.position
    work.edited(at, filled(1))
    asked.store.hand_back(work.main.lease.token)
    theirs = asked.store.lease_query(work.main.lease.query_id, "bob")
    asked.store.submit(theirs.token, filled(2))

    with pytest.raises(StaleSubmitError):
        work.submit()
    assert (work.mask(at) == 1).all()
    work.submit(on_top=work.main.position)
    assert (asked.store.accepted_masks(work.main.volume.volume_id)[at] == 1).all()


def test_a_recovered_slice_can_be_undone_from_the_start(asked, labelling, work):
    work.edited(work.main.position, filled(1))
    work.edited(work.main.position, filled(2))

    again = VolumeWork(labelling, labelling.next(), {})

    assert (again.mask(work.main.position) == 2).all()
    assert (again.undo().mask == 1).all()
    assert not again.undo().mask.any()
    assert again.undo() is None
