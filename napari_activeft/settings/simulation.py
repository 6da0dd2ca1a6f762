"""How selectors, budgets and networks are tried out on labels that are there: simulate."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from napari_activeft.settings.base import FileValue, Name, Share
from napari_activeft.settings.choice import UNCERTAINTY_WEIGHT, Budget, ChoiceSettings
from napari_activeft.settings.learning import RUN, TrainSettings
from napari_activeft.settings.prediction import Augmentation

Recipe = Literal["ours", "study"]

RECIPES: dict[str, dict[str, Any]] = {
    "ours": {"monitor": "none"},
    "study": {
        "monitor": "none",
        "network": "vm_unet_conv",
        "batch": 2,
        "lr": 3e-4,
        "warm_up": 0.0,
        "last_lr": 1.0,
        "ema": 0.0,
        "clip": 0.0,
        "deep_supervision": False,
        "augmentation": "none",
        "turns": "none",
    },
}
"""What of `TrainSettings` each recipe sets, before anything else is given."""

# What a run takes as it comes: it says who is compared, or where and how fast it is computed.
_OF_THE_PLAN = ("seed", "resume", "devices", "nodes", "strategy")


class SimulateSettings(ChoiceSettings):
    """What is tried out, and how it is measured; see `simulation`.

    Attributes
    ----------
    selectors
        Names in `selection.SELECTORS`.
    budgets
        Slices in all, or shares of those that may be chosen; 1.0 is the ceiling, the same for
        every selector and so trained once.
    seeds
        How many seeds, 0 to this less 1: of draws, first weights, batches and augmentation.
    rounds
        In how many equal parts a budget is spent. From the second on a selector knows what is
        labelled, and, where it reads scores, how uncertain the network of the round before is.
    networks
        Names in `training.networks.NETWORKS`; none takes that of ``train``.
    reference
        The selector that the others are set against.
    recipe
        ours: whole cases to test; study: the protocol of the older study, see `simulation.study`.
    train
        How every network learns, the same for all. What it says of network and seed is set by the
        plan; ``monitor`` is none, so that all take the same steps.
    epochs
        Of the recipe study, which then decides the steps.
    test_split
        Which cases are predicted and measured: test or val.
    folds
        Measure inside the pool instead: its cases are parted in so many, each part is predicted by
        networks that saw only the others. The test cases stay unseen.
    fold
        Only this one of the folds, from 0; all by default.
    uncertainty
        Share of the mass of `activeft` that follows the uncertainty from the second round on.
    unlabelled
        Value in label maps of what nobody labelled.
    absent_as_zero
        Dice 0 where a class is in neither truth nor prediction.
    tta
        Test-time augmentation: none, flips, full; auto is flips where the training flips.
    largest
        Keep only the largest connected component of each class in a predicted volume, as
        `PredictSettings.largest` does.
    plan_seed
        Of the folds, of the study's test slices, and of the bootstrap.
    keep
        Keep the networks, which are removed otherwise once they are measured.
    trust
        Take cells of earlier runs whatever code made them.
    out
        Folder to write; ``reports/simulation`` in the project by default.
    """

    selectors: tuple[Name, ...] = ("activeft", "random", "stratified_random", "kmeans")
    budgets: tuple[Budget, ...] = (Budget(share=0.05), Budget(share=0.2))
    seeds: int = Field(default=3, ge=1, le=1000)
    rounds: int = Field(default=1, ge=1, le=100)
    networks: tuple[Name, ...] = ()
    reference: Name = "activeft"
    recipe: Recipe = "ours"
    train: TrainSettings = TrainSettings(**RECIPES["ours"])
    epochs: int = Field(default=4, ge=1, le=10_000)
    test_split: Literal["test", "val"] = "test"
    folds: int | None = Field(default=None, ge=2, le=1000)
    fold: int | None = Field(default=None, ge=0)
    uncertainty: Share = UNCERTAINTY_WEIGHT
    unlabelled: FileValue | None = None
    absent_as_zero: bool = False
    tta: Augmentation = "auto"
    largest: bool = False
    plan_seed: int = Field(default=0, ge=0)
    keep: bool = False
    trust: bool = False
    out: Path | None = None

    @property
    def trained(self) -> tuple[str, ...]:
        """The networks that are trained, each once."""
        return tuple(dict.fromkeys(self.networks or (self.train.network,)))

    def absolute(self) -> Self:
        """Return the same with absolute paths, also of the file to start from."""
        return super().absolute().model_copy(update={"train": self.train.absolute()})

    @model_validator(mode="after")
    def _training_by_the_plan(self) -> SimulateSettings:
        usual = TrainSettings()
        odd = [name for name in _OF_THE_PLAN if getattr(self.train, name) != getattr(usual, name)]
        if odd:
            raise ValueError(
                f"{odd[0]}={getattr(self.train, odd[0])} was given to the training, which a "
                "simulation decides itself: leave it out, seeds are told by --seeds"
            )
        if self.train.monitor != "none":
            raise ValueError(
                f"monitor={self.train.monitor} was given, and networks are compared after equal "
                "steps: leave it out, and find the steps with --folds"
            )
        if self.train.start.startswith(RUN):
            raise ValueError(
                f"a start of {self.train.start} was given, and that run may have learnt from the "
                "cases that are tested: write random, auto or encoder:NAME"
            )
        return self

    @model_validator(mode="after")
    def _one_way_to_test(self) -> SimulateSettings:
        if self.fold is not None and (self.folds is None or self.fold >= self.folds):
            raise ValueError(
                f"fold {self.fold} of {self.folds or 'no'} folds was asked: give --folds N, and a "
                "--fold from 0 to N - 1"
            )
        if self.folds is not None and self.test_split != "test":
            raise ValueError(
                f"{self.folds} folds inside the pool were asked beside the split "
                f"{self.test_split}: give one of them"
            )
        if self.folds is not None and self.recipe == "study":
            raise ValueError(
                f"{self.folds} folds of cases were asked, and the recipe study tests on slices of "
                "the same patients: leave --folds out, or take --recipe ours"
            )
        return self
