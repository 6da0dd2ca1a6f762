"""Exports appear whole or not at all, and lie exactly on their images."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imagemaking import write_nifti
from projectmaking import (
    assert_sentence,
    label_array,
    labels_of,
    make_project,
    read_json,
    select,
    write_volume,
)

from napari_activeft import workflow
from napari_activeft.errors import Cancelled, UserError
from napari_activeft.exports import EXPORTERS
from napari_activeft.project import Project
from napari_activeft.settings import ExportSettings, ImportSettings
from napari_activeft.volume import open_volume
from napari_activeft.whole_folder import whole_folder

ONLY_QUERIED = ImportSettings(only_queried=True)


def exported(project: Project, **settings) -> Path:
    return workflow.export(project, ExportSettings(**settings)).folder


def oblique(angle: float) -> np.ndarray:
    affine = np.eye(4)
    cos, sin = np.cos(angle), np.sin(angle)
    affine[:3, :3] = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, -1]]) @ np.diag([0.7, 1.1, 4])
    affine[:3, 3] = (-33.3, 12.7, 5.1)
    return affine


@pytest.mark.parametrize("angle", [0.0, 0.4, 2.0])
def test_an_exported_label_map_lies_exactly_on_its_image(tmp_path, angle, rng):
    data = rng.integers(0, 900, size=(7, 6, 5)).astype(np.int16)
    folder = tmp_path / "images"
    folder.mkdir()
    write_nifti(folder / "a.nii.gz", data, oblique(angle), codes=(1, 1))
    write_nifti(folder / "a_gt.nii.gz", (data > 500).astype(np.uint8), oblique(angle))
    with make_project(tmp_path / "p", folder, labels="*_gt.nii.gz") as project:
        workflow.import_labels(project)
        written = nib.load(exported(project) / "a.nii.gz")

    source = nib.load(folder / "a.nii.gz")
    np.testing.assert_array_equal(written.affine, source.affine)
    assert written.shape == source.shape
    assert written.header.get_zooms() == source.header.get_zooms()
    for field in ("sform_code", "qform_code", "xyzt_units", "quatern_b", "qoffset_x", "srow_x"):
        np.testing.assert_array_equal(written.header[field], source.header[field])
    np.testing.assert_array_equal(np.asarray(written.dataobj), (data > 500).astype(np.uint8))


@pytest.mark.parametrize("kind", EXPORTERS)
def test_every_format_is_exported_to_its_own_folder(project, kind):
    workflow.import_labels(project)
    seen = []
    result = workflow.export(
        project, ExportSettings(format=kind), lambda done, total: seen.append((done, total))
    )

    assert result.folder == project.folder / "exports" / kind
    assert (result.format, result.volumes, result.slices) == (kind, 3, 12)
    visible = [p for p in result.folder.rglob("*") if p.is_file() and p.name[0] != "."]
    assert len(visible) >= result.files > 0
    assert seen[-1] == (3, 3)


def test_an_export_without_a_mask_is_refused_and_leaves_no_folder(project, tmp_path):
    with pytest.raises(UserError, match="accepted mask") as refusal:
        exported(project, out=tmp_path / "out")
    assert_sentence(str(refusal.value))
    assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_an_export_replaces_nothing_that_it_did_not_write(project, tmp_path):
    workflow.import_labels(project)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("a file")

    for name in ("mine", "file"):
        for overwrite in (False, True):
            with pytest.raises(UserError, match="no export of this program") as refusal:
                exported(project, out=tmp_path / name, overwrite=overwrite)
            assert_sentence(str(refusal.value))
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert (tmp_path / "file").read_text() == "a file"


def test_an_empty_folder_may_be_exported_into(project, tmp_path):
    workflow.import_labels(project)
    (tmp_path / "empty").mkdir()
    assert (exported(project, out=tmp_path / "empty") / "labels.json").is_file()


def test_an_earlier_export_is_replaced_on_request_only(project):
    select(project, "2")
    workflow.import_labels(project, ONLY_QUERIED)
    out = exported(project)
    (out / "stale").touch()
    with pytest.raises(UserError, match="--overwrite") as refusal:
        exported(project)
    assert_sentence(str(refusal.value))
    workflow.import_labels(project)

    exported(project, overwrite=True)

    assert not (out / "stale").exists()
    assert len(read_json(out / "labels.json")["files"]) == 3


@pytest.mark.parametrize("failure", [Cancelled, OSError(28, "No space left on device"), KeyError])
def test_an_export_that_fails_leaves_the_earlier_one_as_it_was(project, failure):
    workflow.import_labels(project)
    out = exported(project)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def fail(done: int, total: int) -> None:
        raise failure

    expected = UserError if isinstance(failure, OSError) else failure
    with pytest.raises(expected):
        workflow.export(project, ExportSettings(overwrite=True), fail)

    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in out.parent.iterdir()] == ["nifti"]


def test_a_folder_that_cannot_be_put_in_place_leaves_the_earlier_one(tmp_path, monkeypatch):
    with whole_folder(tmp_path / "out", overwrite=False) as staging:
        (staging / "first").touch()
    plain = Path.replace

    def full_disk(path: Path, target: Path) -> Path:
        if target == tmp_path / "out" and (path / "second").exists():
            raise OSError(28, "No space left on device")
        return plain(path, target)

    monkeypatch.setattr(Path, "replace", full_disk)
    with (
        pytest.raises(UserError, match="No space left"),
        whole_folder(tmp_path / "out", overwrite=True) as staging,
    ):
        (staging / "second").touch()

    assert (tmp_path / "out" / "first").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_linked_export_folder_stays_a_link(project, tmp_path):
    workflow.import_labels(project)
    (tmp_path / "large disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "large disk")
    for overwrite in (False, True):
        exported(project, out=tmp_path / "link", overwrite=overwrite)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "large disk" / "labels.json").is_file()


def test_held_out_volumes_are_exported_and_marked(tmp_path, images):
    table = tmp_path / "s.csv"
    table.write_text("case,split\npatient1,val\npatient2,pool\npatient3,test\n")
    with make_project(tmp_path / "p", images, split=table, labels="*_gt.nii.gz") as project:
        workflow.import_labels(project)
        files = read_json(exported(project) / "labels.json")["files"]
        assert sorted(entry["split"] for entry in files) == ["pool", "test", "val"]


def test_multi_channel_volumes_are_exported_channel_by_channel(tmp_path):
    for number, name in enumerate(("t1", "t2")):
        write_volume(tmp_path / "images" / f"x_{name}.nii.gz", seed=number)
    image = nib.load(tmp_path / "images" / "x_t1.nii.gz")
    write_nifti(
        tmp_path / "images" / "x_seg.nii.gz",
        labels_of(np.asarray(image.dataobj)),
        image.affine,
    )
    channels = ("*_t1.nii.gz", "*_t2.nii.gz")
    with make_project(
        tmp_path / "p", tmp_path / "images", channels=channels, labels="*_seg.nii.gz"
    ) as project:
        workflow.import_labels(project)
        (folder,) = exported(project, format="nnunet").glob("Dataset*")
        names = sorted(path.name for path in (folder / "imagesTr").iterdir())
        assert names == ["x_0000.nii.gz", "x_0001.nii.gz"]
        second = np.asarray(nib.load(folder / "imagesTr" / names[1]).dataobj)
        source = np.asarray(nib.load(tmp_path / "images" / "x_t2.nii.gz").dataobj)
        np.testing.assert_array_equal(second, source)


@pytest.mark.parametrize("name", ["Heart", "AMOS2022_task-2"])
def test_a_folder_called_like_a_data_set_of_nnunet_becomes_that_data_set(project, tmp_path, name):
    workflow.import_labels(project)
    out = tmp_path / "nnUNet_raw" / f"Dataset501_{name}"

    made = workflow.export(project, ExportSettings(format="nnunet", out=out))

    assert made.folder == out
    assert (out / "imagesTr").is_dir()
    assert read_json(out / "dataset.json")["name"] == name
    assert not list(out.glob("Dataset*"))
    with pytest.raises(UserError, match="Dataset12_x was given"):
        workflow.export(project, ExportSettings(format="nnunet", out=tmp_path / "Dataset12_x"))


# The whole way, for any volume


@settings(max_examples=12, deadline=None)
@given(
    shape=st.tuples(*[st.integers(2, 7)] * 3),
    plane=st.sampled_from(["auto", "z", "y", "x"]),
    budget=st.integers(1, 3),
    seed=st.integers(0, 100),
)
def test_what_is_imported_is_what_is_exported(tmp_path_factory, shape, plane, budget, seed):
    folder = tmp_path_factory.mktemp("way")
    write_volume(folder / "images" / "a.nii", shape, seed, (1.0, 2.0, 3.0), labels=True)
    with make_project(folder / "p", folder / "images", plane=plane, labels="*_gt.nii") as project:
        budget = min(budget, len(project.store.pool_slices()))
        select(project, budget, seed=seed)
        workflow.import_labels(project, ONLY_QUERIED)
        out = exported(project)
        (record,) = project.store.volumes()
        truth = label_array(project, "a")

    (entry,) = read_json(out / "labels.json")["files"]
    written = np.asarray(nib.load(out / entry["file"]).dataobj).T
    labelled = entry["labelled_positions"]
    assert len(labelled) == budget
    along, truth_along = np.moveaxis(written, record.axis, 0), np.moveaxis(truth, record.axis, 0)
    np.testing.assert_array_equal(along[labelled], truth_along[labelled])
    assert not np.delete(along, labelled, 0).any()


def test_png_pictures_go_the_whole_way(tmp_path, rng):
    from PIL import Image

    folder = tmp_path / "nuclei"
    (folder / "masks").mkdir(parents=True)
    truth = {}
    for number in range(4):
        pixels = rng.integers(0, 255, size=(12, 17, 3), dtype=np.uint8)
        mask = (pixels[..., 0] > 128).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"cell {number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"cell {number}.png")
        truth[f"cell {number}"] = mask
    with make_project(tmp_path / "p", folder, labels="masks/*.png", classes=["nucleus"]) as project:
        assert select(project, "50%").selected == 2
        assert workflow.import_labels(project, ONLY_QUERIED).stored == 2
        out = exported(project)
        entries = read_json(out / "labels.json")["files"]
        assert len(entries) == 2
        for entry in entries:
            written = nib.load(out / entry["file"])
            np.testing.assert_array_equal(np.asarray(written.dataobj).T[0], truth[entry["name"]])
        source = open_volume(folder / f"{entries[0]['name']}.png")
        np.testing.assert_array_equal(written.affine, source.affine)


def test_what_a_killed_export_left_is_removed_when_it_is_surely_dead(project, tmp_path):
    workflow.import_labels(project)
    old, young = tmp_path / ".out-0123abcd", tmp_path / ".out-4567abcd"
    for leftover in (old, young):
        leftover.mkdir()
        (leftover / "half.nii.gz").touch()
    os.utime(old, (0, 0))

    workflow.export(project, ExportSettings(out=tmp_path / "out"))

    assert not old.exists()
    assert young.exists()
