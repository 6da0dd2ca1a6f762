"""The process that computes a job: ``python -m napari_activeft.job_task PROJECT JOB``.

Its environment is set before it starts (threads, how they wait), see `job_processes`. Standard
output and error are the job's log.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Final

from pydantic import ValidationError

from napari_activeft.annotation_db import JobRecord, Store, StoreError
from napari_activeft.errors import Cancelled, UserError
from napari_activeft.job_processes import give_way
from napari_activeft.job_steps import step_of
from napari_activeft.jobs import log_path
from napari_activeft.project import Project
from napari_activeft.results import to_json
from napari_activeft.training.progress import Progress, Watcher

_WRITE_SECONDS: Final = 0.25
_SAY_SECONDS: Final = 5.0
_log = logging.getLogger("napari_activeft.job")


class _Terminated(Cancelled):
    """The process was told to end (SIGTERM)."""


class _Progress(Watcher):
    """Writes progress into the store, four times a second at most, and stops a cancelled job."""

    def __init__(self, store: Store, job_id: int) -> None:
        self._store, self._job_id = store, job_id
        self._written = self._said = float("-inf")
        self._latest: tuple[int, int] | None = None
        self._course = ""

    def __call__(self, done: int, total: int) -> None:
        """Note progress; raise `Cancelled` if the job was asked to stop."""
        now = time.monotonic()
        if now - self._said > _SAY_SECONDS:
            self._said = now
            _log.info("%d of %d%s", done, total, self._course)
        self._latest = (done, total)
        if now - self._written > _WRITE_SECONDS:
            self._written = now
            self._write()

    def course(self, progress: Progress) -> None:
        """Take the figures of a training for the next line of the log."""
        score = "" if progress.score is None else f", Dice {progress.score:.4f}"
        self._course = f", loss {progress.loss:.4f}{score}"

    def say(self, sentence: str) -> None:
        """Write a sentence into the log."""
        _log.info("%s", sentence)

    def flush(self) -> None:
        """Write what the last call said."""
        if self._latest is not None:
            self._store.job_progress(self._job_id, *self._latest)

    def _write(self) -> None:
        if self._latest is not None and not self._store.job_progress(self._job_id, *self._latest):
            raise Cancelled


def main() -> None:
    """Compute the job that the command line names."""
    give_way()
    threading.Thread(target=_end_with_watcher, daemon=True).start()
    signal.signal(signal.SIGTERM, _terminate)
    form = "%(asctime)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, stream=sys.stderr)
    with Project.open(Path(sys.argv[1])) as project:
        run(project, project.store.job(int(sys.argv[2])))


def _end_with_watcher() -> None:
    """End this process at once when the one that keeps watch is gone, and its pipe with it."""
    # Past Python's own buffer, whose lock a thread that waits would hold when the process ends.
    while os.read(0, 1):
        pass
    os._exit(1)


def _terminate(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise _Terminated


def run(project: Project, job: JobRecord) -> None:
    """Run a job's step and write down what became of it."""
    threads = f"{job.threads} thread{'' if job.threads == 1 else 's'}"
    _log.info("job %d: %s with %s, process %d", job.job_id, job.verb, threads, os.getpid())
    try:
        state, reason = _outcome(project, job)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is left is short
    _log.info("%s%s", state, f": {reason}" if reason else "")
    project.store.end_job(job.job_id, state, reason)


def _outcome(project: Project, job: JobRecord) -> tuple[str, str | None]:
    """Return the state that the step ends in, and why if it did not finish."""
    progress = _Progress(project.store, job.job_id)
    try:
        step = step_of(job.verb)
        result = step.function(project, step.read(job.settings), progress)
        progress.flush()
        _keep(log_path(project, job).with_suffix(".json"), to_json(result))
        return "done", None
    except Cancelled as stop:
        if project.store.job(job.job_id).cancel_asked_at is not None:
            return "cancelled", "it was cancelled"
        if isinstance(stop, _Terminated):
            return "failed", "the worker was ended by SIGTERM, which somebody sent: resume it"
        return "cancelled", "the step stopped by itself"
    except (UserError, StoreError) as refusal:
        return "failed", " ".join(str(refusal).split())
    except ValidationError as refusal:
        fault = refusal.errors()[0]
        name = ".".join(str(part) for part in fault["loc"])
        return "failed", f"the setting {name} does not fit ({fault['msg']}): start it afresh"
    except BaseException as failure:
        traceback.print_exc()
        return "failed", _last_line(failure)


def _last_line(failure: BaseException) -> str:
    """Return an unexpected failure as one line; what ran out of memory says so."""
    line = " ".join(traceback.format_exception_only(failure)[-1].split())
    # torch's own, which is no MemoryError.
    if isinstance(failure, MemoryError) or type(failure).__name__ == "OutOfMemoryError":
        return f"memory ran out ({line}): close other programs, or compute with less at once"
    return line


def _keep(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    main()
