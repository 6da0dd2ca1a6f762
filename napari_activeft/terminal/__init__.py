"""How results, progress and problems look on a terminal. Texts only: no verb is called here."""

from __future__ import annotations

from napari_activeft.screen import fail, list_problems, progress, warn

# Imported for what they register with `show`.
from napari_activeft.terminal import (
    evaluation,
    outcome,
    pool,
    prediction,
    review,
    rounds,
    simulation,
    training,
    work,
)
from napari_activeft.terminal.refusals import explain
from napari_activeft.terminal.showing import show

__all__ = [
    "evaluation",
    "explain",
    "fail",
    "list_problems",
    "outcome",
    "pool",
    "prediction",
    "progress",
    "review",
    "rounds",
    "show",
    "simulation",
    "training",
    "warn",
    "work",
]
