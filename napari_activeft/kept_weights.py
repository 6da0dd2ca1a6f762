"""The folder of the user's encoder weights, and the record beside each file in it.

It is the same for all projects: the user's cache, or what the environment variable
``NAPARI_ACTIVEFT_WEIGHTS`` names. ``NAME.safetensors`` holds the weights, ``NAME.json`` where they
came from and what they were.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_activeft.errors import UserError

ENVIRONMENT_VARIABLE = "NAPARI_ACTIVEFT_WEIGHTS"


@dataclass(frozen=True)
class KeptWeights:
    """Weights that were put into the cache, or were there already.

    Attributes
    ----------
    path
        The safetensors file.
    sha256, size
        Of that file, in bytes.
    weight_hash
        Of names, shapes and numbers, the same for every format of the same weights.
    source, source_sha256
        What it was made from, and the SHA-256 of that.
    channels
        Of the images that the first convolution takes.
    already_there
        Whether nothing was done.
    notes
        What a user should know of how they were taken in, sentences.
    """

    name: str
    path: Path
    sha256: str
    size: int
    weight_hash: str
    source: str
    source_sha256: str
    channels: int = 3
    already_there: bool = False
    notes: tuple[str, ...] = ()


def weights_folder() -> Path:
    """Return the folder of the weights; it may not exist yet."""
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("napari-activeft", appauthor=False)) / "weights"


def make_folder() -> Path:
    """Make the folder of the weights if it is not there."""
    folder = weights_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as refusal:
        raise UserError(
            f"the folder of the weights {folder} cannot be made ({refusal.strerror}): name another "
            f"one in {ENVIRONMENT_VARIABLE}"
        ) from refusal
    return folder


def file_of(name: str) -> Path:
    """Return where an encoder's weights lie, or would."""
    return weights_folder() / f"{name}.safetensors"


def kept_weights(name: str) -> KeptWeights | None:
    """Return what is recorded of weights that are here; None without a sound record."""
    path = file_of(name)
    if not path.is_file():
        return None
    try:
        return _from_record(name, json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_record(
    name: str, *, channels: int, weight_hash: str, source: str, source_sha256: str
) -> KeptWeights:
    """Record what the file of an encoder's weights is, and return it."""
    path = file_of(name)
    record = {
        "name": name,
        "sha256": sha256_of(path),
        "size": path.stat().st_size,
        "channels": channels,
        "weight_hash": weight_hash,
        "source": source,
        "source_sha256": source_sha256,
    }
    part = path.with_suffix(".json.part")
    try:
        part.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        part.replace(path.with_suffix(".json"))
    finally:
        part.unlink(missing_ok=True)
    return _from_record(name, record)


def _from_record(name: str, record: Mapping[str, Any]) -> KeptWeights:
    return KeptWeights(
        name,
        file_of(name),
        record["sha256"],
        record["size"],
        record["weight_hash"],
        record["source"],
        record["source_sha256"],
        record.get("channels", 3),  # older records have none
    )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
