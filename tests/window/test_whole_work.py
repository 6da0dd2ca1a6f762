"""From an empty window to an export, as an annotator goes through it."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from napari_activeft.annotation_db import UNFINISHED
from projectmaking import write_volume

ACROSS = [(4, 4), (6, 12), (8, 20)]


@pytest.mark.timeout(600)
def test_a_project_goes_from_images_to_accepted_predictions_and_an_export(someone, tmp_path, said):
    dock, state = someone.dock, someone.dock.state
    images = tmp_path / "scans of today"
    for case in range(1, 5):
        write_volume(images / f"case {case}.nii.gz", (6, 24, 32), seed=case)

    dock.project.make_project(tmp_path / "my project", "heart")
    someone.wait(lambda: state.project is not None)
    someone.settle()
    dock.project.new_class.setText("bright")
    dock.project.new_class.returnPressed.emit()
    someone.settle()
    dock.pool.add([images])
    assert someone.job() == "done"
    assert dock.pool.counts.text() == "4 volumes of 4 cases, 24 slices"

    dock.go_to(dock.select)
    dock.select.embedding.button.click()
    assert someone.job() == "done"
    dock.select.budget.setText("4")
    assert "4 slices of 24" in dock.select.in_words.text()
    dock.select.select_button.click()
    assert someone.job() == "done"
    assert "Round 1" in dock.select.coverage.text()
    assert (dock.select.map._kinds == 3).sum() == 4

    drawn = {}
    for _ in range(4):
        if dock.task.current is None:
            someone.next()
        task = dock.task.current.task
        someone.stroke(ACROSS)
        drawn[task.volume.name, task.position] = someone.mask.copy()
        before = dock.task.current
        dock.queue.box.submit_button.click()
        someone.wait(lambda before=before: dock.task.current is not before)
        someone.settle(0.3)
    assert dock.task.current is None
    assert "Nothing waits" in dock.queue.box.notice.label.text()

    dock.go_to(dock.train)
    assert dock.train.labelled.text().startswith("4 slices of ")
    two_epochs = {"steps": 4, "batch": 2, "size": 32, "monitor": "none"}
    dock.train.form.put(two_epochs)
    dock.train.network.setCurrentText("vm_unet_conv_nano")
    dock.train.train_button.click()
    assert someone.job() == "done", state.jobs[-1].reason
    someone.wait(lambda: dock.train.runs.of.rows and dock.train.runs.of.rows[0].state == "done")
    dock.train.predict_button.click()
    assert someone.job() == "done", state.jobs[-1].reason

    dock.go_to(dock.review)
    someone.wait(lambda: dock.review.table.of.rows)
    free = next(
        one
        for one in dock.review.table.of.rows
        if one.state == "new" and (one.volume, one.position) not in drawn
    )
    dock.review.open(free)
    someone.wait(lambda: dock.task.current is not None)
    someone.settle()
    proposed = someone.mask.copy()
    dock.review.unsure.setChecked(True)
    someone.settle()
    assert any(layer.name.startswith("unsure") for layer in someone.viewer.layers)
    someone.stroke([(18, 4), (18, 12)])
    assert dock.review.accept_button.text() == "Accept corrected"
    corrected = someone.mask.copy()
    assert (corrected != proposed).any()
    dock.review.accept_button.click()
    someone.wait(lambda: len(state.project.store.accepted()) == 5)
    someone.settle()
    sources = [one.source for one in state.project.store.revisions(free.slice_id)]
    assert sources == ["model", "corrected"]
    drawn[free.volume, free.position] = corrected

    dock.project.export(tmp_path / "out of it")
    someone.wait(lambda: state.jobs[-1].verb == "export")
    someone.wait(lambda: state.jobs[-1].state not in UNFINISHED)
    assert state.jobs[-1].state == "done", state.jobs[-1].reason
    exported = {
        file.name.partition(".")[0].replace("_", " "): np.asarray(nibabel.load(file).dataobj).T
        for file in (tmp_path / "out of it").rglob("*.nii.gz")
    }
    for (volume, position), mask in drawn.items():
        record = next(v for v in state.project.store.volumes() if v.name == volume)
        whole = next(array for name, array in exported.items() if name in volume or volume in name)
        np.testing.assert_array_equal(np.take(whole, position, axis=record.axis), mask)
