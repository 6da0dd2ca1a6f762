"""--background: a verb as a job, so that the terminal is free at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_activeft.cli.app import opened_project, report
from napari_activeft.settings import Settings

BackgroundOption = Annotated[
    bool,
    typer.Option("--background", help="As a job in a process of its own; see `jobs`."),
]


def run_in_background(project: Path | None, verb: str, settings: Settings, as_json: bool) -> None:
    """Start a verb as a job and print the job.

    Parameters
    ----------
    project
        As the option --project gives it.
    verb
        As the command line writes it.
    """
    from napari_activeft import jobs

    with opened_project(project) as opened:
        job_id = jobs.start_job(opened, verb, settings)
        report(jobs.describe(opened, opened.store.job(job_id)), as_json)
