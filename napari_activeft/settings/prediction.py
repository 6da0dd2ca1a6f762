"""How trained networks are applied to whole volumes: predict."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from napari_activeft.settings.base import Name, Precision, RunNumber, Scan, Settings

Split = Literal["pool", "val", "test"]
Augmentation = Literal["auto", "none", "flips", "full"]


class PredictSettings(Settings):
    """What is predicted, by which networks, and what becomes of it.

    Attributes
    ----------
    runs
        Numbers of runs whose networks predict together; the newest that is done by default. What
        they say is kept under the first.
    which
        best or last weights of each run.
    splits
        Of the volumes to predict; pool by default, or whatever the named volumes belong to.
    volumes
        Names of volumes, in which ``*`` stands for anything; all of the splits by default.
    tta
        Test-time augmentation: none, flips (4 times the work), or full (8 times: quarter turns);
        auto is flips where every network saw flipped slices in training, else none.
    overlap
        Share that neighbouring windows have in common, where a slice needs windows.
    whole_up_to
        How many times the sides of a training crop a slice may be to go in whole; larger ones are
        covered by windows of the crop's size.
    batch
        Slices at once; halved where the memory does not suffice.
    device, precision
        auto, cpu, cuda, cuda:1 or mps; auto, float32 or bfloat16.
    threads
        Of the CPU; 0 leaves it to torch.
    scan
        Which selective scan computes.
    largest
        Keep only the largest connected component of each class in a volume.
    smallest_mm3
        Drop connected components of a class below this volume; 0 drops none.
    nifti
        Folder for label maps in the geometry of the images; none are written by default.
    entropy
        Keep how sure the networks are of every pixel, one byte each before packing, for the viewer.
    probabilities
        Also write the probability of each class, which takes memory for a whole volume.
    """

    runs: tuple[RunNumber, ...] = ()
    which: Literal["best", "last"] = "best"
    splits: tuple[Split, ...] = ()
    volumes: tuple[Name, ...] = ()
    tta: Augmentation = "auto"
    overlap: float = Field(default=0.5, ge=0.0, le=0.9)
    whole_up_to: float = Field(default=1.25, ge=1.0, le=1000.0)
    batch: int = Field(default=8, ge=1, le=4096)
    device: Name = "auto"
    precision: Precision = "auto"
    threads: int = Field(default=0, ge=0, le=1024)
    scan: Scan = "auto"
    largest: bool = False
    smallest_mm3: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    nifti: Path | None = None
    entropy: bool = False
    probabilities: bool = False

    @model_validator(mode="after")
    def _each_run_once(self) -> PredictSettings:
        if len(set(self.runs)) < len(self.runs):
            raise ValueError(f"the runs {self.runs} were given: name each of them once")
        return self

    @model_validator(mode="after")
    def _probabilities_have_a_place(self) -> PredictSettings:
        if self.probabilities and self.nifti is None:
            raise ValueError(
                "probabilities were asked for without a folder to write them into: give one with "
                "--nifti"
            )
        return self
