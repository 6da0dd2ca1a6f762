"""Every model by its name."""

from __future__ import annotations

import difflib

import torch
from torch import nn

from . import vm_unet, vm_unet_conv, vm_unet_detail, vm_unet_s1, vm_unet_v2, vmamba
from .card import Card
from .scan_backends import check_name

__all__ = ["MODELS", "Card", "UnknownModelError", "build_model"]

MAX_CHANNELS = 16
_NEAR_NAMES = 3
_FAMILIES = [
    vmamba.CARDS,
    vm_unet.CARDS,
    vm_unet_s1.CARDS,
    vm_unet_v2.CARDS,
    vm_unet_conv.CARDS,
    vm_unet_detail.CARDS,
]
MODELS: dict[str, Card] = {card.name: card for family in _FAMILIES for card in family}


class UnknownModelError(ValueError):
    """No model has the name that was given."""


def build_model(
    name: str,
    *,
    channels: int = 3,
    classes: int | None = None,
    scan: str | None = None,
    seed: int | None = None,
) -> nn.Module:
    """Build a model with fresh weights.

    Parameters
    ----------
    name
        A key of `MODELS`.
    channels
        Of the input, 1 to 16.
    classes
        Of the output; None for the published number (1000 for an encoder).
    scan
        Name of the scan to use, as in `selective_scan`; None leaves the choice to it. Whether it
        can run here is asked at the first call, when the device is known.
    seed
        Of the fresh weights, which are then the same in every process; None draws from torch's
        generator as it stands. With a seed that generator is left as it was.
    """
    card = MODELS.get(name)
    if card is None:
        near = difflib.get_close_matches(name, MODELS, _NEAR_NAMES, cutoff=0.3) or list(MODELS)
        raise UnknownModelError(f"no model is called {name!r}: take one of {', '.join(near)}")
    if not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(
            f"{channels} input channels were asked of {name}, but a model takes 1 to {MAX_CHANNELS}"
        )
    if classes is not None and classes < 1:
        raise ValueError(f"{classes} classes were asked of {name}, but a model needs at least one")
    if scan is not None:
        check_name(scan, "the argument scan")
    if seed is None:
        return card.build(channels=channels, classes=classes, scan=scan)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return card.build(channels=channels, classes=classes, scan=scan)
