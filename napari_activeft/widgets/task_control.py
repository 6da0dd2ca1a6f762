"""The slice that is open: shown on the desk, kept alive, answered; shared by the panels."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from qtpy.QtCore import QObject, Qt, QTimer, Signal
from qtpy.QtWidgets import QApplication, QMessageBox, QWidget

from napari_activeft.annotation_db import StaleSubmitError
from napari_activeft.session.labelling import Task
from napari_activeft.session.opening import Opened
from napari_activeft.session.sitting import Sitting
from napari_activeft.session.volume_work import VolumeWork
from napari_activeft.widgets import notices
from napari_activeft.widgets.background import EXPECTED
from napari_activeft.widgets.desk import Desk
from napari_activeft.widgets.session_state import PATIENCE, SessionState
from napari_activeft.wording import counted

_SECOND_MS, _LEASE_MS = 1000, 60_000


@dataclass(frozen=True)
class Follow:
    """What is read in the same breath as an answer, so that the window is drawn once for both.

    Attributes
    ----------
    act
        Gets the sitting, in the thread.
    then
        Gets what that gave, in the window's thread; the desk still shows the slice before.
    failed
        Gets an error that a user can mend instead.
    drop
        Gets what it gave where another slice was opened meanwhile, which stays.
    """

    act: Callable[[Sitting], Any]
    then: Callable[[Any], object]
    failed: Callable[[Exception], object]
    drop: Callable[[Any], object] = lambda _: None

    def read(self, sitting: Sitting) -> tuple[Any, Exception | None]:
        """Return what the act gave, or why it gave nothing."""
        try:
            return self.act(sitting), None
        except EXPECTED as refusal:
            return None, refusal

    def go_on(self, read: tuple[Any, Exception | None], *, left: bool = True) -> None:
        """Take what was read; ``left`` says whether the slice that was answered made room."""
        got, refusal = read
        if refusal is not None:
            self.failed(refusal)
        elif left:
            self.then(got)
        else:
            self.drop(got)


class TaskControl(QObject):
    """One slice at a time, from the moment it is opened to its answer.

    Attributes
    ----------
    current
        What is open; None without.
    others
        Whether strokes on other slices of the volume count.
    """

    opened = Signal(object)  # Opened
    changed = Signal()  # what can be done with it, or what of it is seen
    ticked = Signal()  # a second passed
    noticed = Signal(str)  # a sentence about it, empty to take the last one away
    closed = Signal()

    def __init__(self, state: SessionState, desk: Desk, parent: QWidget) -> None:
        super().__init__(parent)
        self._state, self.desk, self._window = state, desk, parent
        self.current: Opened | None = None
        self.others = state.options.label_others
        self.busy = False
        self._passed: list[Task] = []  # leased, left untouched by Next
        desk.stroked.connect(self.changed)
        desk.moved.connect(self.changed)
        desk.held_back.connect(lambda why: self.noticed.emit(why[:1].upper() + why[1:] + "."))
        state.leaving.connect(self._on_leaving)
        state.project_changed.connect(self._on_project)
        state.content_changed.connect(self._on_content)
        self._second = _timer(self, _SECOND_MS, self.ticked.emit)
        self._heart = _timer(self, _LEASE_MS, self._keep_alive)
        application = QApplication.instance()
        if isinstance(application, QApplication):
            application.applicationStateChanged.connect(self._on_focus)

    # Opening

    def open(
        self,
        act: Callable[[Any], Opened],
        failed: Callable[[Exception], object] | None = None,
    ) -> None:
        """Open a slice in the background and show it.

        Parameters
        ----------
        act
            Gets the sitting.
        """
        self._state.change(act, self.show, failed)

    def show(self, found: Opened) -> None:
        """Put a slice that was opened on the desk; the one before stays with the annotator."""
        now = self.current
        if now is not None and _are_the_same(now, found):
            now.task.lease = found.task.lease or now.task.lease  # strokes since are in this one
            self.go_back()
            self.changed.emit()
            return
        if now is not None and now.task.lease is not None and not now.work.can_undo:
            self._passed.append(now.task)
        self.current = found
        found.work.others = self.others
        self.desk.show(
            found.work,
            found.shown,
            dict(found.masks),
            found.classes,
            opacity=self._state.options.opacity,
            called="labels" if found.proposal is None else "prediction",
        )
        self.noticed.emit(_on_recovery(found.task.recovered, found.task.lost))
        self._second.start()
        self._heart.start()
        self.opened.emit(found)
        self.changed.emit()

    def set_others(self, on: bool) -> None:
        """Let strokes on other slices count, or no longer."""
        self.others = on
        if self.current is not None:
            self.current.work.others = on
        self.changed.emit()

    def go_back(self) -> None:
        """Show the slice that was asked for."""
        if self.current is not None:
            self.desk.go_to(self.current.task.position)

    # Answering

    def submit(self, follow: Follow | None = None, *, on_top: int | None = None) -> None:
        """Store the mask of the slice, and of others that were drawn on.

        Parameters
        ----------
        on_top
            Position of a slice whose mask shall count though another came between.
        """
        answered = self.current

        def refused(error: Exception) -> None:
            if isinstance(error, StaleSubmitError):
                self._offer_on_top(error, follow, answered)
            else:
                notices.error(str(error))

        self.answer(lambda work: work.submit(on_top=on_top), follow, _tell_of_masks, refused)

    def empty(self) -> None:
        """Clear the slice: it shows no class."""
        if self.current is not None and not self.busy:
            self.desk.empty()
            self.noticed.emit("The slice is empty now: submit it, or take that back by Undo.")

    def skip(self, reason: str, follow: Follow | None = None) -> None:
        """Skip the slice for a reason; its strokes are given up."""
        sitting, current = self._state.sitting, self.current
        if sitting is not None and current is not None:
            self.answer(lambda _: sitting.labelling.skip(current.task, reason), follow)

    def hand_back(self) -> None:
        """Leave the slice to somebody else; its strokes are offered again when it is opened."""
        sitting, current = self._state.sitting, self.current
        if sitting is not None and current is not None:
            self.answer(lambda _: sitting.labelling.hand_back(current.task))

    def answer(
        self,
        act: Callable[[VolumeWork], Any],
        follow: Follow | None = None,
        told: Callable[[Any], object] | None = None,
        failed: Callable[[Exception], object] | None = None,
    ) -> None:
        """Answer in the background and leave the slice; nothing can be drawn meanwhile.

        Parameters
        ----------
        act
            The answer.
        follow
            What takes the place of the slice; None leaves the desk empty.
        told
            Gets what the answer gave.
        failed
            Gets an error of it that a user can mend; the slice stays open then.
        """
        current = self.current
        if current is None:
            notices.warn("no slice is open: press Next, or open one from a list")
        if current is None or self.busy:
            return
        self.desk.look()
        self._allow(False)
        passed = self._passed_but(current)

        def both(sitting: Sitting) -> tuple[Any, Any]:
            got = act(current.work)
            _hand_back(passed, sitting)
            return got, None if follow is None else follow.read(sitting)

        def done(pair: tuple[Any, Any]) -> None:
            got, read = pair
            self.busy = False
            if told is not None:
                told(got)
            if self.current is current:
                self._leave(None if follow is None else partial(follow.go_on, read))
                return
            self.desk.allow(True)
            self.changed.emit()
            if follow is not None:
                follow.go_on(read, left=False)

        def refused(error: Exception) -> None:
            self._passed += passed
            self._allow(True)
            (failed or (lambda fault: notices.error(str(fault))))(error)

        self._state.change(both, done, refused)

    def _allow(self, on: bool) -> None:
        self.busy = not on
        self.desk.allow(on)
        self.changed.emit()

    def _offer_on_top(
        self, error: StaleSubmitError, follow: Follow | None, answered: Opened | None
    ) -> None:
        """Ask which of two masks counts; both are kept."""
        if answered is None:
            return
        work, at = answered.work, answered.work.answering
        said = str(error).partition(", so your mask")[0]
        mine = self.current is answered and self.ask_on_top(
            f"Slice {at}: {said}. Both masks are kept."
        )
        if self.current is not answered:  # opened meanwhile, perhaps behind the question
            notices.warn(f"{said}: open slice {at} again to say which mask counts, both are kept")
            return
        if mine:
            self.submit(follow, on_top=at)
            return
        slice_id, sitting = work.give_up(at), self._state.sitting
        if sitting is None:
            return
        if at == work.main.position:
            self.answer(lambda _: sitting.labelling.discard(slice_id), follow)
        else:
            self._state.change(
                lambda _: sitting.labelling.discard(slice_id), lambda _: self.submit(follow)
            )

    def ask_on_top(self, said: str) -> bool:
        """Ask whether the annotator's own mask shall count."""
        box = QMessageBox(self._window)
        box.setIcon(QMessageBox.Icon.Question)
        box.setWindowTitle("The slice has another mask by now")
        box.setText(f"{said}\n\nWhich one shall count?")
        mine = box.addButton("Mine, on top", QMessageBox.ButtonRole.AcceptRole)
        box.addButton("The other one", QMessageBox.ButtonRole.RejectRole)
        box.exec()
        return box.clickedButton() is mine

    def close(self) -> None:
        """Leave the slice, which stays with the annotator, and hand back those only looked at."""
        if self.current is not None:
            self._state.change(partial(_hand_back, self._passed_but(self.current)))
        self._leave(None)

    def _leave(self, then: Callable[[], object] | None) -> None:
        """Leave the slice; what comes next may take its place on the desk at once."""
        self.current = None
        self._second.stop()
        self._heart.stop()
        if then is None:
            self.desk.leave()
        else:
            self.desk.rest()
        self.noticed.emit("")
        self.closed.emit()
        if then is not None:
            then()
        self.changed.emit()

    def pass_by(self, found: Opened) -> None:
        """Take a slice that was opened and will not be shown: it goes back with the next answer."""
        if found.task.lease is not None:
            self._passed.append(found.task)

    def _passed_but(self, current: Opened) -> list[Task]:
        """Return what was leased and only looked at, and forget it."""
        passed, self._passed = self._passed, []
        at = current.task.slice_id
        return [one for one in passed if one.slice_id != at and not one.drawing.can_undo]

    # What goes on meanwhile

    def _on_leaving(self) -> None:
        """Let everything go while the project is still open."""
        self.desk.leave()
        self._give_back([self.current.task] if self.current is not None else [])
        self.current = None

    def _give_back(self, tasks: list[Task]) -> None:
        """Hand slices back, for two seconds at most: a lease ends by itself."""
        sitting, tasks = self._state.sitting, [*tasks, *self._passed]
        self._passed = []
        if sitting is None or not tasks:
            return

        worker = threading.Thread(
            target=_hand_back, args=(tasks, sitting), name="handing back", daemon=True
        )
        worker.start()
        worker.join(PATIENCE)

    def _on_project(self) -> None:
        self.current, self.busy = None, False
        self._second.stop()
        self._heart.stop()
        self.desk.leave()
        self.others = self._state.options.label_others
        self.noticed.emit("")
        self.closed.emit()
        self.changed.emit()

    def _on_content(self) -> None:
        if self.current is not None:
            self._state.read(lambda sitting: sitting.project.store.classes(), self._see_classes)

    def _see_classes(self, classes: Any) -> None:  # noqa: ANN401
        if self.current is None or list(classes) == list(self.desk.classes):
            return
        self.desk.recolour(classes)
        self.noticed.emit("The class table was changed; your strokes stay as they are.")
        self.changed.emit()

    def _keep_alive(self) -> None:
        current = self.current
        if current is not None:
            self._state.change(
                lambda sitting: sitting.labelling.keep_alive(current.task),
                lambda said: self.noticed.emit(said) if said else None,
            )

    def _on_focus(self, state: Qt.ApplicationState) -> None:
        """Count no time while the program is in the background."""
        if self.current is None:
            return
        clock = self.current.task.clock
        if state == Qt.ApplicationState.ApplicationActive:
            clock.touch()
        else:
            clock.stop()

    def end(self) -> None:
        """Let the slice go for good: the window closes. Strokes are in the journal."""
        self._second.stop()
        self._heart.stop()
        application = QApplication.instance()
        if isinstance(application, QApplication):
            application.applicationStateChanged.disconnect(self._on_focus)
        self._on_leaving()


def _are_the_same(now: Opened, found: Opened) -> bool:
    """Tell whether a slice is open already, in the same way."""
    neither = now.proposal is None and found.proposal is None
    return neither and now.task.slice_id == found.task.slice_id


def _hand_back(tasks: Sequence[Task], sitting: Sitting) -> None:
    """Let others have slices; where that cannot be done their leases have ended."""
    for task in tasks:
        with contextlib.suppress(*EXPECTED):
            sitting.labelling.hand_back(task)


def _tell_of_masks(revisions: Sequence[object]) -> None:
    if len(revisions) > 1:
        notices.tell(f"{counted(len(revisions), 'mask')} stored")


def _timer(parent: QObject, every: int, act: Callable[[], object]) -> QTimer:
    made = QTimer(parent)
    made.setInterval(every)
    made.timeout.connect(act)
    return made


def _on_recovery(recovered: int, lost: int) -> str:
    """Say what of an earlier session is there again."""
    said = []
    if recovered:
        said.append(
            f"{counted(recovered, 'stroke')} of an earlier session are in the mask again; Undo "
            "takes them back."
        )
    if lost:
        said.append(
            f"{counted(lost, 'stroke')} could not be put back: the journal is damaged from there."
        )
    return " ".join(said)
