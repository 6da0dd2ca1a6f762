"""How slices are chosen: select, compare."""

from __future__ import annotations

import math
import re
from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from napari_activeft.errors import UserError
from napari_activeft.settings.base import MapBy, Name, RunNumber, Settings, Share

UNCERTAINTY_WEIGHT = 0.3
"""Share of the mass that follows a run's uncertainty, where a run is named and no share is set."""
_READ_SCORES = ("activeft", "entropy", "bald")


class Budget(Settings):
    """How many slices a round adds.

    Attributes
    ----------
    share
        Of all pool slices, above 0 to 1; None where a count is given.
    count
        Slices, at least 1; None where a share is given.
    """

    share: float | None = Field(default=None, gt=0.0, le=1.0)
    count: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_of_both(self) -> Budget:
        if (self.share is None) == (self.count is None):
            raise ValueError(
                f"a share of {self.share} and a count of {self.count} were given: give one of them"
            )
        return self

    @classmethod
    def parse(cls, text: str | float | Budget) -> Budget:
        """Read ``"0.05"`` or ``"5%"`` as a share and ``"32"`` as a count.

        The point decides: ``"1"`` is one slice, ``"1.0"`` is all of them.

        Raises
        ------
        UserError
            If it is none of these, or out of range.
        """
        if isinstance(text, Budget):
            return text
        written = str(text).strip()
        try:
            if re.fullmatch(r"\+?\d+", written):
                return cls(count=int(written))
            if re.fullmatch(r"\+?(\d+\.?\d*|\.\d+)\s*%", written):
                return cls(share=float(written.rstrip("% ")) / 100)
            if re.fullmatch(r"\+?(\d*\.\d+|\d+\.)(e-?\d+)?|\d+e-\d+", written):
                return cls(share=float(written))
        except ValidationError:
            pass
        raise UserError(
            f"a budget of {written!r} was given: write a share such as 0.05 or 5% (above 0, at "
            "most 1.0 or 100%), or a count of slices such as 32"
        )

    def slices(self, pool: int, free: int) -> int:
        """Return the number of slices, a share being rounded to the nearest.

        Parameters
        ----------
        pool, free
            Slices in the pool, and those of them that were not queried yet.

        Raises
        ------
        UserError
            If it rounds to zero or exceeds the free slices.
        """
        wanted = self.count or math.floor((self.share or 0.0) * pool + 0.5)
        share = f"{100 * (self.share or 0.0):.4g}% of {pool} pool slices"
        if wanted == 0:
            raise UserError(
                f"a budget of {share} rounds to no slice: raise the budget, or write 1 for one "
                "slice"
            )
        if wanted > free:
            asked = f"{wanted} slices" if self.count else f"{wanted} slices ({share})"
            raise UserError(
                f"a budget of {asked} was given, but only {free} slices of the pool were not "
                "queried yet: lower the budget or add volumes"
            )
        return wanted


class ActiveFTSettings(Settings):
    """How the selector `activeft` weighs things; defaults by ``benchmarks/activeft_tuning.py``.

    Attributes
    ----------
    lam
        Weight of the diversity term ``-log mean |theta_i - theta_j|``, over all pairs of labelled
        slices and picks, beside the transport cost; 0 leaves it out.
    epsilon
        Weight of the entropy at the end of the annealing, as a share of the median cost.
    rho
        How firmly each free centre stands for an equal share of the pool, as a multiple of the
        median cost: infinite is the earth mover's distance, towards 0 centres stand for what is
        nearest. It shapes the centres alone, where the picks begin; the exchanges that follow
        go by `nearest`.
    nearest
        Share of the objective that is the mean distance to the nearest pick instead of transport:
        0 gives equal shares alone, 1 is k-medoids.
    reweight
        0 gives each slice the same mass, 1 each volume; between them a compromise.
    uncertainty
        Share of the mass that follows the scores, where scores are given.
    cost_weight
        What a pick of mean cost adds to the objective, where costs are given.
    cover_cases
        Reach at least as many cases as a stratified draw of the same size would.
    neighbours
        Picks that are improved together.
    tries
        Exchanges tried in vain before neighbours count as improved.
    walks
        Walks over all picks at most; 0 leaves the slices as they were assigned.
    starts
        Begin so many times and keep the best, where pool times picks is small.
    """

    lam: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    epsilon: float = Field(default=0.05, ge=0.0001, le=0.3)
    rho: float = Field(default=math.inf, gt=0.0, allow_inf_nan=True)
    nearest: Share = 0.5
    reweight: Share = 0.0
    uncertainty: Share = 0.0
    cost_weight: float = Field(default=0.1, ge=0.0, allow_inf_nan=False)
    cover_cases: bool = True
    neighbours: int = Field(default=12, ge=2, le=64)
    tries: int = Field(default=40, ge=0, le=1000)
    walks: int = Field(default=12, ge=0, le=1000)
    starts: int = Field(default=3, ge=1, le=100)


class ChoiceSettings(Settings):
    """How a selector chooses, whichever it is: what `select` and `compare` share.

    Attributes
    ----------
    encoder
        Whose vectors the selector sees; what None means is for the verb to say.
    device
        auto, cpu, cuda, cuda:1 or mps.
    per_case, per_volume
        Most slices of one case and of one volume, labelled ones included; no limit by default.
    gap
        Least distance of two chosen slices of one volume; 1 lets neighbours stand together.
    emptiness
        How much less an empty slice counts than a full one: 0 the same, 1 nothing at all.
    activeft
        Of the selector `activeft`.
    """

    encoder: Name | None = None
    device: Name = "auto"
    per_case: int | None = Field(default=None, ge=1)
    per_volume: int | None = Field(default=None, ge=1)
    gap: int = Field(default=1, ge=1)
    emptiness: float = Field(default=0.5, ge=0.0, lt=1.0)
    activeft: ActiveFTSettings = ActiveFTSettings()


class SelectSettings(ChoiceSettings):
    """How the next round is chosen; see `selection.select`.

    Attributes
    ----------
    budget
        Slices to add.
    selector
        A name in `selection.SELECTORS`.
    seed
        Of the draws.
    encoder
        The one that made vectors last by default.
    map_by
        How the page lays out its map of the pool: pca, or umap where umap-learn is installed.
    uncertainty
        Number of the run whose predictions say how uncertain each slice is: scores for activeft,
        entropy and bald; none by default.
    """

    budget: Budget = Budget(share=0.05)
    selector: str = "activeft"
    seed: int = Field(default=0, ge=0)
    map_by: MapBy = "pca"
    uncertainty: RunNumber | None = None

    @property
    def weighed(self) -> SelectSettings:
        """The same; where a run is named and activeft would not look at it, with a weight."""
        unread = self.selector == "activeft" and self.activeft.uncertainty == 0
        if self.uncertainty is None or not unread:
            return self
        weight = {"uncertainty": UNCERTAINTY_WEIGHT}
        return self.model_copy(update={"activeft": self.activeft.model_copy(update=weight)})

    @model_validator(mode="after")
    def _settings_that_act(self) -> SelectSettings:
        usual = ActiveFTSettings()
        if self.selector != "activeft" and self.activeft != usual:
            raise ValueError(
                f"settings of activeft were given for the selector {self.selector}, which does "
                "not read them: leave them out, or choose activeft"
            )
        if self.activeft.cost_weight != usual.cost_weight:
            raise ValueError(
                "cost_weight was given, but a project's rounds have no costs: leave it out, or "
                "call selection.select from Python with them"
            )
        return self

    @model_validator(mode="after")
    def _uncertainty_that_acts(self) -> SelectSettings:
        if self.activeft.uncertainty > 0 and self.uncertainty is None:
            raise ValueError(
                f"a weight of {self.activeft.uncertainty} was given for uncertainty, but no run to "
                "take it from: name one with --uncertainty RUN"
            )
        if self.uncertainty is not None and self.selector not in _READ_SCORES:
            raise ValueError(
                f"the uncertainty of run {self.uncertainty} was given for the selector "
                f"{self.selector}, which does not read it: leave it out, or choose one of "
                f"{', '.join(_READ_SCORES)}"
            )
        return self


class CompareSettings(ChoiceSettings):
    """How selectors are set against each other; see `comparison.compare`.

    Attributes
    ----------
    selectors
        Names in `selection.SELECTORS`.
    budgets
        Of each run.
    seeds
        How many seeds, 0 to this less 1.
    files
        ``.npy`` files of vectors; the project's own by default.
    outside
        A ``.npy`` file of slices whose cases are not in the pool, by the encoder of the one file.
    reference
        The selector that the others are set against.
    draws
        Random draws behind rW1.
    out
        Folder to write; ``reports/comparison`` in the project by default.
    encoder
        The only one whose vectors are used; every one of the project by default.
    """

    selectors: tuple[Name, ...] = (
        "activeft",
        "maxherding",
        "kmeans",
        "kcenter",
        "stratified_random",
        "random",
    )
    budgets: tuple[Budget, ...] = (Budget(share=0.01), Budget(share=0.05), Budget(share=0.2))
    seeds: int = Field(default=5, ge=1, le=1000)
    files: tuple[Path, ...] = ()
    outside: Path | None = None
    reference: Name = "activeft"
    draws: int = Field(default=50, ge=2, le=10_000)
    out: Path | None = None

    @property
    def choice(self) -> SelectSettings:
        """How each selector chooses."""
        shared = {name: getattr(self, name) for name in ChoiceSettings.model_fields}
        return SelectSettings(**shared)

    @model_validator(mode="after")
    def _files_have_no_encoder(self) -> CompareSettings:
        if self.encoder is not None and self.files:
            raise ValueError(
                f"the encoder {self.encoder} was given beside {len(self.files)} files: leave one "
                "of both out"
            )
        return self

    @model_validator(mode="after")
    def _one_pool_for_outside(self) -> CompareSettings:
        if self.outside is not None and len(self.files) != 1:
            raise ValueError(
                f"--outside was given beside {len(self.files)} files: it belongs to exactly one"
            )
        return self
