"""What the benchmarks of the annotation session share: a pool, a window, an annotator who draws.

Symbols: a volume is (z, y, x); a stroke goes through the Labels layer as napari's own brush does.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import napari
import nibabel
import numpy as np
from napari.layers import Labels
from napari_activeft.annotation_db import ClassRecord, NewRound
from qtpy.QtCore import QEventLoop, QTimer

from napari_activeft import workflow
from napari_activeft.preferences import Preferences
from napari_activeft.project import Project
from napari_activeft.settings import AddSettings
from napari_activeft.widgets.session_dock import SessionDock

CLASSES = (
    ClassRecord(1, "liver", "#e69f00"),
    ClassRecord(2, "spleen", "#56b4e9"),
    ClassRecord(3, "kidney", "#009e73"),
)
SIZE = (1280, 720)
MOVES = 12
_BRUSH_SHARE = 0.04


def write_volumes(folder: Path, count: int, shape: tuple[int, int, int], seed: int) -> None:
    """Write NIfTI volumes (z, y, x), uncompressed: a smooth body with noise, each another."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    depth, height, width = shape
    x, y = np.mgrid[-1 : 1 : width * 1j, -1 : 1 : height * 1j]
    body = 800 * np.exp(-2 * (x**2 + y**2)) * (1 + 0.3 * np.sin(9 * x) * np.cos(7 * y))
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    for index in range(count):
        noise = rng.integers(-16, 17, (width, height, depth), dtype=np.int16)
        voxels = body.astype(np.int16)[..., None] + noise
        nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / f"volume_{index:05d}.nii")


def add_volumes(project: Project, folder: Path) -> list[int]:
    """Take the volumes of a folder into the pool, each a case; return their ids."""
    before = {volume.volume_id for volume in project.store.volumes()}
    workflow.add(project, folder, AddSettings(case="file"))
    return [v.volume_id for v in project.store.volumes() if v.volume_id not in before]


def ask(project: Project, slice_ids: Sequence[int]) -> None:
    """Queue slices."""
    count = len(slice_ids)
    asked = NewRound("benchmark", count, 0, {}, "", {}, list(slice_ids))
    project.store.add_round(asked, "benchmark")


def load_core() -> list[str]:
    """Return the command of a process that holds one core."""
    return [sys.executable, "-c", "while True: pass"]


def load_average() -> str:
    """Say how busy the machine is, which every figure here depends on."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def percentile_99(values: Sequence[float]) -> float:
    """Return the value that 99 % stay below."""
    return float(np.percentile(values, 99))


def median(values: Sequence[float]) -> float:
    """Return the middle value."""
    return statistics.median(values)


def wait(until: Callable[[], object], seconds: float = 300.0) -> None:
    """Let the window's own event loop run until something is so."""
    loop, timer, deadline = QEventLoop(), QTimer(), time.monotonic() + seconds
    timer.setInterval(5)
    timer.timeout.connect(lambda: loop.quit() if until() or time.monotonic() > deadline else None)
    timer.start()
    loop.exec()
    timer.stop()
    if not until():
        sys.exit("the window did not come that far")


def settle(seconds: float) -> None:
    """Let the window work for a while."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end, seconds + 60)


def make_viewer() -> napari.Viewer:
    """Open a window."""
    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.resize(*SIZE)
    settle(0.5)
    return viewer


def add_dock(viewer: napari.Viewer, folder: Path) -> SessionDock:
    """Put the session into a window.

    Parameters
    ----------
    folder
        For the preferences; a new one, so that nothing is remembered.
    """
    dock = SessionDock(viewer, preferences=Preferences(folder / "preferences.json"))
    viewer.window.add_dock_widget(dock, name="Annotation session", area="right")
    settle(0.5)
    return dock


def open_slice(dock: SessionDock, project: Path) -> None:
    """Open a project and the next slice of its queue."""
    dock.state.open(project, "annotator")
    wait(lambda: dock.state.project is not None)
    dock.go_to(dock.queue)
    dock.queue.next()
    wait(lambda: dock.task.current is not None)
    settle(1.0)


class Hand:
    """Draws strokes on the open slice, the points of each along a line.

    A stroke goes over at least one pixel of another class than its own, so that each changes
    something.

    Parameters
    ----------
    labels
        To draw on, (z, y, x).
    position
        Of the slice along z.
    """

    def __init__(self, labels: Labels, position: int) -> None:
        self.labels, self._position = labels, position
        self._rng = np.random.default_rng(0)
        self.strokes = 0
        labels.brush_size = max(2, round(_BRUSH_SHARE * min(labels.data.shape[1:])))

    @classmethod
    def at(cls, dock: SessionDock) -> Self:
        """Return a hand over the slice that is open."""
        labels, current = dock.desk.labels, dock.task.current
        if labels is None or current is None:
            raise SystemExit("no slice is open")
        return cls(labels, current.task.position)

    def path(self) -> tuple[np.ndarray, int]:
        """Return points (`MOVES`, 3) of a new stroke, and its class."""
        side = np.array(self.labels.data.shape[1:])
        begin = self._rng.uniform(0.15, 0.85, 2) * side
        end = begin + self._rng.uniform(-0.1, 0.1, 2) * side
        flat = begin + np.linspace(0, 1, MOVES)[:, None] * (end - begin)
        points = np.column_stack([np.full(MOVES, self._position), flat])
        under = int(self.labels.data[tuple(np.round(points[0]).astype(int))])
        return points, 1 + under % len(CLASSES)

    def stroke(self) -> None:
        """Draw a stroke at once; it is over when this returns."""
        points, value = self.path()
        last = points[0]
        with self.labels.block_history():
            for point in points:
                # What napari's brush calls for every move of the mouse.
                self.labels._draw(value, last, point)
                last = point
        self.strokes += 1


class Annotator:
    """Draws a stroke again and again, its moves as far apart as a mouse tells them.

    Parameters
    ----------
    hand
        Draws.
    every_ms
        From one stroke's beginning to the next.
    """

    MOVE_MS = 16

    def __init__(self, hand: Hand, every_ms: int = 500) -> None:
        self._hand, self._left = hand, []
        self._value, self._last = 1, np.zeros(3)
        self._held: object = None
        self._beat, self._move = QTimer(), QTimer()
        self._beat.setInterval(every_ms)
        self._move.setInterval(self.MOVE_MS)
        self._beat.timeout.connect(self._begin)
        self._move.timeout.connect(self._go_on)

    def start(self) -> None:
        """Begin to draw."""
        self._beat.start()

    def stop(self) -> None:
        """Draw no more; a stroke that was begun is ended."""
        self._beat.stop()
        while self._left:
            self._go_on()

    def _begin(self) -> None:
        if self._left:
            return  # the window is late: a hand does not draw two strokes at once
        points, self._value = self._hand.path()
        self._left, self._last = list(points), points[0]
        self._held = self._hand.labels.block_history()
        self._held.__enter__()
        self._move.start()

    def _go_on(self) -> None:
        if not self._left:
            return
        point = self._left.pop(0)
        self._hand.labels._draw(self._value, self._last, point)
        self._last = point
        if not self._left:
            self._move.stop()
            self._held.__exit__(None, None, None)
            self._hand.strokes += 1
