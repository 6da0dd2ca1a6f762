"""The command line as a process: what it prints, loads, and leaves when it is stopped."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from projectmaking import in_a_process, run_python, write_folder

from napari_activeft import workflow
from napari_activeft.project import Project

HEAVY = ("torch", "napari", "sqlalchemy", "nibabel", "SimpleITK", "scipy", "tifffile")

# Lets the program stop itself when some volumes are done, at a moment that no clock decides.
STOPPED = """
import contextlib, os, signal, sys
from napari_activeft import cli, intake, terminal

intake._BATCH_SECONDS = 0.0

@contextlib.contextmanager
def progress(what):
    def on_progress(done, total):
        if done == {done}:
            os.kill(os.getpid(), signal.{signal})
    yield on_progress

terminal.progress = progress
sys.argv = ["napari-activeft", *sys.argv[1:]]
cli.main()
"""


def stopped(signal: str, done: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_python("-c", STOPPED.format(signal=signal, done=done), *arguments)


def volumes(folder: Path) -> int:
    with Project.open(folder) as project:
        assert workflow.doctor(project).faults == []
        return len(project.store.volumes())


@pytest.fixture
def many(tmp_path):
    """Six volumes and an empty project."""
    workflow.init(tmp_path / "p")
    return write_folder(tmp_path / "images", patients=6, labels=False)


def test_help_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from napari_activeft.cli import main\n"
        "sys.argv = ['napari-activeft', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as done:\n    assert done.code == 0\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
    )
    result = run_python("-c", code)
    assert "import-labels" in result.stdout
    assert result.stderr == "[]\n"


def test_importing_the_package_loads_nothing_heavy():
    heavy = (*HEAVY, "numpy", "typer", "pydantic")
    code = f"import sys, napari_activeft; print([n for n in {heavy} if n in sys.modules])"
    assert run_python("-c", code).stdout == "[]\n"


def test_a_process_exits_with_0_1_or_2(tmp_path):
    images = write_folder(tmp_path / "images")
    inside = {"cwd": tmp_path / "p"}

    assert in_a_process("init", tmp_path / "p").returncode == 0
    added = in_a_process("add", images, "--labels", "*_gt.nii.gz", "--json", **inside)
    assert (added.returncode, added.stderr) == (0, "")  # no progress bar either
    assert json.loads(added.stdout)["added"] == 3
    refused = in_a_process("select", "--budget", "13", **inside)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert len(refused.stderr.splitlines()) == 1
    assert refused.stderr.startswith("error: ")
    wrong = in_a_process("select", "--budget", "many", **inside)
    assert wrong.returncode == 2
    assert "Traceback" not in refused.stderr + wrong.stderr
    found = in_a_process(
        "info", "--json", cwd=tmp_path, NAPARI_ACTIVEFT_PROJECT=str(tmp_path / "p")
    )
    assert json.loads(found.stdout)["contents"]["pool slices"] == 12


def test_a_bad_file_prints_nothing_beside_its_sentence(tmp_path):
    images = write_folder(tmp_path / "images", patients=1, labels=False)
    (images / "bad.nii.gz").write_bytes(b"no gzip")
    (images / "bad.tif").write_bytes(b"II*\0nothing")
    (images / "bad.dcm").write_bytes(b"\0" * 128 + b"DICM")
    workflow.init(tmp_path / "p")

    result = in_a_process("add", images, "--project", tmp_path / "p", "--json")

    assert result.returncode == 0
    assert len(json.loads(result.stdout)["problems"]) == 3
    assert result.stderr == ""


def test_letters_of_any_script_can_be_printed(tmp_path):
    result = in_a_process("init", tmp_path / "患者 Ä", "--json", PYTHONIOENCODING="utf-8")
    assert json.loads(result.stdout)["name"] == "患者 Ä"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_that_knows_few_letters_is_no_error(tmp_path, encoding):
    project = tmp_path / "p"
    assert (
        in_a_process("init", project, "--name", "患者 Ä", PYTHONIOENCODING=encoding).returncode == 0
    )
    for arguments in (["info"], ["info", "--json"], ["classes", "腫瘍"]):
        result = in_a_process(*arguments, "--project", project, PYTHONIOENCODING=encoding)
        assert (result.returncode, result.stderr) == (0, "")
        if "--json" in arguments:
            assert json.loads(result.stdout)["name"] == "患者 Ä"


def test_ctrl_c_is_one_line_and_keeps_what_was_finished(tmp_path, many):
    result = stopped("SIGINT", 2, "add", many, "--project", tmp_path / "p")

    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "stopped; nothing is half-written" in result.stderr
    assert volumes(tmp_path / "p") == 2

    again = in_a_process("add", many, "--project", tmp_path / "p", "--json")
    report = json.loads(again.stdout)
    assert (report["added"], report["known"], report["problems"]) == (4, 2, [])
    assert volumes(tmp_path / "p") == 6


def test_a_process_that_was_killed_is_completed_by_the_same_command(tmp_path, many):
    result = stopped("SIGKILL", 4, "add", many, "--project", tmp_path / "p")

    assert result.returncode == -9
    assert volumes(tmp_path / "p") == 4

    again = in_a_process("add", many, "--project", tmp_path / "p", "--json")
    report = json.loads(again.stdout)
    assert (report["added"], report["known"], report["problems"]) == (2, 4, [])
    assert volumes(tmp_path / "p") == 6


@pytest.mark.parametrize("signal", ["SIGINT", "SIGKILL"])
def test_an_export_that_was_stopped_leaves_the_earlier_one(tmp_path, project, signal):
    workflow.import_labels(project)
    out = workflow.export(project).folder
    before = {path: path.read_bytes() for path in out.iterdir()}

    stopped(signal, 2, "export", "--overwrite", "--project", project.folder)

    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert in_a_process("export", "--overwrite", "--project", project.folder).returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminal")
def test_a_bar_is_drawn_on_a_real_terminal(tmp_path, many):
    import pty

    near, far = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "napari_activeft", "add", many, "-p", tmp_path / "p"],
        stdout=subprocess.PIPE,
        stderr=far,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(far)
    drawn = b""
    while True:
        try:
            piece = os.read(near, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        drawn += piece
    printed, _ = process.communicate()
    os.close(near)
    assert process.returncode == 0
    assert b"reading volumes" in drawn
    assert b"added 6 volumes" in printed
    assert b"reading volumes" not in printed


def test_the_console_script_is_the_same_program(tmp_path):
    script = shutil.which("napari-activeft", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("the package is not installed as a script here")
    result = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("napari-activeft ")
