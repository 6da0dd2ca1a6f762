"""What `simulate` hands back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_activeft.errors import Problem


@dataclass(frozen=True)
class SimulateResult:
    """An experiment on labels that were there already.

    Attributes
    ----------
    cells, reused, total
        Trainings that are measured now, those of them that were there before, and all that were
        planned.
    points
        What selectors, networks and budgets come to, as ``curves.csv`` holds them.
    differences
        Between selectors, and between networks, paired, as ``differences.csv`` holds them.
    recipe
        ours or study.
    differs
        All that is known to stand between these figures and those of the older study, sentences;
        empty for our own recipe.
    folder, page, pictures
        Where the tables lie, and the page and the PNG files among them.
    notes
        What else there is to know.
    problems
        Chains of cells that could not be made.
    """

    cells: int
    reused: int
    total: int
    points: list[dict[str, Any]]
    differences: list[dict[str, Any]]
    recipe: str
    differs: tuple[str, ...]
    folder: Path
    page: Path
    pictures: tuple[Path, ...]
    notes: tuple[str, ...]
    problems: list[Problem]
