"""What `export`, `info`, `doctor` and the verbs of `weights` hand back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_activeft.annotation_db import ClassRecord, Fault
from napari_activeft.errors import Problem
from napari_activeft.results.work import JobResult
from napari_activeft.weights import VerifiedWeights, WeightEntry


@dataclass(frozen=True)
class ExportResult:
    """An export that was written."""

    format: str
    folder: Path
    volumes: int
    slices: int
    files: int
    notes: list[str]


@dataclass(frozen=True)
class InfoResult:
    """What a project holds, and with what program.

    Attributes
    ----------
    contents
        Cases, volumes and slices by split; None outside of a project.
    queries
        By state.
    accepted
        Slices with an accepted mask.
    annotators
        Masks and time on task of everybody who submitted.
    embeddings
        Encoder, vector size, number of embedded slices and so on, the one used last first.
    problems
        Embeddings that cannot be used.
    runs
        Number, network, state, monitor, score, learnt slices and so on, the newest first.
    jobs
        Steps in the background, the newest first.
    program
        Versions, and which optional parts are installed.
    scans
        The selective scans by name, with what each serves or why it cannot run here.
    """

    folder: Path | None
    name: str | None
    contents: dict[str, int]
    classes: list[ClassRecord]
    rounds: list[dict[str, Any]]
    queries: dict[str, int]
    accepted: int
    annotators: list[dict[str, Any]]
    embeddings: list[dict[str, Any]]
    problems: list[Problem]
    runs: list[dict[str, Any]]
    jobs: list[JobResult]
    program: dict[str, str]
    scans: dict[str, str]


@dataclass(frozen=True)
class DoctorResult:
    """What was found wrong with a project; no fault is good health."""

    folder: Path
    masks: int
    images: int
    faults: list[Fault]
    mended: int
    backup: Path | None


@dataclass(frozen=True)
class WeightsResult:
    """The weights that an encoder can have, and which of them are here."""

    folder: Path
    weights: list[WeightEntry]


@dataclass(frozen=True)
class VerifyResult:
    """Weights that were read again."""

    weights: list[VerifiedWeights]
