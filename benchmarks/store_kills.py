"""A labelling process is killed with SIGKILL at random moments: every acknowledged submit is there.

The process submits as fast as it can. Before a submit it notes ``begin`` in a file, after it
``done`` with the revision's id and checksum, followed by fsync. After every kill the store is
opened again, checked page by page and mask by mask, and compared with the notes. A kill ends the
process, not the machine: a power cut is up to ``synchronous = FULL`` and the disk.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from killing import kill_at_work
from napari_activeft.annotation_db import Store
from store_processes import disc, make_project

SIDE = 128


def label(path: Path, notes: Path) -> None:
    """Submit until killed."""
    file = os.open(notes, os.O_WRONLY | os.O_APPEND)
    with Store.open(path) as store:
        while (lease := store.lease_next("ann")) is not None:
            mask = disc(SIDE, lease.query_id)
            os.write(file, f"begin {lease.slice_id}\n".encode())
            revision = store.submit(lease.token, mask)
            done = f"done {lease.slice_id} {revision.revision_id} {revision.checksum}\n"
            os.write(file, done.encode())
            os.fsync(file)


@dataclass
class Tally:
    """What was seen over all kills."""

    kills: int = 0
    inside: int = 0
    acknowledged: int = 0
    lost: int = 0
    changed: int = 0
    unheard: int = 0
    faults: int = 0


def look(path: Path, notes: Path, acknowledged: dict[int, tuple[int, str]], tally: Tally) -> None:
    """Compare the store with the notes."""
    text = notes.read_text()
    lines = [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]
    done = [line for line in lines if line[0] == "done"]
    acknowledged |= {int(slice_id): (int(one), sum_) for _, slice_id, one, sum_ in done}
    tally.kills += 1
    inside = lines[-1][0] == "begin"
    tally.inside += inside
    tally.acknowledged = len(acknowledged)
    with Store.open(path) as store:
        tally.faults += len(store.check())
        accepted = {record.slice_id: record.revision_id for record in store.accepted()}
        for slice_id, (revision_id, checksum) in acknowledged.items():
            found = {row.revision_id: row.checksum for row in store.revisions(slice_id)}
            tally.lost += accepted.get(slice_id) != revision_id
            tally.changed += found.get(revision_id, checksum) != checksum
        if inside and (slice_id := int(lines[-1][1])) in accepted:
            # Committed, but killed before the note: allowed, and counted from now on.
            (row,) = store.revisions(slice_id)
            acknowledged[slice_id] = (row.revision_id, row.checksum)
            tally.unheard += 1


def main() -> None:
    """Kill as often as asked and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10 kills")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label", nargs=2, type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.label:
        label(*asked.label)
        return
    kills, chance, tally = 10 if asked.quick else asked.kills, random.Random(asked.seed), Tally()
    acknowledged: dict[int, tuple[int, str]] = {}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path, notes = Path(folder) / "annotations.sqlite", Path(folder) / "notes.txt"
        make_project(path, 100 * kills, SIDE)
        for _ in range(kills):
            labelling = [__file__, "--label", str(path), str(notes)]
            kill_at_work(labelling, notes, chance.uniform(0, 0.06))
            look(path, notes, acknowledged, tally)
    rows = {
        "kills": tally.kills,
        "of them inside a submit": tally.inside,
        "submits acknowledged": tally.acknowledged,
        "acknowledged but lost": tally.lost,
        "acknowledged but changed": tally.changed,
        "committed, killed before the acknowledgement": tally.unheard,
        "faults found by the integrity check": tally.faults,
    }
    for name, number in rows.items():
        print(f"{name:<46}{number:>7}")
    print(f"{'seconds':<46}{time.perf_counter() - began:>7.0f}")
    if tally.lost or tally.changed or tally.faults:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
