"""The slice that is being labelled: what it is, the classes, and every way to answer."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QCheckBox, QInputDialog, QLabel, QWidget

from napari_activeft.widgets.class_bar import ClassBar
from napari_activeft.widgets.controls import Notice, button, column, row, sentence
from napari_activeft.widgets.session_state import SessionState
from napari_activeft.widgets.task_control import Follow, TaskControl

_REASONS = ("image is broken", "cannot be told apart", "not of this study")


class TaskBox(QWidget):
    """Shows the open slice and answers it.

    Parameters
    ----------
    following
        What opens the next slice.
    """

    def __init__(
        self, state: SessionState, task: TaskControl, following: Callable[[], Follow]
    ) -> None:
        super().__init__()
        self._state, self._task, self._following = state, task, following
        self.what, self.time = sentence(), QLabel("")
        self.notice = Notice()
        self.bar = ClassBar()
        self.bar.chosen.connect(task.desk.choose)
        self.then_next = QCheckBox("then the next")
        self.then_next.setToolTip("Open the next slice as soon as this one is answered")
        self.then_next.setChecked(bool(state.preferences.get("then_next", True)))
        self.then_next.toggled.connect(lambda on: state.preferences.put("then_next", on))
        self.others = QCheckBox("Label other slices too")
        self.others.setToolTip(
            "Strokes on slices that were not asked for count, and are submitted with it (Alt+O)"
        )
        self.others.toggled.connect(task.set_others)
        self._make_buttons()
        column(
            row(self.what, self.time),
            self.notice,
            self.bar,
            row(self.undo, self.redo, self.back_there),
            row(self.submit_button, self.then_next),
            row(self.empty, self.skip_button, self.hand_back),
            self.others,
            parent=self,
            margin=0,
        )
        task.changed.connect(self._show)
        task.opened.connect(self._on_opened)
        task.ticked.connect(self._show_time)
        task.noticed.connect(self.notice.say)
        self._show()

    def _make_buttons(self) -> None:
        task = self._task
        self.submit_button = button(
            "Submit", "Store this mask; the slice is done (Alt+S)", self.submit, strong=True
        )
        self.empty = button("Empty slice", "The slice shows no class at all (Alt+E)", task.empty)
        self.skip_button = button("Skip…", "It cannot be labelled; say why (Alt+K)", self.ask_skip)
        self.hand_back = button(
            "Hand back", "Leave it to somebody else; your strokes are kept (Alt+B)", task.hand_back
        )
        self.undo = button("Undo", "Take the last stroke back (Ctrl+Z)", task.desk.undo)
        self.redo = button("Redo", "Do it again (Ctrl+Shift+Z)", task.desk.redo)
        self.back_there = button(
            "To the slice", "Go to the slice that was asked for (Alt+G)", task.go_back
        )

    def submit(self) -> None:
        """Store the mask, and open the next slice if that is wished."""
        self._task.submit(self._after())

    def ask_skip(self) -> None:
        """Ask why the slice is skipped, and skip it."""
        if not self.skip_button.isEnabled():
            return
        reason, go = QInputDialog.getItem(
            self, "Skip this slice", "Why can it not be labelled?", _REASONS, 0, True
        )
        if go and reason.strip():
            self.skip(reason.strip())

    def skip(self, reason: str) -> None:
        """Skip the slice, and open the next one if that is wished."""
        self._task.skip(reason, self._after())

    def _after(self) -> Follow | None:
        return self._following() if self.then_next.isChecked() else None

    def _on_opened(self, _: object) -> None:
        desk = self._task.desk
        self.bar.fill(desk.classes)
        if desk.labels is not None:
            self.bar.mark(int(desk.labels.selected_label))
        self._show_time()

    def _show(self) -> None:
        task, current = self._task, self._task.current
        free = current is not None and not task.busy
        for one in (self.submit_button, self.empty, self.hand_back, self.bar):
            one.setEnabled(free)
        self.skip_button.setEnabled(free and current is not None and current.task.lease is not None)
        self.undo.setEnabled(free and current is not None and current.work.can_undo)
        self.redo.setEnabled(free and current is not None and current.work.can_redo)
        self.others.setEnabled(self._state.project is not None)
        if self.others.isChecked() != task.others:
            self.others.setChecked(task.others)
        self.bar.fill(task.desk.classes if current is not None else self.bar.classes)
        there = current is not None and task.desk.position == current.task.position
        self.back_there.setEnabled(current is not None and not there)
        self.what.setText(self._in_words(there))
        if current is None:
            self.time.setText("")

    def _in_words(self, there: bool) -> str:
        current, at = self._task.current, self._task.desk.position
        if current is None:
            opened = self._state.project is not None
            return "No slice is open: press Next." if opened else "Open a project first."
        task = current.task
        told = f"Slice {task.position} of {task.volume.name}"
        if not there:
            where = "another plane" if at is None else f"slice {at}"
            told += f": you are looking at {where}"
        elif task.drawing.changed_pixels:
            told += f": {task.drawing.changed_pixels:,} pixels changed"
        comment = task.lease.review_comment if task.lease is not None else None
        return told + (f"\nRejected before: {comment}" if comment else "")

    def _show_time(self) -> None:
        current = self._task.current
        if current is not None:
            seconds = int(current.task.clock.seconds)
            self.time.setText(f"{seconds // 60}:{seconds % 60:02d}")
