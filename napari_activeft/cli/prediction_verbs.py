"""predict: trained networks over whole volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_activeft.cli.app import JsonOption, ProjectOption, default, opened_project, report
from napari_activeft.cli.background import BackgroundOption, run_in_background
from napari_activeft.settings import PredictSettings


def predict(
    run: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN",
            help="Whose network; else the newest run that is done. Several predict together.",
        ),
    ] = None,
    which: Annotated[str, typer.Option(help="best or last weights.")] = default(
        PredictSettings, "which"
    ),
    split: Annotated[
        list[str] | None,
        typer.Option(help="pool, val or test, repeatable; pool if neither it nor --volume is set."),
    ] = None,
    volume: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only volumes of this name, * for anything; repeatable."),
    ] = None,
    tta: Annotated[
        str,
        typer.Option(help="Also predict slices turned: none, flips (4 ways), full (8), or auto."),
    ] = default(PredictSettings, "tta"),
    overlap: Annotated[
        float, typer.Option(help="Of windows, where slices are larger than in training.")
    ] = default(PredictSettings, "overlap"),
    whole_up_to: Annotated[
        float, typer.Option(help="Slices up to so many training crops a side go in whole.")
    ] = default(PredictSettings, "whole_up_to"),
    batch: Annotated[int, typer.Option(help="Slices at once.")] = default(PredictSettings, "batch"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = default(
        PredictSettings, "device"
    ),
    threads: Annotated[int, typer.Option(help="Of the CPU; 0 is torch's choice.")] = default(
        PredictSettings, "threads"
    ),
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = default(
        PredictSettings, "precision"
    ),
    scan: Annotated[str, typer.Option(help="The selective scan; auto picks one.")] = default(
        PredictSettings, "scan"
    ),
    largest: Annotated[
        bool, typer.Option("--largest", help="Keep only the largest component of each class.")
    ] = default(PredictSettings, "largest"),
    smallest_mm3: Annotated[
        float, typer.Option(help="Drop components below this volume in cubic millimetres.")
    ] = default(PredictSettings, "smallest_mm3"),
    nifti: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write label maps as NIfTI.")
    ] = default(PredictSettings, "nifti"),
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write each class's probability there.")
    ] = default(PredictSettings, "probabilities"),
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a volume was passed over.")
    ] = False,
    background: BackgroundOption = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict volumes, propose the masks, and keep how uncertain each slice is."""
    settings = PredictSettings.model_validate(
        {
            "runs": run or (),
            "which": which,
            "splits": split or (),
            "volumes": volume or (),
            "tta": tta,
            "overlap": overlap,
            "whole_up_to": whole_up_to,
            "batch": batch,
            "device": device,
            "threads": threads,
            "precision": precision,
            "scan": scan,
            "largest": largest,
            "smallest_mm3": smallest_mm3,
            "nifti": nifti,
            "probabilities": probabilities,
        }
    )
    if background:
        run_in_background(project, "predict", settings, as_json)
        return
    from napari_activeft import terminal, workflow

    with opened_project(project) as opened, terminal.progress("predicting") as on_progress:
        result = workflow.predict(opened, settings, on_progress)
    report(result, as_json)
    if strict and result.problems:
        raise typer.Exit(1)
