"""Which verbs may run as a job, and how their settings become JSON and come back."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, get_type_hints

from napari_activeft import workflow
from napari_activeft.annotation_db import JobRecord
from napari_activeft.errors import UserError
from napari_activeft.pretraining import encoder_of_job
from napari_activeft.project import Project
from napari_activeft.settings import PretrainSettings, Settings, TrainSettings
from napari_activeft.trained_runs import run_of_job

_TAKES: Final = ["project", "settings", "on_progress"]


@dataclass(frozen=True)
class Step:
    """A verb as a job runs it.

    Attributes
    ----------
    verb
        As the command line writes it.
    function
        Of `workflow`; takes a project, settings and ``on_progress``.
    settings
        The class of its settings.
    """

    verb: str
    function: Callable[..., object]
    settings: type[Settings]

    def read(self, written: dict[str, Any]) -> Settings:
        """Return settings from what `as_json` made of them."""
        return self.settings.model_validate(written)


def step_of(verb: str) -> Step:
    """Return the step of a verb: every function of `workflow` that can tell its progress.

    Raises
    ------
    UserError
        If there is no such verb.
    """
    steps = {name.replace("_", "-"): function for name, function in _functions().items()}
    if verb not in steps:
        raise UserError(f"{verb!r} cannot run as a job: choose one of {', '.join(steps)}")
    settings = get_type_hints(steps[verb])["settings"]
    return Step(verb, steps[verb], settings)


def _functions() -> dict[str, Callable[..., object]]:
    return {
        name: function
        for name, function in vars(workflow).items()
        if inspect.isfunction(function)
        and not name.startswith("_")
        and function.__module__ == workflow.__name__
        and list(inspect.signature(function).parameters) == _TAKES
    }


def going_on(project: Project, job: JobRecord, settings: Settings) -> Settings:
    """Return the settings by which a step that did not finish is started once more.

    Training goes on with the run, and pre-training with the encoder, that the job had begun, if it
    came so far. Every other step finds
    what it did by itself, or starts afresh.

    Raises
    ------
    UserError
        If the run is done, so that nothing is left to do.
    """
    if isinstance(settings, PretrainSettings) and not settings.resume:
        begun = encoder_of_job(project, job)
        known = {} if begun is None else {"resume": True, "name": begun.name}
        return settings.model_copy(update=known)
    if not isinstance(settings, TrainSettings) or settings.resume:
        return settings
    run = run_of_job(project, job)
    if run is None:
        return settings
    if run.state == "done":
        raise UserError(
            f"job {job.job_id} had finished run {run.run_id} before it ended, and nothing is left "
            "to resume: go on with `napari-activeft predict`"
        )
    return settings.model_copy(update={"resume": True, "run": run.run_id})


def as_json(settings: Settings) -> dict[str, Any]:
    """Return settings as JSON holds them; a path becomes absolute, for a job runs elsewhere."""
    return settings.absolute().model_dump(mode="json")
