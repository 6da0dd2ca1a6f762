"""What there is to see of training: the runs, their course, how they grew from round to round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from napari_activeft.annotation_db import JobRecord
from napari_activeft.project import Project
from napari_activeft.trained_runs import end_dead_runs, run_folder, run_of_job
from napari_activeft.training.run_files import FOLD, read_curve

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class RunView:
    """A run as people compare it.

    Attributes
    ----------
    run, network, state, created_at
        Its number, what it trained, how it ended, when it began.
    round_number
        The newest round whose masks it learnt from; None without.
    slices
        It learnt from; None where it did not come that far.
    score, monitor
        Mean Dice, and on what: val, folds or none.
    """

    run: int
    network: str
    state: str
    created_at: datetime
    round_number: int | None
    slices: int | None
    score: float | None
    monitor: str
    reason: str


@dataclass(frozen=True)
class Course:
    """How a run went.

    Attributes
    ----------
    run
        Its number; None before the job has one.
    loss, dice
        Points (step, value).
    before
        Whether it is the one that finds the number of steps, before all slices are learnt.
    """

    run: int | None
    loss: Points = field(default=(), repr=False)
    dice: Points = field(default=(), repr=False)
    before: bool = False


def run_views(project: Project) -> list[RunView]:
    """Return all runs, the newest first."""
    end_dead_runs(project)
    return [
        RunView(
            run.run_id,
            str(run.settings.get("network", "")),
            run.state,
            run.created_at,
            run.round_number,
            run.metrics.get("slices"),
            run.metrics.get("score"),
            str(run.metrics.get("monitor", "")),
            str(run.metrics.get("reason", "")),
        )
        for run in reversed(project.store.runs())
    ]


def course_of_job(project: Project, job: JobRecord) -> Course:
    """Return how far the run of a training job is."""
    run = run_of_job(project, job)
    return Course(None) if run is None else course_of_run(project, run.run_id)


def course_of_run(project: Project, run: int) -> Course:
    """Return how a run went, or goes."""
    folder = run_folder(project, run)
    rows, before = read_curve(folder), False
    if not rows:
        rows = read_curve(folder / FOLD)
        before = bool(rows)

    def points(name: str) -> Points:
        known = [(row.get("step"), row.get(name)) for row in rows]
        return [(step, value) for step, value in known if step is not None and value is not None]

    dice = points("val_dice")
    if not dice and not before:  # the figures are those of the run before, on cases held back
        dice = [
            (step, value)
            for row in read_curve(folder / FOLD)
            if (step := row.get("step")) is not None and (value := row.get("val_dice")) is not None
        ]
    return Course(run, points("loss"), dice, before)


def growth(views: Sequence[RunView]) -> dict[str, Points]:
    """Return Dice over the slices that were learnt from, by network, of the runs that are done."""
    found: dict[str, list[tuple[float, float]]] = {}
    for one in views:
        if one.state == "done" and one.score is not None and one.slices:
            found.setdefault(one.network, []).append((float(one.slices), one.score))
    return {network: sorted(points) for network, points in found.items()}
