"""A folder that appears complete or not at all."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_activeft.errors import UserError
from napari_activeft.folder_walk import EXPORT_MARK

# No export is silent for a day.
_SURELY_DEAD_SECONDS = 24 * 3600


@contextmanager
def whole_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give an empty folder to write into, and put it in the place of ``out`` at the end.

    On an error nothing of it stays, and an earlier folder is as it was.

    Parameters
    ----------
    out
        Where the folder shall be: nothing yet, an empty folder, or one that was written here.
    overwrite
        Replace one that was written here before.

    Raises
    ------
    UserError
        If ``out`` is taken, or cannot be written.
    """
    out = out.resolve()  # a link stays a link, to a folder that is whole
    _check(out, overwrite)
    staging = out.with_name(f".{out.name}-{secrets.token_hex(4)}")
    earlier = out.with_name(f"{staging.name}-earlier")
    _remove_leftovers(out)
    try:
        staging.mkdir(parents=True)
        yield staging
        (staging / EXPORT_MARK).touch()
        try:
            if out.exists():
                out.replace(earlier)
            staging.replace(out)
        except BaseException:
            if earlier.exists() and not out.exists():
                earlier.replace(out)
            raise
    except OSError as refusal:
        raise UserError(
            f"{out} cannot be written ({refusal.strerror or refusal}): free some space or choose "
            "another --out"
        ) from refusal
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if out.exists():
            shutil.rmtree(earlier, ignore_errors=True)


def _remove_leftovers(out: Path) -> None:
    """Remove what killed exports of this name left, but none that may still be at work."""
    for leftover in out.parent.glob(f".{out.name}-" + "[0-9a-f]" * 8):
        if time.time() - leftover.stat().st_mtime > _SURELY_DEAD_SECONDS:
            shutil.rmtree(leftover, ignore_errors=True)


def _check(out: Path, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / EXPORT_MARK).is_file():
        raise UserError(
            f"{out} is there already and is no export of this program: choose another --out"
        )
    if not overwrite:
        raise UserError(
            f"{out} holds an earlier export: choose another --out, or replace it with --overwrite"
        )
