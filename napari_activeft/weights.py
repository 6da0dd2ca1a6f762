"""Encoder weights: listed, fetched once, imported, checked, put into networks.

They are kept as safetensors in one folder, see `kept_weights`. torch is needed to convert and check
them, not to list or find them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_activeft.download import download
from napari_activeft.errors import OnProgress, UserError, no_progress
from napari_activeft.extras import need_compute
from napari_activeft.kept_weights import (
    KeptWeights,
    file_of,
    kept_weights,
    make_folder,
    sha256_of,
    weights_folder,
)
from napari_activeft.models.published import Published, published
from napari_activeft.taken_weights import UnusableError, encoder_names, take

if TYPE_CHECKING:
    from torch import nn

    from napari_activeft.models.checkpoints import Loaded


@dataclass(frozen=True)
class WeightEntry:
    """Weights that an encoder can have.

    Attributes
    ----------
    name
        Of the encoder.
    file, url
        Name and address of the official file; None for our own sizes.
    parameters
        Their number; None where no facts are published.
    top1
        Published accuracy on ImageNet-1k, percent.
    licence
        Of the published weights.
    present
        Whether they are on this computer.
    path
        Where they lie, or would.
    sha256, size
        Of the file there, in bytes; None if it is not.
    source
        What it was made from: an address or a path.
    """

    name: str
    file: str | None
    url: str | None
    parameters: int | None
    top1: float | None
    licence: str | None
    present: bool
    path: Path
    sha256: str | None
    size: int | None
    source: str | None


@dataclass(frozen=True)
class VerifiedWeights:
    """Weights that were read again.

    Attributes
    ----------
    sound
        Whether they are those that were put there, and fit their encoder.
    sentence
        What is wrong and what to do; empty if nothing.
    """

    name: str
    path: Path
    sound: bool
    sentence: str


def list_weights() -> list[WeightEntry]:
    """Return all encoders that can have weights, whether theirs are here or not."""
    return [_entry(name) for name in encoder_names()]


def weights_path(name: str) -> Path:
    """Return the file of an encoder's weights.

    Raises
    ------
    UserError
        If there is no such encoder, or its weights are not here; the sentence says how to get them.
    """
    _check_name(name)
    path = file_of(name)
    if not path.is_file():
        raise missing_weights(name)
    return path


def missing_weights(name: str) -> UserError:
    """Return the refusal that says how to get an encoder's weights."""
    return UserError(f"the weights of {name} are not on this computer: {_how_to_get(name)}")


def load_weights(network: nn.Module, path: Path, name: str) -> Loaded:
    """Put the weights of a file into a network; its classifier may be another or missing.

    Parameters
    ----------
    network
        As `registry.build_model` builds it for ``name``, with any number of input channels.
    path
        One of the kept files, or any file of weights.
    name
        Of the encoder.

    Raises
    ------
    UserError
        If the file cannot be read or does not fit in full.
    """
    from napari_activeft.models.checkpoints import CheckpointError, load_into

    try:
        return load_into(network, path, name, any_head=True)
    except CheckpointError as refusal:
        raise UserError(str(refusal)) from refusal


def fetch(name: str, on_progress: OnProgress = no_progress, url: str | None = None) -> KeptWeights:
    """Download an encoder's weights, check and keep them.

    A download that was cut or cancelled goes on where it stopped, and one that could not be
    converted is not fetched again. A file of the official name that a user put into the folder is
    taken first; if it does not fit it is set aside as ``FILE.bad``.

    Parameters
    ----------
    name
        Of the encoder.
    on_progress
        Called with the bytes that are here and all of them.
    url
        Address to take instead of the official one.

    Raises
    ------
    UserError
        If the address cannot be reached, or what it gives does not fit.
    """
    _check_name(name)
    kept = kept_weights(name)
    if kept is not None and url is None:
        return dataclasses.replace(kept, already_there=True)
    entry = _entry(name)
    address = url or entry.url
    if address is None:
        raise UserError(
            f"{name} is a size of our own and nobody published weights for it: train it and take "
            "the file in with `napari-activeft weights import FILE`"
        )
    need_compute("handling weights")
    target = make_folder() / ((entry.file if url is None else None) or f"{name}.pth")
    notes: tuple[str, ...] = ()
    if target.is_file():
        origin = _origin(target)
        if origin == address:  # a conversion was interrupted
            with contextlib.suppress(UnusableError):
                return _take_download(name, target, address)
        elif url is None and origin is None:
            try:
                return take(name, target, str(target), replace=True)
            except UnusableError as refusal:
                notes = (f"{refusal}; it is now {_set_aside(target).name}",)
    instead = "; ".join((_by_hand(entry.file or target.name, address), *notes))
    download(address, target, on_progress, instead=instead)
    _write_origin(target, address)
    kept = _take_download(name, target, address)
    return dataclasses.replace(kept, notes=(*notes, *kept.notes))


def _take_download(name: str, target: Path, address: str) -> KeptWeights:
    """Take in what was downloaded; it stays if it fits but room or time was short."""
    try:
        kept = take(name, target, address, replace=True)
    except UnusableError:
        _remove_download(target)
        raise
    _remove_download(target)
    return kept


def _remove_download(target: Path) -> None:
    for file in (target, _origin_file(target)):
        with contextlib.suppress(OSError):  # Windows keeps a file that is mapped
            file.unlink(missing_ok=True)


def _origin_file(target: Path) -> Path:
    return target.with_name(f"{target.name}.from")


def _write_origin(target: Path, address: str) -> None:
    """Note where a download came from: without that it is taken for a user's own file."""
    with contextlib.suppress(OSError):
        _origin_file(target).write_text(address, encoding="utf-8")


def _origin(target: Path) -> str | None:
    """Return the address that a file was downloaded from; None if a user put it there."""
    try:
        return _origin_file(target).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _set_aside(target: Path) -> Path:
    """Give a user's file that does not fit another name."""
    bad = target.with_name(f"{target.name}.bad")
    try:
        return target.replace(bad)
    except OSError as refusal:
        raise UserError(
            f"{target} is no file of these weights and cannot be set aside ({refusal.strerror}): "
            "remove it and fetch again"
        ) from refusal


def import_file(path: Path, name: str | None = None, *, replace: bool = False) -> KeptWeights:
    """Keep the weights of a file; which encoder they belong to is told by names and shapes.

    Parameters
    ----------
    path
        An official file, or one in its format; it stays where it is.
    name
        The encoder it is expected to fit.
    replace
        Whether other weights of that encoder may be replaced.

    Raises
    ------
    UserError
        If the file cannot be used, fits no encoder, or another one than ``name``, or other weights
        of that encoder are here.
    """
    if name is not None:
        _check_name(name)
    need_compute("handling weights")
    make_folder()
    return take(name, Path(path).absolute(), str(Path(path).absolute()), replace=replace)


def verify(name: str | None = None) -> list[VerifiedWeights]:
    """Tell whether weights, one encoder's or all that are here, are still those that were kept.

    Raises
    ------
    UserError
        If the weights of ``name`` are not here.
    """
    if name is not None:
        weights_path(name)
    need_compute("handling weights")
    names = [name] if name is not None else [n for n in encoder_names() if file_of(n).is_file()]
    return [_verified(each) for each in names]


def _verified(name: str) -> VerifiedWeights:
    from napari_activeft.models.checkpoints import CheckpointError, load_checkpoint, recognise

    path, kept = file_of(name), kept_weights(name)
    mend = f"remove {path}, then {_how_to_get(name)}"
    sentence = ""
    if kept is None:
        sentence = f"{path} has no sound {name}.json beside it that says what it was: {mend}"
    elif sha256_of(path) != kept.sha256:
        sentence = f"{path} is not the file that was kept, its SHA-256 has changed: {mend}"
    else:
        try:
            fits = recognise(load_checkpoint(path))
        except CheckpointError as refusal:
            sentence = f"{refusal}; {mend}"
        else:
            if fits != name:
                sentence = f"{path} holds the weights of {fits or 'no known encoder'}: {mend}"
    return VerifiedWeights(name, path, not sentence, sentence)


def _entry(name: str) -> WeightEntry:
    facts: Published | None = published().get(name)
    official = facts.file if facts else None
    kept, path = kept_weights(name), file_of(name)
    return WeightEntry(
        name=name,
        file=official.file if official else None,
        url=official.url if official else None,
        parameters=facts.parameters if facts else None,
        top1=official.top1 if official else None,
        licence=facts.licence if facts else None,
        present=path.is_file(),
        path=path,
        sha256=kept.sha256 if kept else None,
        size=path.stat().st_size if path.is_file() else None,
        source=kept.source if kept else None,
    )


def _check_name(name: str) -> None:
    if name not in encoder_names():
        raise UserError(f"no weights are called {name!r}: take one of {', '.join(encoder_names())}")


def _how_to_get(name: str) -> str:
    entry = _entry(name)
    if entry.url is None or entry.file is None:
        return (
            "run `napari-activeft weights import FILE` with the file of your own training (nobody "
            "published any)"
        )
    return (
        f"run `napari-activeft weights fetch {name}` to download them; "
        f"{_by_hand(entry.file, entry.url)}"
    )


def _by_hand(file: str, address: str) -> str:
    return (
        f"without a network here, get {file} from {address} elsewhere and run `napari-activeft "
        f"weights import {file}`, or put it into {weights_folder()} and fetch again"
    )
