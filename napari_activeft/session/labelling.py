"""A slice from the moment an annotator opens it to its answer: what a window only has to show."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

from napari_activeft.annotation_db import LeaseRecord, RevisionRecord, StoreError, VolumeRecord
from napari_activeft.errors import Problem, UserError
from napari_activeft.handing_out import first_readable
from napari_activeft.project import Project
from napari_activeft.session.drawing import Drawing
from napari_activeft.session.journal_writer import JournalWriter
from napari_activeft.session.review_list import Proposal
from napari_activeft.session.strokes import Stroke
from napari_activeft.session.task_clock import TaskClock
from napari_activeft.voxels import LabelMap

_LARGEST_BYTE: Final = 255


@dataclass
class Task:
    """One slice that is being labelled.

    Attributes
    ----------
    volume, position, slice_id
        Which slice.
    drawing
        Its mask, with undo.
    lease
        Of the query that asked for it; None where the annotator chose the slice.
    clock
        Time on task.
    recovered, lost
        Strokes that a session before left in the journal: put back, and those that could not be.
    """

    volume: VolumeRecord
    position: int
    slice_id: int
    drawing: Drawing = field(repr=False)
    lease: LeaseRecord | None
    clock: TaskClock = field(repr=False)
    recovered: int = 0
    lost: int = 0


@dataclass(frozen=True)
class Left:
    """A slice on which a session before left strokes that were not submitted."""

    slice_id: int
    volume: str
    position: int
    strokes: int


class Labelling:
    """One annotator at work on a project.

    Parameters
    ----------
    project
        Open.
    annotator
        Who draws.
    journal
        Takes the strokes; whoever made it closes it.
    minutes
        How long a lease lasts without a sign of life.
    now
        Seconds on a clock that never goes back, for time on task.
    """

    def __init__(
        self,
        project: Project,
        annotator: str,
        journal: JournalWriter,
        *,
        minutes: float = 30.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.project, self.annotator = project, annotator
        self._journal, self._minutes, self._now = journal, minutes, now
        self.problems: list[Problem] = []

    # Opening

    def next(self, *, another: bool = False) -> Task | None:
        """Open the next query whose image can be read; None if none is free.

        What could not be read is in ``problems`` until the next call.
        """
        lease, self.problems = first_readable(
            self.project, self.annotator, another=another, minutes=self._minutes
        )
        return None if lease is None else self._leased(lease)

    def query(self, query_id: int) -> Task:
        """Open one query in particular.

        Raises
        ------
        StoreError
            If somebody else has it, or it was answered.
        UserError
            If its image cannot be read; the query is free again then.
        """
        store = self.project.store
        lease = store.lease_query(query_id, self.annotator, minutes=self._minutes)
        try:
            self.project.cache.volume(lease.volume_id)
        except UserError:
            store.hand_back(lease.token)
            raise
        return self._leased(lease)

    def slice(self, volume_id: int, position: int) -> Task:
        """Open a slice that nobody was asked for, or correct its mask.

        Raises
        ------
        StoreError
            If there is no such slice.
        UserError
            If its image cannot be read, or somebody else is labelling it just now.
        """
        self.project.cache.volume(volume_id)
        slice_id = self.project.store.slice_id(volume_id, position)
        holder = self.project.store.holder(slice_id)
        if holder not in (None, self.annotator):
            raise UserError(
                f"{holder} is labelling slice {position} of this volume just now: leave it to "
                "them, or correct their mask once it is submitted"
            )
        base = self.project.store.standing_id(slice_id)
        return self._task(volume_id, position, slice_id, base, None)

    def proposal(self, proposal: Proposal) -> Task:
        """Open a mask that a run proposes, to be corrected.

        Raises
        ------
        UserError
            If its image cannot be read.
        CorruptMaskError
            If the proposal is damaged.
        """
        self.project.cache.volume(proposal.volume_id)
        return self._task(
            proposal.volume_id, proposal.position, proposal.slice_id, proposal.revision_id, None
        )

    def left(self) -> list[Left]:
        """Return the slices with strokes that were never submitted, by volume and position."""
        self._journal.flush()
        store = self.project.store
        strokes = store.slices_with_strokes(self.annotator)
        names = store.volume_names() if strokes else {}
        found = [
            Left(slice_id, names[volume_id], position, strokes[slice_id])
            for slice_id, (volume_id, position) in store.slice_places(strokes).items()
        ]
        return sorted(found, key=lambda one: (one.volume, one.position))

    # Drawing

    def draw(self, task: Task, mask: LabelMap) -> Stroke | None:
        """Take in the mask (h, w) of a slice as it is now; return the stroke, None if nothing."""
        return self._journalled(task, task.drawing.take(mask))

    def undo(self, task: Task) -> Stroke | None:
        """Take the last stroke back; return what changes, None if there is none."""
        return self._journalled(task, task.drawing.undo())

    def redo(self, task: Task) -> Stroke | None:
        """Do again what was taken back; return what changes, None if there is nothing."""
        return self._journalled(task, task.drawing.redo())

    def _journalled(self, task: Task, stroke: Stroke | None) -> Stroke | None:
        task.clock.touch()
        if stroke is not None:
            self._journal.put(task.slice_id, partial(stroke.pack, task.drawing.base))
        return stroke

    # Answering

    def submit(self, task: Task, *, on_top: bool = False) -> RevisionRecord:
        """Store the mask as it is now.

        Parameters
        ----------
        on_top
            As a correction of whatever the slice's mask is by now.

        Raises
        ------
        StaleSubmitError
            If the slice got another mask meanwhile; this one is kept aside.
        StoreError, UserError
            If it cannot be stored; every stroke is kept.
        """
        self._all_written()
        task.clock.touch()
        seconds, store = round(task.clock.seconds, 1), self.project.store
        mask, base = task.drawing.mask.copy(), task.drawing.base  # it is drawn on meanwhile
        if task.lease is None:
            return store.add_mask(
                task.slice_id,
                mask,
                self.annotator,
                started_from=base,
                seconds_spent=seconds,
                on_top=on_top,
            )
        return store.submit(
            task.lease.token, mask, seconds_spent=seconds, on_top=on_top, started_from=base
        )

    def skip(self, task: Task, reason: str) -> None:
        """Answer that the slice cannot or need not be labelled; its strokes are given up."""
        if task.lease is None:
            raise UserError(
                "this slice was not asked for, so there is nothing to skip: just leave it"
            )
        self._all_written()
        self.project.store.skip(task.lease.token, reason)
        self.project.store.discard_strokes(task.slice_id, self.annotator)

    def hand_back(self, task: Task) -> None:
        """Leave a query to somebody else; strokes stay in the journal and are offered again."""
        if task.lease is not None:
            self.project.store.hand_back(task.lease.token)

    def discard(self, slice_id: int) -> int:
        """Give up the unsubmitted strokes on a slice; return how many there were."""
        self._all_written()
        return self.project.store.discard_strokes(slice_id, self.annotator)

    def keep_alive(self, task: Task) -> str | None:
        """Renew the lease; return a sentence if that could not be done, work goes on then."""
        if task.lease is None:
            return None
        try:
            self.project.store.renew(task.lease.token, self._minutes)
        except StoreError as refusal:
            return f"{refusal} (nothing is lost: what you draw can still be submitted)"
        return None

    def _all_written(self) -> None:
        """See that the journal is on the disk: strokes written after an answer would come back."""
        self.project.store.see_in_place()
        if not self._journal.flush():
            why = self._journal.fault or "the disk is slow"
            raise UserError(
                f"{self._journal.unwritten} strokes are not on the disk yet ({why}): mend that and "
                "try again, they are kept while this window is open"
            )

    # What a task starts from

    def _leased(self, lease: LeaseRecord) -> Task:
        base = lease.parent_revision_id
        return self._task(lease.volume_id, lease.position, lease.slice_id, base, lease)

    def _task(
        self,
        volume_id: int,
        position: int,
        slice_id: int,
        base: int | None,
        lease: LeaseRecord | None,
    ) -> Task:
        self._journal.flush()  # a slice may be opened again right after a stroke on it
        store = self.project.store
        volume = store.volume(volume_id)
        left = store.slices_with_strokes(self.annotator).get(slice_id, 0)
        strokes, drawn_on = self._strokes(slice_id) if left else ([], base)
        # They may be of an older mask: shown as they were, and submit says what became of it.
        drawing = Drawing.replayed(self._first_mask(volume, drawn_on), drawn_on, strokes)
        clock, back = TaskClock(now=self._now), len(drawing)
        return Task(volume, position, slice_id, drawing, lease, clock, back, left - back)

    def _strokes(self, slice_id: int) -> tuple[list[Stroke], int | None]:
        """Return what the journal holds of a slice up to the first fault, and its first mask."""
        strokes: list[Stroke] = []
        drawn_on: int | None = None
        records = self.project.store.strokes(slice_id, self.annotator, until_damage=True)
        for record in records:
            try:
                stroke, base = Stroke.unpack(record.payload)
            except UserError:
                break
            if strokes and base != drawn_on:
                break
            strokes.append(stroke)
            drawn_on = base
        return strokes, drawn_on

    def _first_mask(self, volume: VolumeRecord, base: int | None) -> LabelMap:
        """Return the mask (h, w) to start from, in a type that holds every class."""
        values = [record.value for record in self.project.store.classes()]
        large = max(values, default=0) > _LARGEST_BYTE
        mask: LabelMap = np.zeros((volume.slice_height, volume.slice_width), np.uint8)
        if base is not None:
            mask = self.project.store.mask(base)
        return mask.astype(np.uint16) if large else mask
