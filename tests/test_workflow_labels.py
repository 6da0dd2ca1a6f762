"""Label maps become accepted masks, by value and along the plane of the project."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from imagemaking import write_nifti
from projectmaking import (
    add,
    assert_sentence,
    label_array,
    make_project,
    select,
    sentences,
    states,
    take_next,
    write_folder,
    write_volume,
)

from napari_activeft import workflow
from napari_activeft.errors import Cancelled, UserError
from napari_activeft.settings import ImportSettings

ONLY_QUERIED = ImportSettings(only_queried=True)


# Classes


def test_classes_from_label_maps_are_named_after_their_values(tmp_path, images):
    with make_project(tmp_path / "p", images, classes=(), labels="*_gt.nii.gz") as project:
        result = workflow.classes(project, ["2=corner"], from_labels=True)
        assert [(c.value, c.name) for c in result.classes] == [(1, "class 1"), (2, "corner")]
        assert project.store.classes() == result.classes
        assert workflow.import_labels(project).stored == 12


def test_classes_from_label_maps_need_label_maps(tmp_path, images):
    with (
        make_project(tmp_path / "p", images) as project,
        pytest.raises(UserError, match="no volume has a label map") as refusal,
    ):
        workflow.classes(project, from_labels=True)
    assert_sentence(str(refusal.value))


def test_a_class_in_use_may_be_renamed_and_not_removed(project):
    workflow.import_labels(project)
    assert workflow.classes(project, ["1=vessel"]).classes[0].name == "vessel"
    with pytest.raises(Exception, match="cannot be removed"):
        workflow.classes(project, remove=[1])
    assert len(project.store.classes()) == 2


# Import


def test_all_label_maps_are_imported_as_they_are(project):
    result = workflow.import_labels(project, ImportSettings(author="Dr. Ö"))

    assert (result.label_maps, result.stored, result.kept, result.leased) == (3, 12, 0, 0)
    for volume in project.store.volumes():
        masks = project.store.accepted_masks(volume.volume_id)
        np.testing.assert_array_equal(
            np.stack([masks[n] for n in range(4)]), label_array(project, volume.name)
        )
    revision = project.store.revisions(project.store.accepted()[0].slice_id)[0]
    assert (revision.source, revision.author) == ("imported", "Dr. Ö")


def test_importing_again_keeps_what_is_there(project):
    workflow.import_labels(project)
    result = workflow.import_labels(project)
    assert (result.stored, result.kept) == (0, 12)
    assert project.store.mask_count() == 12


def test_only_queried_imports_the_queried_slices_and_answers_them(project):
    select(project, "5", seed=1)
    asked = {(q.volume_id, q.position) for q in project.store.queries()}

    result = workflow.import_labels(project, ONLY_QUERIED)

    assert result.stored == 5
    assert {(a.volume_id, a.position) for a in project.store.accepted()} == asked
    assert states(project) == ["submitted"] * 5
    for volume in project.store.volumes():
        truth = label_array(project, volume.name)
        for position, mask in project.store.accepted_masks(volume.volume_id).items():
            np.testing.assert_array_equal(mask, truth[position])


def test_only_queried_without_a_selection_says_to_select(project):
    with pytest.raises(UserError, match="napari-activeft select") as refusal:
        workflow.import_labels(project, ONLY_QUERIED)
    assert_sentence(str(refusal.value))


def test_a_slice_that_is_being_labelled_is_left_to_whoever_does(project, tmp_path):
    select(project, "1.0")
    taken = take_next(project, tmp_path / "out")

    result = workflow.import_labels(project)

    assert (result.stored, result.leased) == (11, 1)
    assert states(project).count("leased") == 1
    assert taken.query is not None


def test_a_volume_without_a_label_map_is_counted(tmp_path, images):
    write_volume(images / "patient7" / "p7_frame1.nii.gz", seed=77)
    with make_project(tmp_path / "p", images, labels="*_gt.nii.gz") as project:
        result = workflow.import_labels(project)
        assert (result.stored, result.without_label_map, result.problems) == (12, 1, [])


def test_an_unknown_class_is_named_and_stops_no_other_label_map(tmp_path, images):
    path = images / "patient2" / "p2_frame1_gt.nii.gz"
    image = nib.load(path)
    values = np.asarray(image.dataobj).copy()
    values[0, 0, 0] = 9
    path.unlink()
    write_nifti(path, values, image.affine)
    with make_project(tmp_path / "p", images, labels="*_gt.nii.gz") as project:
        result = workflow.import_labels(project)

        assert (result.label_maps, result.stored) == (2, 8)
        assert "9" in sentences(result)["p2_frame1_gt.nii.gz"]
        assert_sentence(sentences(result)["p2_frame1_gt.nii.gz"])
        workflow.classes(project, ["9=odd"])
        again = workflow.import_labels(project)
        assert (again.stored, again.kept, again.problems) == (4, 8, [])


def test_a_label_map_that_went_missing_stops_no_other(project, images):
    (images / "patient1" / "p1_frame1_gt.nii.gz").unlink()
    result = workflow.import_labels(project)
    assert result.stored == 8
    assert "no such file" in sentences(result)["p1_frame1_gt.nii.gz"]


def test_an_import_that_is_cancelled_keeps_whole_label_maps(project):
    def stop(done: int, total: int) -> None:
        assert total == 3
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        workflow.import_labels(project, on_progress=stop)
    assert len(project.store.accepted()) == 8
    assert workflow.import_labels(project).stored == 4


@pytest.mark.parametrize("plane", ["z", "y", "x"])
def test_label_maps_are_cut_along_the_plane_of_the_project(tmp_path, images, plane):
    with make_project(tmp_path / "p", images, plane=plane, labels="*_gt.nii.gz") as project:
        workflow.import_labels(project)
        workflow.export(project)
        for file in (project.folder / "exports" / "nifti").glob("*.nii.gz"):
            patient = file.name[:8]
            truth = images / patient / f"p{patient[-1]}_frame1_gt.nii.gz"
            np.testing.assert_array_equal(
                np.asarray(nib.load(file).dataobj), np.asarray(nib.load(truth).dataobj)
            )


def test_a_bad_label_map_is_listed_and_its_image_added(tmp_path):
    images = write_folder(tmp_path / "images")
    (images / "patient1" / "p1_frame1_gt.nii.gz").write_bytes(b"no label map")
    small = images / "patient2" / "p2_frame1_gt.nii.gz"
    small.unlink()
    write_nifti(small, np.zeros((3, 3, 3), np.uint8))
    with make_project(tmp_path / "p") as project:
        result = add(project, images, labels="*_gt.nii.gz")

        assert (result.added, result.label_maps) == (3, 1)
        assert set(sentences(result)) == {"p1_frame1_gt.nii.gz", "p2_frame1_gt.nii.gz"}
        assert "the label map does not fit its image" in sentences(result)["p2_frame1_gt.nii.gz"]
        assert workflow.import_labels(project).without_label_map == 2
