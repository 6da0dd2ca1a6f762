"""How sure networks were of every pixel of a volume, kept in the folder of a run for the viewer."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import UserError
from napari_activeft.nifti_bytes import replacing

FOLDER: Final = "entropy"


def entropy_file(run_folder: Path, content_hash: str) -> Path:
    """Return where the entropy of a volume lies, by the hash of its image."""
    return run_folder / FOLDER / f"{content_hash[:16]}.npz"


def write_entropy(path: Path, entropy: NDArray[np.uint8]) -> None:
    """Write the entropy (d, h, w) of a volume, 0 sure to 255, whole or not at all.

    Raises
    ------
    UserError
        If the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.savez_compressed(file, entropy=entropy)
    except OSError as refusal:
        raise UserError(
            f"{path} cannot be written ({refusal.strerror}): make room on the disk, or predict "
            "without the entropy of pixels"
        ) from refusal


def read_entropy(path: Path) -> NDArray[np.uint8] | None:
    """Return what `write_entropy` wrote; None where there is none that can be read."""
    try:
        with path.open("rb") as file, np.load(file) as held:
            entropy: NDArray[np.uint8] = held["entropy"]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return entropy
