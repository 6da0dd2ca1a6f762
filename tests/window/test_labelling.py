"""Labelling in a real window, with mouse strokes through Qt's events."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

ACROSS = [(6, 6), (8, 12), (9, 18)]


def journal(annotator, folder):
    """Return the payloads on the disk of the slice that is open."""
    sitting = annotator.dock.state.sitting
    sitting.journal.flush()
    task = annotator.dock.task.current.task
    return sitting.project.store.strokes(task.slice_id, sitting.annotator)


def test_next_opens_the_volume_at_the_queried_slice(annotator):
    annotator.next()
    task, desk = annotator.dock.task.current.task, annotator.dock.desk

    assert desk.position == task.position
    assert [layer.name for layer in annotator.viewer.layers] == [
        task.volume.name, f"labels: {task.volume.name}",
    ]  # fmt: skip
    image, labels = annotator.viewer.layers
    assert labels.data.shape == image.data.shape
    np.testing.assert_array_equal(labels.scale, image.scale)
    np.testing.assert_array_equal(labels.affine.affine_matrix, image.affine.affine_matrix)
    np.testing.assert_array_equal(labels.metadata["affine"], image.metadata["affine"])
    assert type(labels).__module__.startswith("napari.layers")


def test_a_stroke_of_the_mouse_is_in_the_mask_and_in_the_journal(annotator, folder):
    annotator.next()
    annotator.stroke(ACROSS)

    drawing = annotator.dock.task.current.task.drawing
    assert annotator.mask[6, 6] == 1
    assert annotator.mask[9, 18] == 1
    np.testing.assert_array_equal(drawing.mask, annotator.mask)
    assert len(journal(annotator, folder)) == 1


def test_undo_and_redo_survive_another_slice_and_another_layer(annotator, folder):
    annotator.next()
    annotator.stroke(ACROSS)
    drawn = annotator.mask.copy()
    at = annotator.dock.task.current.task.position
    annotator.dock.desk.go_to((at + 1) % 5)
    annotator.viewer.add_points(np.zeros((1, 3)))
    annotator.settle()

    annotator.dock.queue.box.undo.click()
    assert not annotator.mask.any()
    assert annotator.dock.desk.position == at
    annotator.dock.queue.box.redo.click()
    np.testing.assert_array_equal(annotator.mask, drawn)
    assert len(journal(annotator, folder)) == 3


def test_the_undo_key_of_napari_is_that_of_the_session(annotator):
    annotator.next()
    annotator.stroke(ACROSS)
    labels = annotator.dock.desk.labels
    annotator.viewer.layers.selection.active = labels
    canvas = annotator.viewer.window._qt_viewer.canvas.native
    QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    annotator.settle()

    assert not annotator.mask.any()
    assert annotator.dock.task.current.task.drawing.can_redo


def test_a_helper_that_writes_into_the_layer_is_journalled(annotator, folder):
    annotator.next()
    task, labels = annotator.dock.task.current.task, annotator.dock.desk.labels
    place = [np.array([2, 3, 4])] * 3
    place[task.volume.axis] = np.full(3, task.position)
    labels.data_setitem(tuple(place), 2)
    annotator.settle()

    assert (annotator.mask == 2).sum() == 3
    assert len(journal(annotator, folder)) == 1


def test_strokes_on_another_slice_are_held_back_until_they_are_meant(annotator):
    annotator.next()
    desk, task = annotator.dock.desk, annotator.dock.task.current.task
    other = (task.position + 1) % task.volume.slice_count
    desk.go_to(other)
    annotator.settle()
    annotator.stroke(ACROSS)

    assert not np.asarray(desk.labels.data).any()
    assert "was not asked for" in annotator.dock.queue.box.notice.label.text()
    annotator.dock.queue.box.others.click()
    annotator.stroke(ACROSS)
    assert np.take(desk.labels.data, other, axis=task.volume.axis).any()


def test_submit_stores_what_was_drawn_and_opens_the_next(annotator, folder):
    annotator.next()
    annotator.stroke(ACROSS)
    task, drawn = annotator.dock.task.current.task, annotator.mask.copy()
    before = annotator.dock.task.current
    annotator.dock.queue.box.submit_button.click()
    annotator.wait(lambda: annotator.dock.task.current not in (None, before))
    annotator.settle()

    store = annotator.dock.state.project.store
    (accepted,) = store.accepted()
    assert accepted.slice_id == task.slice_id
    np.testing.assert_array_equal(store.mask(accepted.revision_id), drawn)
    assert store.revisions(task.slice_id)[0].seconds_spent >= 0
    assert not store.strokes(task.slice_id, annotator.dock.state.annotator)


def test_empty_skip_and_hand_back_answer_in_one_click(annotator):
    store, box = annotator.dock.state.project.store, annotator.dock.queue.box
    box.then_next.setChecked(False)
    annotator.next()
    box.empty.click()
    box.submit_button.click()
    annotator.wait(lambda: annotator.dock.task.current is None)
    annotator.settle()
    annotator.next()
    box.skip("image is broken")
    annotator.wait(lambda: annotator.dock.task.current is None)
    annotator.settle()
    annotator.next()
    box.hand_back.click()
    annotator.wait(lambda: annotator.dock.task.current is None)
    annotator.settle()

    assert [one.state for one in store.queries()][:3] == ["submitted", "skipped", "open"]
    assert not store.accepted_masks(store.queries()[0].volume_id)[store.queries()[0].position].any()
    assert len(annotator.viewer.layers) == 0


def test_next_opens_another_slice_and_the_one_before_stays_with_the_annotator(annotator):
    store = annotator.dock.state.project.store
    seen = []
    for _ in range(3):
        annotator.next()
        seen.append(annotator.dock.task.current.task.slice_id)
    mine = [one.slice_id for one in store.queries() if one.state == "leased"]

    assert len(set(seen)) == 3
    assert sorted(mine) == sorted(seen)
    annotator.dock.queue.filter.setCurrentText("mine")
    annotator.settle(0.8)
    assert len(annotator.dock.queue.table.of.rows) == 3


def test_keys_act_wherever_the_focus_is(annotator):
    window = annotator.viewer.window._qt_window
    QApplication.setActiveWindow(window)  # there is no window manager to do it
    annotator.dock.queue.filter.setFocus()
    alt = Qt.KeyboardModifier.AltModifier
    QTest.keyClick(annotator.dock.queue.filter, Qt.Key.Key_N, alt)
    annotator.wait(lambda: annotator.dock.task.current is not None)
    annotator.settle()
    QTest.keyClick(annotator.dock.queue.filter, Qt.Key.Key_2, alt)
    annotator.settle()

    assert annotator.dock.desk.labels.selected_label == 2


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_volumes_are_shown_in_the_plane_in_which_they_are_sliced(someone, tmp_path, axis):
    from projectmaking import make_project, select, write_volume

    spacing = [1.0, 1.0, 1.0]
    spacing[axis] = 4.0
    write_volume(tmp_path / "one" / "scan.nii.gz", (9, 20, 16), spacing=tuple(spacing))
    with make_project(tmp_path / "project", tmp_path / "one") as made:
        select(made, "1", selector="random")
    someone.open(tmp_path / "project")
    someone.next()
    someone.stroke([(3, 3), (3, 6)])

    task = someone.dock.task.current.task
    assert task.volume.axis == axis
    assert someone.mask[3, 3] == 1
    assert task.drawing.mask[3, 6] == 1
