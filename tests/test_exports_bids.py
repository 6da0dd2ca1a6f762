"""The BIDS export, judged by the official validator."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from labelled_samples import CLASSES, expected_label_map, label, write_source

from napari_activeft.exports import ClassLabel, export


def validate(folder):
    """Return the validator's issues as (code, severity) pairs, with all it says as text."""
    # The script lies beside the interpreter, also where the environment is not activated.
    validator = shutil.which("bids-validator-deno", path=str(Path(sys.executable).parent))
    if validator is None:
        pytest.skip("bids-validator-deno is not installed")
    done = subprocess.run(
        [validator, "--format", "json", str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    return {(issue["code"], issue["severity"]) for issue in issues}, json.dumps(issues, indent=1)


@pytest.fixture
def volumes(tmp_path):
    sources = [write_source(tmp_path / f"{seed}.nii.gz", seed=seed) for seed in range(5)]
    return [
        label(sources[0], name="Müller/T1", case="Müller 1", values=(1, 5, 300)),
        label(sources[1], name="muller-t1", case="Müller 1", axis=1, positions=None),
        label(sources[2], name="x", case="MULLER-1", split="val", axis=2),
        label(sources[3], name="膝", case="膝", split="test"),
        label(sources[4], name="腕", case="腕", split="test"),
    ]


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def table(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines]


def test_the_validator_finds_no_error_and_notices_what_is_spoilt(volumes, out):
    export("bids", volumes, CLASSES, out, name="Kidneys")
    issues, said = validate(out)
    # Who drew the masks is not ours to know; all else that is recommended is there.
    assert issues <= {("TOO_FEW_AUTHORS", "warning")}, said

    description = out / "dataset_description.json"
    content = json.loads(description.read_text(encoding="utf-8"))
    del content["Name"]
    description.write_text(json.dumps(content), encoding="utf-8")
    segmentation = next(out.rglob("*_dseg.nii.gz"))
    segmentation.rename(segmentation.with_name("sub-other_desc-my_label_dseg.nii.gz"))
    issues, said = validate(out)
    assert any(severity == "error" for _, severity in issues), said


def test_every_segmentation_is_found_by_subject_and_lies_on_its_image(volumes, out):
    export("bids", volumes, CLASSES, out, name="Kidneys")

    rows = table(out / "participants.tsv")
    assert rows[0] == ["participant_id", "case", "split"]
    subjects = {case: (subject, split) for subject, case, split in rows[1:]}
    assert {case: split for case, (_, split) in subjects.items()} == {
        "Müller 1": "pool",
        "MULLER-1": "val",
        "膝": "test",
        "腕": "test",
    }
    assert len({subject.casefold() for subject, _ in subjects.values()}) == 4
    found = {}
    for path in out.glob("sub-*/anat/*_dseg.json"):
        sidecar = json.loads(path.read_text(encoding="utf-8"))
        found[sidecar["SourceVolume"]] = (path, sidecar)
    for volume in volumes:
        path, sidecar = found[volume.name]
        subject = subjects[volume.case][0]
        assert path.parent == out / subject / "anat"
        assert path.name.startswith(f"{subject}_desc-")
        image = nib.load(path.with_name(path.name.replace(".json", ".nii.gz")))
        assert np.array_equal(np.asanyarray(image.dataobj).T, expected_label_map(volume))
        assert np.array_equal(image.affine, nib.load(volume.source.paths[0]).affine)
        assert sidecar["LabelledPositions"] == sorted(volume.masks())
        assert sidecar["SliceAxis"] == "kji"[volume.axis]
        assert sidecar["FullyLabelled"] == (volume.name == "muller-t1")
        assert sidecar["Split"] == volume.split


def test_the_look_up_table_names_every_class(volumes, out):
    classes = (*CLASSES, ClassLabel(9, "tab\tand\nline", "#123456"))
    export("bids", volumes, classes, out, name="Kidneys")
    assert table(out / "dseg.tsv") == [
        ["index", "name", "color"],
        ["0", "background", "#000000"],
        ["1", "left kidney", "#ff0000"],
        ["5", "Läsion", "#00ff00"],
        ["300", "腫瘍", "#0000ff"],
        ["9", "tab and line", "#123456"],
    ]


def test_a_case_with_volumes_in_two_splits_is_mixed(tmp_path, out):
    volumes = [
        label(write_source(tmp_path / f"{split}.nii.gz"), name=split, case="1", split=split)
        for split in ("pool", "test")
    ]
    export("bids", volumes, CLASSES, out, name="x")
    assert table(out / "participants.tsv")[1:] == [["sub-1", "1", "mixed"]]
    issues, said = validate(out)
    assert not any(severity == "error" for _, severity in issues), said
