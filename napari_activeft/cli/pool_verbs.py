"""init, add, classes, embed: from a folder of images to a pool that can be chosen from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_activeft.cli.app import JsonOption, ProjectOption, default, opened_project, report
from napari_activeft.cli.background import BackgroundOption, run_in_background
from napari_activeft.settings import AddSettings, EmbedSettings, InitSettings


def init(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The new project's folder.")
    ] = None,
    name: Annotated[
        str, typer.Option(help="Name of the project; the folder's name if empty.")
    ] = default(InitSettings, "name"),
    plane: Annotated[
        str, typer.Option(help="Slice along auto (the coarsest spacing), z, y or x.")
    ] = default(InitSettings, "plane"),
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a project in DIR."""
    from napari_activeft import workflow

    target = folder or project
    if target is None:
        raise typer.BadParameter("name the new project's folder: napari-activeft init DIR")
    settings = InitSettings.model_validate({"name": name, "plane": plane})
    report(workflow.init(target, settings), as_json)


def add(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder, or one image file.")],
    labels: Annotated[
        str | None,
        typer.Option(metavar="GLOB", help="Files that are label maps, e.g. '*_gt.nii.gz'."),
    ] = default(AddSettings, "labels"),
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Files to pass over; repeatable.")
    ] = None,
    case: Annotated[
        str,
        typer.Option(
            metavar="PATTERN",
            help="What tells cases apart: auto, folder, file, FILE.csv:COLUMN, or a regular "
            "expression with one group such as '(patient\\d+)'.",
        ),
    ] = default(AddSettings, "case"),
    split: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV", help="Table with the columns case and split (pool, val, test)."
        ),
    ] = default(AddSettings, "split"),
    val_share: Annotated[
        float, typer.Option(help="Share of new cases drawn for validation.")
    ] = default(AddSettings, "val_share"),
    test_share: Annotated[
        float, typer.Option(help="Share of new cases drawn for testing.")
    ] = default(AddSettings, "test_share"),
    split_seed: Annotated[int, typer.Option(help="Seed of these draws.")] = default(
        AddSettings, "split_seed"
    ),
    channels: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="One channel of multi-channel volumes, e.g. '*_t1.nii.gz'; repeat per channel.",
        ),
    ] = None,
    stack: Annotated[
        bool, typer.Option("--stack", help="Each folder of pictures is one volume.")
    ] = default(AddSettings, "stack"),
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a file was passed over.")
    ] = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the volumes at PATH into the pool; run again, it takes what is new."""
    settings = AddSettings(
        labels=labels,
        ignore=tuple(ignore or ()),
        channels=tuple(channels or ()),
        stack=stack,
        case=case,
        split=split,
        val_share=val_share,
        test_share=test_share,
        split_seed=split_seed,
    )
    from napari_activeft import terminal, workflow

    with opened_project(project) as opened, terminal.progress("reading volumes") as on_progress:
        result = workflow.add(opened, path, settings, on_progress)
    report(result, as_json)
    if result.nothing or (strict and result.problems):
        raise typer.Exit(1)


def classes(
    written: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VALUE=]NAME[:#RRGGBB]...",
            help="Classes to add or change.",
            show_default=False,
        ),
    ] = None,
    remove: Annotated[
        list[int] | None, typer.Option(metavar="VALUE", help="Class to remove; repeatable.")
    ] = None,
    from_labels: Annotated[
        bool, typer.Option("--from-labels", help="Add a class for each value of the label maps.")
    ] = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the classes, or change them."""
    from napari_activeft import terminal, workflow

    with opened_project(project) as opened, terminal.progress("reading label maps") as on_progress:
        result = workflow.classes(
            opened,
            written or (),
            remove=remove or (),
            from_labels=from_labels,
            on_progress=on_progress,
        )
    report(result, as_json)


def embed(
    encoder: Annotated[
        str,
        typer.Option(help="pixels_pca, hog, or a network: see `napari-activeft weights list`."),
    ] = default(EmbedSettings, "encoder"),
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The network's weights; else those of `weights fetch`."),
    ] = default(EmbedSettings, "weights"),
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Let a network embed that was never trained.")
    ] = default(EmbedSettings, "random_weights"),
    size: Annotated[
        int | None, typer.Option(help="Side of the pictures in pixels; else the encoder's own.")
    ] = default(EmbedSettings, "size"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = default(
        EmbedSettings, "device"
    ),
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = default(
        EmbedSettings, "precision"
    ),
    scan: Annotated[
        str, typer.Option(help="auto, reference, torch, c, triton or mamba_ssm.")
    ] = default(EmbedSettings, "scan"),
    batch: Annotated[
        int, typer.Option(help="Slices at once; 0 is what free memory allows.")
    ] = default(EmbedSettings, "batch"),
    threads: Annotated[int, typer.Option(help="Of the CPU; 0 is torch's choice.")] = default(
        EmbedSettings, "threads"
    ),
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = default(EmbedSettings, "seed"),
    out: Annotated[
        Path | None,
        typer.Option(metavar="NPY", help="Also write the vectors there, and a .csv of the rows."),
    ] = default(EmbedSettings, "out"),
    l2: Annotated[
        bool, typer.Option("--l2", help="Divide the vectors in --out by their lengths.")
    ] = default(EmbedSettings, "l2"),
    background: BackgroundOption = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give every slice of the pool a vector; run again, it takes what is new."""
    settings = EmbedSettings.model_validate(
        {
            "encoder": encoder,
            "weights": weights,
            "random_weights": random_weights,
            "size": size,
            "device": device,
            "precision": precision,
            "scan": scan,
            "batch": batch,
            "threads": threads,
            "seed": seed,
            "out": out,
            "l2": l2,
        }
    )
    if background:
        run_in_background(project, "embed", settings, as_json)
        return
    from napari_activeft import terminal, workflow

    with opened_project(project) as opened, terminal.progress("embedding") as on_progress:
        result = workflow.embed(opened, settings, on_progress)
    report(result, as_json)
    if result.problems:
        raise typer.Exit(1)
