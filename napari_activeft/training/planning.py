"""What a run is watched by: cases kept for it, a share of the labelled ones held back, or nothing.

Cases are never split: the slices of one patient resemble each other.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from napari_activeft.errors import UserError
from napari_activeft.training.resuming import fingerprint, see_same_labels
from napari_activeft.training.run_files import GO_ON, PLAN
from napari_activeft.training.whole_files import write_text

if TYPE_CHECKING:
    from napari_activeft.settings import TrainSettings
    from napari_activeft.training.dataset import SliceDataset
    from napari_activeft.training.network_spec import ClassName, NetworkSpec

FEWEST_CASES = 3
_DRAWS = 200
_FOLD = 4  # keeps this stream of random numbers apart from those of the batches


class Seen(NamedTuple):
    """What is labelled of a case: how many slices, and which classes are in them."""

    slices: int
    classes: frozenset[int]


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
    training: SliceDataset,
    val: SliceDataset | None,
    settings: TrainSettings,
    taught: Collection[str] | None = (),
) -> Plan:
    """Decide what a run is watched by.

    Parameters
    ----------
    training, val
        Labelled slices of the pool, and of the cases kept as val; None without any.
    taught
        Cases whose labels taught the weights that the run starts from, which would know the answer
        if they were held back; None where nobody knows.

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
    by_people = _seen(training, by_people=True)
    answers = {} if taught is None else {n: s for n, s in by_people.items() if n not in taught}
    if not answers:
        return _unwatched(len(by_people), taught, settings)
    held = held_back(_seen(training), settings.fold_share, settings.seed, answers)
    sentence = f"watched by {len(held)} of {len(cases)} labelled cases, which are held back"
    return Plan("folds", held, sentence)


def _unwatched(by_people: int, taught: Collection[str] | None, settings: TrainSettings) -> Plan:
    """Return a plan without a monitor, since no labelled case can be one."""
    if not by_people:
        why = "all accepted masks are proposals of networks, which are no truth"
    elif taught is None:
        why = f"nobody knows which cases the weights of {settings.start} have learnt from"
    else:
        why = f"the weights of {settings.start} have learnt from every case that people labelled"
    if settings.monitor == "folds":
        raise UserError(
            f"monitor=folds was asked, but {why}: label slices of another case, start from random "
            "weights, or take monitor=none"
        )
    return Plan("none", frozenset(), f"not watched ({why}): all {settings.steps} steps are taken")


def see_classes(
    training: SliceDataset, spec: NetworkSpec, settings: TrainSettings
) -> list[ClassName]:
    """Return the classes of which no pixel is labelled.

    Raises
    ------
    UserError
        If there are some and the settings say to stop then.
    """
    shares = training.balance().classes[1:]
    unseen = [one for one, share in zip(spec.classes, shares, strict=True) if not share.pixels]
    if unseen and settings.missing_class == "stop":
        raise UserError(
            f"no pixel of {', '.join(one.name for one in unseen)} is labelled: label some, remove "
            "the class, or train without it by missing_class=go-on"
        )
    return unseen


def held_back(
    cases: Mapping[str, Seen],
    share: float,
    seed: int,
    answers: Mapping[str, Seen] | None = None,
) -> frozenset[str]:
    """Draw the cases to hold back, so that both sides show every class where that can be.

    Parameters
    ----------
    cases
        What is labelled of each.
    share
        Of the cases, rounded, at least one.
    answers
        The cases that may be held back, and what of each is measured against; None takes all.
    """
    answers = cases if answers is None else answers
    names = sorted(answers)
    number = min(max(1, round(share * len(cases))), len(names), len(cases) - 1)
    wanted = share * sum(seen.slices for seen in cases.values())
    every = frozenset().union(*(seen.classes for seen in cases.values()))
    rng = np.random.default_rng([seed, _FOLD])

    def fault(held: frozenset[str]) -> tuple[int, int, float]:
        learnt = frozenset().union(*(seen.classes for n, seen in cases.items() if n not in held))
        watched = frozenset().union(*(answers[n].classes for n in held))
        slices = sum(answers[n].slices for n in held)
        return len(every - learnt), len(every - watched), abs(slices - wanted)

    draws = [frozenset(rng.choice(names, number, replace=False).tolist()) for _ in range(_DRAWS)]
    if len(names) <= 8:  # all of them, in the order that the seed draws
        draws = [frozenset(c) for c in itertools.combinations(rng.permutation(names), number)]
    return min(draws, key=fault)


def keep_plan(plan: Plan, folder: Path, training: SliceDataset, val: SliceDataset | None) -> None:
    """Write what a run is watched by into its folder.

    Raises
    ------
    UserError
        If the disk refuses.
    """
    told = {
        "monitor": plan.monitor,
        "held": sorted(plan.held),
        "sentence": plan.sentence,
        "labels": _labels(plan, training, val),
    }
    write_text(folder / PLAN, json.dumps(told, indent=2) + "\n", GO_ON)


def kept_plan(folder: Path, training: SliceDataset, val: SliceDataset | None) -> Plan:
    """Return what a run that was stopped is watched by.

    Raises
    ------
    UserError
        If the labels have changed since, or an older program did not keep it.
    """
    try:
        told = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        plan = Plan(told["monitor"], frozenset(told["held"]), str(told["sentence"]))
        labels = list(told["labels"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{folder} does not say what its run was watched by, as an older program left it: "
            "start a new run without --resume"
        ) from None
    see_same_labels(labels == _labels(plan, training, val), folder)
    return plan


def _labels(plan: Plan, training: SliceDataset, val: SliceDataset | None) -> list[int]:
    """Return checksums of what is learnt from, and of what it is watched by."""
    held = plan.held & set(training.cases)
    watched = training.subset(held, by_people=True) if held else None
    return [fingerprint(training), fingerprint(val if plan.monitor == "val" else watched)]


def _seen(dataset: SliceDataset, *, by_people: bool = False) -> dict[str, Seen]:
    """Return what is labelled of each case, by people only or not."""
    found: dict[str, Seen] = {}
    for one in dataset.examples:
        if by_people and not one.by_people:
            continue
        before = found.get(one.case, Seen(0, frozenset()))
        values = frozenset(np.flatnonzero(np.bincount(one.target[one.target > 0])).tolist())
        found[one.case] = Seen(before.slices + 1, before.classes | values)
    return found
