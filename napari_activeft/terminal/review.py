"""What `accept`, `reject` and `approve` print."""

from __future__ import annotations

from rich.markup import escape

from napari_activeft.results import AcceptResult, ApproveResult, RejectResult
from napari_activeft.screen import out
from napari_activeft.terminal.showing import show
from napari_activeft.wording import counted


@show.register
def _(result: AcceptResult) -> None:
    out.print(
        f"run {result.run}: accepted {result.accepted} of {counted(result.proposals, 'proposal')}"
    )
    _list(
        (result.before, "{} accepted before"),
        (result.kept, "{} left out: the slice has an accepted mask (--on-top takes the proposal)"),
        (result.leased, "{} left to whoever is labelling the slice"),
        (result.rejected, "{} rejected before (--rejected takes them too)"),
        (result.outdated, "{} older than a mask that was made since: predict again"),
    )
    out.print(f"queries that are still free: {result.waiting}")


@show.register
def _(result: RejectResult) -> None:
    whose = "masks of people" if result.run is None else f"proposals of run {result.run}"
    out.print(f"rejected {result.rejected} of {result.masks} {whose}")
    _list(
        (result.counted, "{} of them counted until now: their slices have no mask any more"),
        (result.before, "{} rejected before"),
        (result.leased, "{} left to whoever is labelling the slice"),
    )
    out.print(f"queries that are free now: {result.waiting}")


@show.register
def _(result: ApproveResult) -> None:
    out.print(
        f"{escape(result.reviewer)} approved {result.approved} of {counted(result.masks, 'mask')}"
    )
    _list(
        (result.before, "{} approved before"),
        (result.own, "{} left out: made by the reviewer, another pair of eyes is wanted (--own)"),
        (result.rejected, "{} rejected before (--rejected takes them too)"),
        (result.leased, "{} left to whoever is labelling the slice"),
    )


def _list(*lines: tuple[int, str]) -> None:
    for number, text in lines:
        if number:
            out.print(f"  {text.format(number)}")
