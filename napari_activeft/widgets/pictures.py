"""Thumbnails as Qt shows them, and whoever wants a slice opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from qtpy.QtCore import QObject, Signal
from qtpy.QtGui import QIcon, QPixmap

from napari_activeft.thumbnails import Place, Thumbnails
from napari_activeft.widgets.session_state import SessionState

_MOST_HELD: Final = 4000


class Pictures(QObject):
    """Gives thumbnails at once where they are there, and tells of them when they come."""

    made = Signal(object, object)  # place, QPixmap
    _came = Signal(object, object, object)

    def __init__(self, state: SessionState) -> None:
        super().__init__(state)
        self._state = state
        self._thumbnails: Thumbnails | None = None
        self._held: dict[Place, QPixmap | None] = {}
        self.look_at: Callable[[int, int], object] = lambda volume_id, position: None
        self._came.connect(self._take)
        state.project_changed.connect(self._start)

    def of(self, volume_id: int, position: int) -> QPixmap | None:
        """Return a thumbnail; None where it is not there yet, or cannot be."""
        place = (volume_id, position)
        if place in self._held:
            return self._held[place]
        if self._thumbnails is not None:
            self._held[place] = None  # asked for once
            self._thumbnails.ask([place])
        return None

    def icon_of(self, volume_id: int, position: int) -> QIcon | None:
        """Return a thumbnail for a cell of a table."""
        picture = self.of(volume_id, position)
        return None if picture is None else QIcon(picture)

    def close(self) -> None:
        """End the thread."""
        if self._thumbnails is not None:
            self._thumbnails.close()
            self._thumbnails = None

    def _start(self) -> None:
        self.close()
        self._held.clear()
        project = self._state.project
        if project is not None:
            self._thumbnails = Thumbnails(
                project, lambda place, path: self._came.emit(project, place, path)
            )

    def _take(self, project: object, place: Place, path: Path | None) -> None:
        if path is None or project is not self._state.project:  # ids of another project
            return
        picture = QPixmap(str(path))
        if len(self._held) >= _MOST_HELD:
            self._held.clear()
        self._held[place] = picture
        self.made.emit(place, picture)
