"""A training step by what of the network learns, as `train --set learns=...` sets it.

Each way trains on the accepted masks of a project from the same first weights; once
``freeze_low_gradient`` has frozen what it will, the ways take turns in one process, some steps at a
time, with crops, augmentation, clipping and the mean of the weights. Medians, in one run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from lightning_fabric import Fabric

from napari_activeft.project import Project
from napari_activeft.settings import TrainSettings
from napari_activeft.training.augmentation import augmenter
from napari_activeft.training.batches import Batches
from napari_activeft.training.dataset import LabelledVolume, SliceDataset
from napari_activeft.training.launching import launch
from napari_activeft.training.learning import Learning
from napari_activeft.training.loop import Loop
from napari_activeft.training.losses import SegmentationLoss
from napari_activeft.training.networks import build_network
from napari_activeft.training.view import View
from napari_activeft.training_data import class_values, labelled_volumes

WAYS = ("full", "freeze_low_gradient", "lora", "decoder")


def data_of(volumes: Sequence[LabelledVolume], values: list[int], options: argparse.Namespace
            ) -> SliceDataset:  # fmt: skip
    """Return the labelled slices as crops of the wanted size."""
    view = View(pixel_mm=options.pixel_mm, size=(options.size, options.size))
    return SliceDataset(volumes, view, values, training=True)


def loop_of(way: str, data: SliceDataset, settings: TrainSettings, fabric: Fabric,
            stack: ExitStack) -> Loop:  # fmt: skip
    """Return a run that learns in this way, ready for its first step."""
    outputs = len(data.class_values) + 1
    settings = settings.model_copy(update={"learns": way})
    network = build_network(
        settings.network, data.view.input_channels, outputs, scan=settings.scan_name, seed=0
    )
    batches = stack.enter_context(
        Batches(
            data,
            settings.batch * settings.accumulate,
            seed=0,
            augmenter=lambda: augmenter(settings.augmentation, data.view, settings.turns),
            workers=settings.workers,
        )
    )
    loss = SegmentationLoss(
        outputs,
        [True] * (outputs - 1),
        ce_weight=settings.ce_weight,
        dice_weight=settings.dice_weight,
    )
    return Loop(Learning(network, settings), batches, loss, settings, fabric, print)


def seconds_of(loop: Loop, steps: int) -> float:
    """Return the seconds a step took, the mean of some."""
    began = time.perf_counter()
    for _ in range(steps):
        loop.step()
    return (time.perf_counter() - began) / steps


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path, help="with accepted masks in its pool")
    parser.add_argument("--network", default=TrainSettings().network)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--pixel-mm", type=float, default=1.5)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=4, help="at a time")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = TrainSettings(network=options.network, threads=options.threads)
    fabric = launch(settings)
    with Project.open(options.project) as project, ExitStack() as stack:
        data = data_of(labelled_volumes(project), class_values(project), options)
        loops = {way: loop_of(way, data, settings, fabric, stack) for way in WAYS}
        for loop in loops.values():
            seconds_of(loop, settings.probe_steps)
        turns = [
            {way: seconds_of(loop, options.steps) for way, loop in loops.items()}
            for _ in range(options.rounds)
        ]
    medians = {way: statistics.median(turn[way] for turn in turns) for way in WAYS}
    print("| learns | weights that learn | step | of full |")
    print("|---|---|---|---|")
    for way, seconds in medians.items():
        learns, every = loops[way].learning.counts()
        print(
            f"| `{way}` | {learns:,} of {every:,} | {seconds * 1000:.0f} ms | "
            f"{seconds / medians['full']:.2f} |"
        )


if __name__ == "__main__":
    main()
