import numpy as np
import pytest
from imagemaking import shared
from napari_activeft.annotation_db import UNLABELLED
from projectmaking import (
    add,
    assert_sentence,
    label_array,
    make_project,
    write_folder,
    write_volume,
)

from napari_activeft import workflow
from napari_activeft.errors import UserError
from napari_activeft.training.dataset import SliceDataset
from napari_activeft.training.view import fit_view
from napari_activeft.training_data import class_values, labelled_volumes, stacks


@pytest.fixture
def split_project(tmp_path):
    """Two cases that train, one for validation and one for test, all labelled."""
    images = write_folder(tmp_path / "images", patients=4)
    table = tmp_path / "split.csv"
    table.write_text("case,split\npatient1,pool\npatient2,pool\npatient3,val\npatient4,test\n")
    with make_project(tmp_path / "p", images, labels="*_gt.nii.gz", split=table) as project:
        workflow.import_labels(project)
        yield project


def test_only_the_splits_that_were_asked_for_come(split_project):
    def cases(*splits):
        return [volume.case for volume in labelled_volumes(split_project, splits)]

    assert [volume.case for volume in labelled_volumes(split_project)] == ["patient1", "patient2"]
    assert cases("val") == ["patient3"]
    assert cases("test", "val") == ["patient3", "patient4"]


def test_a_dataset_for_training_refuses_what_the_project_keeps_apart(split_project):
    volumes = labelled_volumes(split_project, ("pool", "val"))

    with pytest.raises(UserError, match="case patient3") as refusal:
        SliceDataset(volumes, fit_view(volumes), class_values(split_project), training=True)
    assert_sentence(str(refusal.value))


def test_a_volume_comes_as_it_is_stored_with_the_masks_that_count(split_project):
    volume, _ = labelled_volumes(split_project)
    labels = label_array(split_project, volume.name)

    assert (volume.depth, volume.shape, volume.spacing) == (4, (1, 9, 11), (1.0, 1.5))
    assert sorted(volume.masks) == [0, 1, 2, 3]
    for position, mask in volume.masks.items():
        np.testing.assert_array_equal(mask, labels[position])
    slices = volume.read([3, 0])
    assert slices.shape == (2, 1, 9, 11)
    assert slices.dtype == np.float32
    assert (slices.min(), slices.max()) == (0.0, 1.0)


def test_a_volume_without_an_accepted_mask_is_left_out(tmp_path):
    images = write_folder(tmp_path / "images", patients=2, labels=False)
    write_volume(images / "patient3" / "p3_frame1.nii.gz", seed=3, labels=True)
    with make_project(tmp_path / "p", images, labels="*_gt.nii.gz") as project:
        assert labelled_volumes(project) == []
        workflow.import_labels(project)

        assert [volume.case for volume in labelled_volumes(project)] == ["patient3"]
        assert len(stacks(project)) == 3


def test_pixels_that_nobody_labelled_are_ignored(tmp_path):
    scribble = np.full((9, 11), UNLABELLED, np.uint16)
    scribble[0, 0], scribble[4] = 2, 0
    images = write_folder(tmp_path / "images", patients=1, labels=False)
    with make_project(tmp_path / "p", images) as project:
        (record,) = project.store.volumes()
        project.store.import_masks(record.volume_id, {1: scribble}, "ann")
        volumes = labelled_volumes(project)

        dataset = SliceDataset(volumes, fit_view(volumes, pixel_mm=None), [1, 2], training=True)

    target = dataset.examples[0].target
    assert (target[0, 0], target[4].tolist(), (target == -1).sum()) == (2, [0] * 11, 87)


def test_volumes_to_predict_come_without_masks(split_project):
    everything = stacks(split_project)
    chosen = stacks(split_project, split_project.store.volumes()[1:2])

    assert [volume.case for volume in everything] == [f"patient{n}" for n in range(1, 5)]
    assert [volume.case for volume in chosen] == ["patient2"]
    assert not any(volume.masks for volume in everything)
    np.testing.assert_array_equal(chosen[0].read([1]), everything[1].read([1]))


def test_classes_come_in_the_order_of_their_values(tmp_path):
    with make_project(tmp_path / "p", classes=("7=clot", "2=wall")) as project:
        assert class_values(project) == [2, 7]


def test_a_project_without_a_class_is_refused(tmp_path):
    with (
        make_project(tmp_path / "p", classes=()) as project,
        pytest.raises(UserError, match="no class") as refusal,
    ):
        class_values(project)
    assert_sentence(str(refusal.value))


def test_an_image_that_changed_is_not_learnt_from(split_project, tmp_path):
    volumes = labelled_volumes(split_project)
    write_volume(tmp_path / "images" / "patient1" / "p1_frame1.nii.gz", seed=99)

    with pytest.raises(UserError, match="changed since it was added"):
        SliceDataset(volumes, fit_view(volumes), [1, 2], training=True)


def test_a_real_heart_trains_in_2_5_d(tmp_path):
    folder = tmp_path / "heart"
    folder.mkdir()
    for file in shared("acdc/patient004").glob("*frame01*"):
        (folder / file.name).symlink_to(file)
    with make_project(tmp_path / "p", classes=("1=RV", "2=Myo", "3=LV"), images=None) as project:
        add(project, folder, labels="*_gt.nii.gz")
        workflow.import_labels(project)
        volumes = labelled_volumes(project)
        view = fit_view(volumes, pixel_mm=1.5, size=160, context=1)

        dataset = SliceDataset(volumes, view, class_values(project), training=True)
        images, targets = dataset.batch(range(4), np.random.default_rng(0))

    assert images.shape == (4, 3, 160, 160)
    assert set(np.unique(targets)) - {-1} == {0, 1, 2, 3}
    assert dataset.balance().never_labelled == []
