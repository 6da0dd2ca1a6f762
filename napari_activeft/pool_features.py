"""Gives every slice of a project's pool its vector."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from napari_activeft.annotation_db import SliceRow, pool_checksum
from napari_activeft.embedding.encoder import WEIGHTLESS, Encoder
from napari_activeft.embedding.engine import Stack, embed, sample
from napari_activeft.embedding.feature_file import FeatureFile, locked, read_about, write_about
from napari_activeft.embedding.pictures import VERSION
from napari_activeft.encoder_sources import settled, source_of
from napari_activeft.errors import OnProgress, UserError, no_progress
from napari_activeft.extras import need_compute
from napari_activeft.pool_map import complete_map
from napari_activeft.pool_stacks import stacks_of
from napari_activeft.project import Project
from napari_activeft.vectors import Embedding, embeddings_folder

if TYPE_CHECKING:
    from napari_activeft.embedding.pixels import PixelsPca
    from napari_activeft.settings import EmbedSettings

_DIGITS = 12
"""Of a digest in a folder's name."""
_HOW_NETWORKS_COMPUTE = ("device", "precision", "scan", "threads")
_FOR_NETWORKS = ("weights", "random_weights", *_HOW_NETWORKS_COMPUTE)


@dataclass(frozen=True)
class _Made:
    """An encoder ready to run, and how.

    Attributes
    ----------
    fitted_to
        Checksum of the pool that the encoder belongs to, None if to none.
    """

    encoder: Encoder
    batch: int
    random_weights: bool = False
    precision: str = "float32"
    device: str = "cpu"
    scan: str | None = None
    fitted_to: str | None = None


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
    name, why = settled(settings.encoder)
    settings = _settled_settings(settings, name)
    pool = project.store.pool_slices()
    if not pool:
        raise UserError("the pool is empty: add volumes with `napari-activeft add FOLDER`")
    stacks = stacks_of(project, pool)
    start = time.monotonic()
    made = _make_encoder(project, settings, pool, stacks, on_progress)
    about = _about(made)
    folder = embeddings_folder(project) / f"{made.encoder.name}-{_digest(made)}"
    with FeatureFile.writing(folder, made.encoder.size, about) as file:
        before = len(file.keys)
        problems = embed(stacks, made.encoder, file, batch=made.batch, on_progress=on_progress)
        about = read_about(folder) | {"used_at": _now()}
        write_about(folder, about)
        complete_map(file)
        computed, slices = len(file.keys) - before, len(set(file.keys) & {row.key for row in pool})
    if made.fitted_to is not None:
        _remove_superseded(folder, about)
    return Embedding(
        folder=folder,
        encoder=made.encoder.name,
        weight_hash=made.encoder.weight_hash,
        random_weights=made.random_weights,
        size=made.encoder.size,
        slices=slices,
        side=made.encoder.side,
        used_at=about["used_at"],
        device=made.device,
        precision=made.precision,
        scan=made.scan,
        seconds=time.monotonic() - start,
        computed=computed,
        problems=tuple(problems),
        why=why,
    )


def _make_encoder(
    project: Project,
    settings: EmbedSettings,
    pool: Sequence[SliceRow],
    stacks: Sequence[Stack],
    on_progress: OnProgress,
) -> _Made:
    channels = stacks[0].shape[0]
    if settings.encoder in WEIGHTLESS:
        _refuse_settings_of_networks(settings)
    if settings.encoder == "pixels_pca":
        checksum = pool_checksum(pool)
        basis = _fitted_pca(project, settings, checksum, stacks, on_progress)
        return _Made(basis, settings.batch or 256, fitted_to=checksum)
    if settings.encoder == "hog":
        from napari_activeft.embedding.hog import SIDE, Hog

        return _Made(Hog(channels, settings.size or SIDE), settings.batch or 64)
    from napari_activeft.embedding.networks import network_encoder

    source = source_of(
        settings.encoder,
        project.folder,
        weights=settings.weights,
        random_weights=settings.random_weights,
    )
    made = network_encoder(source, settings, channels)
    return _Made(
        made.encoder,
        made.batch,
        random_weights=made.random_weights,
        precision=made.precision,
        device=made.device,
        scan=made.scan,
    )


def _settled_settings(settings: EmbedSettings, name: str) -> EmbedSettings:
    """Return the settings for the encoder that a name stands for.

    What was wished for a network that ``auto`` could have been is dropped where it is none.
    """
    dropped = _HOW_NETWORKS_COMPUTE if name != settings.encoder and name in WEIGHTLESS else ()
    fields = type(settings).model_fields
    plain = {one: fields[one].default for one in dropped}
    return settings.model_copy(update=plain | {"encoder": name})


def _refuse_settings_of_networks(settings: EmbedSettings) -> None:
    """Refuse a setting that would have no effect."""
    fields = type(settings).model_fields
    for name in _FOR_NETWORKS:
        if getattr(settings, name) != fields[name].default:
            option = name.replace("_", "-")
            raise UserError(
                f"--{option} was given, but {settings.encoder} is no network and has no use for "
                "it: leave it out, or name a network with --encoder"
            )


def _fitted_pca(
    project: Project,
    settings: EmbedSettings,
    checksum: str,
    stacks: Sequence[Stack],
    on_progress: OnProgress,
) -> PixelsPca:
    """Return the components of this very pool: fitted once, then read from the project."""
    from napari_activeft.embedding.pixels import FITTED_SLICES, SIDE, PixelsPca

    side = settings.size or SIDE
    asked = [checksum, settings.seed, side, stacks[0].shape[0], VERSION]
    name = f"pixels_pca-{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:_DIGITS]}"
    path = embeddings_folder(project) / f"{name}.npz"
    with locked(embeddings_folder(project), f"{name}.lock"):
        # A damaged basis is fitted anew: the same slices give the same one.
        with suppress(FileNotFoundError, ValueError, KeyError, EOFError, BadZipFile):
            return PixelsPca.load(path)
        pictures, whole = sample(stacks, side, FITTED_SLICES, settings.seed, on_progress)
        basis = PixelsPca.fit(pictures, settings.seed)
        if whole:  # when the images that lack now are back, they take part
            basis.save(path)
    return basis


def _remove_superseded(folder: Path, about: dict[str, Any]) -> None:
    """Remove vectors by components that were fitted to an earlier state of this pool."""
    for other in folder.parent.glob("pixels_pca-*/embedding.json"):
        with suppress(UserError):
            held = read_about(other.parent)
            same = all(held.get(name) == about[name] for name in ("side", "channels", "pictures"))
            if other.parent != folder and same and held.get("fitted_to") != about["fitted_to"]:
                shutil.rmtree(other.parent, ignore_errors=True)


def _about(made: _Made) -> dict[str, Any]:
    """Return what is remembered of an embedding."""
    return {
        "encoder": made.encoder.name,
        "weight_hash": made.encoder.weight_hash,
        "random_weights": made.random_weights,
        "precision": made.precision,
        "side": made.encoder.side,
        "channels": made.encoder.channels,
        "pictures": VERSION,
        "fitted_to": made.fitted_to,
        "created_at": _now(),
    }


def _digest(made: _Made) -> str:
    """Return a digest of all that changes the vectors of a slice, or what is said of them."""
    encoder = made.encoder
    asked = [encoder.name, encoder.identity(), encoder.side, encoder.channels, VERSION]
    written = json.dumps([*asked, made.random_weights], sort_keys=True)
    return hashlib.sha256(written.encode()).hexdigest()[:_DIGITS]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
