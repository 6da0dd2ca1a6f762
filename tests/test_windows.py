"""The real window, in a process of its own for each binding of Qt: see ``tests/window``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

WINDOW = Path(__file__).parent / "window"
# napari's own plugin makes the viewer and looks for what it leaves behind; its options are unknown
# to the other tests, which leave it out.
OPTIONS = ("-q", "-ra", "-p", "napari", "-o", "addopts=", "-W", "ignore::DeprecationWarning")


@contextmanager
def display() -> Iterator[str]:
    """Give the display that is there, or start one that nobody sees."""
    there = os.environ.get("DISPLAY")
    if there:
        yield there
        return
    server = shutil.which("Xvfb")
    if server is None:
        pytest.skip("neither a display nor Xvfb is here")
    read, write = os.pipe()
    command = [server, "-displayfd", str(write), "-screen", "0", "1600x1000x24"]
    process = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(read) as told:
            yield f":{told.readline().strip()}"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("binding", ["PySide6", "PyQt6"])
def test_the_session_works_in_a_real_window(binding, tmp_path):
    for package in ("napari", "pytestqt", binding):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    with display() as shown:
        environment = {
            **os.environ,
            "DISPLAY": shown,
            "QT_API": binding.lower(),
            "PYTEST_QT_API": binding.lower(),
            "NAPARI_STRICT_QT": "raise",
            "NAPARI_CONFIG": str(tmp_path / "napari.yaml"),
            "LIBGL_ALWAYS_SOFTWARE": "1",
        }
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *OPTIONS, str(WINDOW)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    assert done.returncode == 0, done.stdout[-20_000:]
