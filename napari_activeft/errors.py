"""What can go wrong, in words that a user can act on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

OnProgress = Callable[[int, int], None]
"""Called as ``on_progress(done, total)`` during long work; it may raise `Cancelled`."""


STOPPED = "stopped; nothing is half-written, the same command goes on or begins anew"
"""What a user is told who stopped something."""


class UserError(Exception):
    """Something a user can mend: one sentence with what came, what is needed, what to do."""


class Cancelled(Exception):
    """The user stopped the work; what was finished before stays."""


@dataclass(frozen=True)
class Problem:
    """One file or case that was passed over, and why.

    Attributes
    ----------
    path
        The file or folder, as the user knows it.
    sentence
        What came, what is needed, what to do.
    """

    path: str
    sentence: str


def no_progress(done: int, total: int) -> None:
    """Ignore progress: the default of every ``on_progress``."""
