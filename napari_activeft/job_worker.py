"""The process that keeps watch over a job: ``python -m napari_activeft.job_worker PROJECT JOB``.

It stays small and loads nothing that computes, so it outlives what the system kills for memory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

import platformdirs

from napari_activeft import job_processes
from napari_activeft.annotation_db import UNFINISHED, JobRecord, ProcessMark, Store
from napari_activeft.folder_walk import PROJECT_FILE

if TYPE_CHECKING:
    from filelock import FileLock

TASK: tuple[str, ...] = ("-P", "-m", "napari_activeft.job_task")
"""Python's arguments for the process that computes."""

HEAVY: Final = frozenset(
    ("pretrain", "embed", "select", "compare", "train", "predict", "evaluate", "simulate")
)
"""Verbs of which one at a time computes on a machine."""

LOCK_FILE: Final = "heavy-job.lock"
CANCELLED: Final = "it was cancelled"

_LOOK_SECONDS: Final = 0.1
_QUEUE_SECONDS: Final = 0.2
# Of a job that was asked to stop: first it may end by itself, then it is pressed, then forced.
_TERMINATE_AFTER: Final = 0.6
_KILL_AFTER: Final = 0.9


class _Ended(BaseException):
    """The process was told to end."""


def main() -> None:
    """Keep watch over the job that the command line names."""
    folder, job_id = Path(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGTERM, _end)
    with Store.open(folder / PROJECT_FILE) as store:
        watch(store, folder, job_id)


def _end(number: int, frame: FrameType | None) -> None:
    del frame
    raise _Ended(signal.Signals(number).name)


def watch(store: Store, folder: Path, job_id: int) -> None:
    """See a job through to a final state, whatever happens to the process that computes."""
    job = store.claim_job(job_id, ProcessMark.of_this_process())
    try:
        with _turn(store, job) as is_ours:
            if is_ours:
                _compute(store, folder, job)
            else:
                store.end_job(job_id, "cancelled", CANCELLED)
    except _Ended as told:
        sentence = f"the process that kept watch over it was ended by {told}: resume it"
        store.end_job(job_id, "failed", sentence)
    except Exception as refusal:
        store.end_job(job_id, "failed", f"it could not be run: {refusal}")
        raise


@contextmanager
def _turn(store: Store, job: JobRecord) -> Iterator[bool]:
    """Wait until a heavy job may compute and give True, or False if it was cancelled meanwhile."""
    if job.verb not in HEAVY:
        yield True
        return
    from filelock import FileLock

    lock = FileLock(_meeting_place() / LOCK_FILE)
    while store.job(job.job_id).cancel_asked_at is None:
        if not _somebody_was_first(store, job) and _taken(lock):
            try:
                yield True
            finally:
                lock.release()
            return
        time.sleep(_QUEUE_SECONDS)
    yield False


def _meeting_place() -> Path:
    """Return the folder where this user's jobs wait for each other, writable home or not."""
    folder = Path(platformdirs.user_cache_dir("napari-activeft", appauthor=False))
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        whose = os.getuid() if hasattr(os, "getuid") else "user"
        folder = Path(tempfile.gettempdir()) / f"napari-activeft-{whose}"
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _taken(lock: FileLock) -> bool:
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _somebody_was_first(store: Store, job: JobRecord) -> bool:
    store.end_dead_jobs()
    return any(
        other.job_id < job.job_id and other.verb in HEAVY and other.host in (None, job.host)
        for other in store.jobs("queued")
    )


def _compute(store: Store, folder: Path, job: JobRecord) -> None:
    worker = job_processes.start_worker(
        TASK, folder, job.job_id, job.threads or job_processes.cores()
    )
    try:
        store.begin_job(job.job_id, worker.pid)
        _see_to_the_end(store, job.job_id, worker)
    finally:
        if worker.poll() is None:
            job_processes.end_tree(worker.pid, at_once=True)
            worker.wait()
        if worker.stdin is not None:
            worker.stdin.close()
    ended = store.job(job.job_id)
    if ended.state in UNFINISHED:
        if ended.cancel_asked_at is not None:
            store.end_job(job.job_id, "cancelled", CANCELLED)
        else:
            reason = job_processes.reason_of_exit(worker.returncode)
            store.end_job(job.job_id, "failed", reason)


def _see_to_the_end(store: Store, job_id: int, worker: subprocess.Popen[bytes]) -> None:
    """Return when the worker has ended, which is pressed to do so once the job is cancelled."""
    asked: float | None = None
    pressed = False
    while True:
        try:
            worker.wait(timeout=_LOOK_SECONDS)
            return
        except subprocess.TimeoutExpired:
            pass
        if asked is None:
            if store.job(job_id).cancel_asked_at is not None:
                asked = time.monotonic()
            continue
        passed = time.monotonic() - asked
        if passed > _KILL_AFTER:
            job_processes.end_tree(worker.pid, at_once=True)
        elif passed > _TERMINATE_AFTER and not pressed:
            job_processes.end_tree(worker.pid, at_once=False)
            pressed = True


if __name__ == "__main__":
    main()
