"""A real viewer with the session in it, and somebody who works there."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from napari.utils._proxies import PublicOnlyProxy
from napari_activeft.annotation_db import UNFINISHED
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

sys.path.insert(0, str(Path(__file__).parents[1]))
from projectmaking import make_project, select, write_volume

from napari_activeft.preferences import Preferences
from napari_activeft.project import Project
from napari_activeft.widgets import notices
from napari_activeft.widgets.session_dock import SessionDock

SHAPE = (5, 24, 30)
_OURS = ("stroke journal", "reading ahead", "thumbnails", "acts", "looks")
_LEFT = Qt.MouseButton.LeftButton


class Annotator:
    """Works in the window as a person would, and waits as one does."""

    said: list[str] = []  # noqa: RUF012 - of the session, for messages

    def __init__(self, dock: SessionDock) -> None:
        self.dock, self.viewer = dock, dock.state.viewer

    def wait(self, until: Callable[[], object], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            QApplication.processEvents()
            time.sleep(0.005)
            assert time.monotonic() < deadline, f"the window did not come that far: {self.said}"

    def settle(self, seconds: float = 0.05) -> None:
        """Let the window and its threads come to rest."""
        end = time.monotonic() + seconds
        state = self.dock.state
        self.wait(lambda: time.monotonic() > end and state.acts.idle and state.looks.idle)

    def open(self, folder: Path) -> None:
        before = self.dock.state.sitting
        self.dock.state.open(folder)
        self.wait(lambda: self.dock.state.sitting not in (None, before))
        self.settle()

    def next(self) -> None:
        before = self.dock.task.current
        self.dock.queue.next_button.click()
        self.wait(lambda: self.dock.task.current not in (None, before))
        self.settle()

    def job(self, seconds: float = 240.0) -> str:
        """Wait for the job that was just started, and return how it ended."""
        state = self.dock.state
        known = len(state.jobs)
        self.wait(lambda: len(state.jobs) > known or (state.jobs and state.running), 60)
        self.wait(lambda: state.jobs[-1].state not in UNFINISHED, seconds)
        self.settle()
        return state.jobs[-1].state

    def stroke(self, places: Sequence[tuple[float, float]]) -> None:
        """Draw through pixels (row, column) of the slice that is shown, with the mouse."""
        native = self.viewer.window._qt_viewer.canvas.native
        points = [self._on_canvas(*place) for place in places]
        self._mouse(native, QEvent.Type.MouseMove, points[0], Qt.MouseButton.NoButton)
        self._mouse(native, QEvent.Type.MouseButtonPress, points[0], _LEFT)
        for point in points[1:]:
            self._let_pass(0.03)  # moves in quick succession are passed over
            self._mouse(native, QEvent.Type.MouseMove, point, _LEFT)
        self._let_pass(0.03)
        self._mouse(native, QEvent.Type.MouseButtonRelease, points[-1], _LEFT)
        QApplication.processEvents()
        self.settle()

    @staticmethod
    def _let_pass(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()

    def _on_canvas(self, row: float, column: float) -> QPointF:
        """Return where a pixel of the shown slice lies in the canvas."""
        shown = self.dock.desk.shown
        down, across = shown.order[1:]
        world = np.array([row * shown.scale[down], column * shown.scale[across]])
        canvas = self.viewer.window._qt_viewer.canvas.native
        camera = self.viewer.scene.camera
        middle = np.array([canvas.height(), canvas.width()]) / 2
        y, x = (world - np.array(camera.center[-2:])) * camera.zoom + middle
        return QPointF(float(x), float(y))

    @staticmethod
    def _mouse(widget, kind, place, button) -> None:
        held = button if kind != QEvent.Type.MouseButtonRelease else Qt.MouseButton.NoButton
        pressed = Qt.MouseButton.NoButton if kind == QEvent.Type.MouseMove else button
        where = widget.mapToGlobal(place)
        none = Qt.KeyboardModifier.NoModifier
        QApplication.sendEvent(widget, QMouseEvent(kind, place, where, pressed, held, none))

    @property
    def mask(self) -> np.ndarray:
        """What the layer shows of the slice that was asked for."""
        task, labels = self.dock.task.current.task, self.dock.desk.labels
        return np.take(np.asarray(labels.data), task.position, axis=task.volume.axis)


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """Everything that the session told by notifications."""
    told: list[str] = []
    for name in ("tell", "warn", "error"):
        monkeypatch.setattr(notices, name, told.append)
    return told


@pytest.fixture
def preferences(tmp_path) -> Preferences:
    return Preferences(tmp_path / "preferences" / "session.json")


@pytest.fixture
def someone(make_napari_viewer, preferences, said) -> Iterator[Annotator]:
    """An annotator before an empty session."""
    viewer = make_napari_viewer(show=True)
    dock = SessionDock(PublicOnlyProxy(viewer), preferences=preferences)  # as npe2 hands it out
    viewer.window.add_dock_widget(dock, name="Annotation session", area="right")
    Annotator.said = said
    yield Annotator(dock)
    dock.shut_down()
    assert not dock.state._timer.isActive()
    left = [one.name for one in threading.enumerate() if one.name.startswith(_OURS)]
    assert not left, f"threads were left behind: {left}"


@pytest.fixture
def images(tmp_path) -> Path:
    """Four patients, in a folder with blanks in its name."""
    folder = tmp_path / "my images"
    for patient in range(1, 5):
        write_volume(folder / f"patient {patient}" / "scan.nii.gz", SHAPE, seed=patient)
    return folder


@pytest.fixture
def folder(tmp_path, images) -> Path:
    """A project with a round of six slices."""
    with make_project(tmp_path / "a project", images) as made:
        select(made, "6", selector="random")
        return made.folder


@pytest.fixture
def annotator(someone, folder) -> Annotator:
    """An annotator with that project open."""
    someone.open(folder)
    return someone


@pytest.fixture
def elsewhere(folder) -> Iterator[Project]:
    """The same project, opened by another program."""
    with Project.open(folder) as other:
        yield other
