"""From a network's name to an encoder that can run: weights, device, precision, batch size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_activeft.devices import free_bytes, pick_device, pick_precision, use_threads
from napari_activeft.embedding.encoder import WEIGHTLESS
from napari_activeft.embedding.network import SIDE, NetworkEncoder
from napari_activeft.errors import UserError
from napari_activeft.models.registry import MODELS, build_model
from napari_activeft.models.scan_backends import choose_scan
from napari_activeft.weights import load_weights, weights_path

if TYPE_CHECKING:
    from napari_activeft.settings import EmbedSettings

# Memory of a picture of 224 x 224 in VMamba-S while it passes through, with room to spare.
_BYTES_PER_PICTURE = 120 << 20
_LARGEST_BATCH = {"cpu": 8, "cuda": 256, "mps": 32}


@dataclass(frozen=True)
class Prepared:
    """An encoder and how it is to be run."""

    encoder: NetworkEncoder
    random_weights: bool
    precision: str
    batch: int
    device: str
    scan: str


def network_encoder(settings: EmbedSettings, channels: int) -> Prepared:
    """Build the network that the settings name, with its weights.

    Raises
    ------
    UserError
        If there is no such encoder, device or scan, or its weights are not here.
    """
    name = settings.encoder
    encoders = [card.name for card in MODELS.values() if card.kind == "encoder"]
    if name not in encoders:
        raise UserError(
            f"no encoder is called {name!r}: take one of {', '.join((*WEIGHTLESS, *encoders))}"
        )
    device = pick_device(settings.device)
    precision = pick_precision(settings.precision, device)
    try:
        scan = choose_scan(scan_setting(settings), device, torch.float32)
    except (RuntimeError, ValueError) as refusal:
        raise UserError(str(refusal)) from refusal
    use_threads(settings.threads)
    network = _with_weights(settings, channels)
    side = settings.size or SIDE
    encoder = NetworkEncoder(
        name, network, channels=channels, side=side, device=device, precision=precision
    )
    return Prepared(
        encoder,
        settings.random_weights,
        precision,
        settings.batch or _batch(device, side),
        str(device),
        scan,
    )


def _with_weights(settings: EmbedSettings, channels: int) -> nn.Module:
    name = settings.encoder
    inputs = 3 if channels in (1, 3) else channels
    try:
        network = build_model(
            name, channels=inputs, scan=scan_setting(settings), seed=settings.seed
        )
    except ValueError as refusal:
        raise UserError(str(refusal)) from refusal
    if settings.random_weights:
        return network
    load_weights(network, settings.weights or weights_path(name), name)
    return network


def scan_setting(settings: EmbedSettings) -> str | None:
    """Return the scan that was asked for by name, None for the automatic choice."""
    return None if settings.scan == "auto" else settings.scan


def _batch(device: torch.device, side: int) -> int:
    """Return how many pictures fit into the memory that is free, at most what still pays."""
    each = _BYTES_PER_PICTURE * side * side / (224 * 224)
    return int(max(1, min(free_bytes(device) / each, _LARGEST_BATCH.get(device.type, 8))))
