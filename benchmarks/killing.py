"""Kills a process in the middle of its work."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

DEADLINE = 60.0
"""Seconds in which a process must have begun to work."""


def kill_at_work(command: Sequence[str], notes: Path, delay: float) -> float:
    """Start a Python process, kill it a while after it noted what it did; return when that was.

    Parameters
    ----------
    command
        The script and its words.
    notes
        Where it writes a line with "done" each time that something is done.
    delay
        Seconds from the first such line to the kill.

    Returns
    -------
    killed
        Seconds on the monotonic clock.
    """
    notes.write_text("")
    with subprocess.Popen([sys.executable, *command]) as worker:
        started = time.monotonic()
        while "done" not in notes.read_text():
            if worker.poll() is not None or time.monotonic() - started > DEADLINE:
                raise SystemExit("the process that was to be killed did not do anything")
            time.sleep(0.002)
        time.sleep(delay)
        killed = time.monotonic()
        worker.send_signal(signal.SIGKILL)
    return killed
