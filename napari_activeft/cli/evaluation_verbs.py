"""evaluate: predictions beside the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_activeft.cli.app import JsonOption, ProjectOption, default, opened_project, report
from napari_activeft.cli.background import BackgroundOption, run_in_background
from napari_activeft.settings import EvaluateSettings


def evaluate(
    run: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Whose predictions; else the newest run that is done."),
    ] = default(EvaluateSettings, "run"),
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="NIfTI label maps to measure instead, named as `predict` does."
        ),
    ] = default(EvaluateSettings, "predictions"),
    split: Annotated[str, typer.Option(help="test, val or pool.")] = default(
        EvaluateSettings, "split"
    ),
    truth: Annotated[
        str, typer.Option(help="masks: accepted masks of people; labels: the label maps of `add`.")
    ] = default(EvaluateSettings, "truth"),
    unlabelled: Annotated[
        int | None,
        typer.Option(metavar="VALUE", help="Value in label maps of what was not labelled."),
    ] = default(EvaluateSettings, "unlabelled"),
    absent_as_zero: Annotated[
        bool,
        typer.Option(
            "--absent-as-zero", help="Dice 0 for a class in neither truth nor prediction."
        ),
    ] = default(EvaluateSettings, "absent_as_zero"),
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = default(
        EvaluateSettings, "seed"
    ),
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Else reports/evaluation-run-001 in the project."),
    ] = default(EvaluateSettings, "out"),
    tta: Annotated[
        str, typer.Option(help="Of what is not predicted yet: auto, none, flips or full.")
    ] = default(EvaluateSettings, "tta"),
    device: Annotated[
        str, typer.Option(help="Of what is not predicted yet: auto, cpu, cuda, cuda:1 or mps.")
    ] = default(EvaluateSettings, "device"),
    threads: Annotated[int, typer.Option(help="Of the CPU; 0 is torch's choice.")] = default(
        EvaluateSettings, "threads"
    ),
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a volume was passed over.")
    ] = False,
    background: BackgroundOption = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure predictions against the truth, and write tables and a page."""
    settings = EvaluateSettings.model_validate(
        {
            "run": run,
            "predictions": predictions,
            "split": split,
            "truth": truth,
            "unlabelled": unlabelled,
            "absent_as_zero": absent_as_zero,
            "seed": seed,
            "out": out,
            "tta": tta,
            "device": device,
            "threads": threads,
        }
    )
    if background:
        run_in_background(project, "evaluate", settings, as_json)
        return
    from napari_activeft import terminal, workflow

    with opened_project(project) as opened, terminal.progress("evaluating") as on_progress:
        result = workflow.evaluate(opened, settings, on_progress)
    report(result, as_json)
    if strict and result.problems:
        raise typer.Exit(1)
