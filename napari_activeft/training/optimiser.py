"""AdamW, and the learning rate of every step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from napari_activeft.settings import PretrainSettings, TrainSettings

# Of the selective scan: they set time scales, and decay would pull these to one value.
_NO_DECAY = ("A_logs", "Ds", "dt_projs_bias", "dt_projs_weight")


def make_optimiser(
    network: nn.Module, settings: TrainSettings | PretrainSettings, *, fused: bool
) -> torch.optim.Optimizer:
    """Return AdamW over what learns; norms, biases and time scales of the scan do not decay.

    Parameters
    ----------
    fused
        Let torch change all weights in one call; not with float16, whose scaling it would hide.
    """
    learns = [(name, one) for name, one in network.named_parameters() if one.requires_grad]
    still = [p for name, p in learns if p.dim() <= 1 or name.endswith(_NO_DECAY)]
    chosen = {id(one) for one in still}
    decaying = [p for _, p in learns if id(p) not in chosen]
    groups = [
        {"params": decaying, "weight_decay": settings.weight_decay},
        {"params": still, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        fused=fused and settings.precision != "float16",
    )


def learning_rate(step: int, settings: TrainSettings | PretrainSettings) -> float:
    """Return the learning rate of a step, which counts from 0: a rise, then a cosine."""
    rising = math.ceil(settings.warm_up * settings.steps)
    if step < rising:
        return settings.lr * (step + 1) / rising
    fallen = (step - rising) / max(1, settings.steps - rising)
    share = 0.5 * (1 + math.cos(math.pi * fallen))
    return settings.lr * (settings.last_lr + (1 - settings.last_lr) * share)
