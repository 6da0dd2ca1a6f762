"""jobs list, show, wait, cancel, resume: steps that run in processes of their own."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_activeft.cli.app import JsonOption, ProjectOption, opened_project, report

JobArgument = Annotated[int, typer.Argument(metavar="N", help="As `jobs list` shows it.")]


def list_(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Show all jobs, the newest first."""
    from napari_activeft import jobs

    with opened_project(project) as opened:
        report(jobs.describe_all(opened), as_json)


def show(
    job: JobArgument,
    lines: Annotated[int, typer.Option(min=0, help="How many lines of the log.")] = 20,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far a job is, and the end of its log."""
    from napari_activeft import jobs

    with opened_project(project) as opened:
        report(jobs.describe(opened, jobs.poll_job(opened, job), lines), as_json)


def wait(job: JobArgument, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Wait until a job has ended; exit with 1 if it is not done then."""
    from napari_activeft import jobs, terminal

    with opened_project(project) as opened:
        with terminal.progress(f"job {job}") as on_progress:
            ended = jobs.wait(opened, job, on_progress)
        report(jobs.describe(opened, ended), as_json)
    if ended.state != "done":
        raise typer.Exit(1)


def cancel(job: JobArgument, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Stop a job; what it finished before stays."""
    from napari_activeft import jobs

    with opened_project(project) as opened:
        report(jobs.describe(opened, jobs.cancel(opened, job)), as_json)


def resume(job: JobArgument, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Start a job that did not finish once more: embed, train and simulate go on from there."""
    from napari_activeft import jobs

    with opened_project(project) as opened:
        again = jobs.resume_job(opened, job)
        report(jobs.describe(opened, opened.store.job(again)), as_json)
