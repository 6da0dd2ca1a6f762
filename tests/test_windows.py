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

BINDINGS = ("PySide6", "PyQt6")
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


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Iterator[dict[str, Run]]:
    """Start the tests of the window for each binding, all at once: each waits most of its time."""
    with display() as shown:
        begun = {
            binding: Run(binding, shown, tmp_path_factory.mktemp(binding))
            for binding in BINDINGS
            if not missing(binding)
        }
        try:
            yield begun
        finally:
            for run in begun.values():
                run.process.kill()


def missing(binding: str) -> str:
    """Return what the tests with a binding lack; empty if nothing."""
    needed = ("napari", "pytestqt", binding)
    return next((package for package in needed if find_spec(package) is None), "")


class Run:
    """The tests of the window in a process of their own."""

    def __init__(self, binding: str, shown: str, folder: Path) -> None:
        self.told = folder / "told.txt"
        environment = {
            **os.environ,
            "DISPLAY": shown,
            "QT_API": binding.lower(),
            "PYTEST_QT_API": binding.lower(),
            "NAPARI_STRICT_QT": "raise",
            "NAPARI_CONFIG": str(folder / "napari.yaml"),
            "LIBGL_ALWAYS_SOFTWARE": "1",
        }
        with self.told.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *OPTIONS, str(WINDOW)],
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("binding", BINDINGS)
def test_the_session_works_in_a_real_window(binding, runs):
    if missing(binding):
        pytest.skip(f"{missing(binding)} is not installed")

    assert runs[binding].process.wait() == 0, runs[binding].told.read_text()[-20_000:]
