"""What goes wrong in the middle of the work: nothing is lost, and a sentence says what to do."""

from __future__ import annotations

import shutil
import sqlite3
import time
from datetime import timedelta

import numpy as np
import pytest
from napari_activeft.annotation_db import ClassRecord, ReadOnlyStoreError, Store
from projectmaking import assert_sentence

from napari_activeft.project import Project
from napari_activeft.session.sitting import Sitting
from napari_activeft.settings import Budget, SelectSettings
from napari_activeft.widgets import panel_dock
from napari_activeft.widgets.session_dock import SessionDock

ACROSS = [(6, 6), (8, 12), (9, 18)]


def drawn_on(annotator):
    annotator.dock.queue.box.then_next.setChecked(False)
    annotator.next()
    annotator.stroke(ACROSS)
    return annotator.dock.task.current.task


def test_strokes_of_a_session_that_was_killed_are_offered_again(
    annotator, folder, preferences, said
):
    task = drawn_on(annotator)
    drawn = annotator.mask.copy()
    sitting = annotator.dock.state.sitting
    sitting.journal.flush()
    # What a kill leaves: the strokes, and a lease that nobody renews.
    annotator.dock.task.current = None
    annotator.dock.shut_down()

    dock = SessionDock(annotator.viewer, preferences=preferences)
    annotator.viewer.window.add_dock_widget(dock, name="another session")
    again = type(annotator)(dock)
    try:
        again.open(folder)
        recovery = again.dock.queue.recovery
        again.wait(lambda: recovery.found)
        assert "never submitted" in recovery.label.text()
        recovery.open(recovery.found[0])
        again.wait(lambda: again.dock.task.current is not None)
        again.settle()
        assert again.dock.task.current.task.slice_id == task.slice_id
        np.testing.assert_array_equal(again.mask, drawn)
        assert "earlier session" in again.dock.queue.box.notice.label.text()
        again.dock.queue.box.undo.click()
        assert not again.mask.any()
    finally:
        again.dock.shut_down()


def test_two_windows_of_one_annotator_do_not_share_a_journal(annotator, folder):
    with pytest.raises(Exception, match="open in another window") as refusal:
        Sitting(folder, annotator.dock.state.annotator)
    assert_sentence(str(refusal.value))
    with Sitting(folder, "somebody else"):
        pass


def test_a_mask_that_came_too_late_is_offered_as_a_new_revision(
    annotator, elsewhere, said, monkeypatch
):
    task = drawn_on(annotator)
    drawn = annotator.mask.copy()
    # The lease expires while somebody draws, a colleague takes the slice and submits.
    store = elsewhere.store
    before = store._clock
    store._clock = lambda: before() + timedelta(hours=2)
    lease = store.lease_query(task.lease.query_id, "colleague")
    store.submit(lease.token, np.zeros_like(drawn))
    store._clock = before
    asked = []
    monkeypatch.setattr(
        annotator.dock.task, "ask_on_top", lambda text: bool(asked.append(text)) or True
    )
    annotator.dock.queue.box.submit_button.click()
    annotator.wait(lambda: annotator.dock.task.current is None)
    annotator.settle()

    assert "Both masks are kept" in asked[0]
    assert "colleague" in asked[0]
    np.testing.assert_array_equal(elsewhere.store.accepted_masks(task.volume.volume_id)[
        task.position], drawn)  # fmt: skip
    assert len(elsewhere.store.revisions(task.slice_id)) == 3  # theirs, ours too late, ours on top


def test_a_full_disk_at_submit_keeps_every_stroke_and_says_so(annotator, said, monkeypatch):
    task = drawn_on(annotator)

    def full(*_, **__):
        raise ReadOnlyStoreError("the disk is full, nothing was saved: free some space")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "submit", full)
        annotator.dock.queue.box.submit_button.click()
        annotator.wait(lambda: said)
        annotator.settle()
    assert "disk is full" in said[0]
    assert annotator.dock.task.current is not None
    assert annotator.dock.desk.labels.editable
    annotator.stroke([(15, 15), (15, 20)])
    annotator.dock.queue.box.submit_button.click()
    annotator.wait(lambda: annotator.dock.task.current is None)
    annotator.settle()
    store = annotator.dock.state.project.store
    assert store.accepted_masks(task.volume.volume_id)[task.position][15, 15] == 1


def test_a_database_that_another_program_keeps_locked_does_not_freeze_the_window(
    annotator, folder, said
):
    annotator.next()
    other = sqlite3.connect(folder / "project.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        began = time.monotonic()
        annotator.stroke(ACROSS)
        assert time.monotonic() - began < 5.0
        assert annotator.mask[6, 6] == 1
        assert annotator.dock.state.sitting.journal.unwritten == 1
    finally:
        other.execute("ROLLBACK")
        other.close()
    annotator.wait(lambda: annotator.dock.state.sitting.journal.unwritten == 0)


def test_a_project_that_is_moved_while_open_is_told_and_loses_nothing(annotator, folder, said):
    task = drawn_on(annotator)
    drawn = annotator.mask.copy()
    moved = folder.with_name("moved")
    folder.rename(moved)
    annotator.wait(lambda: any("was moved" in one for one in said), 20)
    annotator.stroke([(15, 15), (15, 20)])
    annotator.dock.queue.box.submit_button.click()
    annotator.wait(lambda: not annotator.dock.task.busy)
    annotator.settle()
    assert annotator.dock.task.current is not None
    moved.rename(folder)
    annotator.dock.queue.box.submit_button.click()
    annotator.wait(lambda: annotator.dock.task.current is None, 30)
    annotator.settle()

    stored = annotator.dock.state.project.store.accepted_masks(task.volume.volume_id)
    assert stored[task.position][15, 15] == 1
    assert (stored[task.position][drawn > 0] == drawn[drawn > 0]).all()


def test_an_image_that_is_gone_is_passed_over_and_named(annotator, images, said):
    store = annotator.dock.state.project.store
    first = store.queries()[0]
    name = store.volume(first.volume_id).name
    shutil.rmtree(images / name.split("/")[0])
    annotator.next()

    assert any(name in one and "passed over" in one for one in said)
    assert annotator.dock.task.current.task.volume.volume_id != first.volume_id
    annotator.dock.pool._show()
    annotator.settle()
    assert sum(bool(row.problem) for row in annotator.dock.pool.table.of.rows) == 1


def test_a_layer_that_is_deleted_in_the_middle_of_the_work_comes_back(annotator, said):
    drawn_on(annotator)
    labels, drawn = annotator.dock.desk.labels, annotator.mask.copy()
    annotator.viewer.layers.remove(labels)
    annotator.wait(lambda: labels in annotator.viewer.layers)

    assert "put back" in said[-1]
    np.testing.assert_array_equal(annotator.mask, drawn)
    annotator.stroke([(15, 15), (15, 20)])
    assert annotator.dock.task.current.task.drawing.mask[15, 15] == 1


def test_a_class_table_that_a_colleague_changed_is_shown(annotator, elsewhere):
    drawn_on(annotator)
    drawn = annotator.mask.copy()
    classes = [*elsewhere.store.classes(), ClassRecord(7, "new one", "#123456")]
    elsewhere.store.set_classes(classes, "colleague")
    bar = annotator.dock.queue.box.bar
    annotator.wait(lambda: 7 in [one.value for one in bar.classes], 20)

    assert "class table was changed" in annotator.dock.queue.box.notice.label.text()
    np.testing.assert_array_equal(annotator.mask, drawn)
    bar.choose_place(3)
    annotator.stroke([(15, 15), (15, 20)])
    assert annotator.mask[15, 15] == 7


def test_closing_the_window_asks_what_becomes_of_a_job(annotator, monkeypatch):
    dock = annotator.dock
    asked = []
    monkeypatch.setattr(dock, "ask_about_jobs", lambda: asked.append(1) or panel_dock.STAY)
    monkeypatch.setattr(type(dock.state), "running", property(lambda _: ["a job"]))
    window = annotator.viewer.window._qt_window
    assert not window.close()
    assert asked
    assert window.isVisible()
    assert dock.state.project is not None


def test_a_job_that_is_cancelled_on_closing_is_cancelled(annotator, monkeypatch):
    dock, project = annotator.dock, annotator.dock.state.project.folder
    dock.state.start("select", SelectSettings(budget=Budget(count=2), selector="random"))
    annotator.wait(lambda: dock.state.running)
    monkeypatch.setattr(dock, "ask_about_jobs", lambda: panel_dock.CANCEL)
    annotator.viewer.close()
    with Project.open(project) as again:
        (job,) = again.store.jobs()
        assert job.state in ("cancelled", "done")


def test_what_cannot_be_opened_is_told_in_a_sentence(someone, tmp_path, said):
    (tmp_path / "nothing").mkdir()
    someone.dock.state.open(tmp_path / "nothing")
    someone.wait(lambda: said)

    assert_sentence(said[0])
    assert someone.dock.state.project is None


def test_a_lease_that_ended_costs_nothing(annotator, monkeypatch):
    task = drawn_on(annotator)
    store = annotator.dock.state.project.store
    before = store._clock
    store._clock = lambda: before() + timedelta(hours=3)
    annotator.dock.task._keep_alive()
    annotator.settle()
    annotator.dock.queue.box.submit_button.click()
    annotator.wait(lambda: annotator.dock.task.current is None)
    annotator.settle()

    assert [one.slice_id for one in store.accepted()] == [task.slice_id]
