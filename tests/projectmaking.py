"""Small projects for tests: volumes made on the fly, and the verbs in fewer words."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from imagemaking import write_nifti
from napari_activeft.annotation_db import QueryRecord
from numpy.typing import NDArray

from napari_activeft import workflow
from napari_activeft.project import Project
from napari_activeft.settings import (
    AddSettings,
    Budget,
    InitSettings,
    NextSettings,
    SelectSettings,
)

SHAPE = (4, 9, 11)  # (z, y, x): no two axes alike, so that a swap shows
NOBODY = 65534


def structure(shape: Sequence[int] = SHAPE, seed: int = 0) -> NDArray[np.int16]:
    """Return a volume (z, y, x) with a bright half, noise, and bytes that depend on the seed."""
    rng = np.random.default_rng(seed)
    volume = rng.integers(0, 50, size=shape)
    volume[..., : shape[-1] // 2] += 400
    return volume.astype(np.int16)


def labels_of(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a label map (z, y, x) of classes 1 and 2 that is another one for another image."""
    label_map = (image > 420).astype(np.uint8)
    label_map[:, :2, :2] = 2
    return label_map


def write_volume(
    path: Path,
    shape: Sequence[int] = SHAPE,
    seed: int = 0,
    spacing: tuple[float, float, float] = (5.0, 1.0, 1.5),
    *,
    labels: bool | str = False,
) -> NDArray[np.int16]:
    """Write a NIfTI image of the given spacing (z, y, x) and perhaps ``<stem>_gt`` beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = structure(shape, seed)
    affine = np.diag([*spacing[::-1], 1.0])
    affine[:3, 3] = (12.25, -7.5, 30.0)
    write_nifti(path, image.T, affine)
    if labels:
        suffix = labels if isinstance(labels, str) else "_gt"
        stem, dot, rest = path.name.partition(".")
        write_nifti(path.with_name(f"{stem}{suffix}{dot}{rest}"), labels_of(image).T, affine)
    return image


def write_folder(folder: Path, *, patients: int = 3, frames: int = 1, labels: bool = True) -> Path:
    """Write ``patient1/frame1.nii.gz`` and so on, each with ``_gt`` beside it."""
    for patient in range(1, patients + 1):
        for frame in range(1, frames + 1):
            path = folder / f"patient{patient}" / f"p{patient}_frame{frame}.nii.gz"
            write_volume(path, seed=10 * patient + frame, labels=labels)
    return folder


def make_project(
    folder: Path,
    images: Path | None = None,
    *,
    classes: Sequence[str] = ("1=bright", "2=corner"),
    plane: Any = "auto",
    **add: Any,
) -> Project:
    """Make and open a project, with the volumes of a folder if one is given."""
    workflow.init(folder, InitSettings(plane=plane))
    project = Project.open(folder)
    if images is not None:
        result = workflow.add(project, images, AddSettings(**add))
        assert not result.problems, result.problems
    if classes:
        workflow.classes(project, classes)
    return project


def add(project: Project, images: Path, **settings: Any) -> Any:
    """Add a folder under these settings."""
    return workflow.add(project, images, AddSettings(**settings))


def select(project: Project, budget: str | float = "1.0", **settings: Any) -> Any:
    """Select a round; by a selector that needs no vectors unless another one is named."""
    settings = {"selector": "stratified_random", **settings}
    return workflow.select(project, SelectSettings(budget=Budget.parse(budget), **settings))


def take_next(project: Project, out: Path, annotator: str = "ann", **settings: Any) -> Any:
    """Lease the next query."""
    return workflow.next_query(project, NextSettings(annotator=annotator, out=out, **settings))


def states(project: Project) -> list[str]:
    """Return the states of all queries in order."""
    return [query.state for query in project.store.queries()]


def filled(value: int, row: int | None = None) -> NDArray[Any]:
    """Return a mask (h, w) of a slice of `SHAPE` with one class everywhere, or in one row."""
    mask = np.zeros(SHAPE[1:], np.uint16 if value > np.iinfo(np.uint8).max else np.uint8)
    mask[slice(None) if row is None else row] = value
    return mask


def label_array(project: Project, name: str) -> NDArray[Any]:
    """Return the label map (z, y, x) that lies beside a volume."""
    volume = next(v for v in project.store.volumes() if v.name == name)
    return np.asarray(nib.load(project.label_path(volume)).dataobj).T


def query(project: Project, query_id: int) -> QueryRecord:
    """Return one query."""
    return next(q for q in project.store.queries() if q.query_id == query_id)


def sentences(result: Any) -> dict[str, str]:
    """Return the problems of a result by file name."""
    return {Path(problem.path).name: problem.sentence for problem in result.problems}


def assert_sentence(text: str) -> None:
    """See that a message is one line that says what to do after a colon."""
    assert "\n" not in text
    assert "Traceback" not in text
    assert ": " in text
    assert "should not happen" not in text
    assert not text.endswith(".")


def in_a_process(
    *arguments: str | Path, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, away from any project."""
    return run_python("-m", "napari_activeft", *arguments, cwd=cwd, **environment)


def run_python(
    *arguments: str | Path, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python; standard output and error are no terminal."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("NAPARI_ACTIVEFT")}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=kept | environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=120,
        check=False,
    )


@contextmanager
def without_privileges() -> Iterator[Path]:
    """Give a folder in which permissions count, also where the tests run as root."""
    folder = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    try:
        if root:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        yield folder
    finally:
        if root:
            os.seteuid(0)
        for path in folder.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(folder)


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
