"""An annotator at an open project, with all that works in the background for him."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from napari_activeft.errors import UserError
from napari_activeft.project import Project
from napari_activeft.session.ahead import ReadAhead
from napari_activeft.session.journal_writer import JournalWriter, OnFault
from napari_activeft.session.labelling import Labelling
from napari_activeft.session.seat import Seat
from napari_activeft.session.tally import Tallies


class Sitting:
    """What is open while somebody works on a project.

    Parameters
    ----------
    folder
        Of the project.
    annotator
        Who works.
    on_fault
        Told why strokes cannot be written, see `OnFault`.
    minutes
        How long a lease lasts without a sign of life.
    draws
        Whether slices are labelled, which one window at a time may do under a name.

    Attributes
    ----------
    project, labelling, journal, ahead, tallies
        What the parts of the session work with.

    Raises
    ------
    UserError, StoreError
        If it is no project, cannot be read, or the annotator has it open elsewhere.
    """

    def __init__(
        self,
        folder: Path,
        annotator: str,
        *,
        on_fault: OnFault = lambda _: None,
        minutes: float = 30.0,
        draws: bool = True,
    ) -> None:
        name = annotator.strip()
        if not name:
            raise UserError(
                "no name of an annotator was given: write one, masks are stored under it"
            )
        self.annotator = name
        self.project = Project.open(folder)
        try:
            self._seat = Seat(self.project, name) if draws else None
        except BaseException:
            self.project.close()
            raise
        self.journal = JournalWriter(self.project.store.path, name, on_fault)
        self.labelling = Labelling(self.project, name, self.journal, minutes=minutes)
        self.ahead = ReadAhead(self.project.cache)
        self.tallies = Tallies(self.project)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> bool:
        """End the work; False if strokes could not be written, which are lost then."""
        self.ahead.close()
        written = self.journal.close()
        if self._seat is not None:
            self._seat.give_up()
        self.project.close()
        return written
