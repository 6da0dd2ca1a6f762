"""Pixels that nobody labelled: scribbles and slices done in part, on their way in and out."""

from __future__ import annotations

import dataclasses
import json

import nibabel as nib
import numpy as np
import pytest
from imagemaking import write_nifti
from labelled_samples import CLASSES, label, write_source
from projectmaking import SHAPE, label_array, make_project, select, take_next

from napari_activeft import annotation_db, voxels, workflow
from napari_activeft.exports import export
from napari_activeft.settings import ImportSettings, SubmitSettings
from napari_activeft.voxels import UNLABELLED


def test_store_and_core_mean_the_same_value():
    assert annotation_db.UNLABELLED == voxels.UNLABELLED


# In


def test_scribbles_are_imported_with_their_value_for_unlabelled(tmp_path, images):
    path = images / "patient2" / "p2_frame1_gt.nii.gz"
    image = nib.load(path)
    values = np.asarray(image.dataobj).copy()
    values[3:] = 4
    path.unlink()
    write_nifti(path, values, image.affine)
    with make_project(tmp_path / "p", images, labels="*_gt.nii.gz") as project:
        result = workflow.import_labels(project, ImportSettings(unlabelled=4))

        assert (result.stored, result.problems) == (12, [])
        for volume in project.store.volumes():
            truth = label_array(project, volume.name).astype(np.uint16)
            truth[truth == 4] = UNLABELLED
            masks = project.store.accepted_masks(volume.volume_id)
            np.testing.assert_array_equal(np.stack([masks[n] for n in range(4)]), truth)


def test_a_submitted_mask_may_leave_pixels_unlabelled(project, tmp_path):
    select(project, "1")
    taken = take_next(project, tmp_path / "out")
    mask = np.full(SHAPE[1:], 255, np.uint8)
    mask[0], mask[1] = 0, 2
    np.save(tmp_path / "mask.npy", mask)

    result = workflow.submit(
        project, SubmitSettings(ticket=taken.ticket, mask=tmp_path / "mask.npy", unlabelled=255)
    )

    assert result.pixels == {"corner": 11, "unlabelled": 77}
    stored = project.store.mask(result.revision)
    np.testing.assert_array_equal(stored, np.where(mask == 255, UNLABELLED, mask.astype(int)))


def test_the_value_that_says_unlabelled_is_named_on_the_command_line(
    project, command_line, tmp_path
):
    select(project, "1")
    taken = take_next(project, tmp_path / "out")
    np.save(tmp_path / "mask.npy", np.full(SHAPE[1:], 4, np.uint8))
    answer = ("submit", tmp_path / "mask.npy", "--ticket", taken.ticket)

    assert "holds class 4" in command_line.refusal(*answer)
    assert command_line.json(*answer, "--unlabelled", "4")["pixels"] == {"unlabelled": 99}
    assert command_line.json("import-labels", "--unlabelled", "4")["stored"] == 11
    assert "unlabelled" in command_line.refusal(*answer, "--unlabelled", "-1", code=2)


# Out


@pytest.fixture
def scribbled(tmp_path):
    """One volume, labelled on all slices, of which the third is labelled in part."""
    volume = label(write_source(tmp_path / "image.nii.gz"), name="v", positions=None)
    masks = dict(volume.masks())
    masks[2] = masks[2].astype(np.uint16)
    masks[2][1:] = UNLABELLED
    return dataclasses.replace(volume, masks=lambda: masks)


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def as_array(path):
    return np.asanyarray(nib.load(path).dataobj).T


def test_nnunet_gets_its_ignore_label_where_nobody_labelled(scribbled, out):
    report = export("nnunet", [scribbled], CLASSES, out, name="x")

    folder = out / "Dataset001_x"
    assert json.loads((folder / "dataset.json").read_text())["labels"]["ignore"] == 4
    written = as_array(folder / "labelsTr" / "v.nii.gz")
    masks = scribbled.masks()
    assert np.array_equal(written == 4, np.stack([masks[n] == UNLABELLED for n in range(5)]))
    assert np.array_equal(written[0], np.where(masks[0] == 5, 2, masks[0]))
    assert any('have the label "ignore"' in note for note in report.notes)


@pytest.mark.parametrize(("format_name", "where"), [("nifti", "labels.json"), ("bids", "sidecar")])
def test_label_maps_have_background_there_and_say_where(scribbled, out, format_name, where):
    report = export(format_name, [scribbled], CLASSES, out, name="x")

    (written,) = out.rglob("*.nii.gz")
    masks = scribbled.masks()
    truth = np.stack([np.where(masks[n] == UNLABELLED, 0, masks[n]) for n in range(5)])
    assert np.array_equal(as_array(written), truth)
    (note,) = report.notes
    assert note.startswith("In 1 slices some pixels were not labelled")
    assert where in note
    text = "".join(path.read_text(encoding="utf-8") for path in out.rglob("*.json"))
    assert '_positions": [\n        2\n' in text or 'PartlyLabelledPositions": [\n    2\n' in text


def test_coco_leaves_them_out_of_all_annotations_and_marks_the_picture(scribbled, out):
    report = export("coco", [scribbled], CLASSES, out, name="x")

    written = json.loads((out / "annotations.json").read_text())
    assert {one["category_id"] for one in written["annotations"]} == {1, 5}
    assert [image["partly_labelled"] for image in written["images"]] == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert "partly_labelled" in report.notes[0]
