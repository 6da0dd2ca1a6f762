"""Which process a job belongs to, and whether it is still that one that runs."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import Final

import psutil

# The system's clock may be set while a process runs, which moves the time at which it started.
_TOLERANCE: Final = 2.0


@dataclass(frozen=True)
class ProcessMark:
    """What tells a process from every other one.

    Attributes
    ----------
    host
        Name of the computer.
    pid
        Its number there, which a later process may get again.
    started
        When it was started, in seconds since 1970.
    """

    host: str
    pid: int
    started: float

    @classmethod
    def of_this_process(cls) -> ProcessMark:
        """Return the mark of the process that asks."""
        pid = os.getpid()
        return cls(platform.node(), pid, psutil.Process(pid).create_time())

    def lives(self) -> bool:
        """Say whether the process still runs; of another computer's it is believed."""
        if self.host != platform.node():
            return True
        try:
            process = psutil.Process(self.pid)
            # A process that ended and was not asked for its exit code by its parent runs no more.
            gone = process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
            return not gone and abs(process.create_time() - self.started) < _TOLERANCE
        except psutil.AccessDenied:  # it is there, and another user's
            return True
        except psutil.NoSuchProcess:
            return False
