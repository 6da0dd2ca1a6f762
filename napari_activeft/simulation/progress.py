"""How far a simulation is: cells done, what the present one is doing, the time left."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass

from napari_activeft.errors import OnProgress
from napari_activeft.training.progress import Progress

_UNITS = 100  # of progress in a cell


@dataclass(frozen=True)
class Stage:
    """What a cell is doing, and which part of its training is done, 0 to 1."""

    doing: str
    part: float


@dataclass(frozen=True)
class Situation:
    """How far a simulation is.

    Attributes
    ----------
    cells, total
        Done, and in all.
    chain
        What is computed now, in a few words; empty between chains.
    doing
        What of it.
    seconds_left
        For all cells at the pace of this process; None before the first was made.
    """

    cells: int
    total: int
    chain: str
    doing: str
    seconds_left: float | None


class SimulationWatcher(ABC):
    """An ``on_progress`` that also wants to know what is computed just now."""

    @abstractmethod
    def __call__(self, done: int, total: int) -> None:
        """Take hundredths of cells done and to do; it may raise `Cancelled`."""

    @abstractmethod
    def situation(self, now: Situation) -> None:
        """Take how far it is; called before each call of the watcher itself."""

    @abstractmethod
    def say(self, sentence: str) -> None:
        """Take a sentence of the log."""


class Watched:
    """Turns what happens in cells into calls of an ``on_progress``.

    Parameters
    ----------
    total
        Cells in all.
    """

    def __init__(self, on_progress: OnProgress, total: int) -> None:
        self._on_progress, self._total = on_progress, total
        self._watcher = on_progress if isinstance(on_progress, SimulationWatcher) else None
        self.cells = 0
        self._chain, self._stage = "", Stage("", 0.0)
        self._computed, self._seconds = 0, 0.0
        self._began: float | None = None

    def chain(self, told: str) -> None:
        """Note which chain comes now; empty if none."""
        self._chain, self._stage, self._began = told, Stage("", 0.0), None

    def stage(self, stage: Stage) -> None:
        """Note what the present cell is doing."""
        self._began = self._began or time.monotonic()
        self._stage = stage
        self._tell()

    def course(self, progress: Progress) -> None:
        """Note a step of the training."""
        doing = f"step {progress.step} of {progress.steps}, loss {progress.loss:.3f}"
        self.stage(Stage(doing, progress.step / progress.steps))

    def look(self, done: int, total: int) -> None:
        """Give an opportunity to stop."""
        del done, total
        self._tell()

    def look_at(self, done: int) -> None:
        """Give an opportunity to stop."""
        del done
        self._tell()

    def cell_done(self) -> None:
        """Note that a cell is there, made now or before."""
        self.cells += 1
        if self._began is not None:
            self._computed += 1
            self._seconds += time.monotonic() - self._began
        self._began, self._stage = None, Stage("", 0.0)
        self._tell()

    def done_elsewhere(self, cells: int) -> None:
        """Note cells that were there already or that another process made."""
        self.cells += cells
        self._tell()

    def say(self, sentence: str) -> None:
        """Pass a sentence on."""
        if self._watcher is not None:
            self._watcher.say(sentence)

    def _tell(self) -> None:
        if self._watcher is not None:
            self._watcher.situation(
                Situation(
                    self.cells, self._total, self._chain, self._stage.doing, self._seconds_left()
                )
            )
        # The last hundredth of a cell is for what follows its training.
        within = min(int(self._stage.part * _UNITS), _UNITS - 1) if self._began else 0
        done = min(self.cells * _UNITS + within, self._total * _UNITS)
        self._on_progress(done, self._total * _UNITS)

    def _seconds_left(self) -> float | None:
        if not self._computed:
            return None
        each = self._seconds / self._computed
        spent = 0.0 if self._began is None else time.monotonic() - self._began
        return max((self._total - self.cells) * each - spent, 0.0)
