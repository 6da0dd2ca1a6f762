"""simulate: the whole experiment on labels that are there already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_activeft.cli.app import JsonOption, ProjectOption, default, opened_project, report
from napari_activeft.cli.background import BackgroundOption, run_in_background
from napari_activeft.cli.learning_verbs import training_values
from napari_activeft.cli.round_verbs import (
    EmptinessOption,
    GapOption,
    PerCaseOption,
    PerVolumeOption,
    listed,
    parsed_budget,
)
from napari_activeft.settings import SimulateSettings
from napari_activeft.settings.simulation import RECIPES


def simulate(
    selectors: Annotated[str, typer.Option(help="Names, separated by commas.")] = ",".join(
        default(SimulateSettings, "selectors")
    ),
    budgets: Annotated[
        str,
        typer.Option(help="Shares or counts, separated by commas; 1.0 is the ceiling."),
    ] = "0.05,0.2",
    seeds: Annotated[int, typer.Option(help="How many seeds.")] = default(
        SimulateSettings, "seeds"
    ),
    rounds: Annotated[int, typer.Option(help="Parts in which a budget is spent.")] = default(
        SimulateSettings, "rounds"
    ),
    networks: Annotated[
        str, typer.Option(help="Names, separated by commas; else that of the recipe.")
    ] = "",
    reference: Annotated[
        str, typer.Option(help="The selector that the others are set against.")
    ] = default(SimulateSettings, "reference"),
    recipe: Annotated[
        str, typer.Option(help="ours: whole cases to test; study: as the older study did.")
    ] = default(SimulateSettings, "recipe"),
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Of the training, as `train --set` takes it: steps=2000; repeatable.",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Of the recipe study.")] = default(
        SimulateSettings, "epochs"
    ),
    test_split: Annotated[str, typer.Option(help="Whom to measure on: test or val.")] = default(
        SimulateSettings, "test_split"
    ),
    folds: Annotated[
        int | None,
        typer.Option(metavar="N", help="Measure inside the pool: so many parts of its cases."),
    ] = default(SimulateSettings, "folds"),
    fold: Annotated[
        int | None, typer.Option(metavar="I", help="Only this part, from 0; else all.")
    ] = default(SimulateSettings, "fold"),
    uncertainty: Annotated[
        float, typer.Option(help="What activeft gives to uncertainty from round 2 on.")
    ] = default(SimulateSettings, "uncertainty"),
    unlabelled: Annotated[
        int | None,
        typer.Option(metavar="VALUE", help="Value in label maps of what was not labelled."),
    ] = default(SimulateSettings, "unlabelled"),
    absent_as_zero: Annotated[
        bool,
        typer.Option(
            "--absent-as-zero", help="Dice 0 for a class in neither truth nor prediction."
        ),
    ] = default(SimulateSettings, "absent_as_zero"),
    largest: Annotated[
        bool,
        typer.Option(
            "--largest/--no-largest",
            help="Keep only the largest component of each class in a predicted volume.",
        ),
    ] = default(SimulateSettings, "largest"),
    tta: Annotated[str, typer.Option(help="auto, none, flips or full.")] = default(
        SimulateSettings, "tta"
    ),
    encoder: Annotated[
        str | None, typer.Option(help="Whose vectors selectors see; else those made last.")
    ] = default(SimulateSettings, "encoder"),
    per_case: PerCaseOption = default(SimulateSettings, "per_case"),
    per_volume: PerVolumeOption = default(SimulateSettings, "per_volume"),
    gap: GapOption = default(SimulateSettings, "gap"),
    emptiness: EmptinessOption = default(SimulateSettings, "emptiness"),
    plan_seed: Annotated[int, typer.Option(help="Of folds and bootstrap.")] = default(
        SimulateSettings, "plan_seed"
    ),
    keep: Annotated[bool, typer.Option("--keep", help="Keep the networks.")] = default(
        SimulateSettings, "keep"
    ),
    trust: Annotated[
        bool, typer.Option("--trust", help="Take trainings of other code as they are.")
    ] = default(SimulateSettings, "trust"),
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Else reports/simulation in the project."),
    ] = default(SimulateSettings, "out"),
    background: BackgroundOption = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try selectors, budgets and networks on labels that are there; the project stays as it is.

    Start it twice to use two cores: both write to one folder and take different trainings.
    """
    settings = SimulateSettings.model_validate(
        {
            "selectors": listed(selectors),
            "budgets": [parsed_budget(one) for one in listed(budgets)],
            "seeds": seeds,
            "rounds": rounds,
            "networks": listed(networks),
            "reference": reference,
            "recipe": recipe,
            "train": RECIPES.get(recipe, {}) | training_values(option or ()),
            "epochs": epochs,
            "test_split": test_split,
            "folds": folds,
            "fold": fold,
            "uncertainty": uncertainty,
            "unlabelled": unlabelled,
            "absent_as_zero": absent_as_zero,
            "tta": tta,
            "largest": largest,
            "encoder": encoder,
            "per_case": per_case,
            "per_volume": per_volume,
            "gap": gap,
            "emptiness": emptiness,
            "plan_seed": plan_seed,
            "keep": keep,
            "trust": trust,
            "out": out,
        }
    )
    if background:
        run_in_background(project, "simulate", settings, as_json)
        return
    from napari_activeft import workflow
    from napari_activeft.terminal.simulation import simulation_progress

    with opened_project(project) as opened, simulation_progress() as on_progress:
        result = workflow.simulate(opened, settings, on_progress)
    report(result, as_json)
