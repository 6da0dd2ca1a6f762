"""The runs of a project: where each lies, which are meant, and the networks they kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from napari_activeft.annotation_db import JobRecord, ProcessMark, RunRecord, StoreError
from napari_activeft.errors import UserError
from napari_activeft.prediction.origins import read_origins
from napari_activeft.prediction.turning import Augmentation
from napari_activeft.project import Project
from napari_activeft.training.run_files import SavedNetwork, Which
from napari_activeft.training.whole_files import write_text

_PROCESS = ".process.json"


def run_folder(project: Project, number: int) -> Path:
    """Return the folder of a run, ``runs/run-001`` for number 1."""
    return project.folder / "runs" / f"run-{number:03d}"


def mark_process(folder: Path) -> None:
    """Note in the folder of a run which process works on it."""
    write_text(folder / _PROCESS, json.dumps(asdict(ProcessMark.of_this_process())) + "\n")


def end_dead_runs(project: Project) -> None:
    """Note of every run that counts as running whether its process is gone."""
    for run in project.store.runs():
        if run.state != "running":
            continue
        try:
            told = json.loads((run_folder(project, run.run_id) / _PROCESS).read_text())
            lives = ProcessMark(**told).lives()
        except (OSError, ValueError, TypeError):  # it has not come that far, or is an older one
            continue
        if not lives:
            reason = (
                "its process ended without a word: go on with `napari-activeft train --resume "
                f"--run {run.run_id}`"
            )
            with suppress(StoreError):  # a project that cannot be written can still be looked at
                project.store.end_run(run.run_id, "failed", metrics={"reason": reason})


def chosen_runs(project: Project, numbers: Sequence[int]) -> list[RunRecord]:
    """Return the runs of some numbers, or the newest one that is done.

    Raises
    ------
    UserError
        If none is done.
    UnknownRecordError
        If there is no run of such a number.
    """
    if numbers:
        return [project.store.run(number) for number in numbers]
    runs = project.store.runs()
    done = [run for run in runs if run.state == "done"]
    if done:
        return done[-1:]
    if not runs:
        raise UserError(
            "there is no run in this project yet: label slices, then run `napari-activeft train`"
        )
    raise UserError(
        f"none of the {len(runs)} runs of this project is done, the last one is {runs[-1].state}: "
        f"train again, or name one that kept weights, such as --run {runs[-1].run_id}"
    )


def run_of_job(project: Project, job: JobRecord) -> RunRecord | None:
    """Return the run that a job of `train` began; None if it did not come that far.

    That is the first of its settings since the job computes: one heavy job does at a time.
    """
    if job.started_at is None:
        return None
    for run in project.store.runs():
        alike = all(job.settings.get(name, value) == value for name, value in run.settings.items())
        if run.created_at >= job.started_at and alike:
            return run
    return None


def saved_networks(
    project: Project, runs: Sequence[RunRecord], which: Which = "best"
) -> list[SavedNetwork]:
    """Return the networks that runs kept, and see that they know classes of this project.

    Raises
    ------
    UserError
        If a run kept none, or a class of it is none of the project.
    """
    saved = [SavedNetwork.read(run_folder(project, run.run_id), which) for run in runs]
    known = {record.value for record in project.store.classes()}
    for run, one in zip(runs, saved, strict=True):
        strange = [each for each in one.classes if each.value not in known]
        if strange:
            raise UserError(
                f"the network of run {run.run_id} knows class {strange[0].value} "
                f"({strange[0].name}), which this project does not list: add it with "
                "`napari-activeft classes`, or take a run of these classes"
            )
    return saved


def stale_volumes(project: Project, run: int) -> set[str]:
    """Return the names of the volumes that a run predicted by weights which it no longer has."""
    folder = run_folder(project, run)
    origins = read_origins(folder)
    now = {which: _hash_now(folder, which) for which in {each.which for each in origins.values()}}
    return {
        volume
        for volume, origin in origins.items()
        if now[origin.which] not in (None, origin.weights[0])
    }


def _hash_now(folder: Path, which: Which) -> str | None:
    """Return the hash of a run's weights; None where they are gone, which changes no proposal."""
    try:
        return SavedNetwork.read(folder, which).hash_now()
    except UserError:
        return None


def known_turns(saved: Sequence[SavedNetwork]) -> Augmentation:
    """Return the turns of a slice that all of some networks know from their training."""
    for one in saved:
        told = one.settings
        if told.get("augmentation") == "none" or told.get("turns", "flips") == "none":
            return "none"
    return "flips"


def notes_on_classes(project: Project, saved: SavedNetwork) -> list[str]:
    """Return what a network calls otherwise than the project, and what it does not know."""
    learnt = {each.value: each.name for each in saved.classes}
    notes = []
    for record in project.store.classes():
        if record.value not in learnt:
            notes.append(
                f"Class {record.value} ({record.name}) is never predicted: the network of "
                f"{saved.folder.name} did not learn it."
            )
        elif learnt[record.value] != record.name:
            notes.append(
                f"Class {record.value} is called {record.name} now and was called "
                f"{learnt[record.value]} when {saved.folder.name} learnt it."
            )
    return notes
