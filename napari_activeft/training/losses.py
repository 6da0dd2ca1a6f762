"""Cross entropy and Dice of partly labelled slices, over one output or several.

Symbols: b slices of a batch, n outputs (the background is output 0), h w height and width; a target
holds the index of an output, or -1 where nobody labelled: such a pixel counts in neither loss.

``loss = sum_i v_i (ce_weight ce_i + dice_weight dice_i)`` over the outputs at strides 1, 2, 4 ...
with ``v_i = 2^-i / sum_j 2^-j``; a coarser output is held against ``target[::2^i, ::2^i]``.

A step's batch may be worked on in parts, and by several processes: each part's loss is its share of
the step's, so that shares add up. Only Dice over a batch is then the mean over the parts' own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -1
Gather = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Totals:
    """What a whole step holds, over all its parts and processes.

    Attributes
    ----------
    slices
        Their number.
    weights
        Labelled pixels, each times its class weight, at each stride.
    """

    slices: int
    weights: Sequence[float]


@dataclass(frozen=True)
class Share:
    """A part's share of a step's loss; ``loss`` has a gradient, the others are for the record."""

    loss: Tensor
    ce: Tensor
    dice: Tensor


class SegmentationLoss:
    """Cross entropy plus Dice.

    Parameters
    ----------
    outputs
        ``n``.
    labelled
        For each foreground class whether any pixel of it is labelled: one without has no Dice.
    ce_weight, dice_weight
        Of the two parts.
    class_weights
        Of cross entropy, ``n`` of them; None weighs all alike.
    over_batch
        Dice of all pixels of a batch together; else slice by slice, averaged.
    processes
        How many share the batch.
    gather
        Joins (b, n, h, w) of all processes along b, gradients included; None for one process.
    """

    def __init__(
        self,
        outputs: int,
        labelled: Sequence[bool],
        *,
        ce_weight: float = 1.0,
        dice_weight: float = 1.0,
        class_weights: Sequence[float] | None = None,
        over_batch: bool = True,
        processes: int = 1,
        gather: Gather | None = None,
    ) -> None:
        from monai.losses.dice import DiceLoss

        if len(labelled) != outputs - 1:
            raise ValueError(
                f"{len(labelled)} classes were given for {outputs} outputs: all but the background"
            )
        self._outputs, self._over_batch = outputs, over_batch
        self._ce_weight, self._dice_weight = ce_weight, dice_weight
        self._class_weights = None if class_weights is None else torch.tensor(class_weights)
        self._with_dice = [at for at, known in enumerate(labelled) if known]
        self._processes, self._gather = processes, gather
        # What is ignored is taken out before: MONAI's own masks come before its softmax.
        self._dice = DiceLoss(include_background=False, batch=over_batch, reduction="none")

    def weight_of(self, target: Tensor, strides: int) -> Tensor:
        """Return the sum of class weights of the labelled pixels (b, h, w), for each stride."""
        return torch.stack([self._weight(at_stride(target, i)) for i in range(strides)])

    def __call__(self, logits: Sequence[Tensor], target: Tensor, totals: Totals) -> Share:
        """Return the share that these slices have in the loss of their step.

        Parameters
        ----------
        logits
            (b, n, h, w), (b, n, h/2, w/2), ... rounded up.
        target
            (b, h, w), int64.
        """
        scale = sum(0.5**i for i in range(len(logits)))
        ce = dice = logits[0].new_zeros(())
        for i, made in enumerate(logits):
            wanted = at_stride(target, i)
            ce = ce + 0.5**i / scale * self._cross_entropy(made.float(), wanted, totals.weights[i])
            dice = dice + 0.5**i / scale * self._soft_dice(made.float(), wanted, totals.slices)
        return Share(self._ce_weight * ce + self._dice_weight * dice, ce.detach(), dice.detach())

    def _weight(self, target: Tensor) -> Tensor:
        known = target != IGNORE
        if self._class_weights is None:
            return known.sum().double()
        return self._class_weights.to(target.device)[target[known]].double().sum()

    def _cross_entropy(self, logits: Tensor, target: Tensor, total: float) -> Tensor:
        weight = self._class_weights
        summed = F.cross_entropy(
            logits,
            target,
            weight=None if weight is None else weight.to(logits),
            ignore_index=IGNORE,
            reduction="sum",
        )
        return summed / total if total else summed

    def _soft_dice(self, logits: Tensor, target: Tensor, slices: int) -> Tensor:
        """Return the share of 1 - Dice, averaged over the classes that have labels."""
        if not self._with_dice or not self._dice_weight:
            return logits.new_zeros(())
        known = (target != IGNORE).unsqueeze(1)
        p = logits.softmax(1) * known
        one_hot = F.one_hot(target.clamp(min=0), self._outputs).movedim(-1, 1) * known
        lost: Tensor
        if not self._over_batch:
            lost = self._dice(p, one_hot).flatten(1)[:, self._with_dice]
            return lost.mean(1).sum() / slices
        if self._gather is not None:
            p, one_hot = self._gather(p), self._gather(one_hot)
        lost = self._dice(p, one_hot).flatten()[self._with_dice]
        # Every process has the whole batch here: each gives its part of the same number.
        return lost.mean() * (len(p) / slices) / self._processes


def at_stride(target: Tensor, i: int) -> Tensor:
    """Take every 2^i-th row and column of targets (b, h, w)."""
    return target[:, :: 2**i, :: 2**i]
