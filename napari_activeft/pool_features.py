"""Gives every slice of a project's pool its vector."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.annotation_db import SliceRow, VolumeRecord, pool_checksum
from napari_activeft.embedding.encoder import WEIGHTLESS, Encoder
from napari_activeft.embedding.engine import Stack, embed, sample
from napari_activeft.embedding.feature_file import FeatureFile
from napari_activeft.embedding.pictures import VERSION
from napari_activeft.errors import OnProgress, UserError, no_progress
from napari_activeft.extras import need_compute
from napari_activeft.geometry import Geometry
from napari_activeft.pool import normalise, slice_spacing, take_slice
from napari_activeft.project import Project
from napari_activeft.vectors import Embedding, current_file, embeddings_folder

if TYPE_CHECKING:
    from napari_activeft.settings import EmbedSettings

_DIGITS = 12
"""Of a digest in a folder's name."""


def embed_pool(
    project: Project, settings: EmbedSettings, on_progress: OnProgress = no_progress
) -> Embedding:
    """Give every slice of the pool a vector; slices that have one keep it.

    Raises
    ------
    UserError
        If the pool is empty or mixed in its channels, the encoder has no weights here, or what
        was asked is not there.
    """
    need_compute("embedding")
    pool, volumes = project.store.pool_slices(), project.store.volumes()
    if not pool:
        raise UserError("the pool is empty: add volumes with `napari-activeft add FOLDER`")
    stacks = _stacks(project, pool, volumes)
    channels = _channels({row.volume_id for row in pool}, volumes)
    start = time.monotonic()
    made = _make_encoder(project, settings, channels, pool, stacks, on_progress)
    folder = _folder(project, made.encoder.name, _digest(made.encoder, channels))
    with FeatureFile.writing(folder, made.encoder.size, made.about) as file:
        before = len(file.keys)
        problems = embed(stacks, made.encoder, file, batch=made.batch, on_progress=on_progress)
        found = Embedding(
            folder=folder,
            encoder=made.encoder.name,
            weight_hash=made.encoder.weight_hash,
            random_weights=made.about["random_weights"],
            size=made.encoder.size,
            slices=len(set(file.keys) & {row.key for row in pool}),
            device=made.device,
            precision=made.about["precision"],
            scan=made.scan,
            seconds=time.monotonic() - start,
            computed=len(file.keys) - before,
            problems=tuple(problems),
        )
    current_file(project).write_text(folder.name, encoding="utf-8")
    return found


def _stacks(
    project: Project, pool: Sequence[SliceRow], volumes: Sequence[VolumeRecord]
) -> list[Stack]:
    """Group the pool by volume, each with the way to its pixels."""
    rows: dict[int, list[SliceRow]] = {}
    for row in pool:
        rows.setdefault(row.volume_id, []).append(row)
    by_id = {volume.volume_id: volume for volume in volumes}
    return [_stack(project, by_id[volume_id], held) for volume_id, held in rows.items()]


def _stack(project: Project, volume: VolumeRecord, rows: Sequence[SliceRow]) -> Stack:
    return Stack(
        name=volume.name,
        keys=[row.key for row in rows],
        positions=[row.position for row in rows],
        spacing=slice_spacing(Geometry.from_json(volume.geometry), volume.axis),
        read=partial(_read_slices, project, volume),
    )


def _read_slices(
    project: Project, volume: VolumeRecord, positions: Sequence[int]
) -> NDArray[np.float32]:
    """Return normalised slices, (m, c, h, w)."""
    data = project.cache.volume(volume.volume_id).data
    ranges = [(low, high) for low, high in volume.intensity_range]
    slices = [normalise(take_slice(data, volume.axis, at), ranges) for at in positions]
    return np.stack([one if one.ndim == 3 else one[np.newaxis] for one in slices])


def _channels(pooled: set[int], volumes: Sequence[VolumeRecord]) -> int:
    counts: dict[int, str] = {}
    for volume in volumes:
        if volume.volume_id in pooled:
            counts.setdefault(volume.channels, volume.name)
    if len(counts) > 1:
        (a, first), (b, second) = list(counts.items())[:2]
        raise UserError(
            f"{first} has {a} and {second} has {b} channels: an encoder needs one number for the "
            "whole pool, so keep them in projects of their own"
        )
    return next(iter(counts))


@dataclass(frozen=True)
class _Made:
    """An encoder ready to run, and what is to be remembered of it."""

    encoder: Encoder
    about: dict[str, Any]
    batch: int
    device: str = "cpu"
    scan: str | None = None


def _make_encoder(
    project: Project,
    settings: EmbedSettings,
    channels: int,
    pool: Sequence[SliceRow],
    stacks: Sequence[Stack],
    on_progress: OnProgress,
) -> _Made:
    with_weights = {"weights": settings.weights, "random weights": settings.random_weights}
    if settings.encoder in WEIGHTLESS:
        for what, given in with_weights.items():
            if given:
                raise UserError(
                    f"{settings.encoder} has no weights, but {what} were given: leave them out or "
                    "name a network with --encoder"
                )
    if settings.encoder == "pixels_pca":
        encoder = _fitted_pca(project, settings, channels, pool, stacks, on_progress)
        return _Made(encoder, _about(encoder, False, "float32"), settings.batch or 256)
    if settings.encoder == "hog":
        from napari_activeft.embedding.hog import SIDE, Hog

        hog = Hog(channels, settings.size or SIDE)
        return _Made(hog, _about(hog, False, "float32"), settings.batch or 64)
    from napari_activeft.embedding.networks import network_encoder

    made = network_encoder(settings, channels)
    about = _about(made.encoder, made.random_weights, made.precision)
    return _Made(made.encoder, about, made.batch, made.device, made.scan)


def _fitted_pca(
    project: Project,
    settings: EmbedSettings,
    channels: int,
    pool: Sequence[SliceRow],
    stacks: Sequence[Stack],
    on_progress: OnProgress,
) -> Encoder:
    """Return the components of this very pool: fitted once, then read from the project."""
    from napari_activeft.embedding.pixels import FITTED_SLICES, SIDE, PixelsPca

    side = settings.size or SIDE
    asked = [pool_checksum(pool), settings.seed, side, channels, VERSION]
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:_DIGITS]
    basis = embeddings_folder(project) / f"pixels_pca-{digest}.npz"
    if basis.exists():
        return PixelsPca.load(basis)
    pictures = sample(stacks, side, FITTED_SLICES, settings.seed, on_progress)
    fitted = PixelsPca.fit(pictures, settings.seed)
    basis.parent.mkdir(exist_ok=True)
    fitted.save(basis)
    return fitted


def _about(encoder: Encoder, random_weights: bool, precision: str) -> dict[str, Any]:
    return {
        "encoder": encoder.name,
        "weight_hash": encoder.weight_hash,
        "random_weights": random_weights,
        "precision": precision,
        "side": encoder.side,
        "channels": encoder.channels,
        "pictures": VERSION,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _digest(encoder: Encoder, channels: int) -> str:
    """Return a digest of all that changes the vectors of a slice."""
    asked = [encoder.name, encoder.identity(), encoder.side, channels, VERSION]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:_DIGITS]


def _folder(project: Project, name: str, digest: str) -> Path:
    return embeddings_folder(project) / f"{name}-{digest}"
