"""How slices are labelled and handed on: next, submit, import-labels, export, doctor."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from napari_activeft.settings.base import ExportFormat, FileValue, Name, Settings


class NextSettings(Settings):
    """How a query is handed out.

    Attributes
    ----------
    annotator
        Who will label it.
    out
        Folder for the picture and the ticket.
    another
        Lease one more instead of the one already held.
    minutes
        Until the lease expires.
    """

    annotator: Name
    out: Path
    another: bool = False
    minutes: float = Field(default=30.0, gt=0.0, le=7 * 24 * 60)


class SubmitSettings(Settings):
    """How a query is answered: exactly one of mask, empty, skip and hand_back.

    Attributes
    ----------
    ticket
        The file that `next` wrote.
    mask
        Image of class ids in the size of the slice.
    empty
        There is nothing of any class in the slice.
    skip
        Why the slice is not to be labelled.
    hand_back
        Somebody else shall do it.
    on_top
        Store the mask even though the slice got another one meanwhile.
    seconds
        Time on task, pauses excluded.
    unlabelled
        Value of the pixels of the mask that were not labelled; they are neither a class nor
        background.
    """

    ticket: Path
    mask: Path | None = None
    empty: bool = False
    skip: Name | None = None
    hand_back: bool = False
    on_top: bool = False
    seconds: float | None = Field(default=None, ge=0.0)
    unlabelled: FileValue | None = None

    @model_validator(mode="after")
    def _one_answer(self) -> SubmitSettings:
        given = (self.mask is not None, self.empty, self.skip is not None, self.hand_back)
        if sum(given) != 1:
            raise ValueError(
                f"{sum(given)} answers were given: give exactly one of a mask, --empty, --skip "
                "and --hand-back"
            )
        return self


class ImportSettings(Settings):
    """How existing label maps become masks.

    Attributes
    ----------
    only_queried
        Only for slices that were selected, as an annotator would label them.
    author
        Whose masks they are.
    unlabelled
        Value of the voxels of the label maps that were not labelled; they are neither a class nor
        background.
    """

    only_queried: bool = False
    author: Name = "import"
    unlabelled: FileValue | None = None


class ExportSettings(Settings):
    """How accepted masks are handed to other tools.

    Attributes
    ----------
    format
        nifti, nnunet, coco or bids.
    out
        Folder to write; ``exports/FORMAT`` in the project by default.
    overwrite
        Replace an earlier export in that folder.
    """

    format: ExportFormat = "nifti"
    out: Path | None = None
    overwrite: bool = False


class DoctorSettings(Settings):
    """How a project is examined.

    Attributes
    ----------
    quick
        Compare sizes of image files instead of their content.
    mend
        Put queries that nobody holds back into the queue.
    backup
        Also copy the database into the project's ``backups`` folder.
    """

    quick: bool = False
    mend: bool = False
    backup: bool = False
