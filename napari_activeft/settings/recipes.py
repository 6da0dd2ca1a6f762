"""Ready-made ways to train, for those who would rather not choose twenty numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True)
class Recipe:
    """A way to train.

    Attributes
    ----------
    name
        As people choose it.
    told
        What it is for and what it takes, a sentence or two.
    values
        Of `TrainSettings`, where they differ from its defaults.
    """

    name: str
    told: str
    values: dict[str, Any] = field(default_factory=dict)


RECIPES: Final = (
    Recipe(
        "Standard",
        "The recipe of the benchmarks: a small network, some 13 minutes on one core of a desktop "
        "computer.",
    ),
    Recipe(
        "Quick look",
        "The same network, a fifth of the steps: to see within minutes whether it learns at all.",
        {"steps": 800, "check_every": 80},
    ),
    Recipe(
        "Thorough",
        "A network of five times the weights; twice the time of the standard one, and a little "
        "better.",
        {"network": "vm_unet_detail_micro", "lr": 2e-3},
    ),
    Recipe(
        "Go on from the last run",
        "Begins with the weights of the newest run that is done: quicker, from the second round "
        "on.",
        {"steps": 1500, "lr": 1e-3},
    ),
    Recipe(
        "Large, for a GPU",
        "A network of published size, from the encoder's official weights where they are "
        "installed.",
        {"network": "vm_unet_detail", "lr": 3e-4, "batch": 16, "steps": 8000},
    ),
)
"""The usual one first."""
GO_ON: Final = RECIPES[3].name
"""Its ``start`` is the newest run, which only a project knows."""
