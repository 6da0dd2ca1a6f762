"""How far a run is, and what it became."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes
    ----------
    step, steps
        Done, and to do at most.
    loss
        Of the last step; NaN before the first.
    score
        Mean Dice of the last measurement; None before the first.
    seconds_left
        At the pace so far.
    """

    step: int
    steps: int
    loss: float
    score: float | None
    seconds_left: float


@dataclass(frozen=True)
class Trained:
    """What a run became.

    Attributes
    ----------
    folder
        Of its files.
    steps, best_step
        That were taken, and whose weights were best; the same without a monitor.
    score
        Mean Dice of the best; None without a monitor.
    seconds
        Spent in all.
    part
        Slices that were worked on at once in the end.
    learnt, weights
        Numbers that learnt in the end, and that the network holds.
    stopped_early
        Whether it stopped before its steps were done, because it got no better.
    notes
        What else a reader should know, sentences.
    """

    folder: Path
    steps: int
    best_step: int
    score: float | None
    seconds: float
    part: int
    learnt: int
    weights: int
    stopped_early: bool
    notes: tuple[str, ...]


OnCourse = Callable[[Progress], None]
"""Called after each step; where it raises, the run is kept and can be resumed."""
OnLog = Callable[[str], None]
"""Told what a reader of the log should know, in sentences."""


class Watcher(ABC):
    """An ``on_progress`` that also wants to know the loss, and what the log says."""

    @abstractmethod
    def __call__(self, done: int, total: int) -> None:
        """Take steps done and steps to do; it may raise `Cancelled`."""

    @abstractmethod
    def course(self, progress: Progress) -> None:
        """Take what is known of the run; called before each call of the watcher itself."""

    @abstractmethod
    def say(self, sentence: str) -> None:
        """Take a sentence of the log."""


def ignore(_: object) -> None:
    """Ignore progress and log: the default."""
