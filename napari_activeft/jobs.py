"""Jobs: any step of the workflow in a worker process, for the command line and the viewer alike.

Two processes serve a job. The one that keeps watch (`job_worker`) is small: it waits until no other
heavy job computes on this machine, starts the one that computes (`job_task`), passes on a wish to
cancel, and writes down how the other ended, also when it was killed. All they say goes through the
store, so anybody may look, from any process: `poll`.
"""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Final

from napari_activeft import job_processes
from napari_activeft.annotation_db import UNFINISHED, JobRecord, ProcessMark
from napari_activeft.errors import OnProgress, UserError, no_progress
from napari_activeft.project import Project
from napari_activeft.results import JobResult, JobsResult
from napari_activeft.settings import Settings

FOLDER: Final = "jobs"
LOG_FILE: Final = f"{FOLDER}/job-{{:03d}}.log"
WORKER: tuple[str, ...] = ("-P", "-m", "napari_activeft.job_worker")
"""Python's arguments for the process that keeps watch; -P: not from the folder it runs in."""

_LOOK_SECONDS: Final = 0.1
# Longer than the process that keeps watch takes to ask, to press and to force.
_CANCEL_SECONDS: Final = 1.6


def start_job(
    project: Project,
    verb: str,
    settings: Settings,
    *,
    beside_viewer: bool = False,
    threads: int | None = None,
) -> int:
    """Start a step as a job and return its number at once.

    Parameters
    ----------
    verb
        As the command line writes it, for example ``"train"``.
    settings
        Of that verb. Paths in it are made absolute.
    beside_viewer
        Leave one core to the viewer.
    threads
        To compute with; all cores, or all but one beside a viewer, if None.

    Raises
    ------
    UserError
        If the verb cannot run as a job, or no process can be started.
    """
    # Here: `show` and `list` need not load the workflow.
    from napari_activeft.job_steps import as_json, step_of

    step = step_of(verb)
    if not isinstance(settings, step.settings):
        raise TypeError(
            f"{verb} takes {step.settings.__name__}, and {type(settings).__name__} was given"
        )
    if threads is None:
        threads = max(1, job_processes.cores() - int(beside_viewer))
    job = project.store.add_job(
        verb, as_json(settings), project.actor, threads=threads, log_file=LOG_FILE
    )
    try:
        log = log_path(project, job)
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as stream:
            job_processes.start(WORKER, project.folder, job.job_id, stream)
    except OSError as refusal:
        sentence = (
            f"the job's process could not be started ({refusal.strerror}): free some space or "
            f"memory, and see that {project.folder} can be written"
        )
        project.store.end_job(job.job_id, "failed", sentence)
        raise UserError(sentence) from refusal
    return job.job_id


def resume_job(project: Project, job_id: int) -> int:
    """Start a job that did not finish once more, and return the number of the new one.

    Steps that keep what they did (embed, train, simulate) go on from there: training with the run
    that the job had begun.

    Raises
    ------
    UserError
        If it is done, or has not ended yet.
    """
    from napari_activeft.job_steps import going_on, step_of

    job = poll_job(project, job_id)
    if job.state in UNFINISHED:
        raise UserError(f"job {job_id} is {job.state}: wait for it, or cancel it first")
    if job.state == "done":
        raise UserError(
            f"job {job_id} is done and needs no resuming: start `napari-activeft {job.verb}` "
            "afresh for another one"
        )
    settings = going_on(project, job, step_of(job.verb).read(job.settings))
    return start_job(project, job.verb, settings, threads=job.threads)


def poll(project: Project) -> list[JobRecord]:
    """Return all jobs, oldest first, after a look whether the unfinished ones still live."""
    project.store.end_dead_jobs()
    return project.store.jobs()


def poll_job(project: Project, job_id: int) -> JobRecord:
    """Return one job after such a look."""
    project.store.end_dead_jobs()
    return project.store.job(job_id)


def wait(project: Project, job_id: int, on_progress: OnProgress = no_progress) -> JobRecord:
    """Return a job when it has ended, in whatever state; the job goes on if this is interrupted.

    Parameters
    ----------
    on_progress
        Called with the job's own (done, total); it may raise `Cancelled`, which ends the waiting.
    """
    while True:
        job = poll_job(project, job_id)
        if job.total:
            on_progress(job.done, job.total)
        if job.state not in UNFINISHED:
            return job
        time.sleep(_LOOK_SECONDS)


def cancel(project: Project, job_id: int) -> JobRecord:
    """Stop a job, within two seconds, and return what became of it.

    What it finished before stays. A job of another computer is asked to stop, which is not waited
    for.
    """
    store = project.store
    job = store.ask_to_cancel(job_id, project.actor)
    deadline = time.monotonic() + _CANCEL_SECONDS
    while job.state in UNFINISHED and _is_here(job):
        if time.monotonic() > deadline:
            # The one that keeps watch does not answer: it was stopped, or waits for the disk.
            job_processes.end_tree(job.pid or 0, at_once=True)
            store.end_job(job_id, "cancelled", "it was cancelled, and its processes were killed")
        time.sleep(_LOOK_SECONDS / 2)
        job = poll_job(project, job_id)
    return job


def _is_here(job: JobRecord) -> bool:
    return job.host == ProcessMark.of_this_process().host


def log_path(project: Project, job: JobRecord) -> Path:
    """Return the file that a job's processes write to."""
    return project.folder / (job.log_file or LOG_FILE.format(job.job_id))


def describe(project: Project, job: JobRecord, lines: int = 0) -> JobResult:
    """Return what there is to show of a job, with the last lines of its log."""
    log = log_path(project, job)
    result = log.with_suffix(".json")
    return JobResult(
        job=job.job_id,
        verb=job.verb,
        state=job.state,
        done=job.done,
        total=job.total,
        threads=job.threads,
        reason=job.reason,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        log=log,
        result=result if result.is_file() else None,
        tail=_last_lines(log, lines),
    )


def describe_all(project: Project) -> JobsResult:
    """Return what there is to show of all jobs, the newest first."""
    return JobsResult([describe(project, job) for job in reversed(poll(project))])


def _last_lines(log: Path, lines: int) -> tuple[str, ...]:
    if not lines:
        return ()
    try:
        with log.open(encoding="utf-8", errors="replace") as stream:
            return tuple(line.rstrip("\n") for line in deque(stream, maxlen=lines))
    except OSError:
        return ()
