"""What `select`, `next`, `submit` and `import-labels` hand back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from napari_activeft.errors import Problem


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
