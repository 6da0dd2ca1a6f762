"""Folders of DICOM and of pictures, single files, and what is neither."""

from __future__ import annotations

import pytest
from foldermaking import labels, names, problems, touch
from imagemaking import distinct, write_dicom

from napari_activeft.errors import UserError
from napari_activeft.files import find_volumes
from napari_activeft.volume import open_volume


def test_a_dicom_folder_is_one_volume_named_like_the_folder(tmp_path):
    write_dicom(tmp_path / "p1" / "ct", distinct((3, 4, 5)))

    found = find_volumes(tmp_path)

    assert names(found) == ["p1/ct"]
    assert open_volume(found.volumes[0].source).geometry.shape == (3, 4, 5)
    assert names(find_volumes(tmp_path / "p1" / "ct")) == ["ct"]


def test_each_series_of_a_dicom_folder_is_a_volume(tmp_path):
    write_dicom(tmp_path / "p1", distinct((3, 4, 5)), series="1.2.3.4")
    write_dicom(tmp_path / "p1", distinct((2, 4, 5)), series="1.2.3.5")

    found = find_volumes(tmp_path)

    assert names(found) == ["p1/series-1", "p1/series-2"]
    depths = sorted(open_volume(volume.source).geometry.shape[0] for volume in found.volumes)
    assert depths == [2, 3]


def test_dicom_files_need_no_suffix(tmp_path):
    write_dicom(tmp_path / "p1", distinct((2, 4, 5)), names=["IM1.dcm", "IM2.dcm"])
    for number in (1, 2):
        (tmp_path / f"p1/IM{number}.dcm").rename(tmp_path / f"p1/IM00{number}")
    touch(tmp_path, "p1/README")

    found = find_volumes(tmp_path)

    assert names(found) == ["p1"]
    assert found.other_files == 1


def test_a_label_map_is_paired_with_a_dicom_folder_of_its_name(tmp_path):
    write_dicom(tmp_path / "ct1", distinct((2, 4, 5)))
    touch(tmp_path, "ct1_seg.nii.gz")

    found = find_volumes(tmp_path, labels="*_seg.nii.gz")

    assert labels(found) == {"ct1": "ct1_seg.nii.gz"}


def test_a_stack_is_a_folder_of_pictures_and_leaves_volumes_alone(tmp_path):
    touch(tmp_path, "s1/1.png", "s1/2.png", "s2/1.tif", "v.nii")

    assert names(find_volumes(tmp_path)) == ["s1/1", "s1/2", "s2/1", "v"]
    found = find_volumes(tmp_path, stack=True)
    assert names(found) == ["s1", "s2", "v"]
    assert found.volumes[0].source.paths == (tmp_path / "s1",)


def test_a_stack_does_not_take_in_what_is_ignored_in_its_folder(tmp_path):
    touch(tmp_path, "s1/1.png", "s1/2.png", "s1/1_mask.png", "s2/1.png")

    found = find_volumes(tmp_path, stack=True, ignore=["*_mask.png"])

    assert names(found) == ["s2"]
    assert "1_mask.png" in problems(found)["s1"]


def test_a_single_file_is_a_volume(tmp_path):
    touch(tmp_path, "p/a.nii.gz", "p/b.nii.gz")

    found = find_volumes(tmp_path / "p/a.nii.gz")

    assert (names(found), found.root) == (["a"], tmp_path / "p")


def test_a_single_file_that_is_no_image_is_listed(tmp_path):
    touch(tmp_path, "notes.txt")

    found = find_volumes(tmp_path / "notes.txt")

    assert names(found) == []
    assert "is no image by its name" in problems(found)["notes.txt"]


def test_a_missing_path_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is nothing at"):
        find_volumes(tmp_path / "gone")


def test_an_empty_folder_holds_nothing(tmp_path):
    found = find_volumes(tmp_path)

    assert (found.volumes, found.problems, found.other_files) == ([], [], 0)
