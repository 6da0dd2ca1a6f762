"""How predictions are set beside the truth: evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from napari_activeft.settings.base import FileValue, Name, RunNumber, Settings
from napari_activeft.settings.prediction import Augmentation, Split

TruthSource = Literal["masks", "labels"]


class EvaluateSettings(Settings):
    """Whose predictions are measured, on which volumes, and against what.

    Attributes
    ----------
    run
        Number of the run; the newest that is done by default.
    predictions
        Folder of label maps to measure instead, named as `predict --nifti` names them.
    split
        Of the volumes: test, val or pool.
    truth
        masks, the accepted masks of people; or labels, the label maps that `add` found.
    unlabelled
        Value of the voxels of the label maps that were not labelled; they do not count.
    absent_as_zero
        Give a class that is in neither truth nor prediction a Dice of 0, as older studies do,
        instead of leaving it out.
    seed
        Of the bootstrap.
    out
        Folder to write; ``reports/evaluation-run-001`` and so on in the project by default.
    tta, device, threads
        Of volumes that the run did not predict yet, see `PredictSettings`.
    """

    run: RunNumber | None = None
    predictions: Path | None = None
    split: Split = "test"
    truth: TruthSource = "masks"
    unlabelled: FileValue | None = None
    absent_as_zero: bool = False
    seed: int = Field(default=0, ge=0)
    out: Path | None = None
    tta: Augmentation = "auto"
    device: Name = "auto"
    threads: int = Field(default=0, ge=0, le=1024)

    @model_validator(mode="after")
    def _one_source(self) -> EvaluateSettings:
        if self.run is not None and self.predictions is not None:
            raise ValueError(
                f"run {self.run} and the folder {self.predictions} were given: measure one of them "
                "at a time"
            )
        return self

    @model_validator(mode="after")
    def _unlabelled_is_of_label_maps(self) -> EvaluateSettings:
        if self.unlabelled is not None and self.truth != "labels":
            raise ValueError(
                f"an unlabelled value of {self.unlabelled} was given, and accepted masks know what "
                "is unlabelled: leave it out, or measure against the label maps with --truth labels"
            )
        return self
