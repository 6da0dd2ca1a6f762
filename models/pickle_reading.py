"""Look into a pickle without running it."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_HEADERS = 3  # pickles of torch's old format before the one with the weights
_DICTS = ("EMPTY_DICT", "GLOBAL", "BINGET", "LONG_BINGET")  # how a pickled dict begins


def weights_key(path: Path, keys: tuple[str, ...]) -> str | None:
    """Return the first of some keys that has a dict in a file of torch; None if none has."""
    try:
        held = set(_keys_of_dicts(path))
    except Exception:  # the file may be anything; nothing of it is run here
        return None
    return next((key for key in keys if key in held), None)


def _keys_of_dicts(path: Path) -> Iterator[str]:
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            for _ in range(_HEADERS):
                list(pickletools.genops(file))
            yield from _texts_before_dicts(file)
        return
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        with archive.open(name) as file:
            yield from _texts_before_dicts(file)


def _texts_before_dicts(file: IO[bytes]) -> Iterator[str]:
    text = None
    for operation, argument, _ in pickletools.genops(file):
        if "UNICODE" in operation.name:
            text = argument
        elif "PUT" not in operation.name and operation.name != "MEMOIZE":
            if text is not None and operation.name in _DICTS:
                yield text
            text = None
