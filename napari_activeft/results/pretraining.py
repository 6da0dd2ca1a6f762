"""What `pretrain` hands back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_activeft.embedding.quality import Quality
from napari_activeft.errors import Problem


@dataclass(frozen=True)
class PretrainResult:
    """An encoder that was adapted to the pool.

    Attributes
    ----------
    name
        By which `embed` and `train` know it in this project.
    folder
        Of its files.
    network, objective
        What it is, and what it learnt by.
    weight_hash
        SHA-256 of what it learnt.
    slices, cases
        It learnt from.
    steps, seconds
        That were taken.
    before, after
        What its vectors were worth on the slices, at the start and in the end.
    notes
        What the log says, sentences.
    page
        The report.
    problems
        Volumes that could not be read.
    """

    name: str
    folder: Path
    network: str
    objective: str
    weight_hash: str
    slices: int
    cases: int
    steps: int
    seconds: float
    before: Quality
    after: Quality
    notes: tuple[str, ...]
    page: Path
    problems: tuple[Problem, ...]
