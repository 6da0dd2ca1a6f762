"""Sentences for the user, through napari's notifications."""

from __future__ import annotations

from napari.utils.notifications import show_error, show_info, show_warning


def tell(sentence: str) -> None:
    """Say that something was done."""
    show_info(sentence)


def warn(sentence: str) -> None:
    """Say what a user should know, though the work goes on."""
    show_warning(sentence)


def error(sentence: str) -> None:
    """Say what could not be done, and what to do."""
    show_error(sentence)
