"""What results kept from an earlier run are judged by: whole lines, and the code that made them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def whole_lines(path: Path) -> bytes:
    """Return a table that grows line by line, without what a killed process left of one."""
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def hash_of_sources(sources: Iterable[tuple[str, Path]]) -> str:
    """Return 12 digits of the SHA-256 of source files, each under a name, in their order."""
    summed = hashlib.sha256()
    for name, file in sources:
        summed.update(f"{name}\n{file.read_text(encoding='utf-8')}\n".encode())
    return summed.hexdigest()[:12]
