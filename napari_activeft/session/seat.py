"""One session at a time for each annotator of a project: two would draw into one journal."""

from __future__ import annotations

import hashlib
from typing import Final, Self

from filelock import FileLock, Timeout

from napari_activeft.errors import UserError
from napari_activeft.project import Project

_FOLDER: Final = "sessions"


class Seat:
    """An annotator's place at a project, held until it is given up or the process ends.

    Parameters
    ----------
    project
        Open.
    annotator
        Whose place.

    Raises
    ------
    UserError
        If another program has it, or the project cannot be written.
    """

    def __init__(self, project: Project, annotator: str) -> None:
        name = hashlib.sha256(annotator.encode()).hexdigest()[:16]
        path = project.folder / _FOLDER / f"{name}.lock"
        try:
            path.parent.mkdir(exist_ok=True)
            # Taken in one thread, given up in another.
            self._lock = FileLock(path, timeout=0, thread_local=False)
            self._lock.acquire()
        except Timeout:
            raise UserError(
                f"{annotator} has this project open in another window: close that one, or give "
                "another name of annotator here"
            ) from None
        except OSError as refusal:
            raise UserError(
                f"{project.folder} cannot be written ({refusal.strerror}): make it writable, or "
                "copy the project; what is in it can be exported as it is"
            ) from refusal

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_up()

    def give_up(self) -> None:
        """Let somebody else take the place."""
        self._lock.release()
