"""Which cells there are, in chains of rounds, and what tells them apart from others.

Two runs of one cell must mean the same thing, so a cell is named by its plan, by hashes of the
data and of the recipe, and bears a hash of the code that made it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from napari_activeft import models, prediction, selection, training
from napari_activeft.errors import UserError
from napari_activeft.kept_weights import file_of, sha256_of
from napari_activeft.reuse import hash_of_sources
from napari_activeft.selection import SELECTORS
from napari_activeft.settings import Budget
from napari_activeft.settings.learning import AUTO, ENCODER
from napari_activeft.settings.simulation import SimulateSettings
from napari_activeft.simulation.material import Division, Material
from napari_activeft.taken_weights import encoder_names

ALL = "all"
"""Stands for the selector where every slice is chosen, as all selectors then do."""
FIRST = "stratified_random"
"""Chooses the first round of a selector that cannot choose without scores."""

_PARTS = ("choice", "material", "chain", "plan", "study")  # of this package, those that decide
_ON_THE_WAY = ("pool", "pool_stacks", "training_data")  # from an image to what a network sees
# Of the training, what changes where and how fast it is computed, and what the plan itself says.
_NOT_OF_THE_RECIPE = {
    "network",
    "seed",
    "resume",
    "run",
    "device",
    "devices",
    "nodes",
    "strategy",
    "threads",
    "workers",
    "checkpoint_every",
    "check_every",
    "patience",
    "refit",
    "fold_share",
}


@dataclass(frozen=True)
class Chain:
    """The rounds of one budget: one selector, one network, one seed, one division.

    Attributes
    ----------
    budget
        As it was asked for.
    slices
        In all.
    """

    selector: str
    budget: str
    slices: int
    seed: int
    network: str
    rounds: int
    division: Division

    def total(self, number: int) -> int:
        """Return how many slices are labelled after a round, which counts from 1."""
        return self.slices * number // self.rounds

    def told(self) -> str:
        """Return it in a few words."""
        fold = "" if self.division.fold is None else f", fold {self.division.fold}"
        return f"{self.network}, {self.selector}, {self.slices} slices, seed {self.seed}{fold}"


@dataclass(frozen=True)
class Conditions:
    """Under what all cells of a simulation are made.

    Attributes
    ----------
    data, recipe, code
        12 digits of hashes: of images and label maps, of all settings that act, of the source.
    """

    data: str
    recipe: str
    code: str

    def plan_of(self, chain: Chain, number: int) -> str:
        """Return 12 digits that name the cell of a round, whichever code makes it."""
        said = (
            *(self.data, self.recipe, chain.network, chain.selector, chain.slices, chain.seed),
            *(chain.rounds, number, chain.division.fold),
        )
        return hashlib.sha256(repr(said).encode()).hexdigest()[:12]


def chains(material: Material, settings: SimulateSettings) -> list[Chain]:
    """Return what is to be done, seed by seed, so that a look at any time compares like with like.

    Raises
    ------
    UserError
        If a budget cannot be spent, two are the same, or a round would get no slice.
    """
    for division in material.divisions:
        _see_different(settings, division)
    return [
        chain
        for seed in range(settings.seeds)
        for division in material.divisions
        for network in settings.trained
        for budget in settings.budgets
        for chain in _of_selectors(settings, division, network, budget, seed)
    ]


def _see_different(settings: SimulateSettings, division: Division) -> None:
    """See that no two budgets come to the same number of slices: they would be one cell."""
    free = len(division.rows)
    known: dict[int, str] = {}
    for budget in settings.budgets:
        slices, asked = budget.slices(free, free), _written(budget)
        if slices in known:
            raise UserError(
                f"the budgets {known[slices]} and {asked} are {slices} slices both: leave one out"
            )
        known[slices] = asked


def _of_selectors(
    settings: SimulateSettings, division: Division, network: str, budget: Budget, seed: int
) -> Iterator[Chain]:
    free = len(division.rows)
    slices, asked = budget.slices(free, free), _written(budget)
    if slices == free:
        yield Chain(ALL, asked, slices, seed, network, 1, division)
        return
    if slices < settings.rounds:
        raise UserError(
            f"a budget of {slices} slices was asked in {settings.rounds} rounds, and each needs a "
            "slice: raise the budget, or take fewer rounds"
        )
    for selector in dict.fromkeys(settings.selectors):
        yield Chain(selector, asked, slices, seed, network, settings.rounds, division)


def _written(budget: Budget) -> str:
    return str(budget.count) if budget.share is None else f"{100 * budget.share:.6g}%"


def see_selectors(settings: SimulateSettings) -> None:
    """See that all selectors can take part.

    Raises
    ------
    UserError
        If there is none or no budget, one is unknown or needs what there is not, or the reference
        is not among them.
    """
    if not (settings.selectors and settings.budgets):
        raise UserError(
            f"{len(settings.selectors)} selectors and {len(settings.budgets)} budgets were given: "
            "give at least one of each"
        )
    for name in settings.selectors:
        if name not in SELECTORS:
            raise UserError(
                f"the selector {name!r} is not known: choose among {', '.join(SELECTORS)}"
            )
        if name == "bald":
            raise UserError(
                "the selector bald was given, which needs several networks that predict together, "
                "and a simulation trains one at a time: take entropy"
            )
        if SELECTORS[name].needs_scores and settings.rounds < 2:
            raise UserError(
                f"the selector {name} was given for one round, and it needs the network of a round "
                f"before: ask for --rounds 2 or more, of which {FIRST} chooses the first"
            )
    if settings.reference not in settings.selectors:
        raise UserError(
            f"the reference {settings.reference!r} is not among the selectors "
            f"{', '.join(settings.selectors)}: add it, or name one of these with --reference"
        )


def takes_scores(selector: str, settings: SimulateSettings) -> bool:
    """Return whether a selector looks at how uncertain the last round's network is."""
    if selector == "activeft":
        return settings.uncertainty > 0
    return selector in SELECTORS and SELECTORS[selector].needs_scores


def conditions(material: Material, settings: SimulateSettings) -> Conditions:
    """Return under what the cells of a simulation are made."""
    return Conditions(material.digest, recipe_hash(settings), code_hash())


def recipe_hash(settings: SimulateSettings) -> str:
    """Return 12 digits of a hash of all settings that act on a cell and are not in its plan."""
    told: dict[str, Any] = {
        "recipe": settings.recipe,
        "train": settings.train.model_dump(mode="json", exclude=_NOT_OF_THE_RECIPE),
        "start": _start_told(settings.train.start),
        "choice": [
            settings.model_dump(include={"emptiness", "gap", "per_case", "per_volume"}),
            repr(settings.activeft),
        ],
        "tested": settings.model_dump(
            include={"test_split", "folds", "unlabelled", "absent_as_zero", "tta", "largest"}
        ),
    }
    if settings.train.start.startswith(ENCODER):
        told["train"]["start"] = ENCODER  # what its file holds counts, not where it lies
    if settings.recipe == "study":
        told["epochs"] = settings.epochs
        told["train"].pop("steps")  # the epochs decide them
    if settings.recipe == "study" or settings.folds:
        told["plan_seed"] = settings.plan_seed
    if settings.rounds > 1:
        told["uncertainty"] = settings.uncertainty
    said = json.dumps(told, sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def _start_told(start: str) -> list[str]:
    """Return hashes of the files that a start may read: what they hold may change."""
    named = start.removeprefix(ENCODER)
    if start == AUTO:
        files = [file_of(name) for name in encoder_names()]
    elif start.startswith(ENCODER):
        files = [Path(named)]  # by then a name has become its file, see `start_by_file`
    else:
        files = []
    return [sha256_of(file) for file in files if file.is_file()]


@cache
def code_hash() -> str:
    """Return 12 digits of a hash of the source that chooses, trains, predicts and measures."""
    return hash_of_sources(_sources())


def _sources() -> Iterator[tuple[str, Path]]:
    for package in (selection, training, prediction, models):
        folder = Path(package.__file__).parent  # type: ignore[arg-type]
        for file in sorted(folder.rglob("*.py")):
            yield f"{folder.name}/{file.relative_to(folder).as_posix()}", file
    own = Path(__file__).parent
    for part in _PARTS:
        yield f"{own.name}/{part}.py", own / f"{part}.py"
    for part in _ON_THE_WAY:
        yield f"{part}.py", own.parent / f"{part}.py"
