"""select, next, submit, import-labels: a round, from the choice to the masks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_activeft.cli.app import JsonOption, ProjectOption, default, opened_project, report
from napari_activeft.cli.background import BackgroundOption, run_in_background
from napari_activeft.errors import Cancelled, UserError
from napari_activeft.settings import (
    ActiveFTSettings,
    Budget,
    ChoiceSettings,
    CompareSettings,
    ImportSettings,
    NextSettings,
    SelectSettings,
    SubmitSettings,
)

if TYPE_CHECKING:
    from napari_activeft.results import SelectResult

# What `select` and `compare` share, see `ChoiceSettings`.
EncoderOption = Annotated[
    str | None,
    typer.Option(help="Whose vectors; else those of the last `embed`, in `compare` all there are."),
]
PerCaseOption = Annotated[
    int | None, typer.Option(help="Most slices of one case, labelled ones included.")
]
PerVolumeOption = Annotated[
    int | None, typer.Option(help="Most slices of one volume, labelled ones included.")
]
GapOption = Annotated[int, typer.Option(help="Least distance of chosen slices of one volume.")]
EmptinessOption = Annotated[
    float, typer.Option(help="How much less an empty slice counts, 0 to below 1.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A setting of activeft, see the guide; repeatable."
    ),
]
UnlabelledOption = Annotated[
    int | None,
    typer.Option(
        metavar="VALUE",
        help="Value of pixels that were not labelled: neither a class nor background.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]


def parsed_budget(text: str) -> Budget:
    """Read a budget; a wrong one is a wrong option."""
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
        str, typer.Option(help="activeft, stratified_random, kmeans, ...: see the guide.")
    ] = default(SelectSettings, "selector"),
    encoder: EncoderOption = default(ChoiceSettings, "encoder"),
    per_case: PerCaseOption = default(ChoiceSettings, "per_case"),
    per_volume: PerVolumeOption = default(ChoiceSettings, "per_volume"),
    gap: GapOption = default(ChoiceSettings, "gap"),
    emptiness: EmptinessOption = default(ChoiceSettings, "emptiness"),
    option: SetOption = None,
    device: DeviceOption = default(ChoiceSettings, "device"),
    seed: Annotated[int, typer.Option(help="Of the draws.")] = default(SelectSettings, "seed"),
    map_by: Annotated[
        str, typer.Option(help="Layout of the map in the report: pca or umap.")
    ] = default(SelectSettings, "map_by"),
    uncertainty: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="The run whose predictions say how uncertain each slice is."
        ),
    ] = default(SelectSettings, "uncertainty"),
    background: BackgroundOption = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose the slices to label next, queue them, and write a report."""
    settings = SelectSettings.model_validate(
        {
            "budget": parsed_budget(budget),
            "selector": selector,
            "seed": seed,
            "map_by": map_by,
            "uncertainty": uncertainty,
            "encoder": encoder,
            "device": device,
            "per_case": per_case,
            "per_volume": per_volume,
            "gap": gap,
            "emptiness": emptiness,
            "activeft": _named_values(option or ()),
        }
    )
    if background:
        run_in_background(project, "select", settings, as_json)
        return
    from napari_activeft import terminal, workflow

    result: SelectResult | None = None
    try:
        with opened_project(project) as opened, terminal.progress("selecting") as on_progress:
            result = workflow.select(opened, settings, on_progress)
    except (KeyboardInterrupt, Cancelled) as stop:
        if result is None:  # else the round is queued, whatever was stopped after it
            terminal.fail("stopped: no round was queued, the same command starts afresh")
            raise typer.Exit(1) from stop
    report(result, as_json)


def compare(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[NPY]...", help="Vectors of anybody; else the project's own."),
    ] = None,
    selectors: Annotated[str, typer.Option(help="Names, separated by commas.")] = ",".join(
        default(CompareSettings, "selectors")
    ),
    budgets: Annotated[
        str, typer.Option(help="Shares or counts, separated by commas.")
    ] = "0.01,0.05,0.2",
    seeds: Annotated[int, typer.Option(help="How many seeds.")] = default(CompareSettings, "seeds"),
    outside: Annotated[
        Path | None,
        typer.Option(metavar="NPY", help="Vectors of cases that are not in the pool."),
    ] = default(CompareSettings, "outside"),
    reference: Annotated[
        str, typer.Option(help="The selector the others are set against.")
    ] = default(CompareSettings, "reference"),
    draws: Annotated[int, typer.Option(help="Random draws behind rW1.")] = default(
        CompareSettings, "draws"
    ),
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="reports/comparison in the project if not given."),
    ] = default(CompareSettings, "out"),
    encoder: EncoderOption = default(ChoiceSettings, "encoder"),
    per_case: PerCaseOption = default(ChoiceSettings, "per_case"),
    per_volume: PerVolumeOption = default(ChoiceSettings, "per_volume"),
    gap: GapOption = default(ChoiceSettings, "gap"),
    emptiness: EmptinessOption = default(ChoiceSettings, "emptiness"),
    option: SetOption = None,
    device: DeviceOption = default(ChoiceSettings, "device"),
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set selectors against each other; nothing is queued."""
    settings = CompareSettings.model_validate(
        {
            "selectors": listed(selectors),
            "budgets": [parsed_budget(one) for one in listed(budgets)],
            "seeds": seeds,
            "files": files or (),
            "outside": outside,
            "reference": reference,
            "draws": draws,
            "out": out,
            "encoder": encoder,
            "device": device,
            "per_case": per_case,
            "per_volume": per_volume,
            "gap": gap,
            "emptiness": emptiness,
            "activeft": _named_values(option or ()),
        }
    )
    from napari_activeft import terminal, workflow

    with (
        nullcontext() if files else opened_project(project) as opened,
        terminal.progress("comparing") as on_progress,
    ):
        result = workflow.compare(opened, settings, on_progress)
    report(result, as_json)


def listed(written: str) -> list[str]:
    """Read what stands between commas."""
    return [one.strip() for one in written.split(",") if one.strip()]


def _named_values(written: Sequence[str]) -> dict[str, str]:
    """Read NAME=VALUE pairs; what they mean is for the settings to say."""
    pairs = [one.partition("=") for one in written]
    for name, equals, _ in pairs:
        if not (name and equals):
            raise typer.BadParameter(f"--set {name!r} was given: write NAME=VALUE, e.g. lam=0.1")
        if name.strip() not in ActiveFTSettings.model_fields:
            known = ", ".join(ActiveFTSettings.model_fields)
            raise typer.BadParameter(
                f"--set {name.strip()!r} is no setting of activeft: choose one of {known}"
            )
    return {name.strip(): value.strip() for name, _, value in pairs}


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
    unlabelled: UnlabelledOption = default(SubmitSettings, "unlabelled"),
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
        unlabelled=unlabelled,
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
    unlabelled: UnlabelledOption = default(ImportSettings, "unlabelled"),
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a label map was passed over.")
    ] = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn label maps that `add --labels` found into accepted masks."""
    settings = ImportSettings(only_queried=only_queried, author=author, unlabelled=unlabelled)
    from napari_activeft import terminal, workflow

    with (
        opened_project(project) as opened,
        terminal.progress("importing label maps") as on_progress,
    ):
        result = workflow.import_labels(opened, settings, on_progress)
    report(result, as_json)
    if strict and result.problems:
        raise typer.Exit(1)
