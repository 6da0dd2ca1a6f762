"""What many tests share."""

from __future__ import annotations

import json
import locale
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from hypothesis import settings as hypothesis_settings
from projectmaking import make_project, write_folder
from typer.testing import CliRunner

from napari_activeft.cli import app
from napari_activeft.project import ENVIRONMENT_VARIABLE, Project

# The same examples in every run, so that a change is not blamed for an old fault; to look for new
# ones: HYPOTHESIS_PROFILE=explore.
# No deadline: a busy machine is no fault of the program.
hypothesis_settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis_settings.register_profile("explore", deadline=None)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# As the program itself sets it, see `napari_activeft.__main__`; torch is loaded after this.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(0)


_LOCALE = locale.setlocale(locale.LC_CTYPE)


@pytest.fixture(autouse=True)
def _locale_of_the_start() -> None:
    """Undo what some library does to the locale of the process, which torch reads files by."""
    locale.setlocale(locale.LC_CTYPE, _LOCALE)


@pytest.fixture(autouse=True)
def _no_project_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (ENVIRONMENT_VARIABLE, "NAPARI_ACTIVEFT_ANNOTATOR", "NAPARI_ACTIVEFT_DEBUG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three patients with one volume of 4 x 9 x 11 each, and label maps called ``*_gt``."""
    return write_folder(tmp_path / "images")


@pytest.fixture
def project(tmp_path: Path, images: Path) -> Iterator[Project]:
    """A project with the volumes of ``images``, their label maps, and two classes."""
    with make_project(tmp_path / "project", images, labels="*_gt.nii.gz") as made:
        yield made


class CommandLine:
    """Runs verbs in this process; the project is named for each of them."""

    def __init__(self, project: Path) -> None:
        self.project = project

    def __call__(self, *arguments: str | Path, code: int = 0) -> Result:
        """Run a verb on the project and see that it exits with ``code``."""
        return self.bare(*arguments, "--project", self.project, code=code)

    def bare(self, *arguments: str | Path, code: int = 0) -> Result:
        """Run a verb without naming the project."""
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
        assert "Traceback" not in result.output
        return result

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        """Run a verb and return what it prints as JSON."""
        return json.loads(self(*arguments, "--json", code=code).stdout)

    def bare_json(self, *arguments: str | Path, code: int = 0) -> Any:
        """Run a verb that needs no project and return what it prints as JSON."""
        return json.loads(self.bare(*arguments, "--json", code=code).stdout)

    def refusal(self, *arguments: str | Path, code: int = 1) -> str:
        """Run a verb that is refused and return its one line."""
        result = self(*arguments, code=code)
        assert result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ")
        assert "should not happen" not in line
        return line


@pytest.fixture
def command_line(tmp_path: Path) -> Callable[..., Result]:
    """The command line on the folder ``project`` (which may not be one yet)."""
    return CommandLine(tmp_path / "project")
