"""One volume on the desk: the slice that was asked for, and others that are labelled beside it.

The whole volume is in view for context, so strokes can land on any slice. Those on another slice
than the one asked for are held back unless the annotator says that they are meant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from napari_activeft.annotation_db import RevisionRecord
from napari_activeft.session.labelling import Labelling, Task
from napari_activeft.session.strokes import Stroke
from napari_activeft.voxels import LabelMap


@dataclass(frozen=True)
class Shown:
    """What the viewer is to show on a slice.

    Attributes
    ----------
    position
        Of the slice.
    mask
        (h, w).
    notice
        Why, for the annotator; empty where they see it themselves.
    """

    position: int
    mask: LabelMap
    notice: str = ""


class VolumeWork:
    """The slices of one volume that are being labelled, with one undo for all of them.

    Parameters
    ----------
    labelling
        Of the annotator.
    task
        The slice that was asked for.
    masks
        Masks (h, w) of the volume by position, shown on its other slices.
    open_other
        Opens another slice by its position; by default to correct its accepted mask.

    Attributes
    ----------
    main
        The slice that was asked for.
    others
        Whether strokes on other slices are meant.
    answering
        Position of the slice that was submitted last, or could not be.
    """

    def __init__(
        self,
        labelling: Labelling,
        task: Task,
        masks: Mapping[int, LabelMap],
        open_other: Callable[[int], Task] | None = None,
    ) -> None:
        self.main, self.others, self.answering = task, False, task.position
        self._open_other = open_other or partial(labelling.slice, task.volume.volume_id)
        self._labelling, self._masks = labelling, masks
        self._tasks = {task.position: task}
        self._done: list[int] = [task.position] * task.drawing.strokes
        self._undone: list[int] = []

    @property
    def changed(self) -> list[int]:
        """Positions whose mask differs from the one that is stored, rising."""
        return sorted(at for at, task in self._tasks.items() if task.drawing.changed_pixels)

    @property
    def can_undo(self) -> bool:
        """Whether there is a stroke to take back."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether a stroke that was taken back can be done again."""
        return bool(self._undone)

    def mask(self, position: int) -> LabelMap:
        """Return the mask (h, w) that belongs on a slice: as drawn, or as accepted, or empty."""
        task = self._tasks.get(position)
        if task is not None:
            return task.drawing.mask
        kept = self._masks.get(position)
        return np.zeros_like(self.main.drawing.mask) if kept is None else kept

    def edited(self, position: int, mask: LabelMap) -> Shown | None:
        """Take in what somebody drew on a slice.

        Returns
        -------
        shown
            What belongs there instead, where the stroke is held back; None where it was taken.

        Raises
        ------
        UserError, StoreError
            If another slice cannot be opened; what belongs there is then ``mask(position)``.
        """
        if position not in self._tasks and not self.others:
            asked = self.main.position
            return Shown(
                position,
                self.mask(position),
                f"slice {position} was not asked for, slice {asked} was: the stroke was taken "
                "back, switch on 'label this slice too' if it is meant",
            )
        task = self._tasks.get(position)
        if task is None:
            task = self._open_other(position)
            self._tasks[position] = task
        if self._labelling.draw(task, mask) is not None:
            self._done.append(position)
            self._undone.clear()
        return None

    def undo(self) -> Shown | None:
        """Take back the last stroke on whichever slice; None without any."""
        return self._moved(self._done, self._undone, self._labelling.undo)

    def redo(self) -> Shown | None:
        """Do again what was last taken back; None if there is nothing."""
        return self._moved(self._undone, self._done, self._labelling.redo)

    def _moved(
        self, source: list[int], target: list[int], act: Callable[[Task], Stroke | None]
    ) -> Shown | None:
        """Let the last stroke of one list be the last of the other."""
        if not source:
            return None
        position = source.pop()
        act(self._tasks[position])
        target.append(position)
        return Shown(position, self.mask(position))

    def empty(self) -> Shown:
        """Take every class from the slice that was asked for: it shows none of them."""
        at = self.main.position
        self.edited(at, np.zeros_like(self.main.drawing.mask))
        return Shown(at, self.mask(at))

    def submit(self, *, on_top: int | None = None) -> list[RevisionRecord]:
        """Store the masks of all slices that were drawn on, the one asked for last.

        Parameters
        ----------
        on_top
            Position of a slice whose mask is stored though it got another one meanwhile.

        Raises
        ------
        StaleSubmitError, StoreError, UserError
            See `Labelling.submit`; it is about the slice ``answering``, those before stay stored.
        """
        others = [at for at in self.changed if at != self.main.position]
        made = []
        for at in others:
            self.answering = at
            made.append(self._labelling.submit(self._tasks[at], on_top=at == on_top))
            self._close(at)
        self.answering = self.main.position
        made.append(self._labelling.submit(self.main, on_top=on_top == self.main.position))
        return made

    def give_up(self, position: int) -> int:
        """Let the strokes of a slice count no longer; return its id."""
        slice_id = self._tasks[position].slice_id
        if position != self.main.position:
            self._forget(position)
        return slice_id

    def _close(self, position: int) -> None:
        """Let a slice be one of the context again: its mask is stored."""
        self._masks = {**self._masks, position: self._tasks[position].drawing.mask}
        self._forget(position)

    def _forget(self, position: int) -> None:
        del self._tasks[position]
        self._done = [at for at in self._done if at != position]
        self._undone = [at for at in self._undone if at != position]
