"""Strokes of a session before that were never submitted: offered to go on with, or to give up."""

from __future__ import annotations

from qtpy.QtWidgets import QWidget

from napari_activeft.session.labelling import Left
from napari_activeft.session.opening import open_left
from napari_activeft.widgets.controls import Notice, button, row, sentence
from napari_activeft.widgets.session_state import SessionState
from napari_activeft.widgets.task_control import TaskControl
from napari_activeft.wording import counted

_SHOWN = 4


class RecoveryBox(Notice):
    """Lists what can be recovered; hidden where there is nothing."""

    def __init__(self, state: SessionState, task: TaskControl) -> None:
        super().__init__()
        self._state, self._task = state, task
        self._offers: list[QWidget] = []
        self.found: list[Left] = []
        state.project_changed.connect(lambda: self._fill([]))
        task.closed.connect(self.look)  # also when a project is opened
        task.opened.connect(lambda _: self.look())

    def look(self) -> None:
        """Look what there is, but for the slice that is open; nobody waits for the answer."""
        self._state.read(lambda sitting: sitting.labelling.left(), self._see)

    def _see(self, found: list[Left]) -> None:
        current = self._task.current
        at = None if current is None else current.task.slice_id
        self._fill([one for one in found if one.slice_id != at])

    def _fill(self, found: list[Left]) -> None:
        self.found = found
        for offer in self._offers:
            offer.hide()
            offer.deleteLater()
        self._offers = [self._offer(one) for one in found[:_SHOWN]]
        for offer in self._offers:
            self.add(offer)
        slices = counted(len(found), "slice")
        self.say(f"Strokes on {slices} were never submitted. They are kept:" if found else "")

    def _offer(self, one: Left) -> QWidget:
        made = QWidget()
        where = sentence(f"{one.volume}, slice {one.position}: {counted(one.strokes, 'stroke')}")
        row(
            where,
            button("Open", "Go on where it was left", lambda: self.open(one)),
            button("Discard", "Give these strokes up", lambda: self.discard(one)),
            parent=made,
        )
        return made

    def open(self, one: Left) -> None:
        """Go on with a slice."""
        self._fill([other for other in self.found if other != one])
        self._task.open(lambda sitting: open_left(sitting, one))

    def discard(self, one: Left) -> None:
        """Give the strokes on a slice up."""
        self._state.change(
            lambda sitting: sitting.labelling.discard(one.slice_id), lambda _: self.look()
        )
