"""What the verbs of `jobs` hand back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True)
class JobResult:
    """A step that runs, or ran, in a process of its own.

    Attributes
    ----------
    state
        queued, running, done, failed or cancelled.
    done, total
        How far it is; a total of 0 is not known yet.
    threads
        How many it computes with.
    reason
        Why it did not finish.
    log
        The file that it writes to.
    result
        The file that holds what the verb handed back, as its --json prints it; None before it is
        done.
    tail
        The last lines of the log, if they were asked for.
    """

    job: int
    verb: str
    state: str
    done: int
    total: int
    threads: int | None
    reason: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    log: Path
    result: Path | None
    tail: tuple[str, ...]


@dataclass(frozen=True)
class JobsResult:
    """All jobs, the newest first."""

    jobs: list[JobResult]
