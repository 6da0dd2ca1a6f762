"""What `evaluate` hands back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_activeft.errors import Problem


@dataclass(frozen=True)
class EvaluateResult:
    """Predictions that were measured.

    Attributes
    ----------
    run
        Whose they are; None for a folder of label maps.
    split, truth
        Of which volumes, and against what.
    cases
        Of the slices that were measured.
    volumes, slices
        That were measured; a volume only where each of its slices has truth.
    level
        What `summary` is of: volumes, or slices where no volume could be measured.
    summary
        By class value, ``all`` for all together, and metric: rows, cases, left_out, mean, median,
        low and high; None where something is not defined. See `training.metrics`.
    folder, page
        Where the tables lie, and the page among them.
    notes
        What else there is to know.
    problems
        Volumes that could not be measured.
    """

    run: int | None
    split: str
    truth: str
    cases: int
    volumes: int
    slices: int
    level: str
    summary: dict[str, dict[str, Any]]
    folder: Path
    page: Path
    notes: tuple[str, ...]
    problems: list[Problem]
