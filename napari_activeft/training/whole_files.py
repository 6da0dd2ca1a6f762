"""Files that are written whole or not at all, whatever the disk or a kill does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_activeft.errors import UserError


class InUse(UserError):
    """Another process works in this folder."""


def remove_parts(folder: Path) -> None:
    """Remove what a killed process left of files that it was writing; call it under the lock."""
    for part in folder.rglob(".*.part"):
        part.unlink(missing_ok=True)


@contextmanager
def sole_process(folder: Path, lock_name: str, what: str) -> Iterator[None]:
    """Keep a second program from training in a folder, and clear what a killed one left half-done.

    Raises
    ------
    InUse
        If another process trains there.
    UserError
        If the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / lock_name, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InUse(
            f"the {what} in {folder} is being trained by another process just now: wait for it, or "
            "stop it first"
        ) from None
    except OSError as refusal:
        raise UserError(
            f"the folder {folder} cannot be written ({refusal.strerror}): make it writable, or "
            "make room on the disk"
        ) from refusal
    try:
        remove_parts(folder)
        yield
    finally:
        lock.release()


def write_text(path: Path, text: str, then: str = "run the command again") -> None:
    """Write a text file whole or not at all; see `write_whole`."""
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"), then)


def write_whole(path: Path, write: Callable[[Path], object], then: str) -> None:
    """Write a file under another name, force it onto the disk, then give it its own.

    Parameters
    ----------
    write
        Writes the file that it is given.
    then
        What a user does who has made room on a full disk.

    Raises
    ------
    UserError
        If the disk refuses; the earlier file stays.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, RuntimeError) as refusal:  # torch tells of a full disk by a RuntimeError
        reason = getattr(refusal, "strerror", None) or "the disk did not take all of it"
        stays = "the one before it stays, " if path.exists() else ""
        raise UserError(
            f"{path} cannot be written ({reason}): {stays}make room on the disk and {then}"
        ) from refusal
    finally:
        part.unlink(missing_ok=True)
