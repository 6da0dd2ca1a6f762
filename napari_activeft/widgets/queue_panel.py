"""The fourth panel: the slices that wait, and the one that is being labelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qtpy.QtGui import QIcon
from qtpy.QtWidgets import QWidget

from napari_activeft.errors import Problem
from napari_activeft.session.opening import (
    Opened,
    QueueRow,
    open_next,
    open_query,
    open_slice,
    queue_rows,
)
from napari_activeft.thumbnails import SIDE
from napari_activeft.widgets import keys, notices
from napari_activeft.widgets.controls import Notice, button, choice, column, heading, row, sentence
from napari_activeft.widgets.pictures import Pictures
from napari_activeft.widgets.recovery_box import RecoveryBox
from napari_activeft.widgets.session_state import SessionState
from napari_activeft.widgets.tables import Column, Table
from napari_activeft.widgets.task_box import TaskBox
from napari_activeft.widgets.task_control import Follow, TaskControl

_ICON = SIDE * 2 // 3
_WAITING, _DONE = ("waiting", "rejected"), ("submitted", "approved")
_FILTERS: tuple[tuple[str, Callable[[QueueRow], bool]], ...] = (
    ("all slices", lambda _: True),
    ("waiting", lambda one: one.state in _WAITING),
    ("mine", lambda one: one.state == "mine"),
    ("with others", lambda one: one.state.startswith("with ")),
    ("submitted", lambda one: one.state == "submitted"),
    ("approved", lambda one: one.state == "approved"),
    ("rejected", lambda one: one.state == "rejected"),
    ("skipped", lambda one: one.state == "skipped"),
)


class QueuePanel(QWidget):
    """Opens slices, and lists what waits."""

    def __init__(self, state: SessionState, task: TaskControl, pictures: Pictures) -> None:
        super().__init__()
        self._state, self._task, self._pictures = state, task, pictures
        self.box = TaskBox(state, task, self.following)
        self.recovery = RecoveryBox(state, task)
        self.faults = Notice()
        self.next_button = button("Next", "Open the next slice (Alt+N)", self.next, strong=True)
        help_button = button("?", "Show all keys (F1)", lambda: keys.show_help(self))
        help_button.setMaximumWidth(32)
        self.box.bar.after = help_button
        self.filter = choice("Which slices are listed", [(name, name, "") for name, _ in _FILTERS])
        self.filter.currentIndexChanged.connect(lambda at: self.table.filter(_FILTERS[at][1]))
        self.counts = sentence()
        self.table: Table[QueueRow] = Table(
            self._columns(), lambda one: one.query.query_id, icon=_ICON
        )
        self.table.opened.connect(self.open)
        column(
            self.faults,
            self.recovery,
            row(self.next_button, help_button),
            self.box,
            heading("Queue"),
            self.filter,
            self.counts,
            self.table,
            parent=self,
        )
        state.project_changed.connect(self._on_project)
        state.content_changed.connect(self._show)
        state.fault_changed.connect(lambda fault: self.faults.say(fault or ""))
        task.changed.connect(lambda: self.next_button.setEnabled(not task.busy))
        pictures.made.connect(self._picture_came)
        pictures.look_at = self.look_at
        self._on_project()

    def _columns(self) -> list[Column[QueueRow]]:
        def rank(one: QueueRow) -> str:
            return f"{one.query.round_number}.{one.query.rank}"

        def icon(one: QueueRow) -> QIcon | None:
            return self._pictures.icon_of(one.query.volume_id, one.query.position)

        return [
            Column("", lambda _: "", icon=icon, width=_ICON + 8, key=_rank),
            Column("Volume", lambda one: one.volume, width=0, tip="Click twice to open the slice"),
            Column("Slice", lambda one: str(one.query.position), key=lambda one: one.query.position,
                   width=44, number=True),
            Column("Rank", rank, key=_rank, width=44, number=True, tip="Round, and place in it"),
            Column("State", lambda one: one.state, width=80),
        ]  # fmt: skip

    def _on_project(self) -> None:
        self.setEnabled(self._state.project is not None)
        self.faults.say("")
        self.table.fill([])
        self.counts.setText("")
        self._show()

    def _show(self) -> None:
        self._state.read(queue_rows, self._fill)

    def _fill(self, rows: list[QueueRow]) -> None:
        self.table.fill(rows)
        waiting = sum(one.state in _WAITING for one in rows)
        done = sum(one.state in _DONE for one in rows)
        self.counts.setText(
            f"{waiting} waiting, {done} done" if rows else "Nothing was selected yet: go to Select."
        )

    def _picture_came(self, place: tuple[int, int], _: object) -> None:
        self.table.of.touch(lambda one: (one.query.volume_id, one.query.position) == place)

    # Opening

    def next(self) -> None:
        """Open the next free slice; one that is open stays with the annotator."""
        if not self.next_button.isEnabled():  # its key does not ask
            return
        self.next_button.setEnabled(False)
        leaving = self._task.current
        self._state.change(
            lambda sitting: open_next(sitting, leaving), self._got_next, self._not_opened
        )

    def following(self) -> Follow:
        """Return what opens the next free slice after an answer."""

        def drop(got: tuple[Opened | None, Sequence[Problem]]) -> None:
            if got[0] is not None:
                self._task.pass_by(got[0])

        return Follow(open_next, self._got_next, self._not_opened, drop)

    def _got_next(self, got: tuple[Opened | None, Sequence[Problem]]) -> None:
        self.next_button.setEnabled(True)
        found, problems = got
        for problem in problems:
            notices.warn(f"{problem.path} was passed over: {problem.sentence}")
        if found is not None:
            self._task.show(found)
            return
        if self._task.current is None:
            self._task.desk.leave()
        self.box.notice.say(
            "Nothing waits: every slice of the queue is done, or with you or somebody else. Select "
            "more, or train on what is there."
        )

    def _not_opened(self, error: Exception) -> None:
        self.next_button.setEnabled(True)
        if self._task.current is None:
            self._task.desk.leave()
        notices.error(str(error))

    def open(self, one: QueueRow) -> None:
        """Open a slice of the list: under its query, or to correct the mask that it has."""
        query = one.query
        if query.state in _DONE:
            self.look_at(query.volume_id, query.position)
        else:
            self._task.open(lambda sitting: open_query(sitting, query.query_id))

    def look_at(self, volume_id: int, position: int) -> None:
        """Open a slice that was not asked for."""
        self._task.open(lambda sitting: open_slice(sitting, volume_id, position))


def _rank(one: QueueRow) -> tuple[int, int]:
    return one.query.round_number, one.query.rank
