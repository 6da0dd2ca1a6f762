"""The figure that a run is watched by: Dice over the pooled pixels of some slices.

Symbols: b slices of a batch, n outputs with the background, h w height and width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from napari_activeft.devices import in_parts
from napari_activeft.prediction.windows import over_slices
from napari_activeft.training.losses import IGNORE

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from napari_activeft.training.dataset import Example, SliceDataset


_OVERLAP = 0.5  # of windows, as in prediction


@dataclass(frozen=True)
class Score:
    """How well a network does on some slices.

    Attributes
    ----------
    mean
        Mean Dice over the classes that occur in the truth; NaN where none does.
    per_class
        Dice of each foreground class, NaN where it occurs neither in truth nor prediction.
    """

    mean: float
    per_class: tuple[float, ...]


@torch.no_grad()
def pooled_dice(
    network: nn.Module, dataset: SliceDataset, outputs: int, fabric: Fabric, batch: int
) -> Score:
    """Predict slices as `predict` does, without turns, and compare all their labelled pixels.

    Parameters
    ----------
    network
        In eval mode.
    dataset
        The slices; each process takes its part of them.
    outputs
        ``n``.
    batch
        Slices at once, which then are of one size; fewer where memory is short.

    Raises
    ------
    UserError
        If memory does not hold one slice.
    """
    counts = torch.zeros(3, outputs, dtype=torch.int64)  # of prediction, truth, both

    def counted(examples: Sequence[Example]) -> Tensor:
        truth = torch.from_numpy(np.stack([one.target for one in examples]))
        logits = _logits(network, examples, dataset, fabric)
        return _counts(logits.argmax(1).cpu(), truth.long(), outputs)

    mine = dataset.examples[fabric.global_rank :: fabric.world_size]
    refusal = (
        f"the memory of {fabric.device} does not hold one slice to be measured: take a smaller "
        "network or crops of a smaller size, or close other programs"
    )
    for found in in_parts(counted, _alike(mine, batch), fabric.device, refusal):
        counts += found
    if fabric.world_size > 1:
        counts = fabric.all_reduce(counts.to(fabric.device), reduce_op="sum").cpu()  # type: ignore[union-attr]
    return _score(counts)


@torch.no_grad()
def temperature_of(network: nn.Module, dataset: SliceDataset, fabric: Fabric) -> float:
    """Return by what the network's logits are to be divided, see `prediction.calibration`."""
    from napari_activeft.prediction.calibration import fit_over_slices

    def slices() -> Iterator[tuple[Tensor, Tensor]]:
        for one in dataset.examples:
            logits = _logits(network, [one], dataset, fabric)
            yield logits[0].float(), torch.from_numpy(one.target)

    return fit_over_slices(slices()).temperature


def _logits(
    network: nn.Module, examples: Sequence[Example], dataset: SliceDataset, fabric: Fabric
) -> Tensor:
    """Return the logits of slices of one size, (b, n, H, W); large ones go in by windows."""
    images = torch.from_numpy(np.stack([one.image for one in examples])).to(fabric.device)
    with fabric.autocast():
        return over_slices(
            network, images, dataset.view.size, overlap=_OVERLAP, at_once=len(examples)
        )


def _counts(predicted: Tensor, truth: Tensor, outputs: int) -> Tensor:
    known = truth != IGNORE
    predicted, truth = predicted[known], truth[known]
    both = predicted[predicted == truth]
    return torch.stack([torch.bincount(x, minlength=outputs) for x in (predicted, truth, both)])


def _score(counts: Tensor) -> Score:
    predicted, truth, both = counts[:, 1:].double().tolist()
    dice = tuple(
        2 * b / (p + t) if p + t else float("nan")
        for p, t, b in zip(predicted, truth, both, strict=True)
    )
    there = [value for value, count in zip(dice, truth, strict=True) if count]
    return Score(sum(there) / len(there) if there else float("nan"), dice)


def _alike(examples: Sequence[Example], batch: int) -> Iterator[list[Example]]:
    """Give slices in groups of at most ``batch`` of one size."""
    by_size: dict[tuple[int, ...], list[Example]] = {}
    for one in examples:
        by_size.setdefault(one.target.shape, []).append(one)
    for alike in by_size.values():
        for start in range(0, len(alike), batch):
            yield alike[start : start + batch]
