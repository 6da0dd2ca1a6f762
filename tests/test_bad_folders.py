"""Folders as they are in life: one bad file is named, and stops none of the good ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imagemaking import distinct, patch_header, write_dicom, write_itk, write_nifti
from PIL import Image
from projectmaking import (
    add,
    assert_sentence,
    make_project,
    select,
    sentences,
    without_privileges,
    write_folder,
    write_volume,
)

from napari_activeft import intake, workflow
from napari_activeft.intake import looks_like_a_label_map
from napari_activeft.project import Project

GOOD = 3


def zero_spacing(path: Path) -> None:
    write_nifti(path.with_suffix(""), distinct((4, 5, 6)))
    patch_header(path.with_suffix(""), pixdim=[1, 0, 1, 1, 0, 0, 0, 0])


def singular(path: Path) -> None:
    write_nifti(path.with_suffix(""), distinct((4, 5, 6)), codes=(1, 0))
    patch_header(path.with_suffix(""), srow_x=[1, 0, 0, 0], srow_y=[1, 0, 0, 0])


def not_finite(value: float):
    def write(path: Path) -> None:
        data = distinct((4, 5, 6), np.float32)
        data[1, 2, 3] = value
        write_nifti(path, data)

    return write


def of_dtype(dtype, shape=(4, 5, 6)):
    def write(path: Path) -> None:
        nib.save(nib.Nifti1Image(np.zeros(shape, dtype), np.eye(4)), path)

    return write


def truncated(path: Path) -> None:
    write_volume(path, shape=(20, 30, 40))
    path.write_bytes(path.read_bytes()[:5000])


def truncated_plain(path: Path) -> None:
    write_volume(path.with_suffix(""), shape=(20, 30, 40))
    path.with_suffix("").write_bytes(path.with_suffix("").read_bytes()[:5000])


BAD = {
    "empty": lambda path: path.write_bytes(b""),
    "no gzip": lambda path: path.write_bytes(b"this is text"),
    "truncated": truncated,
    "truncated plain": truncated_plain,
    "only a header": lambda path: path.write_bytes(b"\x1f\x8b"),
    "NaN": not_finite(np.nan),
    "infinite": not_finite(-np.inf),
    "complex": of_dtype(np.complex64),
    "rgb": of_dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]),
    "time series": of_dtype(np.int16, (4, 5, 6, 3)),
    "a line": of_dtype(np.int16, (4, 1, 1)),
    "zero spacing": zero_spacing,
    "singular affine": singular,
    "png of text": lambda path: path.with_name("bad.png").write_bytes(b"no picture"),
    "png cut off": lambda path: cut_png(path.with_name("bad.png")),
    "tiff of text": lambda path: path.with_name("bad.tif").write_bytes(b"II*\0nothing"),
    "nrrd of text": lambda path: path.with_name("bad.nrrd").write_bytes(b"NRRD0004\n"),
    "mha without data": lambda path: cut_mha(path.with_name("bad.mha")),
    "dicom of nothing": lambda path: path.with_name("bad.dcm").write_bytes(b"\0" * 128 + b"DICM"),
    "dicom of text": lambda path: path.with_name("bad.dcm").write_bytes(b"no image at all"),
    "dicom without suffix": lambda path: path.with_name("IM1").write_bytes(b"\0" * 128 + b"DICM"),
    "a folder": lambda path: path.mkdir(),
    "too wide": lambda path: Image.new("L", (5000, 3)).save(path.with_name("bad.png")),
}


def cut_png(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, size=(40, 40), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-300])


def cut_mha(path: Path) -> None:
    write_itk(path, distinct((4, 5, 6)))
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("kind", BAD)
def test_one_bad_file_is_listed_and_the_good_ones_are_added(tmp_path, kind):
    images = write_folder(tmp_path / "images")
    (images / "patient2" / "sub").mkdir()
    BAD[kind](images / "patient2" / "sub" / "bad.nii.gz")
    with make_project(tmp_path / "p") as project:
        result = add(project, images, labels="*_gt.nii.gz")

        assert (result.added, result.label_maps) == (GOOD, GOOD)
        if kind == "a folder":
            assert result.problems == []
            return
        (problem,) = result.problems
        assert "patient2/sub" in problem.path
        assert_sentence(problem.sentence)
        assert "should not happen" not in problem.sentence
        # And the rest of the way is open.
        assert select(project, "1.0").selected == 4 * GOOD
        assert workflow.import_labels(project).stored == 4 * GOOD
        assert workflow.export(project).volumes == GOOD
        assert workflow.doctor(project).faults == []


def test_label_maps_that_are_added_as_images_are_pointed_out(tmp_path):
    for seed, name in enumerate(("images/a.nii.gz", "labels/a.nii.gz", "images/b_gt.nii.gz")):
        write_volume(tmp_path / "in" / name, seed=seed)
    with Project.open(workflow.init(tmp_path / "p").folder) as project:
        told = workflow.add(project, tmp_path / "in")

    assert (told.added, told.label_like) == (3, ["images/b_gt", "labels/a"])


@pytest.mark.parametrize(
    ("path", "is_label"),
    [
        ("a_segmentation.png", True),
        ("gt/a.nii.gz", True),
        ("sub.01_seg.nii.gz", True),
        ("x-labelmap.nrrd", True),
        ("segment.nii.gz", False),
        ("labelled/a.nii", False),
        ("unmasked.png", False),
    ],
)
def test_names_tell_label_maps(path, is_label):
    assert looks_like_a_label_map(Path(path)) == is_label


def test_an_image_that_is_refused_for_another_reason_decides_no_channels(tmp_path, monkeypatch):
    monkeypatch.setattr(intake, "MAX_SIDE", 40)
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(np.zeros((50, 60, 3), np.uint8)).save(folder / "0_banner.png")
    write_volume(folder / "a.nii.gz", seed=1)
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(folder / "z_logo.png")
    with Project.open(workflow.init(tmp_path / "p").folder) as project:
        told = workflow.add(project, folder)

    assert told.added == 1
    assert [Path(one.path).name for one in told.problems] == ["0_banner.png", "z_logo.png"]
    assert "such as a, have 1" in told.problems[1].sentence


def test_a_folder_without_an_image_ends_with_another_code(command_line, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("none")
    command_line.bare("init", command_line.project)

    assert "no image was taken" in command_line("add", tmp_path / "in", code=1).stdout


def test_every_bad_file_of_a_folder_is_listed(tmp_path):
    images = write_folder(tmp_path / "images", labels=False)
    kinds = [kind for kind in BAD if kind != "a folder"]
    for number, kind in enumerate(kinds):
        (images / f"bad{number}").mkdir()
        BAD[kind](images / f"bad{number}" / "bad.nii.gz")
    with make_project(tmp_path / "p") as project:
        result = add(project, images)

        assert result.added == GOOD
        named = {Path(problem.path).relative_to(images).parts[0] for problem in result.problems}
        assert named == {f"bad{number}" for number in range(len(kinds))}


def test_a_bad_channel_drops_its_volume_alone(tmp_path):
    folder = tmp_path / "images"
    for patient in range(3):
        for number, name in enumerate(("t1", "t2")):
            write_volume(folder / f"p{patient}_{name}.nii.gz", seed=10 * patient + number)
    write_volume(folder / "p1_t2.nii.gz", shape=(4, 9, 12), seed=3)
    (folder / "p2_t1.nii.gz").write_bytes(b"")
    with make_project(tmp_path / "p") as project:
        result = add(project, folder, channels=("*_t1.nii.gz", "*_t2.nii.gz"))

        assert result.added == 1
        assert len(result.problems) == 2
        said = " ".join(problem.sentence for problem in result.problems)
        assert "p1_t2.nii.gz: it does not fit the channel p1_t1.nii.gz" in said
        assert "p2_t1.nii.gz: it is empty" in said


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (np.zeros((4, 9, 10), np.uint8), "shape"),
        (np.full((4, 9, 11), 0.5, np.float32), "whole numbers"),
        (np.full((4, 9, 11), -1, np.int16), "-1"),
        (np.full((4, 9, 11), 70_000, np.int32), "70000"),
        (None, "affine"),
    ],
)
def test_a_label_map_that_does_not_fit_leaves_its_image_without_one(tmp_path, label, said):
    write_volume(tmp_path / "images" / "a.nii.gz", labels=True)
    path = tmp_path / "images" / "a_gt.nii.gz"
    affine = nib.load(path).affine.copy()
    if label is None:
        label = np.zeros((4, 9, 11), np.uint8)
        affine[0, 3] += 2
    write_nifti(path, label.T, affine)
    with make_project(tmp_path / "p") as project:
        result = add(project, tmp_path / "images", labels="*_gt.nii.gz")

        assert (result.added, result.label_maps) == (1, 0)
        assert said in sentences(result)["a_gt.nii.gz"]
        assert_sentence(sentences(result)["a_gt.nii.gz"])


def test_a_label_map_that_was_mended_is_taken_by_adding_again(tmp_path):
    images = write_folder(tmp_path / "images")
    good = images / "patient1" / "p1_frame1_gt.nii.gz"
    kept = good.read_bytes()
    good.write_bytes(b"")
    with make_project(tmp_path / "p") as project:
        assert add(project, images, labels="*_gt.nii.gz").label_maps == 2
        good.write_bytes(kept)
        result = add(project, images, labels="*_gt.nii.gz")
        assert (result.known, result.label_maps, result.problems) == (3, 3, [])
        assert workflow.import_labels(project).stored == 12


def test_an_image_that_was_mended_is_taken_by_adding_again(tmp_path):
    images = write_folder(tmp_path / "images", labels=False)
    path = images / "patient1" / "p1_frame1.nii.gz"
    kept = path.read_bytes()
    path.write_bytes(kept[:100])
    with make_project(tmp_path / "p") as project:
        assert add(project, images).added == 2
        path.write_bytes(kept)
        result = add(project, images)
        assert (result.added, result.known, result.problems) == (1, 2, [])


def test_a_file_that_may_not_be_read_is_listed():
    with without_privileges() as folder:
        images = write_folder(folder / "images")
        (images / "patient1" / "p1_frame1.nii.gz").chmod(0)
        (images / "patient2" / "p2_frame1_gt.nii.gz").chmod(0)
        (images / "protected.dcm").write_bytes(b"\0" * 128 + b"DICM")
        (images / "protected.dcm").chmod(0)
        with make_project(folder / "p") as project:
            result = add(project, images, labels="*_gt.nii.gz")

            assert (result.added, result.label_maps) == (2, 1)
            assert set(sentences(result)) == {
                "p1_frame1.nii.gz",
                "p1_frame1_gt.nii.gz",  # its image was passed over
                "p2_frame1_gt.nii.gz",
                "protected.dcm",
            }
            for sentence in sentences(result).values():
                assert_sentence(sentence)


def test_a_file_that_vanishes_meanwhile_is_listed(tmp_path):
    images = write_folder(tmp_path / "images", labels=False)
    with make_project(tmp_path / "p") as project:

        def vanish(done: int, total: int) -> None:
            (images / "patient3" / "p3_frame1.nii.gz").unlink(missing_ok=True)

        result = workflow.add(project, images, on_progress=vanish)

        assert result.added == 2
        assert_sentence(sentences(result)["p3_frame1.nii.gz"])


def test_a_damaged_dicom_series_is_listed(tmp_path):
    write_dicom(tmp_path / "images" / "good", distinct((3, 8, 9)))
    files = write_dicom(tmp_path / "images" / "bad", distinct((4, 8, 9)) + 1, series="1.2.3.9")
    files[1].unlink()
    with make_project(tmp_path / "p") as project:
        result = add(project, tmp_path / "images")
        assert (result.added, list(sentences(result))) == (1, ["bad"])
        assert "gaps" in sentences(result)["bad"]


def test_pictures_of_different_sizes_are_no_stack(tmp_path):
    for name, size in (("1", (4, 5)), ("2", (4, 6))):
        (tmp_path / "images" / "s").mkdir(parents=True, exist_ok=True)
        Image.fromarray(distinct(size, np.uint8)).save(tmp_path / "images" / "s" / f"{name}.png")
    write_volume(tmp_path / "images" / "v.nii.gz")
    with make_project(tmp_path / "p") as project:
        result = add(project, tmp_path / "images", stack=True)
        assert (result.added, list(sentences(result))) == (1, ["s"])


def test_names_with_spaces_and_any_letters_go_the_whole_way(tmp_path):
    images = tmp_path / "Bilder für Ä & 患者"
    for number, name in enumerate(("Müller, Jörg", "患者 1", "a'b [2] {3}")):
        write_volume(images / name / f"scan {name}.nii.gz", seed=number, labels=" gt")
    with make_project(tmp_path / "Projekt Ö", images, labels="* gt.nii.gz") as project:
        select(project, "1.0")
        assert workflow.import_labels(project).stored == 12
        for kind in ("nifti", "nnunet", "coco", "bids"):
            from napari_activeft.settings import ExportSettings

            assert workflow.export(project, ExportSettings(format=kind)).volumes == 3
        assert workflow.doctor(project).faults == []


def test_a_project_beside_its_images_is_not_added(tmp_path):
    images = write_folder(tmp_path / "images")
    with make_project(images / "project", images, labels="*_gt.nii.gz") as project:
        workflow.import_labels(project)
        workflow.export(project)
        result = add(project, images, labels="*_gt.nii.gz")
        assert (result.added, result.known, result.problems) == (0, 3, [])


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(0, 1500), flip=st.integers(0, 1500), bit=st.integers(0, 7))
def test_whatever_happened_to_a_file_nothing_is_raised(tmp_path_factory, cut, flip, bit):
    folder = tmp_path_factory.mktemp("harm")
    write_volume(folder / "images" / "good.nii.gz", seed=1)
    write_volume(folder / "images" / "bad.nii", seed=2)
    raw = bytearray((folder / "images" / "bad.nii").read_bytes())
    raw[flip % len(raw)] ^= 1 << bit
    (folder / "images" / "bad.nii").write_bytes(raw[: max(len(raw) - cut, 0)])
    with make_project(folder / "p") as project:
        result = add(project, folder / "images")

        assert result.added + len(result.problems) == 2
        assert "good" in {volume.name for volume in project.store.volumes()}
        for problem in result.problems:
            assert_sentence(problem.sentence)
    shutil.rmtree(folder)
