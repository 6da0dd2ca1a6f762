"""Every example runs, and does what it says."""

import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
# The demo has tests of its own.
SCRIPTS = sorted(set(EXAMPLES.glob("*.py")) - {EXAMPLES / "demo.py"})


def run(script: Path, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(script), str(folder)],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.name for script in SCRIPTS])
def test_example_runs_in_a_folder_with_spaces(script, tmp_path):
    assert run(script, tmp_path / "a folder")


def test_demo_exports_exactly_the_label_maps_of_the_chosen_slices(tmp_path):
    run(EXAMPLES / "demo.py", tmp_path / "demo")

    exported = sorted((tmp_path / "demo" / "project" / "exports" / "nifti").glob("*.nii.gz"))
    labelled = 0
    for file in exported:
        mine = nibabel.load(file)
        name = file.name.removeprefix("images_").removeprefix("images-")
        truth = nibabel.load(EXAMPLES / "data" / "hippocampus" / "labels" / name)
        np.testing.assert_array_equal(mine.affine, truth.affine)
        got, expected = np.asarray(mine.dataobj), np.asarray(truth.dataobj)
        for z in range(got.shape[2]):
            if got[..., z].any():
                labelled += 1
                np.testing.assert_array_equal(got[..., z], expected[..., z])
    assert exported
    assert labelled > len(exported) / 2


def test_demo_runs_twice_but_replaces_nothing_that_it_did_not_make(tmp_path):
    run(EXAMPLES / "demo.py", tmp_path / "demo")
    run(EXAMPLES / "demo.py", tmp_path / "demo")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("do not touch")

    command = [sys.executable, str(EXAMPLES / "demo.py"), str(mine)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert "not made by the demo" in done.stderr
    assert (mine / "thesis.txt").read_text() == "do not touch"
