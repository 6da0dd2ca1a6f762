"""A drawing process is killed with SIGKILL at random moments: every finished stroke is there.

    python benchmarks/session_kills.py            100 kills, some minutes
    python benchmarks/session_kills.py --quick    5 kills

The process draws without a window: it hands masks to the session as the viewer does, a stroke
every 5 to 60 ms, each tenth an undo. Before a stroke it notes what the mask will be, after it the
time on the machine's clock, with fsync. After the kill the slice is opened anew, as the next
session does. Every stroke that was finished 200 ms before the kill must be in its mask, and the
mask must be that of one moment in the drawing, to the pixel. A kill ends the process, not the
machine: a power cut is up to ``synchronous = FULL`` and the disk.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np
from killing import kill_at_work
from napari_activeft.annotation_db import ClassRecord

from napari_activeft import workflow
from napari_activeft.project import Project
from napari_activeft.session.labelling import Task
from napari_activeft.session.sitting import Sitting
from napari_activeft.settings import AddSettings

SIDE = 256
GRACE_SECONDS = 0.2
ANNOTATOR = "annotator"


def make_project(folder: Path, slices: int) -> Path:
    """Make a project of one volume, a slice for every kill."""
    (folder / "images").mkdir()
    noise = np.random.default_rng(0).integers(0, 800, (SIDE, SIDE, slices), dtype=np.int16)
    # Far apart, so that the plane of the slices is beyond doubt.
    image = nibabel.Nifti1Image(noise, np.diag([1.0, 1.0, 5.0, 1.0]))
    nibabel.save(image, folder / "images" / "volume.nii")
    with Project.open(workflow.init(folder / "project").folder) as project:
        classes = [ClassRecord(value, f"class {value}", f"#{value}{value}00ff") for value in (1, 2)]
        project.store.set_classes(classes, "benchmark")
        workflow.add(project, folder / "images", AddSettings(case="file"))
        return project.folder


def sum_of(mask: np.ndarray) -> int:
    """Return a checksum of a mask."""
    return zlib.crc32(np.ascontiguousarray(mask).tobytes())


def painted(mask: np.ndarray, chance: random.Random) -> np.ndarray:
    """Return the mask with a disc of another class than the one at its centre."""
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    centre = chance.randrange(mask.shape[0]), chance.randrange(mask.shape[1])
    radius = chance.randint(2, 20)
    after = mask.copy()
    inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2
    after[inside] = 1 + int(mask[centre]) % 2
    return after


def draw(project: Path, notes: Path, position: int) -> None:
    """Draw on a slice until killed."""
    chance, file = random.Random(position), os.open(notes, os.O_WRONLY | os.O_APPEND)
    with Sitting(project, ANNOTATOR) as sitting:
        volume_id = sitting.project.store.volumes()[0].volume_id
        task, number = sitting.labelling.slice(volume_id, position), 0
        before = [task.drawing.mask.copy()]
        while True:
            number += 1
            undoes = len(before) > 1 and chance.random() < 0.1
            mask = before[-2] if undoes else painted(before[-1], chance)
            os.write(file, f"begin {number} {sum_of(mask)}\n".encode())
            if undoes:
                sitting.labelling.undo(task)
                before.pop()
            else:
                sitting.labelling.draw(task, mask)
                before.append(mask)
            os.write(file, f"done {number} {time.monotonic()}\n".encode())
            os.fsync(file)
            time.sleep(chance.uniform(0.005, 0.06))


@dataclass
class Tally:
    """What was seen over all kills.

    Attributes
    ----------
    finished, owed, kept
        Strokes that were finished, those of them 200 ms before the kill, and those found again.
    lost
        Of those owed.
    ages
        Milliseconds before the kill at which strokes were finished that were not found again.
    """

    kills: int = 0
    finished: int = 0
    owed: int = 0
    kept: int = 0
    lost: int = 0
    damaged: int = 0
    wrong: int = 0
    ages: list[float] = field(default_factory=list)


def reopened(project: Path, position: int) -> Task:
    """Open the slice as the next session does."""
    with Sitting(project, ANNOTATOR) as sitting:
        return sitting.labelling.slice(sitting.project.store.volumes()[0].volume_id, position)


def look(task: Task, notes: Path, killed: float, tally: Tally) -> None:
    """Compare what came back with the notes."""
    text = notes.read_text()
    lines = [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]
    sums = {int(number): int(value) for kind, number, value in lines if kind == "begin"}
    done = {int(number): float(value) for kind, number, value in lines if kind == "done"}
    owed = [number for number, when in done.items() if when <= killed - GRACE_SECONDS]
    tally.kills += 1
    tally.finished += len(done)
    tally.owed += len(owed)
    tally.kept += task.recovered
    tally.lost += sum(number > task.recovered for number in owed)
    tally.ages += [(killed - when) * 1e3 for n, when in done.items() if n > task.recovered]
    tally.damaged += task.lost
    empty = sum_of(np.zeros_like(task.drawing.mask))
    tally.wrong += sum_of(task.drawing.mask) != (sums[task.recovered] if task.recovered else empty)


def main() -> None:
    """Kill as often as asked and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5 kills")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draw", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--position", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.draw:
        draw(*asked.draw, asked.position)
        return
    kills, chance, tally = 5 if asked.quick else asked.kills, random.Random(asked.seed), Tally()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        project, notes = make_project(folder, kills), folder / "notes.txt"
        for position in range(kills):
            drawing = [__file__, "--draw", str(project), str(notes), "--position", str(position)]
            killed = kill_at_work(drawing, notes, chance.uniform(0.1, 1.5))
            look(reopened(project, position), notes, killed, tally)
    rows = {
        "kills": tally.kills,
        "strokes finished": tally.finished,
        "of them 200 ms before the kill": tally.owed,
        "found again by the next session": tally.kept,
        "owed but lost": tally.lost,
        "damaged in the journal": tally.damaged,
        "masks that differ from what was drawn": tally.wrong,
        "lost in the last 200 ms": len(tally.ages) - tally.lost,
        "oldest lost stroke, ms before the kill": round(max(tally.ages, default=0)),
        "seconds": round(time.perf_counter() - began),
    }
    for name, number in rows.items():
        print(f"{name:<42}{number:>8,}")
    if tally.lost or tally.damaged or tally.wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
