"""The terminal itself: its two streams, progress, warnings, and words that all verbs share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from napari_activeft.errors import OnProgress, Problem, no_progress
from napari_activeft.wording import counted

_SHOWN_PROBLEMS = 20

# soft_wrap: a path that is broken over two lines cannot be copied. emoji: names are no markup.
out = Console(soft_wrap=True, highlight=False, emoji=False)
# A table that is too wide is broken by the terminal; rich would cut off its words.
tables = Console(width=1000, highlight=False, emoji=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)


@contextmanager
def progress(what: str, *, in_bytes: bool = False) -> Iterator[OnProgress]:
    """Show a progress bar on standard error while a terminal is there to see it."""
    if not sys.stderr.isatty():
        yield no_progress
        return
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    done = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), done, Remaining())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def warn(sentence: str) -> None:
    """Say something the user should know, without stopping."""
    err.print(f"[yellow]warning:[/] {escape(sentence)}")


def fail(sentence: str) -> None:
    """Say why nothing more is done."""
    err.print(f"[red]error:[/] {escape(sentence)}")


def list_problems(problems: list[Problem], what: str = "file") -> None:
    """Name the files or images that were passed over, all of them or the first twenty."""
    if not problems:
        return
    err.print(f"[yellow]{counted(len(problems), what)} passed over:[/]")
    for problem in problems[:_SHOWN_PROBLEMS]:
        # Most sentences name the file themselves.
        head = "" if problem.path in problem.sentence else f"{escape(problem.path)}\n    "
        err.print(f"  {head}{escape(problem.sentence)}")
    if len(problems) > _SHOWN_PROBLEMS:
        rest = len(problems) - _SHOWN_PROBLEMS
        err.print(f"  ... and {rest} more: --json lists all of them")


def new_table(*headings: str) -> Table:
    """Return an empty table."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        # A number or name that is cut off says nothing.
        made.add_column(heading, no_wrap=True, overflow="ignore")
    return made


def quoted(path: str) -> str:
    """Return a path as a shell takes it, if it holds no worse than blanks."""
    return f"'{path}'" if " " in path else path
