"""From a network's name to an encoder that can run: weights, device, precision, batch size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

from napari_activeft.devices import free_bytes, pick_device, pick_precision, use_threads
from napari_activeft.embedding.network import SIDE, NetworkEncoder, input_channels
from napari_activeft.errors import UserError
from napari_activeft.models.registry import build_model
from napari_activeft.models.scan_backends import choose_scan
from napari_activeft.weights import load_weights

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


class Source(Protocol):
    """Where an encoder comes from, see `encoder_sources.EncoderSource`."""

    @property
    def name(self) -> str:
        """Under which its vectors are kept."""

    @property
    def network(self) -> str:
        """A name in `models.registry.MODELS`."""

    @property
    def weights(self) -> Path | None:
        """A file; None for random ones."""

    @property
    def side(self) -> int | None:
        """Of its pictures; None for what networks usually take."""


def network_encoder(source: Source, settings: EmbedSettings, channels: int) -> Prepared:
    """Build a network with its weights, ready to embed.

    Raises
    ------
    UserError
        If there is no such device or scan, or the weights do not fit.
    """
    device = pick_device(settings.device)
    precision = pick_precision(settings.precision, device)
    try:
        scan = choose_scan(scan_setting(settings), device, torch.float32)
    except (RuntimeError, ValueError) as refusal:
        raise UserError(str(refusal)) from refusal
    use_threads(settings.threads)
    network = _with_weights(source, settings, channels)
    side = settings.size or source.side or SIDE
    encoder = NetworkEncoder(
        source.name, network, channels=channels, side=side, device=device, precision=precision
    )
    return Prepared(
        encoder,
        source.weights is None,
        precision,
        settings.batch or _batch(device, side),
        str(device),
        scan,
    )


def _with_weights(source: Source, settings: EmbedSettings, channels: int) -> nn.Module:
    inputs = input_channels(channels)
    try:
        network = build_model(
            source.network, channels=inputs, scan=scan_setting(settings), seed=settings.seed
        )
    except ValueError as refusal:
        raise UserError(str(refusal)) from refusal
    if source.weights is not None:
        load_weights(network, source.weights, source.network)
    return network


def scan_setting(settings: EmbedSettings) -> str | None:
    """Return the scan that was asked for by name, None for the automatic choice."""
    return None if settings.scan == "auto" else settings.scan


def _batch(device: torch.device, side: int) -> int:
    """Return how many pictures fit into the memory that is free, at most what still pays."""
    each = _BYTES_PER_PICTURE * side * side / (224 * 224)
    return int(max(1, min(free_bytes(device) / each, _LARGEST_BATCH.get(device.type, 8))))
