"""The nnU-Net export, judged by nnU-Net's own check of a raw data set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

import nibabel as nib
import numpy as np
import pytest
from labelled_samples import CLASSES, expected_label_map, label, write_source

from napari_activeft.errors import UserError
from napari_activeft.exports import ClassLabel, export
from napari_activeft.volume import Source

# nnU-Net reads its folders from the environment when it is imported, and checks in processes it
# spawns: it gets an interpreter of its own.
CHECK = """
import sys
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
verify_dataset_integrity(sys.argv[1], num_processes=1)
"""


def verify(folder, tmp_path):
    """Run nnU-Net's check and return its exit code and all it said."""
    folders = {f"nnUNet_{n}": str(tmp_path / n) for n in ("raw", "preprocessed", "results")}
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(folder)],
        env={**os.environ, **folders, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def complains(said):
    # A bare "error" is in the sentence that says there was none.
    words = ("warning", "mismatch", "error:", "failed", "traceback")
    return any(word in said.lower() for word in words)


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def sources(tmp_path):
    return [write_source(tmp_path / f"{seed}.nii.gz", seed=seed) for seed in range(6)]


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def values_of(path):
    return np.asanyarray(nib.load(path).dataobj).T


def test_nnunet_accepts_the_export_and_notices_what_is_spoilt(sources, out, tmp_path):
    pytest.importorskip("nnunetv2")
    pytest.importorskip("batchgenerators")
    volumes = [
        label(sources[0], name="Müller/1 T1", case="Müller", values=(1, 5, 300)),
        label(sources[1], name="Muller_1_T1", case="Müller", axis=1, positions=None),
        label(sources[2], name="knee_seg", case="B", axis=2, positions=(0, 6)),
        label(sources[3], name="v.1", case="C", split="val"),
        label(sources[4], name="held out", case="D", split="test"),
    ]
    export("nnunet", volumes, CLASSES, out, name="Niere links")
    folder = out / "Dataset001_Nierelinks"

    code, said = verify(folder, tmp_path)
    assert code == 0, said
    assert "verify_dataset_integrity Done" in said
    assert not complains(said), said

    # The check must be able to fail, or its silence says nothing.
    victim = folder / "labelsTr" / "v_1.nii.gz"
    original = victim.read_bytes()
    image = nib.load(victim)
    moved = image.affine + np.array([[0, 0, 0, 5.0], *[[0.0] * 4] * 3])
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), moved), victim)
    code, said = verify(folder, tmp_path)
    assert code == 0, said
    assert "Origin mismatch" in said
    assert complains(said)

    victim.write_bytes(original)
    unknown = np.asanyarray(nib.load(victim).dataobj).copy()
    unknown[0, 0, 0] = 9
    nib.save(nib.Nifti1Image(unknown, image.affine, image.header), victim)
    code, said = verify(folder, tmp_path)
    assert code != 0
    assert "Unexpected labels found" in said


def test_two_aligned_files_are_two_channels_that_nnunet_accepts(tmp_path, out):
    pytest.importorskip("nnunetv2")
    pytest.importorskip("batchgenerators")
    first = write_source(tmp_path / "t1.nii.gz", dtype=np.float32, seed=1)
    second = write_source(tmp_path / "t2.nii.gz", dtype=np.float32, seed=2)
    source = Source((*first.paths, *second.paths))
    volumes = [label(source, name=n, case=n, positions=None) for n in ("a", "b")]

    export("nnunet", volumes, CLASSES, out, name="x")

    folder = out / "Dataset001_x"
    for number, path in enumerate(source.paths):
        written = folder / "imagesTr" / f"a_{number:04d}.nii.gz"
        assert np.array_equal(values_of(written), values_of(path))
        assert np.array_equal(nib.load(written).affine, nib.load(path).affine)
    dataset = read(folder / "dataset.json")
    assert dataset["channel_names"] == {"0": "channel0", "1": "channel1"}
    assert "ignore" not in dataset["labels"]
    code, said = verify(folder, tmp_path)
    assert code == 0, said
    assert not complains(said), said


def test_class_ids_become_consecutive_and_unlabelled_slices_ignored(sources, out):
    volumes = [
        label(sources[0], name="partly", case="1", values=(1, 5, 300), positions=(0, 2)),
        label(sources[1], name="wholly", case="2", values=(1, 5, 300), positions=None),
    ]
    export("nnunet", volumes, CLASSES[::-1], out, name="x")
    folder = out / "Dataset001_x"

    dataset = read(folder / "dataset.json")
    assert dataset["labels"] == {
        "background": 0,
        "left kidney": 1,
        "Läsion": 2,
        "腫瘍": 3,
        "ignore": 4,
    }
    assert (dataset["numTraining"], dataset["file_ending"]) == (2, ".nii.gz")
    for volume in volumes:
        wanted = np.searchsorted([0, 1, 5, 300], expected_label_map(volume))
        if volume.name == "partly":
            wanted[[1, 3, 4]] = 4
        assert np.array_equal(values_of(folder / "labelsTr" / f"{volume.name}.nii.gz"), wanted)
    manifest = read(folder / "manifest.json")
    back = {c["nnunet_value"]: (c["value"], c["name"]) for c in manifest["classes"]}
    assert back == {0: (0, "background"), 1: (1, "left kidney"), 2: (5, "Läsion"), 3: (300, "腫瘍")}
    assert [f["labelled_positions"] for f in manifest["files"]] == [[0, 2], [0, 1, 2, 3, 4]]


def test_image_and_label_map_share_their_header_geometry(sources, out):
    export("nnunet", [label(sources[0], name="v")], CLASSES, out, name="x")
    folder = out / "Dataset001_x"
    image = nib.load(folder / "imagesTr" / "v_0000.nii.gz")
    labels = nib.load(folder / "labelsTr" / "v.nii.gz")
    source = nib.load(sources[0].paths[0])
    for other in (labels, source):
        assert image.header.get_sform().tobytes() == other.header.get_sform().tobytes()
        assert image.header.get_qform().tobytes() == other.header.get_qform().tobytes()
    assert np.array_equal(np.asanyarray(image.dataobj), np.asanyarray(source.dataobj))


def test_test_volumes_lie_apart_and_validation_volumes_are_the_only_fold(sources, out):
    volumes = [
        label(sources[0], name="a", case="1"),
        label(sources[1], name="b", case="2"),
        label(sources[2], name="c", case="3", split="val"),
        label(sources[3], name="d", case="4", split="test"),
    ]
    report = export("nnunet", volumes, CLASSES, out, name="x")
    folder = out / "Dataset001_x"

    assert sorted(p.name for p in (folder / "imagesTs").iterdir()) == ["d_0000.nii.gz"]
    assert sorted(p.name for p in (folder / "labelsTs").iterdir()) == ["d.nii.gz"]
    assert sorted(p.name for p in (folder / "labelsTr").iterdir()) == [f"{n}.nii.gz" for n in "abc"]
    assert read(folder / "splits_final.json") == [{"train": ["a", "b"], "val": ["c"]}]
    assert any(
        "nnUNet_preprocessed/Dataset001_x/" in n and "fold 0 only" in n for n in report.notes
    )


@pytest.mark.parametrize(("cases", "folds"), [("AABBC", 3), ("ABCDEF", 5), ("AB", 2)])
def test_folds_never_put_one_case_on_both_sides(cases, folds, sources, out):
    volumes = [label(sources[i], name=f"v{i}", case=case) for i, case in enumerate(cases)]
    export("nnunet", volumes, CLASSES, out, name="x")
    splits = read(out / "Dataset001_x" / "splits_final.json")

    case_of = {volume.name: volume.case for volume in volumes}
    assert len(splits) == folds
    for split in splits:
        sides = [{case_of[v] for v in split[side]} for side in ("train", "val")]
        assert all(sides)
        assert not sides[0] & sides[1]
        assert sorted(split["train"] + split["val"]) == sorted(case_of)
    held_out = Counter(v for split in splits for v in split["val"])
    assert held_out == dict.fromkeys(case_of, 1)


def test_a_single_case_has_no_folds_and_the_report_says_so(sources, out):
    volumes = [label(s, name=f"v{i}") for i, s in enumerate(sources)]
    report = export("nnunet", volumes, CLASSES, out, name="x")
    assert not (out / "Dataset001_x" / "splits_final.json").exists()
    assert any("no folds" in note for note in report.notes)


def test_classes_named_as_nnunet_names_its_own_are_renamed(sources, out):
    classes = (
        ClassLabel(1, "ignore", "#000001"),
        ClassLabel(2, "background", "#000002"),
        ClassLabel(3, "ignore (class 1)", "#000003"),
    )
    volume = label(sources[0], name="v", values=(1, 2, 3))
    report = export("nnunet", [volume], classes, out, name="x")
    assert read(out / "Dataset001_x" / "dataset.json")["labels"] == {
        "background": 0,
        "ignore (class 1) (class 1)": 1,
        "background (class 2)": 2,
        "ignore (class 1)": 3,
        "ignore": 4,
    }
    assert any("'background' to 'background (class 2)'" in note for note in report.notes)


def test_without_a_training_volume_there_is_nothing_to_train(sources, out):
    volumes = [
        label(sources[0], name="a", split="val"),
        label(sources[1], name="b", split="test"),
        label(sources[2], name="c", positions=()),
    ]
    with pytest.raises(UserError, match="only validation and test volumes have accepted masks"):
        export("nnunet", volumes, CLASSES, out, name="x")


def test_volumes_with_different_channels_are_refused(sources, out):
    both = Source((*sources[0].paths, *sources[1].paths))
    volumes = [label(both, name="two"), label(sources[2], name="one")]
    with pytest.raises(UserError, match="'one' has 1 channels and a volume before it 2"):
        export("nnunet", volumes, CLASSES, out, name="x")


@pytest.mark.parametrize("asked", [None, "Dataset219_AMOS2022_task2"])
def test_the_data_set_takes_another_number_and_a_clean_name(sources, out, asked):
    volumes = [label(sources[0], name="v")]
    told = export("nnunet", volumes, CLASSES, out, name="../Müller 膝", data_set=asked)
    assert [path.name for path in out.iterdir()] == [asked or "Dataset001_Muller"]
    assert any(f"{asked or 'Dataset001_Muller'}/dataset.json" in note for note in told.notes)
