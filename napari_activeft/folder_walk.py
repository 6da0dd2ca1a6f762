"""Walks a folder to the bottom and lists its files, past links in circles and the program's own."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from napari_activeft.errors import Problem

PROJECT_FILE = "project.sqlite"
"""A folder that holds this file is a project; its own files are never images to import."""

EXPORT_MARK = ".napari-activeft-export"
"""A folder that holds this file was written by an export, and so are the images in it."""

QUERY_STEM = "query-{:04d}"
"""What the files of a query are called; its ticket is the one in .json."""

_QUERY_FILE = re.compile(r"(query-\d{4,})\b.*")

_OURS = (
    "the folder is a project or an export, and its files are no images: add the folder of the "
    "images, and move images that lie beside the project's files into a folder of their own"
)


def walk(top: Path) -> tuple[list[Path], list[Problem]]:
    """Return all files below a folder, each real folder once: links may go in circles."""
    files: list[Path] = []
    problems: list[Problem] = []
    seen: set[tuple[int, int]] = set()

    def unreadable(refusal: OSError) -> None:
        cause = refusal.strerror or str(refusal)
        sentence = f"the folder cannot be read ({cause}): check its permissions"
        problems.append(Problem(_printable(refusal.filename), sentence))

    for folder, subfolders, names in os.walk(top, followlinks=True, onerror=unreadable):
        here = Path(folder)
        status = here.stat()
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            sentence = "the link leads to a folder that was read already: it is read once only"
            problems.append(Problem(_printable(folder), sentence))
            continue
        seen.add((status.st_dev, status.st_ino))
        if PROJECT_FILE in names or EXPORT_MARK in names:
            subfolders.clear()
            if here == top:
                problems.append(Problem(_printable(folder), _OURS))
            continue
        subfolders[:] = sorted(s for s in subfolders if not s.startswith((".", "__MACOSX")))
        for name in sorted(name for name in names if not _is_passed_over(name, names)):
            refusal = _refusal(here / name)
            if refusal is None:
                files.append(here / name)
            else:
                problems.append(Problem(_printable(here / name), refusal))
    return files, problems


def _is_passed_over(name: str, names: Collection[str]) -> bool:
    """Tell hidden files, and what `next` wrote: pictures beside their ticket, masks among them."""
    found = _QUERY_FILE.fullmatch(name)
    return name.startswith(".") or (found is not None and f"{found[1]}.json" in names)


def _refusal(file: Path) -> str | None:
    """Return why a file that is listed in its folder cannot be taken, None if it can."""
    if _printable(file) != str(file):
        return "its name is no text in UTF-8, so it cannot be stored: rename the file or its folder"
    try:
        if file.exists():
            return None
    except PermissionError as refusal:
        return f"the file cannot be reached ({refusal.strerror}): check its folder's permissions"
    return "the link leads nowhere: restore the file that it names or remove it"


def _printable(path: Path | str) -> str:
    """Return a path as text that can be printed and stored: a name may be any bytes."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
