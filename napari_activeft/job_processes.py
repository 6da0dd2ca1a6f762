"""Processes of a job: started apart from the terminal, ended with all that they started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Final

import psutil

# Away from the terminal, so that closing it or Ctrl-C in it does not reach a job. The two names
# exist on Windows only.
_APART: Final = getattr(subprocess, "CREATE_NO_WINDOW", 0) | getattr(
    subprocess, "CREATE_NEW_PROCESS_GROUP", 0
)
_NICE: Final = 10
_THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def start(program: tuple[str, ...], folder: Path, job_id: int, log: IO[bytes]) -> int:
    """Start the process that keeps watch over a job, apart from this one; return its number.

    Parameters
    ----------
    program
        Arguments of Python before the folder and the job.
    log
        Where it writes.
    """
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, *program, str(folder), str(job_id)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=folder,
        creationflags=_APART,
        start_new_session=True,
    )
    _collect(process)
    return process.pid


def _collect(process: subprocess.Popen[bytes]) -> None:
    """Ask for the exit code of a process whenever it ends: until then the system keeps it."""
    import threading

    threading.Thread(target=process.wait, name=f"job process {process.pid}", daemon=True).start()


def start_worker(
    program: tuple[str, ...], folder: Path, job_id: int, threads: int
) -> subprocess.Popen[bytes]:
    """Start the process that computes; it ends when the one that started it ends.

    Parameters
    ----------
    threads
        How many it may compute with; set before any library is loaded, which would not ask later.
    """
    # Threads that wait for each other by spinning make a step beside another busy process slow.
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
    environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"  # of the log
    environment |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, *program, str(folder), str(job_id)],
        stdin=subprocess.PIPE,
        cwd=folder,
        env=environment,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


def give_way() -> None:
    """Let this process, and all that it starts, compute with what other programs leave.

    A viewer beside it draws without delay then; where nothing else wants the processor, nothing is
    lost.
    """
    low = getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", _NICE)  # Windows has classes, not numbers
    with contextlib.suppress(psutil.Error, OSError):
        psutil.Process().nice(low)


def end_tree(pid: int, *, at_once: bool) -> None:
    """Ask a process and all that it started to end (SIGTERM), or end them (SIGKILL)."""
    try:
        top = psutil.Process(pid)
        processes = [*top.children(recursive=True), top]
    except psutil.NoSuchProcess:
        return
    for process in processes:
        try:
            process.kill() if at_once else process.terminate()
        except psutil.NoSuchProcess:
            continue


def reason_of_exit(code: int) -> str:
    """Say in one sentence why a worker ended that had not finished.

    Parameters
    ----------
    code
        As `subprocess.Popen.returncode` gives it: below 0 is minus the number of a signal.
    """
    if code >= 0:
        return (
            f"the worker ended with exit code {code} and no word of what it did: the log shows how "
            "far it came"
        )
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name == "SIGKILL":
        return (
            "the worker was killed (SIGKILL), probably by the system because memory ran out, else "
            "by somebody: close other programs or compute with less at once, then resume it"
        )
    return f"the worker was ended by {name}: the log shows how far it came"


def cores() -> int:
    """Return how many cores this process may compute on; two threads of one core count once."""
    allowed = psutil.cpu_count() or 1
    if hasattr(psutil.Process, "cpu_affinity"):  # not on macOS
        allowed = len(psutil.Process().cpu_affinity() or [0])
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))
