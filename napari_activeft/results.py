"""What each verb hands back, to the command line and the viewer alike."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from napari_activeft.annotation_db import ClassRecord, Fault
from napari_activeft.errors import Problem
from napari_activeft.weights import VerifiedWeights, WeightEntry


@dataclass(frozen=True)
class InitResult:
    """A project that was made."""

    folder: Path
    name: str
    plane: str


@dataclass(frozen=True)
class AddResult:
    """What became of the files of a folder.

    Attributes
    ----------
    added, known, moved
        Volumes that are new, that were there already, and that were found again at another place.
    slices
        Of the new volumes.
    cases
        Of the new volumes, by split.
    case_rule
        How cases were told apart, in words.
    largest_case, largest_case_volumes
        The case with the most new volumes, and how many these are: a wrong rule shows here first.
    label_maps
        New or known volumes that have a label map now.
    other_files
        Files that are neither image nor label map.
    problems
        Files that were passed over, and why.
    """

    added: int
    known: int
    moved: int
    slices: int
    cases: dict[str, int]
    case_rule: str
    largest_case: str | None
    largest_case_volumes: int
    label_maps: int
    other_files: int
    problems: list[Problem]


@dataclass(frozen=True)
class ClassesResult:
    """The class table as it is now."""

    classes: list[ClassRecord]


@dataclass(frozen=True)
class EmbedResult:
    """The vectors of the pool.

    Attributes
    ----------
    folder
        Where they lie, and what the encoder's name and weights were.
    size
        Numbers in a vector.
    pool_slices, embedded, computed
        Slices in the pool, those that have a vector now, and those that got it just now.
    seconds
        Spent just now.
    scan
        Which selective scan computed; None where none did.
    out
        The file the vectors were also written to.
    """

    encoder: str
    weight_hash: str
    random_weights: bool
    folder: Path
    size: int
    pool_slices: int
    embedded: int
    computed: int
    seconds: float
    device: str | None
    precision: str | None
    scan: str | None
    out: Path | None
    problems: list[Problem]


@dataclass(frozen=True)
class SelectResult:
    """A round that was queued.

    Attributes
    ----------
    round
        Its number.
    selected
        Slices queued by it.
    pool_slices, free_slices
        Slices in the pool, and those of them that were not queried before.
    volumes, cases
        How many of each the round touches.
    encoder, random_weights
        Whose vectors the selector saw, and whether that network was never trained.
    rw1
        Exact W1 between the pool and all slices asked so far, over that of random draws; below 1
        is better than random.
    rw1_beside
        W1 between the pool and all slices asked so far, over that of random draws of this round's
        size beside the slices asked before; None in a first round.
    against_fresh
        W1 between the pool and all slices asked so far, over that of a fresh selection of as many;
        None where none was made.
    notes
        What else there is to know: stages of the solver that fell short, the comparison with a
        fresh selection or why there is none, and baselines that could not choose.
    page
        The report.
    """

    round: int
    selector: str
    seed: int
    selected: int
    pool_slices: int
    free_slices: int
    volumes: int
    cases: int
    encoder: str | None
    random_weights: bool
    rw1: float | None
    rw1_beside: float | None
    against_fresh: float | None
    notes: tuple[str, ...]
    page: Path


@dataclass(frozen=True)
class NextResult:
    """A query that was handed out, or None where the queue is empty.

    Attributes
    ----------
    waiting
        Queries that are still free.
    problems
        Images that could not be read; their queries went back into the queue.
    """

    query: int | None
    volume: str | None
    position: int | None
    ticket: Path | None
    image: Path | None
    expires_at: datetime | None
    waiting: int
    problems: list[Problem]


@dataclass(frozen=True)
class SubmitResult:
    """A query that was answered.

    Attributes
    ----------
    answer
        mask, empty, skipped or handed back.
    revision
        Under which the mask is stored.
    pixels
        Per class name; background is left out.
    waiting
        Queries that are still free.
    """

    query: int
    answer: str
    revision: int | None
    pixels: dict[str, int]
    waiting: int


@dataclass(frozen=True)
class ImportResult:
    """Masks taken from label maps.

    Attributes
    ----------
    label_maps
        Label maps read.
    stored
        Slices that got a mask.
    kept
        Slices that had an accepted mask already.
    leased
        Slices somebody is labelling just now.
    without_label_map
        Volumes that have no label map.
    """

    label_maps: int
    stored: int
    kept: int
    leased: int
    without_label_map: int
    problems: list[Problem]


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


def to_json(result: object) -> str:
    """Return a result as JSON; paths and times become strings."""
    if not dataclasses.is_dataclass(result) or isinstance(result, type):
        raise TypeError(f"{type(result).__name__} is no result")
    # Letters escaped: a pipe may know fewer of them than a name holds.
    return json.dumps(dataclasses.asdict(result), indent=2, default=_text)


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
