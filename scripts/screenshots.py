"""Pictures of every panel of the annotation session, in both themes, of a real session.

    python scripts/screenshots.py docs/images

makes the sample project, embeds, selects, labels, trains a little and reviews, all through the
window. It needs a display: under Xvfb, `xvfb-run -s "-screen 0 1600x1000x24"`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import napari
import numpy as np
from napari._qt.dialogs.qt_notification import NapariQtNotification
from qtpy.QtWidgets import QApplication

import napari_activeft
from napari_activeft.preferences import Preferences
from napari_activeft.volume import open_volume, read_label_map
from napari_activeft.widgets.session_dock import SessionDock

SIZE = (1280, 720)
LABELLED = 10
STEPS = 300


class Session:
    """A window, and what is done in it."""

    def __init__(self, out: Path, folder: Path) -> None:
        self.out, self.folder = out, folder
        self.viewer = napari.Viewer(show=True)
        self.dock = SessionDock(self.viewer, preferences=Preferences(folder / "preferences.json"))
        self.viewer.window.add_dock_widget(self.dock, name="Annotation session", area="right")
        self.viewer.window._qt_window.resize(*SIZE)

    def wait(self, until: Callable[[], bool], seconds: float = 300.0) -> None:
        """Let the window work until something is so."""
        deadline = time.monotonic() + seconds
        while not until():
            QApplication.processEvents()
            time.sleep(0.01)
            if time.monotonic() > deadline:
                sys.exit("the window did not come that far")

    def settle(self, seconds: float = 0.8) -> None:
        """Let the window draw."""
        end = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > end)

    def picture(self, name: str) -> None:
        """Take a picture in each theme."""
        window = self.viewer.window._qt_window
        for notice in window.findChildren(NapariQtNotification):
            notice.close()
        self.viewer.mouse_over_canvas = False  # or the brush is drawn in a corner
        for theme in ("dark", "light"):
            self.viewer.theme = theme
            self.settle()
            path = self.out / f"session_{name}_{theme}.png"
            self.viewer.window.screenshot(str(path), canvas_only=False, flash=False)
            print(path)
        self.viewer.theme = "dark"

    def job(self) -> None:
        """Wait until what computes is done."""
        state = self.dock.state
        self.wait(lambda: bool(state.running), 30)
        self.wait(lambda: not state.running, 600)
        self.settle()

    def label(self) -> None:
        """Draw the open slice as its label map has it, most of it."""
        task = self.dock.task.current.task
        image = self.folder / "project" / task.volume.files[0]
        if not image.is_file():
            image = next(
                (self.folder / "project" / "images").rglob(Path(task.volume.files[0]).name)
            )
        labels = image.parents[1] / "labels" / image.name
        truth = read_label_map(labels, open_volume(image).geometry)
        mask = np.take(truth, task.position, axis=task.volume.axis)
        data = self.dock.desk.labels
        at = [slice(None)] * 3
        at[task.volume.axis] = task.position
        places = np.nonzero(mask)
        indices = list(places)
        indices.insert(task.volume.axis, np.full(len(places[0]), task.position))
        if len(places[0]):
            data.data_setitem(tuple(indices), mask[places])
        self.settle(0.3)


def main() -> None:
    """Go through the work once, and take a picture of every step."""
    parser = argparse.ArgumentParser(description="Pictures of the annotation session.")
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    print(napari_activeft.__version__)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(out, Path(folder))
        walk(session)
        session.dock.shut_down()
        session.viewer.close()


def walk(session: Session) -> None:
    """From an empty window to reviewed predictions."""
    dock = session.dock
    session.picture("empty")
    dock.project.make_sample(session.folder / "project")
    session.wait(lambda: dock.state.project is not None)
    session.picture("project")
    dock.go_to(dock.pool)
    session.picture("pool")
    dock.go_to(dock.select)
    dock.select.embedding.embed()
    session.job()
    dock.select.budget.setText("12")
    dock.select.select()
    session.job()
    session.picture("select")
    dock.tabs.currentWidget().verticalScrollBar().setValue(10_000)
    session.picture("map")
    dock.queue.next()
    session.wait(lambda: dock.task.current is not None)
    shown = False
    for number in range(LABELLED):
        session.label()
        if number >= 4 and not shown and dock.task.current.task.drawing.changed_pixels > 40:
            shown = True
            session.settle(1.5)
            session.picture("queue")
        open_slice = dock.task.current
        dock.queue.box.submit()
        session.wait(lambda before=open_slice: dock.task.current not in (None, before), 30)
    dock.go_to(dock.train)
    dock.train.form.put({"steps": STEPS, "batch": 4, "size": 64})
    dock.train.train()
    session.wait(lambda: len(dock.train.loss.curves) > 0, 300)
    session.settle(2)
    session.picture("train")
    session.wait(lambda: not dock.state.running, 600)
    session.settle()
    dock.train.predict()
    session.job()
    session.settle()
    dock.go_to(dock.review)
    dock.review.next()
    session.wait(lambda: dock.review._proposal is not None)
    dock.review.unsure.setChecked(True)
    session.settle(1.5)
    session.picture("review")


if __name__ == "__main__":
    main()
