"""What the store takes and gives: plain frozen records, no session, no table object."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any


def fields_of(source: object, record: type, *but: str) -> dict[str, Any]:
    """Return the attributes of a row or record that have the names of a record's fields.

    Parameters
    ----------
    but
        Fields of the record that the source does not have, or has under another name.
    """
    return {f.name: getattr(source, f.name) for f in fields(record) if f.name not in but}


@dataclass(frozen=True)
class ProjectRecord:
    """The project itself; ``settings`` holds what was decided when it was made."""

    uid: str
    name: str
    settings: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True)
class ClassRecord:
    """A class: its value in masks (1 to 65534), its name, its colour ``#rrggbb``."""

    value: int
    name: str
    colour: str


@dataclass(frozen=True)
class RootRecord:
    """A folder of images: its absolute path, and the same path seen from the project."""

    root_id: int
    path: str
    from_project: str | None


@dataclass(frozen=True)
class NewVolume:
    """A volume on its way into the store.

    Attributes
    ----------
    case, split
        The examination, and where it goes if this is its first volume.
    root_id, files, series, label_file
        Where it lies: paths relative to the root, ``/`` between folders.
    content_hash, byte_count
        SHA-256 and size of the image files.
    geometry, channels, intensity_range
        As `napari_activeft.geometry.Geometry.to_json` writes it; (low, high) per channel.
    axis, slice_height, slice_width
        The array axis (0 is z) along which it is sliced, and the shape of a slice in pixels.
    emptiness
        One value per slice, 0 (full) to 1 (empty); its length is the number of slices.
    """

    case: str
    split: str
    root_id: int
    name: str
    files: list[str]
    series: str | None
    label_file: str | None
    content_hash: str
    byte_count: int
    geometry: dict[str, Any]
    channels: int
    intensity_range: list[list[float]]
    axis: int
    slice_height: int
    slice_width: int
    emptiness: list[float] = field(repr=False)


@dataclass(frozen=True)
class VolumeRecord:
    """A stored volume; fields as in `NewVolume`."""

    volume_id: int
    case: str
    split: str
    root_id: int
    name: str
    files: list[str]
    series: str | None
    label_file: str | None
    content_hash: str
    byte_count: int
    geometry: dict[str, Any] = field(repr=False)
    channels: int
    intensity_range: list[list[float]]
    axis: int
    slice_count: int
    slice_height: int
    slice_width: int


@dataclass(frozen=True)
class SliceRow:
    """One slice of the pool as selection sees it; ``key`` names it in every copy of the project."""

    slice_id: int
    key: str
    volume_id: int
    case: str
    position: int
    emptiness: float


@dataclass(frozen=True)
class NewRound:
    """A selection on its way into the store; ``slice_ids`` are in rank order."""

    selector: str
    budget: int
    seed: int
    settings: dict[str, Any]
    pool_checksum: str
    report: dict[str, Any]
    slice_ids: list[int] = field(repr=False)
    encoder: str | None = None
    weight_hash: str | None = None


@dataclass(frozen=True)
class RoundRecord:
    """A stored selection; fields as in `NewRound`, ``number`` counts from 1."""

    round_id: int
    number: int
    selector: str
    budget: int
    seed: int
    settings: dict[str, Any]
    encoder: str | None
    weight_hash: str | None
    pool_checksum: str
    report: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True)
class QueryRecord:
    """One slice asked of the annotators, and how far it has come."""

    query_id: int
    round_number: int
    rank: int
    state: str
    slice_id: int
    volume_id: int
    position: int
    annotator: str | None
    skip_reason: str | None


@dataclass(frozen=True)
class LeaseRecord:
    """A query that belongs to one annotator until it expires.

    Attributes
    ----------
    token
        Proof of the lease, needed to submit, skip, hand back or renew.
    parent_revision_id
        The slice's mask when the lease was taken, None if there was none.
    review_comment
        What a reviewer wrote when the parent was rejected.
    """

    token: str
    query_id: int
    round_number: int
    rank: int
    slice_id: int
    volume_id: int
    position: int
    annotator: str
    expires_at: datetime
    parent_revision_id: int | None
    review_comment: str | None


@dataclass(frozen=True)
class RevisionRecord:
    """One mask of a slice without its pixels."""

    revision_id: int
    slice_id: int
    parent_id: int | None
    run_id: int | None
    author: str
    source: str
    conflict: bool
    seconds_spent: float | None
    height: int
    width: int
    dtype: str
    checksum: str
    created_at: datetime


@dataclass(frozen=True)
class AcceptedRecord:
    """The mask that counts for one slice."""

    slice_id: int
    volume_id: int
    position: int
    revision_id: int


@dataclass(frozen=True)
class RunRecord:
    """One fine-tuning.

    Attributes
    ----------
    round_number
        The round whose masks it learnt from, None if it was none.
    state
        running, done, failed or cancelled.
    metrics
        What came out of it.
    checkpoint
        Where its weights lie, relative to the project.
    """

    run_id: int
    round_number: int | None
    name: str
    settings: dict[str, Any]
    state: str
    metrics: dict[str, Any]
    checkpoint: str | None
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True)
class ProposalRecord:
    """A mask that a run proposes for one slice.

    Attributes
    ----------
    verdict
        approve or reject, None while nobody looked at it.
    query_state
        Of the slice's query, None if it was never asked.
    standing_id
        The slice's newest mask that a person made, imported or accepted.
    standing_rejected
        Whether that one was rejected, so that the slice has no accepted mask.
    """

    revision_id: int
    slice_id: int
    volume_id: int
    position: int
    verdict: str | None
    query_state: str | None
    standing_id: int | None
    standing_rejected: bool


@dataclass(frozen=True)
class StandingRecord:
    """The mask that stands for one slice, accepted or rejected.

    Attributes
    ----------
    source
        drawn, corrected, imported or model.
    verdict, reviewer
        Of its newest review, None if it has none.
    query_id
        Of the slice's query, None if it was never asked.
    leased
        Whether somebody is labelling the slice just now.
    """

    revision_id: int
    slice_id: int
    volume_id: int
    position: int
    author: str
    source: str
    verdict: str | None
    reviewer: str | None
    query_id: int | None
    leased: bool


@dataclass(frozen=True)
class JobRecord:
    """One step that runs, or ran, in processes of its own.

    Attributes
    ----------
    settings
        Of the step, as JSON holds them.
    state
        queued, running, done, failed or cancelled.
    done, total
        How far it is; a total of 0 is not known yet.
    host, pid, process_started
        The process that keeps watch over it, see `ProcessMark`.
    worker_pid
        The process that computes.
    threads
        How many it may compute with, None for as many as there are cores.
    log_file
        Relative to the project.
    reason
        Why it did not finish.
    cancel_asked_at
        When it was asked to stop.
    """

    job_id: int
    verb: str
    settings: dict[str, Any]
    state: str
    done: int
    total: int
    host: str | None
    pid: int | None
    process_started: float | None
    worker_pid: int | None
    threads: int | None
    log_file: str | None
    reason: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    cancel_asked_at: datetime | None


@dataclass(frozen=True)
class StrokeRecord:
    """One stroke of the journal; ``payload`` is whatever the session wrote."""

    stroke_id: int
    slice_id: int
    annotator: str
    created_at: datetime
    payload: bytes = field(repr=False)


@dataclass(frozen=True)
class Fault:
    """Something the database check found.

    Attributes
    ----------
    subject
        What is concerned, for example ``"revision 7"``.
    sentence
        What is wrong and how to mend it.
    """

    subject: str
    sentence: str
