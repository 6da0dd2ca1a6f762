"""pretrain and train: from slices to an encoder, and from accepted masks to a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from napari_activeft.cli.app import JsonOption, ProjectOption, default, opened_project, report
from napari_activeft.cli.background import BackgroundOption, run_in_background
from napari_activeft.settings import PretrainSettings, Settings, TrainSettings

_SEVERAL = ("betas", "class_weights")


def pretrain(
    encoder: Annotated[
        str, typer.Option(help="The network: vmamba_micro, vmamba_nano, vmamba_tiny_s2l5, ...")
    ] = default(PretrainSettings, "encoder"),
    objective: Annotated[
        str,
        typer.Option(help="position (the same place is alike), masked (fill gaps) or distill."),
    ] = default(PretrainSettings, "objective"),
    start: Annotated[
        str, typer.Option(help="auto, random, encoder:NAME or encoder:FILE.")
    ] = default(PretrainSettings, "start"),
    name: Annotated[
        str | None, typer.Option(help="Of the result in this project; else own-1, own-2, ...")
    ] = default(PretrainSettings, "name"),
    steps: Annotated[int, typer.Option(help="Changes of the weights.")] = default(
        PretrainSettings, "steps"
    ),
    minutes: Annotated[
        float | None, typer.Option(help="Instead of --steps: as many as fit into this time.")
    ] = default(PretrainSettings, "minutes"),
    batch: Annotated[int, typer.Option(help="Slices at once.")] = default(
        PretrainSettings, "batch"
    ),
    view: Annotated[
        int, typer.Option(help="Side of what the encoder sees, a multiple of 32.")
    ] = default(PretrainSettings, "view"),
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = default(
        PretrainSettings, "lr"
    ),
    turns: Annotated[
        str, typer.Option(help="Slices may lie as they do (none), or mirrored (flips).")
    ] = default(PretrainSettings, "turns"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = default(
        PretrainSettings, "device"
    ),
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = default(
        PretrainSettings, "precision"
    ),
    scan: Annotated[str, typer.Option(help="The selective scan; auto picks one.")] = default(
        PretrainSettings, "scan"
    ),
    threads: Annotated[int, typer.Option(help="Of the CPU; 0 is torch's choice.")] = default(
        PretrainSettings, "threads"
    ),
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = default(
        PretrainSettings, "seed"
    ),
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Any other setting, see the guide; repeatable."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the newest one that was stopped.")
    ] = default(PretrainSettings, "resume"),
    background: BackgroundOption = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Adapt an encoder to the pool, without any label."""
    given = {
        "encoder": encoder,
        "objective": objective,
        "start": start,
        "name": name,
        "steps": steps,
        "minutes": minutes,
        "batch": batch,
        "view": view,
        "lr": lr,
        "turns": turns,
        "device": device,
        "precision": precision,
        "scan": scan,
        "threads": threads,
        "seed": seed,
        "resume": resume,
    }
    settings = PretrainSettings.model_validate(given | set_values(PretrainSettings, option or ()))
    if background:
        run_in_background(project, "pretrain", settings, as_json)
        return
    from napari_activeft import terminal, workflow
    from napari_activeft.errors import Cancelled
    from napari_activeft.terminal.training import training_progress

    try:
        with opened_project(project) as opened, training_progress("pre-training") as on_progress:
            result = workflow.pretrain(opened, settings, on_progress)
    except Cancelled as stop:
        terminal.fail("stopped and kept: go on with `napari-activeft pretrain --resume`")
        raise typer.Exit(1) from stop
    report(result, as_json)
    if result.problems:
        raise typer.Exit(1)


def train(
    network: Annotated[
        str,
        typer.Option(help="vm_unet_detail_nano, vm_unet_v2_micro, dynunet, ...: see the guide."),
    ] = default(TrainSettings, "network"),
    learns: Annotated[
        str, typer.Option(help="full, decoder, freeze_low_gradient, lora or scratch.")
    ] = default(TrainSettings, "learns"),
    start: Annotated[
        str, typer.Option(help="auto, random, encoder:NAME, encoder:FILE or run:NUMBER.")
    ] = default(TrainSettings, "start"),
    steps: Annotated[int, typer.Option(help="Changes of the weights.")] = default(
        TrainSettings, "steps"
    ),
    batch: Annotated[int, typer.Option(help="Slices at once.")] = default(TrainSettings, "batch"),
    accumulate: Annotated[int, typer.Option(help="Batches that make one step.")] = default(
        TrainSettings, "accumulate"
    ),
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = default(
        TrainSettings, "lr"
    ),
    pixel_mm: Annotated[
        str, typer.Option(help="Side of a pixel in mm; auto is the median, none as stored.")
    ] = default(TrainSettings, "pixel_mm"),
    size: Annotated[
        str, typer.Option(help="Side of a crop in pixels, a multiple of 32, or auto.")
    ] = default(TrainSettings, "size"),
    context: Annotated[
        int, typer.Option(help="Neighbouring slices on each side that are seen too.")
    ] = default(TrainSettings, "context"),
    augmentation: Annotated[str, typer.Option(help="none, light or strong.")] = default(
        TrainSettings, "augmentation"
    ),
    turns: Annotated[
        str,
        typer.Option(help="Slices may lie as they do (none), mirrored (flips), any way (full)."),
    ] = default(TrainSettings, "turns"),
    monitor: Annotated[
        str, typer.Option(help="What the run is watched by: auto, val, folds or none.")
    ] = default(TrainSettings, "monitor"),
    refit: Annotated[
        bool, typer.Option(help="After folds, train again on all labelled slices.")
    ] = default(TrainSettings, "refit"),
    patience: Annotated[
        int, typer.Option(help="Measurements without a better one until it stops; 0 never does.")
    ] = default(TrainSettings, "patience"),
    missing_class: Annotated[
        str, typer.Option(help="Without labels of a class: go-on or stop.")
    ] = default(TrainSettings, "missing_class"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = default(
        TrainSettings, "device"
    ),
    devices: Annotated[int, typer.Option(help="How many of them, started by torchrun.")] = default(
        TrainSettings, "devices"
    ),
    nodes: Annotated[int, typer.Option(help="Computers, started by torchrun.")] = default(
        TrainSettings, "nodes"
    ),
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = default(
        TrainSettings, "precision"
    ),
    scan: Annotated[str, typer.Option(help="The selective scan; auto picks one.")] = default(
        TrainSettings, "scan"
    ),
    threads: Annotated[int, typer.Option(help="Of the CPU; 0 is torch's choice.")] = default(
        TrainSettings, "threads"
    ),
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = default(
        TrainSettings, "seed"
    ),
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Any other setting, see the guide; repeatable."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the newest run that was stopped.")
    ] = default(TrainSettings, "resume"),
    run: Annotated[
        str | None, typer.Option(metavar="RUN", help="With --resume: go on with this one.")
    ] = default(TrainSettings, "run"),
    background: BackgroundOption = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a network on the accepted masks; it is measured and kept as a run."""
    given = {
        "network": network,
        "learns": learns,
        "start": start,
        "steps": steps,
        "batch": batch,
        "accumulate": accumulate,
        "lr": lr,
        "pixel_mm": _or_none(pixel_mm),
        "size": size,
        "context": context,
        "augmentation": augmentation,
        "turns": turns,
        "monitor": monitor,
        "refit": refit,
        "patience": patience,
        "missing_class": missing_class,
        "device": device,
        "devices": devices,
        "nodes": nodes,
        "precision": precision,
        "scan": scan,
        "threads": threads,
        "seed": seed,
        "resume": resume,
        "run": run,
    }
    settings = TrainSettings.model_validate(given | training_values(option or ()))
    if background:
        run_in_background(project, "train", settings, as_json)
        return
    from napari_activeft import terminal, workflow
    from napari_activeft.errors import Cancelled
    from napari_activeft.terminal.training import training_progress

    try:
        with opened_project(project) as opened, training_progress() as on_progress:
            result = workflow.train(opened, settings, on_progress)
    except Cancelled as stop:
        terminal.fail("stopped; the run is kept: go on with `napari-activeft train --resume`")
        raise typer.Exit(1) from stop
    report(result, as_json)


def _or_none(written: str) -> str | None:
    """Read ``none`` as None; pydantic reads numbers and knows ``auto``."""
    return None if written == "none" else written


def training_values(written: Sequence[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` for a training."""
    return set_values(TrainSettings, written)


def set_values(settings: type[Settings], written: Sequence[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE``, several values with commas between them."""
    found: dict[str, Any] = {}
    for one in written:
        name, equals, value = one.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in settings.model_fields:
            raise typer.BadParameter(
                f"--set {one} was given: write NAME=VALUE, the name being one of "
                f"{', '.join(settings.model_fields)}"
            )
        found[name] = value
        if name in _SEVERAL:
            found[name] = [part.strip() for part in value.split(",")]
        elif name == "pixel_mm":
            found[name] = _or_none(value)
    return found
