"""What a run is watched by: cases kept for it, a share of the labelled ones held back, or nothing.

Cases are never split: the slices of one patient resemble each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_activeft.errors import UserError

if TYPE_CHECKING:
    from napari_activeft.settings import TrainSettings
    from napari_activeft.training.dataset import SliceDataset

FEWEST_CASES = 3
_DRAWS = 200
_FOLD = 4  # keeps this stream of random numbers apart from those of the batches


@dataclass(frozen=True)
class Plan:
    """What a run is watched by.

    Attributes
    ----------
    monitor
        val, folds or none.
    held
        Labelled cases that are held back for it, with folds.
    sentence
        What was decided and why.
    """

    monitor: Literal["val", "folds", "none"]
    held: frozenset[str]
    sentence: str


def plan_monitoring(
    training: SliceDataset, val: SliceDataset | None, settings: TrainSettings
) -> Plan:
    """Decide what a run is watched by.

    Parameters
    ----------
    training, val
        Labelled slices of the pool, and of the cases kept as val; None without any.

    Raises
    ------
    UserError
        If what the settings ask for cannot be had.
    """
    cases, asked = training.cases, settings.monitor
    if asked == "val" and val is None:
        raise UserError(
            "monitor=val was asked, but no slice of a val case has an accepted mask: label some, "
            "or take monitor=auto"
        )
    if asked == "folds" and len(cases) < FEWEST_CASES:
        raise UserError(
            f"monitor=folds was asked for {len(cases)} labelled cases, and at least {FEWEST_CASES} "
            "are needed: label more cases, or take monitor=none"
        )
    if asked in ("auto", "val") and val is not None:
        return Plan(
            "val", frozenset(), f"watched by {len(val)} labelled slices of cases kept as val"
        )
    if asked == "none" or len(cases) < FEWEST_CASES:
        few = f"the labelled cases are {len(cases)}, fewer than {FEWEST_CASES}"
        why = "by setting" if asked == "none" else few
        sentence = f"not watched ({why}): all {settings.steps} steps are taken"
        return Plan("none", frozenset(), sentence)
    held = held_back(_seen(training), settings.fold_share, settings.seed)
    sentence = f"watched by {len(held)} of {len(cases)} labelled cases, which are held back"
    return Plan("folds", held, sentence)


def held_back(
    cases: Mapping[str, tuple[int, frozenset[int]]], share: float, seed: int
) -> frozenset[str]:
    """Draw the cases to hold back, so that both sides show every class where that can be.

    Parameters
    ----------
    cases
        For each case its labelled slices and the classes in them.
    share
        Of the cases, rounded, at least one.
    """
    names = sorted(cases)
    number = max(1, round(share * len(names)))
    wanted = share * sum(slices for slices, _ in cases.values())
    every = frozenset().union(*(shown for _, shown in cases.values()))
    rng = np.random.default_rng([seed, _FOLD])

    def fault(held: frozenset[str]) -> tuple[int, int, float]:
        learnt = frozenset().union(*(shown for n, (_, shown) in cases.items() if n not in held))
        watched = frozenset().union(*(cases[n][1] for n in held))
        slices = sum(cases[n][0] for n in held)
        return len(every - learnt), len(every - watched), abs(slices - wanted)

    draws = [frozenset(rng.choice(names, number, replace=False).tolist()) for _ in range(_DRAWS)]
    if len(names) <= 8:  # all of them, in the order that the seed draws
        draws = [frozenset(c) for c in itertools.combinations(rng.permutation(names), number)]
    return min(draws, key=fault)


def _seen(dataset: SliceDataset) -> dict[str, tuple[int, frozenset[int]]]:
    """Return for each case its labelled slices and the classes in them."""
    found: dict[str, tuple[int, frozenset[int]]] = {}
    for one in dataset.examples:
        slices, shown = found.get(one.case, (0, frozenset()))
        values = frozenset(np.unique(one.target[one.target > 0]).tolist())
        found[one.case] = (slices + 1, shown | values)
    return found
