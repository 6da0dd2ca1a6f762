"""A dock widget of panels: their tabs, the job that runs, what happens when the window closes."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import napari
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QFrame, QMainWindow, QMessageBox, QScrollArea, QTabWidget, QWidget

from napari_activeft.preferences import Preferences
from napari_activeft.widgets.controls import column
from napari_activeft.widgets.job_strip import JobStrip
from napari_activeft.widgets.pictures import Pictures
from napari_activeft.widgets.session_state import SessionState
from napari_activeft.wording import counted

GO_ON, CANCEL, STAY = "go on", "cancel", "stay"
"""What becomes of jobs when the window closes, and whether it does."""
WIDTH = 400

_docks: set[int] = set()  # that are open

Tab = tuple[str, QWidget, str]
"""Its name, the panel, and what it is for."""


class PanelDock(QWidget):
    """Panels over one project.

    Parameters
    ----------
    draws
        Whether slices are labelled here.

    Attributes
    ----------
    state, pictures, strip
        What the panels share.
    """

    def __init__(
        self,
        napari_viewer: napari.Viewer,
        preferences: Preferences | None,
        *,
        draws: bool = True,
    ) -> None:
        super().__init__()
        self.setMinimumWidth(WIDTH)
        # npe2 hands out a proxy, whose layers are proxies too and never the same object twice.
        viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.state = SessionState(viewer, preferences, draws=draws)
        self.pictures = Pictures(self.state)
        self.strip = JobStrip(self.state)
        self._panels: list[QWidget] = []
        _docks.add(id(self))
        # What napari and this program loaded stays: to look through it for garbage again and again
        # would stop the window for up to a second. Undone when the last dock is shut down.
        gc.collect()
        gc.freeze()
        self._closed = False
        self._watched: QWidget | None = None
        self._choice = GO_ON

    def lay_out(self, tabs: Sequence[Tab]) -> None:
        """Show panels as tabs, from left to right, and below them what computes."""
        self.tabs = QTabWidget()
        for name, panel, tip in tabs:
            area = QScrollArea()
            area.setWidgetResizable(True)
            area.setFrameShape(QFrame.Shape.NoFrame)
            area.setWidget(panel)
            self.tabs.setTabToolTip(self.tabs.addTab(area, name), tip)
            self._panels.append(panel)
        column(self.tabs, self.strip, parent=self, margin=0)

    def go_to(self, panel: QWidget) -> None:
        """Show a panel."""
        self.tabs.setCurrentIndex(self._panels.index(panel))

    @property
    def panel(self) -> QWidget:
        """The panel that is shown."""
        return self._panels[self.tabs.currentIndex()]

    # Closing

    def showEvent(self, event: Any) -> None:  # noqa: ANN401, D102
        super().showEvent(event)
        window = _main_window(self)
        if window is not None and window is not self._watched:
            if self._watched is not None:
                self._watched.removeEventFilter(self)
            self._watched = window
            window.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: D102
        if watched is self._watched and not self._closed:
            if event.type() == QEvent.Type.Close and self.state.running:
                self._choice = self.ask_about_jobs()
                if self._choice == STAY:
                    event.ignore()
                    return True
            # The user may still think better of closing; a window that is hidden was closed.
            if event.type() == QEvent.Type.Hide and not event.spontaneous():
                if self._choice == CANCEL:
                    self.state.cancel_all()
                self.shut_down()
        return super().eventFilter(watched, event)

    def event(self, event: QEvent) -> bool:  # noqa: D102
        # napari takes the widget out of its dock when that is closed: no close event is sent.
        gone = event.type() == QEvent.Type.ParentChange and self.parent() is None
        if gone and self._watched is not None:
            self.shut_down()
            self.deleteLater()
        return super().event(event)

    def ask_about_jobs(self) -> str:
        """Ask what becomes of jobs that run while the window closes."""
        jobs = self.state.running
        box = QMessageBox(self)
        box.setIcon(QMessageBox.Icon.Question)
        box.setWindowTitle("Something is being computed")
        verbs = ", ".join(job.verb for job in jobs)
        box.setText(
            f"{counted(len(jobs), 'job')} ({verbs}) did not finish. They can go on without this "
            "window, and are shown when the project is opened again."
        )
        go_on = box.addButton("Let it go on", QMessageBox.ButtonRole.AcceptRole)
        cancel = box.addButton("Cancel it", QMessageBox.ButtonRole.DestructiveRole)
        box.addButton("Do not close", QMessageBox.ButtonRole.RejectRole)
        box.exec()
        clicked = box.clickedButton()
        return GO_ON if clicked is go_on else CANCEL if clicked is cancel else STAY

    def closeEvent(self, event: Any) -> None:  # noqa: ANN401, D102
        self.shut_down()
        super().closeEvent(event)

    def shut_down(self) -> None:
        """Let go of the project and end the threads; whatever was drawn is on the disk then."""
        if self._closed:
            return
        self._closed = True
        if self._watched is not None:
            self._watched.removeEventFilter(self)
            self._watched = None
        self.state.finish_acts()
        self.end_work()
        self.strip.close_bars()
        self.pictures.close()
        self.state.close()
        _docks.discard(id(self))
        if not _docks:
            gc.unfreeze()

    def end_work(self) -> None:
        """Let go of what is being done, before the project is closed."""


def _main_window(widget: QWidget) -> QMainWindow | None:
    """Return the main window above a widget, also above one in a dock that floats."""
    above: QWidget | None = widget
    while above is not None and not isinstance(above, QMainWindow):
        above = above.parentWidget()
    return above
