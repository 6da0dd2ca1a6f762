"""What `simulate` prints, meanwhile and at the end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.markup import escape

from napari_activeft.results.simulation import SimulateResult
from napari_activeft.screen import err, list_problems, new_table, out, tables
from napari_activeft.simulation.progress import SimulationWatcher, Situation
from napari_activeft.terminal.showing import show
from napari_activeft.wording import counted


@show.register
def _(result: SimulateResult) -> None:
    before = f", {result.reused} of them before" if result.reused else ""
    out.print(f"{counted(result.cells, 'training')} of {result.total} measured{before}")
    table = new_table("network", "selector", "slices", "Dice", "95 % interval", "seeds", "train s")
    for one in result.points:
        table.add_row(
            escape(one["network"]),
            escape(one["selector"]),
            f"{one['slices']:.0f}",
            _text(one["dice"]),
            _interval(one, "dice"),
            str(one["seeds"]),
            f"{one['train_seconds']:.0f}",
        )
    tables.print(table)
    for one in result.differences:
        first = one["selector"] if one["kind"] == "selector" else one["network"]
        out.print(
            f"  {escape(first)} less {escape(one['against'])} ({escape(one['budget'])}): "
            f"{_text(one['excess'], '+')} {_interval(one, 'excess', '+')}"
        )
    for sentence in result.differs:
        out.print(f"  differs from the study: {escape(sentence)}")
    for note in result.notes:
        out.print(f"  note: {escape(note)}")
    list_problems(result.problems, "chain")
    out.print(f"report: {escape(str(result.page))}")


def _text(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"


def _interval(one: dict[str, Any], name: str, sign: str = "") -> str:
    low, high = one[f"{name}_low"], one[f"{name}_high"]
    return "" if low is None else f"{_text(low, sign)} to {_text(high, sign)}"


class _Printed(SimulationWatcher):
    """Prints each chain as it begins to standard error, for pipes and files."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, done: int, total: int) -> None:
        """Show nothing: lines would fill the log."""

    def situation(self, now: Situation) -> None:
        """Print a line where another chain begins."""
        if now.chain and now.chain != self._last:
            err.print(escape(f"{now.cells} of {now.total} done{_left(now)}; now {now.chain}"))
        self._last = now.chain

    def say(self, sentence: str) -> None:
        """Print a sentence."""
        err.print(escape(sentence))


@contextmanager
def simulation_progress() -> Iterator[SimulationWatcher]:
    """Show a bar with what is computed and the time left, while a terminal is there to see it."""
    if not sys.stderr.isatty():
        yield _Printed()
        return
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(
        TextColumn("{task.fields[cells]}"),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        console=err,
        transient=True,
    ) as bar:
        task = bar.add_task("simulating", total=None, cells="", state="")

        class Shown(_Printed):
            def __call__(self, done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            def situation(self, now: Situation) -> None:
                state = f"{now.chain}: {now.doing}{_left(now)}" if now.chain else "waiting"
                cells = f"{now.cells} of {now.total} trainings"
                bar.update(task, cells=cells, state=escape(state))

        yield Shown()


def _left(now: Situation) -> str:
    if now.seconds_left is None:
        return ""
    minutes = round(now.seconds_left / 60)
    return f", {minutes // 60}:{minutes % 60:02d} h left"
