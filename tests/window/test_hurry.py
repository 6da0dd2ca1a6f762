"""Somebody in a hurry: keys before an answer came, windows closed in the middle of the work."""

from __future__ import annotations

import numpy as np
from qtpy.QtWidgets import QDockWidget

from napari_activeft.widgets.session_dock import SessionDock

ACROSS = [(6, 6), (8, 12), (9, 18)]


def drawn_on(annotator):
    annotator.dock.queue.box.then_next.setChecked(False)
    annotator.next()
    annotator.stroke(ACROSS)
    return annotator.dock.task.current.task


def test_what_is_typed_behind_a_submit_does_not_change_what_is_stored(annotator):
    task = drawn_on(annotator)
    drawn, dock = annotator.mask.copy(), annotator.dock
    dock.queue.box.submit()
    dock.task.empty()
    dock.desk.undo()
    dock.queue.box.submit()
    annotator.wait(lambda: dock.task.current is None)
    annotator.settle()

    store = dock.state.project.store
    (revision,) = store.revisions(task.slice_id)
    np.testing.assert_array_equal(store.mask(revision.revision_id), drawn)
    assert not store.strokes(task.slice_id, dock.state.annotator)


def test_a_slice_that_is_opened_twice_keeps_the_strokes_between(annotator):
    task = drawn_on(annotator)
    row = next(
        one for one in annotator.dock.queue.table.of.rows if one.query.slice_id == task.slice_id
    )
    annotator.dock.queue.open(row)
    annotator.stroke([(15, 15), (15, 20)])
    annotator.settle()

    assert annotator.mask[15, 15] == 1
    assert annotator.dock.task.current.task.drawing.mask[15, 15] == 1
    assert annotator.mask[6, 6] == 1


def test_a_conflict_on_another_slice_leaves_the_one_that_was_asked_for_alone(
    annotator, elsewhere, monkeypatch
):
    task = drawn_on(annotator)
    drawn, dock = annotator.mask.copy(), annotator.dock
    other = (task.position + 1) % task.volume.slice_count
    dock.queue.box.others.click()
    dock.desk.go_to(other)
    annotator.settle()
    annotator.stroke(ACROSS)
    store = elsewhere.store
    slice_id = store.slice_id(task.volume.volume_id, other)
    theirs = np.zeros_like(drawn)
    store.add_mask(slice_id, theirs, "colleague", started_from=None)
    monkeypatch.setattr(dock.task, "ask_on_top", lambda _: False)
    dock.queue.box.submit()
    annotator.wait(lambda: dock.task.current is None)
    annotator.settle()

    stored = store.accepted_masks(task.volume.volume_id)
    np.testing.assert_array_equal(stored[task.position], drawn)
    np.testing.assert_array_equal(stored[other], theirs)


def test_what_a_tool_wrote_and_told_nobody_is_kept_when_the_next_slice_comes(annotator):
    annotator.next()
    task, desk = annotator.dock.task.current.task, annotator.dock.desk
    np.moveaxis(desk.labels.data, task.volume.axis, 0)[task.position][3, 3:9] = 2
    annotator.next()

    sitting = annotator.dock.state.sitting
    sitting.journal.flush()
    assert len(sitting.project.store.strokes(task.slice_id, sitting.annotator)) == 1


def test_a_dock_that_is_closed_lets_go_of_the_project_and_opens_again(
    annotator, folder, preferences
):
    task = drawn_on(annotator)
    window = annotator.viewer.window._qt_window
    holder = next(
        one for one in window.findChildren(QDockWidget) if one.isAncestorOf(annotator.dock)
    )
    holder.close()
    annotator.viewer.window.remove_dock_widget(annotator.dock)
    annotator.wait(lambda: annotator.dock._closed)

    dock = SessionDock(annotator.viewer, preferences=preferences)
    annotator.viewer.window.add_dock_widget(dock, name="once more")
    again = type(annotator)(dock)
    again.open(folder)
    again.wait(lambda: dock.queue.recovery.found)
    assert dock.queue.recovery.found[0].slice_id == task.slice_id
    dock.shut_down()


def test_a_project_that_is_closed_in_the_middle_gives_its_slices_back(annotator, elsewhere):
    task = drawn_on(annotator)
    annotator.dock.state.close_project()
    annotator.settle()

    states = {one.slice_id: one.state for one in elsewhere.store.queries()}
    assert states[task.slice_id] == "open"
    strokes = elsewhere.store.strokes(task.slice_id, annotator.dock.state.annotator)
    assert len(strokes) == 1
    assert len(annotator.viewer.layers) == 0
