"""How long an annotator waits: for the program, for a large project, for the next slice.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/opening.py
    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/opening.py --quick

Start: from the beginning of the process until the event loop has run with the window shown, for
napari alone and with the session's dock. Large project: volumes of 10 slices, 1 % queued, all
laid out on the map; until the panels show all of it, and the longest time for
which the window stood still meanwhile. Next: volumes of 40 x 256 x 256 on a local disk, read ahead
while the annotator draws; from the click until the slice is on the desk and drawn.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import napari
import numpy as np
from napari_activeft.annotation_db import NewVolume
from session_window import (
    CLASSES,
    Hand,
    add_dock,
    add_volumes,
    ask,
    load_average,
    make_viewer,
    median,
    percentile_99,
    settle,
    wait,
    write_volumes,
)
from window_latency import Latency

from napari_activeft import workflow
from napari_activeft.embedding.feature_file import FeatureFile
from napari_activeft.geometry import Geometry
from napari_activeft.pool_map import write_map
from napari_activeft.project import Project
from napari_activeft.widgets.session_dock import SessionDock

SLICES_A_VOLUME = 10
DEPTH, SIDE = 40, 256
WANTED_NEXT_MS = 150.0

_ALONE = """
import sys
import napari
from qtpy.QtCore import QTimer
viewer = napari.Viewer(show=True)
{dock}
QTimer.singleShot(0, lambda: print("ready", flush=True))
QTimer.singleShot(1, lambda: viewer.close())
napari.run()
"""
_DOCK = """
from pathlib import Path
from napari_activeft.preferences import Preferences
from napari_activeft.widgets.session_dock import SessionDock
dock = SessionDock(viewer, preferences=Preferences(Path(sys.argv[1])))
viewer.window.add_dock_widget(dock, name="Annotation session", area="right")
print("torch" if "torch" in sys.modules else "light", flush=True)
"""


def start(script: str, folder: Path) -> float:
    """Return the seconds from the start of a process until its window is ready."""
    words = [sys.executable, "-c", script, str(folder / "preferences.json")]
    began = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if line.startswith("torch"):
                raise SystemExit("the viewer's process has loaded torch")
            if line.startswith("ready"):
                took = time.perf_counter() - began
    return took


def starts(turns: int, folder: Path) -> None:
    """Print the rows of the start, both kinds in turn."""
    alone, docked = _ALONE.format(dock=""), _ALONE.format(dock=_DOCK)
    start(docked, folder)  # once for the files to be in memory
    took: dict[str, list[float]] = {"napari alone": [], "napari with the dock": []}
    for _ in range(turns):
        for name, script in zip(took, (alone, docked), strict=True):
            took[name].append(1e3 * start(script, folder))
    for name, times in took.items():
        row(f"start, {name}", median(times), max(times), turns)


def row(what: str, middle: float, most: float, count: int, more: str = "") -> None:
    """Print a line of the table."""
    print(f"{what:<44}{middle:>9.0f}{most:>9.0f}{count:>7}  {load_average()}  {more}", flush=True)


def make_large_project(folder: Path, slices: int) -> Path:
    """Make a project of so many slices without images; 1 % of them are queued."""
    shape = (SLICES_A_VOLUME, 24, 24)
    geometry = Geometry(shape, (5.0, 1.0, 1.0), np.diag([1.0, 1.0, 5.0, 1.0])).to_json()
    with Project.open(workflow.init(folder / "large").folder) as project:
        store = project.store
        store.set_classes(list(CLASSES), "benchmark")
        root_id = store.add_root("images", None)
        names = [f"volume_{number:05d}.nii" for number in range(slices // SLICES_A_VOLUME)]
        store.add_volumes((_volume(name, root_id, geometry) for name in names), "benchmark")
        ids = [one.slice_id for one in store.pool_slices()]
        ask(project, ids[::100])
        lay_out(project)
        return project.folder


def lay_out(project: Project) -> None:
    """Give every slice a vector of chance, and its place on the map."""
    about = {
        "encoder": "pixels_pca",
        "weight_hash": None,
        "random_weights": False,
        "precision": "float32",
        "side": 64,
        "created_at": "2026-01-01T00:00:00+00:00",
    }
    keys = [one.key for one in project.store.pool_slices()]
    vectors = np.random.default_rng(0).normal(size=(len(keys), 16)).astype(np.float32)
    folder = project.folder / "embeddings" / "benchmark"
    with FeatureFile.writing(folder, vectors.shape[1], about) as file:
        file.append(keys, vectors)
        write_map(file)


def _volume(name: str, root_id: int, geometry: dict[str, object]) -> NewVolume:
    return NewVolume(
        case=name.removesuffix(".nii"),
        split="pool",
        root_id=root_id,
        name=name,
        files=[name],
        series=None,
        label_file=None,
        content_hash=hashlib.sha256(name.encode()).hexdigest(),
        byte_count=0,
        geometry=geometry,
        channels=1,
        intensity_range=[[0.0, 800.0]],
        axis=0,
        slice_height=24,
        slice_width=24,
        emptiness=[0.1] * SLICES_A_VOLUME,
    )


def open_large(viewer: napari.Viewer, folder: Path, slices: int) -> None:
    """Print how long a large project takes to be shown."""
    project = make_large_project(folder, slices)
    dock, latency = add_dock(viewer, folder), Latency()
    shown: dict[str, float] = {}

    def full() -> bool:
        pool, queue = dock.pool.table.of.rows, dock.queue.table.of.rows
        found = dock.select._outlook
        for name, is_full in (
            ("project", dock.state.project is not None),
            ("pool", len(pool) == slices // SLICES_A_VOLUME),
            ("queue", len(queue) == slices // 100),
            ("select", found is not None and len(found.pool) == slices),
        ):
            if is_full:
                shown.setdefault(name, 1e3 * (time.perf_counter() - began))
        return len(shown) == 4

    latency.start()
    began = time.perf_counter()
    dock.state.open(project, "annotator")
    wait(full, 300)
    wait(lambda: dock.state.looks.idle and dock.state.acts.idle, 300)
    quiet = 1e3 * (time.perf_counter() - began)
    late = latency.stop()
    for name, took in shown.items():
        row(f"{slices:,} slices, {name} shown", took, took, 1)
    row(f"{slices:,} slices, nothing left to read", quiet, quiet, 1)
    row(f"{slices:,} slices, window stood still", percentile_99(late), max(late), 1, "(99 %, most)")
    viewer.window.remove_dock_widget(dock)
    dock.shut_down()


def next_slices(viewer: napari.Viewer, folder: Path, turns: int) -> None:
    """Print how long it takes from the click on Next to the slice."""
    write_volumes(folder / "images", 2 * turns + 2, (DEPTH, SIDE, SIDE), seed=4)
    with Project.open(workflow.init(folder / "local").folder) as project:
        project.store.set_classes(list(CLASSES), "benchmark")
        add_volumes(project, folder / "images")
        # Each of another volume: the case in which reading takes long.
        ask(project, [one.slice_id for one in project.store.pool_slices()][DEPTH // 2 :: DEPTH])
    dock = add_dock(viewer, folder)
    dock.state.open(folder / "local", "annotator")
    wait(lambda: dock.state.project is not None)
    dock.go_to(dock.queue)
    settle(1.0)
    _, first = clicked(viewer, dock)
    row("Next, the first (nothing read ahead)", first, first, 1)
    answered, straight = [], []
    for _ in range(turns):
        annotate(dock)
        answer(dock)
        answered.append(clicked(viewer, dock))
    for _ in range(turns):
        annotate(dock)
        straight.append(clicked(viewer, dock, submit=True))
    for name, took in (("Next", answered), ("Submit and next", straight)):
        on_desk, drawn = ([one[at] for one in took] for at in range(2))
        row(f"{name}, until on the desk", median(on_desk), max(on_desk), turns)
        row(f"{name}, until drawn", median(drawn), max(drawn), turns)
        print(f"{'':<44}under {WANTED_NEXT_MS:.0f} ms: "
              f"{sum(one < WANTED_NEXT_MS for one in drawn)} of {turns}")  # fmt: skip
    viewer.window.remove_dock_widget(dock)
    dock.shut_down()


def answer(dock: SessionDock) -> None:
    """Store the mask of the open slice, and leave it without opening another."""
    stored: list[object] = []
    task = dock.task.current.task
    dock.state.change(lambda sitting: sitting.labelling.submit(task), stored.append)
    wait(lambda: bool(stored))
    dock.task.close()
    settle(0.5)


def annotate(dock: SessionDock) -> None:
    """Draw a little, while the next volumes are read ahead."""
    hand = Hand.at(dock)
    for _ in range(3):
        hand.stroke()
        settle(0.2)
    if not dock.state.sitting.ahead.wait():
        raise SystemExit("the next volume was not read ahead")
    settle(0.3)


def clicked(viewer: napari.Viewer, dock: SessionDock, *, submit: bool = False) -> tuple[float, ...]:
    """Return milliseconds from a click until the next slice is on the desk, and drawn."""
    opened: list[float] = []
    drawn: list[float] = []
    canvas = viewer.window._qt_viewer.canvas._scene_canvas

    def on_opened(_: object) -> None:
        opened.append(time.perf_counter())

    def on_drawn(_: object) -> None:
        if opened:
            drawn.append(time.perf_counter())

    dock.task.opened.connect(on_opened)
    canvas.events.draw.connect(on_drawn, position="last")
    button = dock.queue.box.submit_button if submit else dock.queue.next_button
    began = time.perf_counter()
    button.click()
    wait(lambda: bool(drawn), 60)
    dock.task.opened.disconnect(on_opened)
    canvas.events.draw.disconnect(on_drawn)
    return 1e3 * (opened[0] - began), 1e3 * (drawn[0] - began)


def main() -> None:
    """Measure all three."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one start, 5,000 slices, 4 clicks")
    parser.add_argument("--slices", type=int, default=100_000)
    asked = parser.parse_args()
    turns, slices, clicks = (1, 5_000, 4) if asked.quick else (5, asked.slices, 20)
    print(f"{'milliseconds':<44}{'median':>9}{'most':>9}{'count':>7}  at the time")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        starts(turns, folder)
        viewer = make_viewer()
        open_large(viewer, folder, slices)
        next_slices(viewer, folder, clicks)
        viewer.close()


if __name__ == "__main__":
    main()
