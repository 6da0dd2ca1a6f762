"""Words that sentences of every part share."""

from __future__ import annotations


def counted(number: int, what: str, many: str | None = None) -> str:
    """Return a number with its noun, in the plural where it is not one."""
    many = "queries" if what == "query" else many
    return f"{number} {what if number == 1 else many or what + 's'}"
