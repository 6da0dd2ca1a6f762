"""Take a file of weights in: check it, convert it into the folder, record where it came from.

torch is needed for that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from napari_activeft.errors import UserError
from napari_activeft.kept_weights import (
    ENVIRONMENT_VARIABLE,
    KeptWeights,
    file_of,
    kept_weights,
    sha256_of,
    write_record,
)
from napari_activeft.models.published import published

if TYPE_CHECKING:
    from torch import Tensor

    from napari_activeft.models.checkpoints import Loaded

OWN = ("vmamba_micro", "vmamba_nano")  # our own sizes: no published weights, only imported ones
RGB = 3


class UnusableError(UserError):
    """A file that is damaged, or no weights of the encoder."""


def encoder_names() -> list[str]:
    """Return the encoders that can have weights."""
    return [*(name for name, facts in published().items() if facts.file), *OWN]


def take(name: str | None, file: Path, source: str, *, replace: bool) -> KeptWeights:
    """Check a file, convert it into the folder of the weights and record its origin.

    Parameters
    ----------
    name
        The encoder it is expected to fit; told by the file if None.
    file
        To be read; it stays where it is.
    source
        What to record as its origin.
    replace
        Whether other weights of the encoder may be replaced.

    Raises
    ------
    UnusableError
        If the file is damaged, or no weights of the encoder.
    UserError
        If other weights are kept already, or the folder takes no more.
    """
    from napari_activeft.models.checkpoints import (
        CheckpointError,
        load_checkpoint,
        save_safetensors,
        weight_hash,
    )

    try:
        name, channels, state, notes = _fitting(name, load_checkpoint(file), file)
    except CheckpointError as refusal:
        raise UnusableError(str(refusal)) from refusal
    path, fingerprint = file_of(name), weight_hash(state)
    if not replace and path.is_file() and (held := _held_hash(path)) is not None:
        if held != fingerprint:
            raise UserError(
                f"other weights of {name} are kept already, in {path}: take --replace to put those "
                f"of {file} in their place"
            )
        kept = kept_weights(name)
        if kept is not None:
            return dataclasses.replace(kept, already_there=True, notes=notes)
    about = {"weight_hash": fingerprint, "source": source, "source_sha256": sha256_of(file)}
    with _full_disk_told(name, path):
        save_safetensors(state, path, {"name": name, "source": source, "weight_hash": fingerprint})
        try:
            kept = write_record(name, channels=channels, **about)
        except OSError:
            path.unlink(missing_ok=True)  # the record beside it is of other weights
            raise
    return dataclasses.replace(kept, notes=notes)


@contextmanager
def _full_disk_told(name: str, path: Path) -> Iterator[None]:
    """Turn what the disk refuses into a sentence."""
    from napari_activeft.models.checkpoints import CheckpointError

    try:
        yield
    except (CheckpointError, OSError) as refusal:
        cause = refusal.__cause__ or refusal
        raise UserError(
            f"the weights of {name} cannot be kept in {path.parent} "
            f"({getattr(cause, 'strerror', None) or cause}): make room there or name another "
            f"folder in {ENVIRONMENT_VARIABLE}, then run the same command again"
        ) from refusal


def _held_hash(path: Path) -> str | None:
    """Return the hash of weights that are kept; None if they are damaged."""
    from napari_activeft.models.checkpoints import CheckpointError, load_checkpoint, weight_hash

    try:
        return weight_hash(load_checkpoint(path))
    except CheckpointError:
        return None


def _fitting(
    name: str | None, state: Mapping[str, Tensor], file: Path
) -> tuple[str, int, dict[str, Tensor], tuple[str, ...]]:
    """Return the encoder, its image channels, the weights under its names, and what to tell."""
    import torch

    from napari_activeft.models.checkpoints import fit, recognise, stem_channels
    from napari_activeft.models.registry import build_model
    from napari_activeft.models.weight_names import nearest, shapes_of

    fits = recognise(state)
    near, shared, _ = nearest(shapes_of(state))
    wanted = name or fits or (near if shared else None)
    if wanted is None or wanted not in encoder_names():
        raise UnusableError(
            f"{file} holds the weights of {wanted or 'no network that is known'} and of no encoder:"
            f" give a file of one of {', '.join(encoder_names())}"
        )
    channels = stem_channels(state) or RGB
    try:
        with torch.device("meta"):
            model = build_model(wanted, channels=channels)
    except ValueError as refusal:
        raise UnusableError(f"{file} cannot be used: {refusal}") from refusal
    fitted, loaded = fit(state, model.state_dict(), wanted, str(file), any_head=True)
    return wanted, channels, fitted, _notes(file, channels, loaded)


def _notes(file: Path, channels: int, loaded: Loaded) -> tuple[str, ...]:
    """Say what of a file is not kept, and what is unusual about the rest."""
    from napari_activeft.models.weight_names import is_linear_head, is_output_norm

    notes = []
    if any(is_linear_head(key) for key in loaded.left_out):
        notes.append(
            f"{file} has a classifier of its own, which was left out: vectors do without it"
        )
    elif loaded.fresh:
        notes.append(f"{file} has no classifier: vectors do without it")
    if any(is_output_norm(key) for key in loaded.left_out):
        notes.append("the norms that segmentation puts on the stages were left out")
    if channels != RGB:
        images = "grey images" if channels == 1 else f"images of {channels} channels"
        notes.append(f"these weights were trained on {images}")
    return tuple(notes)
