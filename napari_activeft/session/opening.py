"""Opens a slice with all that a window shows of it, and reads the next ones ahead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_activeft.annotation_db import ClassRecord, QueryRecord
from napari_activeft.errors import Problem
from napari_activeft.prediction.entropy_files import entropy_file, read_entropy
from napari_activeft.session.displaying import Displayed, displayed
from napari_activeft.session.labelling import Left, Task
from napari_activeft.session.review_list import Proposal
from napari_activeft.session.sitting import Sitting
from napari_activeft.session.volume_work import VolumeWork
from napari_activeft.trained_runs import run_folder
from napari_activeft.voxels import LabelMap

_AHEAD = 2
_WAITING = ("open", "rejected")


@dataclass(frozen=True)
class Opened:
    """A slice that is to be labelled, in its volume.

    Attributes
    ----------
    work
        Takes the strokes.
    shown
        The volume as layers.
    masks
        (h, w) by position, of its other slices.
    classes
        As they are now.
    proposal
        That is corrected; None where the slice is labelled afresh.
    """

    work: VolumeWork
    shown: Displayed
    masks: Mapping[int, LabelMap] = field(repr=False)
    classes: Sequence[ClassRecord]
    proposal: Proposal | None = None

    @property
    def task(self) -> Task:
        """The slice."""
        return self.work.main


@dataclass(frozen=True)
class QueueRow:
    """A query as the queue lists it.

    Attributes
    ----------
    query, volume
        And the name of its volume.
    state
        In words, with who has it.
    """

    query: QueryRecord
    volume: str
    state: str


def open_next(
    sitting: Sitting, leaving: Opened | None = None
) -> tuple[Opened | None, Sequence[Problem]]:
    """Open the next free query, and tell which images could not be read.

    Parameters
    ----------
    leaving
        The slice that is open, for another one is wanted then; it stays with the annotator.
    """
    asked = leaving is not None and leaving.task.lease is not None
    task = sitting.labelling.next(another=asked)
    problems = sitting.labelling.problems
    return (None if task is None else _opened(sitting, task)), problems


def open_query(sitting: Sitting, query_id: int) -> Opened:
    """Open one query in particular."""
    return _opened(sitting, sitting.labelling.query(query_id))


def open_left(sitting: Sitting, left: Left) -> Opened:
    """Open a slice with strokes that were never submitted, under its query if that is free."""
    queries = [one for one in sitting.project.store.queries() if one.slice_id == left.slice_id]
    mine = [
        one
        for one in queries
        if one.state in _WAITING
        or (one.state == "leased" and one.annotator in (None, sitting.annotator))
    ]
    if mine:
        return open_query(sitting, mine[0].query_id)
    ((volume_id, position),) = sitting.project.store.slice_places([left.slice_id]).values()
    return open_slice(sitting, volume_id, position)


def open_slice(sitting: Sitting, volume_id: int, position: int) -> Opened:
    """Open a slice that nobody was asked for."""
    return _opened(sitting, sitting.labelling.slice(volume_id, position))


def open_proposal(sitting: Sitting, proposal: Proposal, listed: Sequence[Proposal]) -> Opened:
    """Open what a run proposes, beside what it proposes for the rest of the volume.

    Parameters
    ----------
    listed
        All proposals of the run.
    """
    store, labelling = sitting.project.store, sitting.labelling
    task = labelling.proposal(proposal)
    same = {one.position: one for one in listed if one.volume_id == proposal.volume_id}
    masks = {at: store.mask(one.revision_id) for at, one in same.items() if at != task.position}

    def other(position: int) -> Task:
        if position in same:
            return labelling.proposal(same[position])
        return labelling.slice(proposal.volume_id, position)

    others = dict.fromkeys(one.volume_id for one in listed if one.volume_id != proposal.volume_id)
    sitting.ahead.expect(list(others)[:_AHEAD])
    return _opened(sitting, task, masks, other, proposal)


def entropy_of(sitting: Sitting, run: int, opened: Opened) -> NDArray[np.uint8] | None:
    """Return how unsure a run is of every pixel of a volume; None where that was not kept."""
    path = entropy_file(run_folder(sitting.project, run), opened.task.volume.content_hash)
    return read_entropy(path)


def queue_rows(sitting: Sitting) -> list[QueueRow]:
    """Return the queue in the order in which it is handed out."""
    store = sitting.project.store
    names = store.volume_names()
    return [
        QueueRow(one, names[one.volume_id], _state(one, sitting.annotator))
        for one in store.queries()
    ]


def _state(query: QueryRecord, annotator: str) -> str:
    if query.state == "leased":
        return "mine" if query.annotator == annotator else f"with {query.annotator}"
    return "waiting" if query.state == "open" else query.state


def _opened(
    sitting: Sitting,
    task: Task,
    masks: Mapping[int, LabelMap] | None = None,
    other: Callable[[int], Task] | None = None,
    proposal: Proposal | None = None,
) -> Opened:
    store = sitting.project.store
    volume = sitting.project.cache.volume(task.volume.volume_id)
    if masks is None:
        masks = store.accepted_masks(task.volume.volume_id)
        sitting.ahead.expect(store.waiting_volumes(task.volume.volume_id, _AHEAD))
    work = VolumeWork(sitting.labelling, task, masks, other)
    return Opened(work, displayed(task.volume, volume), masks, store.classes(), proposal)
