"""select, next, submit, import-labels: a round, from the choice to the masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_activeft.cli.app import JsonOption, ProjectOption, default, opened_project, report
from napari_activeft.errors import UserError
from napari_activeft.settings import (
    Budget,
    ImportSettings,
    NextSettings,
    SelectSettings,
    SubmitSettings,
)


def _parsed_budget(text: str) -> Budget:
    try:
        return Budget.parse(text)
    except UserError as refusal:
        raise typer.BadParameter(str(refusal)) from refusal


def select(
    budget: Annotated[
        str,
        typer.Option(help="Share of all pool slices (0.05 or 5%), or a count of slices (32)."),
    ] = str(default(SelectSettings, "budget").share),
    selector: Annotated[
        str, typer.Option(help="random, stratified_random or fixed_interval.")
    ] = default(SelectSettings, "selector"),
    seed: Annotated[int, typer.Option(help="Of the draws.")] = default(SelectSettings, "seed"),
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose the slices to label next and queue them."""
    settings = SelectSettings(budget=_parsed_budget(budget), selector=selector, seed=seed)
    from napari_activeft import workflow

    with opened_project(project) as opened:
        report(workflow.select(opened, settings), as_json)


def next_(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where picture and ticket go.")],
    annotator: Annotated[
        str,
        typer.Option(
            envvar="NAPARI_ACTIVEFT_ANNOTATOR", metavar="NAME", help="Who will label the slice."
        ),
    ],
    another: Annotated[
        bool, typer.Option("--another", help="One more, beside the one already held.")
    ] = default(NextSettings, "another"),
    minutes: Annotated[
        float, typer.Option(help="Until the query goes back into the queue.")
    ] = default(NextSettings, "minutes"),
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lease the next query and write its picture and ticket."""
    settings = NextSettings(annotator=annotator, out=out, another=another, minutes=minutes)
    from napari_activeft import workflow

    with opened_project(project) as opened:
        result = workflow.next_query(opened, settings)
    report(result, as_json)
    if result.query is None and result.problems:
        raise typer.Exit(1)


def submit(
    ticket: Annotated[Path, typer.Option(metavar="JSON", help="The ticket that `next` wrote.")],
    mask: Annotated[
        Path | None,
        typer.Argument(
            metavar="MASK", help="Class ids in the size of the picture.", show_default=False
        ),
    ] = None,
    empty: Annotated[
        bool, typer.Option("--empty", help="The slice holds nothing of any class.")
    ] = default(SubmitSettings, "empty"),
    skip: Annotated[
        str | None, typer.Option(metavar="REASON", help="The slice is not to be labelled.")
    ] = default(SubmitSettings, "skip"),
    hand_back: Annotated[
        bool, typer.Option("--hand-back", help="Somebody else shall label it.")
    ] = default(SubmitSettings, "hand_back"),
    on_top: Annotated[
        bool,
        typer.Option("--on-top", help="Store the mask even if the slice got another meanwhile."),
    ] = default(SubmitSettings, "on_top"),
    seconds: Annotated[float | None, typer.Option(help="Time on task without pauses.")] = default(
        SubmitSettings, "seconds"
    ),
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a query with a mask, or say why there is none."""
    settings = SubmitSettings(
        ticket=ticket,
        mask=mask,
        empty=empty,
        skip=skip,
        hand_back=hand_back,
        on_top=on_top,
        seconds=seconds,
    )
    from napari_activeft import workflow

    with opened_project(project) as opened:
        report(workflow.submit(opened, settings), as_json)


def import_labels(
    only_queried: Annotated[
        bool, typer.Option("--only-queried", help="Only slices that were selected.")
    ] = default(ImportSettings, "only_queried"),
    author: Annotated[str, typer.Option(help="Whose masks they are.")] = default(
        ImportSettings, "author"
    ),
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a label map was passed over.")
    ] = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn label maps that `add --labels` found into accepted masks."""
    settings = ImportSettings(only_queried=only_queried, author=author)
    from napari_activeft import terminal, workflow

    with (
        opened_project(project) as opened,
        terminal.progress("importing label maps") as on_progress,
    ):
        result = workflow.import_labels(opened, settings, on_progress)
    report(result, as_json)
    if strict and result.problems:
        raise typer.Exit(1)
