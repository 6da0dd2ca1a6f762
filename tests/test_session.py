"""The work on a slice without a window: strokes, undo, the journal, recovery, answers."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari_activeft.annotation_db import StaleSubmitError, Store, StoreError
from projectmaking import assert_sentence, select

from napari_activeft.errors import UserError
from napari_activeft.session.drawing import Drawing
from napari_activeft.session.journal_writer import JournalWriter
from napari_activeft.session.labelling import Labelling
from napari_activeft.session.strokes import Stroke
from napari_activeft.session.task_clock import TaskClock

SHAPE = (9, 11)


def painted(mask, row, value):
    """Return a mask with one more row painted."""
    changed = mask.copy()
    changed[row] = value
    return changed


# Strokes and drawings


@st.composite
def masks(draw):
    values = draw(st.sampled_from([[0, 1], [0, 1, 2, 255], [0, 3, 65535]]))
    flat = draw(st.lists(st.sampled_from(values), min_size=12, max_size=12))
    return np.array(flat, np.uint16).reshape(3, 4)


@given(masks(), masks(), st.one_of(st.none(), st.integers(1, 2**40)))
def test_a_stroke_is_the_same_after_the_journal_and_leads_from_mask_to_mask(before, after, base):
    stroke = Stroke.between(before, after)
    if stroke is None:
        assert (before == after).all()
        return

    read, drawn_on = Stroke.unpack(stroke.pack(base))

    assert drawn_on == base
    assert read.fits(before)
    read.apply(before)
    assert (before == after).all()
    read.inverse("undo").apply(before)
    assert not (before == after).all()


@given(st.lists(st.one_of(masks(), st.sampled_from(["undo", "redo"])), max_size=12))
def test_undo_and_redo_walk_through_what_was_drawn_and_a_journal_brings_all_of_it_back(actions):
    start = np.zeros((3, 4), np.uint16)
    drawing, shown, at = Drawing(start), [start], 0
    journal = []
    for action in actions:
        if isinstance(action, str):
            stroke = drawing.undo() if action == "undo" else drawing.redo()
            at = max(at - 1, 0) if action == "undo" else min(at + 1, len(shown) - 1)
        else:
            stroke = drawing.take(action)
            if (action != shown[at]).any():
                shown = [*shown[: at + 1], action]
                at += 1
        journal += [] if stroke is None else [Stroke.unpack(stroke.pack(None))[0]]
        assert (drawing.mask == shown[at]).all()

    back = Drawing.replayed(start, None, journal)

    assert (back.mask == drawing.mask).all()
    assert (back.strokes, back.can_undo, back.can_redo) == (at, at > 0, at < len(shown) - 1)
    assert back.changed_pixels == np.count_nonzero(shown[at])
    while back.undo():
        at -= 1
        assert (back.mask == shown[at]).all()
    assert at == 0


def test_a_brush_stroke_is_a_few_hundred_bytes():
    rows, columns = np.mgrid[:512, :512]
    after = ((np.hypot(rows - 200, columns - 250) < 40) * 3).astype(np.uint8)
    stroke = Stroke.between(np.zeros_like(after), after)

    assert len(stroke) > 5000
    assert len(stroke.pack(7)) < 600


@pytest.mark.parametrize(
    "payload", [b"", b"short", b"AFS1" + bytes(40), Stroke((1, 1), *[np.array([9])] * 3).pack(None)]
)
def test_what_is_no_stroke_is_refused(payload):
    with pytest.raises(UserError, match="is no stroke") as refusal:
        Stroke.unpack(payload)
    assert_sentence(str(refusal.value))


def test_strokes_that_no_longer_fit_are_left_out():
    start = np.zeros(SHAPE, np.uint8)
    first = Stroke.between(start, painted(start, 0, 1))
    second = Stroke.between(painted(start, 5, 2), painted(start, 5, 1))

    drawing = Drawing.replayed(start, None, [first, second])

    assert len(drawing) == 1
    assert (drawing.mask == painted(start, 0, 1)).all()


def test_time_on_task_leaves_pauses_out():
    at = [0.0]
    clock = TaskClock(pause_after=60, now=lambda: at[0])
    for seconds in (10, 50, 600, 5):  # the third is a pause
        at[0] += seconds
        clock.touch()
    assert clock.seconds == 65

    clock.stop()
    at[0] += 30
    assert clock.seconds == 65
    clock.touch()
    at[0] += 7
    assert clock.seconds == 72


# The journal


@pytest.fixture
def asked(project):
    """A project with a round of eight slices."""
    select(project, "8", selector="random")
    return project


@pytest.fixture
def journal(asked):
    with JournalWriter(asked.store.path, "ann") as writer:
        yield writer


@pytest.fixture
def labelling(asked, journal):
    return Labelling(asked, "ann", journal)


def test_strokes_are_on_the_disk_soon_and_in_their_order(asked, journal):
    slice_id = asked.store.queries()[0].slice_id
    began = time.perf_counter()
    for number in range(50):
        journal.put(slice_id, lambda number=number: bytes([number]))
    assert time.perf_counter() - began < 0.05  # nobody waited for a disk
    assert journal.flush()

    written = [one.payload for one in asked.store.strokes(slice_id, "ann")]
    assert written == [bytes([number]) for number in range(50)]


def test_strokes_wait_for_a_database_that_another_program_holds(asked, monkeypatch):
    monkeypatch.setattr("napari_activeft.annotation_db.sqlite.BUSY_SECONDS", 0.2)
    slice_id = asked.store.queries()[0].slice_id
    told = []
    other = sqlite3.connect(asked.store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with JournalWriter(asked.store.path, "ann", told.append) as writer:
        writer.put(slice_id, lambda: b"one")
        assert not writer.flush(1.0)
        assert (writer.unwritten, len(told)) == (1, 1)
        assert_sentence(told[0])

        other.execute("ROLLBACK")
        other.close()
        assert writer.flush()
        assert told[1:] == [None]
    assert [one.payload for one in asked.store.strokes(slice_id, "ann")] == [b"one"]


_DRAWS = """
import sys, time
from pathlib import Path
import numpy as np
from napari_activeft.project import Project
from napari_activeft.session.journal_writer import JournalWriter
from napari_activeft.session.labelling import Labelling
with Project.open(Path(sys.argv[1])) as project, JournalWriter(project.store.path, "ann") as writer:
    labelling = Labelling(project, "ann", writer)
    task = labelling.next()
    mask, number = task.drawing.mask.copy(), 0
    while True:
        mask.flat[number % mask.size] = 1 + number // mask.size % 2
        labelling.draw(task, mask)
        number += 1
        print(number, time.time(), flush=True)
        time.sleep(0.01)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("seconds", [0.3, 0.71, 1.13])
def test_strokes_finished_200_ms_before_a_kill_are_recovered(asked, labelling, seconds):
    arguments = [sys.executable, "-c", _DRAWS, str(asked.folder)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        first = process.stdout.readline()
        time.sleep(seconds)
        killed = time.time()
        process.send_signal(signal.SIGKILL)
        lines = [line.split() for line in [first, *process.stdout.read().splitlines()]]
    safe = max(int(number) for number, at in lines if float(at) < killed - 0.2 or number == "1")

    (left,) = labelling.left()
    task = labelling.next()

    assert left.strokes == task.recovered >= safe > 0
    assert task.lost == 0
    expected = np.zeros(task.drawing.mask.size, np.uint8)
    for number in range(task.recovered):
        expected[number % expected.size] = 1 + number // expected.size % 2
    assert (task.drawing.mask.ravel() == expected).all()


# From a query to its answer


def test_a_slice_is_drawn_submitted_and_the_next_one_comes(asked, labelling):
    task = labelling.next()
    labelling.draw(task, painted(task.drawing.mask, 2, 1))
    labelling.draw(task, painted(task.drawing.mask, 3, 2))
    labelling.undo(task)

    revision = labelling.submit(task)

    stored = asked.store.mask(revision.revision_id)
    assert (stored == painted(np.zeros(SHAPE, np.uint8), 2, 1)).all()
    assert (revision.author, revision.source) == ("ann", "drawn")
    assert revision.seconds_spent >= 0
    assert asked.store.slices_with_strokes("ann") == {}
    assert labelling.next().slice_id != task.slice_id


def test_a_session_that_ended_without_submitting_is_taken_up_with_its_undo(asked, labelling):
    task = labelling.next()
    labelling.draw(task, painted(task.drawing.mask, 2, 1))
    labelling.draw(task, painted(task.drawing.mask, 3, 2))
    labelling.undo(task)
    shown = task.drawing.mask.copy()
    labelling.left()  # waits for the journal

    with JournalWriter(asked.store.path, "ann") as writer:  # the first one is gone
        again = Labelling(asked, "ann", writer)
        (left,) = again.left()
        taken_up = again.next()
        assert (left.slice_id, left.volume, left.strokes) == (
            task.slice_id,
            task.volume.name,
            taken_up.recovered,
        )
        assert (taken_up.drawing.mask == shown).all()
        assert again.redo(taken_up) is not None
        assert again.undo(taken_up) is not None
        assert again.undo(taken_up) is not None
        assert not taken_up.drawing.mask.any()


def test_a_damaged_stroke_costs_only_what_came_after_it(asked, labelling):
    task = labelling.next()
    for row in range(4):
        labelling.draw(task, painted(task.drawing.mask, row, 1))
    labelling.left()  # waits for the journal
    with closing(sqlite3.connect(asked.store.path)) as connection, connection:
        connection.execute(
            "UPDATE journal SET payload = x'00' WHERE id = (SELECT max(id) - 1 FROM journal)"
        )

    again = labelling.next()

    assert (again.recovered, again.lost) == (2, 2)
    assert again.drawing.mask[:2].all()
    assert not again.drawing.mask[2:].any()


def test_a_query_of_the_list_can_be_opened_and_one_of_a_colleague_not(asked, labelling):
    wanted = asked.store.queries()[3]
    assert labelling.query(wanted.query_id).slice_id == wanted.slice_id

    taken = asked.store.lease_next("bob")
    with pytest.raises(StoreError, match="with bob"):
        labelling.query(taken.query_id)


def test_a_skipped_slice_is_not_asked_again_and_its_strokes_are_given_up(asked, labelling):
    task = labelling.next()
    labelling.draw(task, painted(task.drawing.mask, 2, 1))
    labelling.skip(task, "blurred")

    assert asked.store.queries()[0].state == "skipped"
    assert labelling.left() == []


def test_a_slice_handed_back_keeps_its_strokes_for_whoever_drew_them(asked, labelling):
    task = labelling.next()
    labelling.draw(task, painted(task.drawing.mask, 2, 1))
    labelling.hand_back(task)
    assert asked.store.queries()[0].state == "open"
    assert asked.store.lease_next("bob").slice_id == task.slice_id

    assert [left.slice_id for left in labelling.left()] == [task.slice_id]


def test_a_mask_of_somebody_else_meanwhile_is_not_written_over(asked, labelling):
    task = labelling.next()
    labelling.draw(task, painted(task.drawing.mask, 2, 1))
    labelling.hand_back(task)
    theirs = asked.store.lease_next("bob")
    asked.store.submit(theirs.token, painted(np.zeros(SHAPE, np.uint8), 7, 2))

    with pytest.raises(StaleSubmitError):
        labelling.submit(task)
    (accepted,) = asked.store.accepted()
    assert asked.store.mask(accepted.revision_id)[7].all()

    labelling.submit(task, on_top=True)
    (accepted,) = asked.store.accepted()
    assert asked.store.mask(accepted.revision_id)[2].all()


def test_strokes_on_an_older_mask_are_told_from_a_correction_of_the_new_one(asked, labelling):
    task = labelling.next()
    labelling.draw(task, painted(task.drawing.mask, 2, 1))
    labelling.hand_back(task)
    theirs = asked.store.lease_next("bob")
    made = asked.store.submit(theirs.token, painted(np.zeros(SHAPE, np.uint8), 7, 2))
    asked.store.review(made.revision_id, "reject", "eva", "no")

    again = labelling.next()  # a rejected slice comes first

    assert (again.slice_id, again.recovered, again.drawing.base) == (task.slice_id, 1, None)
    with pytest.raises(StaleSubmitError):
        labelling.submit(again)


def test_a_slice_nobody_asked_for_is_labelled_too_and_corrected(asked, labelling):
    volume, position = asked.store.volumes()[1].volume_id, 2
    task = labelling.slice(volume, position)
    labelling.draw(task, painted(task.drawing.mask, 2, 1))
    first = labelling.submit(task)

    again = labelling.slice(volume, position)
    assert (again.drawing.mask == task.drawing.mask).all()
    labelling.draw(again, painted(again.drawing.mask, 3, 2))
    assert again.drawing.changed_pixels == SHAPE[1]
    second = labelling.submit(again)

    assert (second.source, second.parent_id) == ("corrected", first.revision_id)
    with pytest.raises(UserError, match="nothing to skip"):
        labelling.skip(again, "no")


def test_an_expired_lease_is_renewed_or_told_and_the_mask_can_still_be_sent(asked, labelling):
    task = labelling.next()
    assert labelling.keep_alive(task) is None
    asked.store.hand_back(task.lease.token)

    assert "nothing is lost" in labelling.keep_alive(task)


def test_images_that_cannot_be_read_are_passed_over_and_named(asked, labelling, images):
    broken = asked.store.queries()[0].volume_id
    path = next(Path(file) for file in asked.source(asked.store.volume(broken)).files)
    path.write_bytes(b"no image any more")

    task = labelling.next()

    assert task.volume.volume_id != broken
    assert {one.path for one in labelling.problems} == {asked.store.volume(broken).name}


def test_nothing_is_answered_while_strokes_are_not_on_the_disk(asked, labelling, monkeypatch):
    task = labelling.next()

    def full(*_):
        raise StoreError("the disk is full: free some space")

    monkeypatch.setattr(Store, "append_strokes", full)
    labelling.draw(task, painted(task.drawing.mask, 2, 1))
    monkeypatch.setattr(JournalWriter.flush, "__defaults__", (0.2,))
    with pytest.raises(UserError, match="not on the disk yet") as refusal:
        labelling.submit(task)
    assert_sentence(str(refusal.value))
    monkeypatch.undo()

    assert labelling.submit(task).revision_id


def test_large_class_values_get_a_wider_mask(asked, labelling):
    from napari_activeft.annotation_db import ClassRecord

    asked.store.set_classes([ClassRecord(300, "rare", "#123456")], "ann")
    task = labelling.next()
    labelling.draw(task, painted(task.drawing.mask, 1, 300))

    assert asked.store.mask(labelling.submit(task).revision_id).max() == 300
