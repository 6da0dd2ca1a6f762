"""What the docstrings of the settings say of each field, for forms and for the documentation."""

from __future__ import annotations

import inspect
import re

from napari_activeft.settings.base import Settings


def help_of(settings: type[Settings]) -> dict[str, str]:
    """Return what the docstring of a settings class says of each field."""
    told: dict[str, str] = {}
    for base in reversed(settings.__mro__):
        told |= _told_by(base)
    return told


def _told_by(settings: type) -> dict[str, str]:
    text = inspect.cleandoc(settings.__doc__ or "").partition("Attributes\n----------\n")[2]
    told: dict[str, str] = {}
    for match in re.finditer(r"^(\w[\w, ]*)\n((?:[ ]+.*\n?|\n)+)", text + "\n", re.MULTILINE):
        words = " ".join(match[2].split())
        told |= dict.fromkeys(match[1].split(", "), words)
    return told
