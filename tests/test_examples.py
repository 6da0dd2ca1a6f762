"""Every example runs, and does what it says."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

import napari_activeft

EXAMPLES = Path(__file__).parents[1] / "examples"
SAMPLES = Path(napari_activeft.__file__).parent / "sample_data"
# The demo has tests of its own; the window's example runs in tests/window.
SCRIPTS = sorted(set(EXAMPLES.glob("*.py")) - {EXAMPLES / "demo.py", EXAMPLES / "gui.py"})


def run(script: Path, *arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, str]:
    """Run the demo with short trainings; return its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("a demo")
    return folder, run(EXAMPLES / "demo.py", folder / "demo", "--steps", "4")


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.name for script in SCRIPTS])
def test_example_runs_in_a_folder_with_spaces(script, tmp_path):
    assert run(script, tmp_path / "a folder")


@pytest.mark.slow
def test_demo_exports_exactly_the_label_maps_of_the_chosen_slices(demo):
    tmp_path, _ = demo

    exported = sorted((tmp_path / "demo" / "project" / "exports" / "nifti").glob("*.nii.gz"))
    labelled = 0
    for file in exported:
        mine = nibabel.load(file)
        name = file.name.removeprefix("images_").removeprefix("images-")
        truth = nibabel.load(SAMPLES / "hippocampus" / "labels" / name)
        np.testing.assert_array_equal(mine.affine, truth.affine)
        got, expected = np.asarray(mine.dataobj), np.asarray(truth.dataobj)
        for z in range(got.shape[2]):
            if got[..., z].any():
                labelled += 1
                np.testing.assert_array_equal(got[..., z], expected[..., z])
    assert exported
    assert labelled > len(exported) / 2


@pytest.mark.slow
def test_demo_ends_with_what_both_rounds_came_to_on_patients_never_seen(demo):
    folder, told = demo

    measured = [line for line in told.splitlines() if "test patients; report: " in line]
    for line, number in zip(measured, (1, 2), strict=True):
        assert re.search(r"Dice 0\.\d+ \(95 % interval .* on \d+ test patients; report: ", line)
        page = folder / "demo" / "project" / "reports" / f"evaluation-run-00{number}" / "index.html"
        assert line.endswith(str(page))
        assert page.is_file()


def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    told = json.loads((EXAMPLES / "which_slices.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in told["cells"] if cell["cell_type"] == "code"]
    script = tmp_path / "notebook.py"
    script.write_text("\n".join([*cells, "print(sheet.size)"]), encoding="utf-8")

    printed = run(script)

    assert all(cell["outputs"] == [] for cell in told["cells"] if cell["cell_type"] == "code")
    assert re.search(r"round 1: \d+ slices from \d+ volumes", printed)
    assert float(re.search(r"W1 of random: (0\.\d+)", printed)[1]) < 1
    assert "(512, " in printed


@pytest.mark.slow
def test_demo_ends_with_how_to_look_at_what_it_made(demo):
    folder, told = demo
    project = folder / "demo" / "project"

    report, viewer = told.splitlines()[-2:]
    assert Path(report.partition(": ")[2]).is_file()
    assert viewer.endswith(f"make gui PROJECT={shlex.quote(str(project))}")


def test_demo_replaces_what_it_made_and_nothing_else(tmp_path):
    sys.path.insert(0, str(EXAMPLES))
    from demo import emptied

    again = tmp_path / "demo"
    emptied(again)
    (again / "project").mkdir()
    assert [file.name for file in emptied(again).iterdir()] == ["made-by-the-demo"]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("do not touch")

    command = [sys.executable, str(EXAMPLES / "demo.py"), str(mine)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert "not made by the demo" in done.stderr
    assert (mine / "thesis.txt").read_text() == "do not touch"
