"""Strokes through the Labels layer of the session: from the end of a stroke to the disk.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/strokes.py
    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/strokes.py --quick

A stroke ends when the hand lets go. From then on, "taken in" is when the session has found what
changed and has handed it to the writer, "journalled" when its row is committed in the database.
The next stroke begins when the one before is journalled. A stroke has 12 moves over a tenth of the
slice; the brush is 4 % of its side. ``indices`` writes through ``data_setitem``, as helpers do.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import napari
import numpy as np
from session_window import (
    CLASSES,
    Hand,
    add_dock,
    add_volumes,
    ask,
    load_average,
    make_viewer,
    median,
    open_slice,
    percentile_99,
    settle,
    wait,
    write_volumes,
)

from napari_activeft import workflow
from napari_activeft.folder_walk import PROJECT_FILE
from napari_activeft.project import Project
from napari_activeft.session.journal_writer import JournalWriter
from napari_activeft.widgets.session_dock import SessionDock

DEPTH = 5
WANTED_MS = 200.0
_PATIENCE = 10.0


@dataclass
class Times:
    """Milliseconds of every stroke.

    Attributes
    ----------
    drawing
        Of all its moves together, in napari.
    taken, journalled
        From its end until it was taken in, and until it was on the disk.
    """

    drawing: list[float] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)
    journalled: list[float] = field(default_factory=list)


class Clock:
    """Waits in a thread of its own for what is handed to the writer to be on the disk."""

    def __init__(self, dock: SessionDock) -> None:
        self._journal: JournalWriter = dock.state.sitting.journal
        self._handed, self._closing = threading.Event(), False
        self.taken = self.journalled = 0.0
        self.done = threading.Event()
        self._stroked = dock.desk.stroked
        self._stroked.connect(self._on_stroke)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stroked.disconnect(self._on_stroke)
        self._closing = True
        self._handed.set()
        self._thread.join()

    def _on_stroke(self) -> None:
        self.taken = time.perf_counter()
        self._handed.set()

    def _run(self) -> None:
        while True:
            self._handed.wait()
            self._handed.clear()
            if self._closing:
                return
            self._journal.flush(_PATIENCE)
            self.journalled = time.perf_counter()
            self.done.set()


def by_indices(hand: Hand) -> None:
    """Draw a stroke as another plugin does: by the indices of its pixels."""
    points, value = hand.path()
    radius = int(hand.labels.brush_size) // 2
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = np.column_stack([y.ravel(), x.ravel()])[(y**2 + x**2).ravel() <= radius**2]
    centres = np.round(points[:, 1:]).astype(int)
    places = np.unique((centres[:, None] + disc).reshape(-1, 2), axis=0)
    along = np.full(len(places), int(points[0, 0]))
    hand.labels.data_setitem((along, places[:, 0], places[:, 1]), value)
    hand.strokes += 1


def draw(dock: SessionDock, hand: Hand, stroke: Callable[[Hand], None], count: int) -> Times:
    """Draw strokes one after another; return how long each took."""
    times, clock = Times(), Clock(dock)
    for _ in range(count):
        clock.done.clear()
        begun = time.perf_counter()
        stroke(hand)
        ended = time.perf_counter()
        wait(clock.done.is_set, _PATIENCE)
        times.drawing.append((ended - begun) * 1e3)
        times.taken.append((clock.taken - ended) * 1e3)
        times.journalled.append((clock.journalled - ended) * 1e3)
    clock.close()
    return times


def make_project(folder: Path, side: int) -> Path:
    """Make a project of one volume, a slice of which is asked."""
    write_volumes(folder / "images", 1, (DEPTH, side, side), seed=side)
    with Project.open(workflow.init(folder / "project").folder) as project:
        project.store.set_classes(list(CLASSES), "benchmark")
        add_volumes(project, folder / "images")
        ask(project, [project.store.pool_slices()[DEPTH // 2].slice_id])
        return project.folder


def in_journal(project: Path) -> tuple[int, float]:
    """Return how many strokes the database holds, and bytes of each."""
    path = project / PROJECT_FILE
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        query = "SELECT count(*), avg(length(payload)) FROM journal"
        count, mean = database.execute(query).fetchone()
        return int(count), float(mean or 0)


def row(what: str, times: Times, size: float) -> None:
    """Print the figures of one kind of stroke."""
    print(
        f"{what:<30}{len(times.taken):>7,}{median(times.drawing):>9.1f}"
        f"{median(times.taken):>9.1f}{percentile_99(times.taken):>8.1f}"
        f"{median(times.journalled):>11.1f}{percentile_99(times.journalled):>8.1f}"
        f"{max(times.journalled):>8.1f}{size:>9.0f}  {load_average()}",
        flush=True,
    )


def measure(
    viewer: napari.Viewer,
    side: int,
    strokes: Sequence[tuple[str, Callable[[Hand], None], int]],
) -> list[Times]:
    """Print the rows of one size of slice."""
    made = []
    for name, stroke, count in strokes:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            project, dock = make_project(folder, side), add_dock(viewer, folder)
            open_slice(dock, project)
            hand = Hand.at(dock)
            times = draw(dock, hand, stroke, count)
            settle(0.2)
            kept, size = in_journal(project)
            row(f"{side} x {side}, {name}", times, size)
            viewer.window.remove_dock_widget(dock)
            dock.shut_down()
        if kept != count:
            raise SystemExit(f"{count} strokes were drawn, and {kept} are in the journal")
        made.append(times)
    return made


def main() -> None:
    """Measure every size, and many strokes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="30 strokes of a kind, then 300")
    parser.add_argument("--strokes", type=int, default=300)
    parser.add_argument("--many", type=int, default=10_000)
    asked = parser.parse_args()
    count, many = (30, 300) if asked.quick else (asked.strokes, asked.many)
    viewer = make_viewer()
    print(
        f"{'milliseconds':<30}{'count':>7}{'drawing':>9}{'taken in':>9}{'99 %':>8}"
        f"{'journalled':>11}{'99 %':>8}{'most':>8}{'bytes':>9}"
    )
    kinds = [("brush", Hand.stroke, count), ("indices", by_indices, count)]
    found = [times for side in (512, 2048) for times in measure(viewer, side, kinds)]
    (times,) = measure(viewer, 512, [("brush", Hand.stroke, many)])
    found.append(times)
    each = many // 10
    for name, values in vars(times).items():
        first, last = values[:each], values[-each:]
        print(
            f"{name:<12} median of the first {each:,} {median(first):.2f} ms, of the last "
            f"{median(last):.2f} ms; 99 % {percentile_99(first):.1f} and {percentile_99(last):.1f}"
        )
    viewer.close()
    late = sum(one > WANTED_MS for times in found for one in times.journalled)
    print(f"journalled later than {WANTED_MS:.0f} ms: {late}")


if __name__ == "__main__":
    main()
