"""What `train` and `pretrain` print, meanwhile and at the end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.markup import escape

from napari_activeft.results.pretraining import PretrainResult
from napari_activeft.results.training import TrainResult
from napari_activeft.screen import err, list_problems, out
from napari_activeft.terminal.showing import show
from napari_activeft.training.progress import Progress, Watcher
from napari_activeft.wording import counted


@show.register
def _(result: TrainResult) -> None:
    out.print(
        f"run {result.run}: {escape(result.network)} learnt ({escape(result.learns)}) from "
        f"{counted(result.slices, 'slice')} of {counted(result.cases, 'case')} in "
        f"{counted(result.steps, 'step')}"
    )
    if result.score is not None:
        where = "val cases" if result.monitor == "val" else "labelled cases held back"
        out.print(f"  mean Dice {result.score:.4f} on {where}")
    out.print(
        f"  {result.seconds:.0f} s, {result.seconds_per_step:.3f} s a step "
        f"({result.device}, {result.precision}), {result.learnt / 1e6:.2f} of "
        f"{result.weights / 1e6:.2f} M weights learnt"
    )
    out.print(f"  report: {escape(str(result.page))}" if result.page else f"  {result.notes[-1]}")
    out.print("next: `napari-activeft predict` proposes masks for the rest")


@show.register
def _(result: PretrainResult) -> None:
    out.print(
        f"{escape(result.name)}: {escape(result.network)} learnt ({result.objective}) from "
        f"{counted(result.slices, 'slice')} of {counted(result.cases, 'case')} in "
        f"{counted(result.steps, 'step')}, {result.seconds:.0f} s"
    )
    before, after = result.before, result.after
    if before.retrieval is not None and after.retrieval is not None:
        out.print(
            f"  the nearest slice of another case lies at the same place for {after.retrieval:.0%} "
            f"of the slices (before {before.retrieval:.0%}, by chance {after.chance:.0%})"
        )
    out.print(
        f"  vectors spread in {after.effective_rank:.0f} directions "
        f"(before {before.effective_rank:.0f})"
    )
    out.print(f"  report: {escape(str(result.page))}")
    list_problems(list(result.problems), "volume")
    out.print(f"next: `napari-activeft embed --encoder {escape(result.name)}`")


class _Printed(Watcher):
    """Prints the log to standard error, for pipes and files."""

    def __call__(self, done: int, total: int) -> None:
        """Show nothing: lines would fill the log."""

    def course(self, progress: Progress) -> None:
        """Show nothing."""

    def say(self, sentence: str) -> None:
        """Print a sentence."""
        err.print(escape(sentence))


@contextmanager
def training_progress(what: str = "training") -> Iterator[Watcher]:
    """Show a bar with loss, Dice and the time left, while a terminal is there to see it."""
    if not sys.stderr.isatty():
        yield _Printed()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn())
    with Bar(*columns, TextColumn("{task.fields[state]}"), console=err, transient=True) as bar:
        task = bar.add_task(what, total=None, state="")

        class Shown(_Printed):
            def course(self, progress: Progress) -> None:
                bar.update(
                    task, completed=progress.step, total=progress.steps, state=_state(progress)
                )

        yield Shown()


def _state(progress: Progress) -> str:
    """Return loss, Dice and the time left in a few words."""
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    dice = "" if progress.score is None else f", Dice {progress.score:.3f}"
    return f"loss {progress.loss:.3f}{dice}, {minutes}:{seconds:02d} left"
