"""Several processes label one project: nothing lost, nothing doubled, no lock error, how fast.

Every process leases the next query and submits a 512 x 512 mask, again and again, on one SQLite
file, without a pause: far more than annotators do.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
from napari_activeft.annotation_db import ClassRecord, NewRound, NewVolume, Store
from numpy.typing import NDArray


def make_project(path: Path, queries: int, side: int) -> None:
    """Make a store with one volume of ``queries`` slices, all of them asked."""
    with Store.create(path, "benchmark", {}) as store:
        store.set_classes([ClassRecord(1, "disc", "#ff0000")], "benchmark")
        root_id = store.add_root("images", None)
        volume = NewVolume(
            case="case",
            split="pool",
            root_id=root_id,
            name="volume",
            files=["volume.nii.gz"],
            series=None,
            label_file=None,
            content_hash="0" * 64,
            byte_count=0,
            geometry={},
            channels=1,
            intensity_range=[[0.0, 1.0]],
            axis=0,
            slice_height=side,
            slice_width=side,
            emptiness=[0.0] * queries,
        )
        store.add_volumes([volume], "benchmark")
        slice_ids = [row.slice_id for row in store.pool_slices()]
        asked = NewRound("random", queries, 0, {}, "0" * 64, {}, slice_ids)
        store.add_round(asked, "benchmark")


def disc(side: int, number: int) -> NDArray[np.uint8]:
    """Return a disc whose place depends on ``number``, shape (side, side)."""
    y, x = np.ogrid[:side, :side]
    centre = side * (0.3 + 0.4 * (number % 997) / 997), side * (0.3 + 0.4 * (number % 991) / 991)
    inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < (side / 5) ** 2
    return inside.astype(np.uint8)


def label(path: Path, number: int, turns: int, side: int, start: Barrier, told: Any) -> None:  # noqa: ANN401
    """Lease and submit ``turns`` times; tell the seconds of each and every error."""
    leasing, submitting, answered, errors = [], [], [], []
    with Store.open(path) as store:
        start.wait()
        for _ in range(turns):
            try:
                began = time.perf_counter()
                lease = store.lease_next(f"annotator {number}")
                leased = time.perf_counter()
                if lease is None:
                    break
                mask = disc(side, lease.query_id)
                ready = time.perf_counter()
                store.submit(lease.token, mask)
                done = time.perf_counter()
            except Exception as error:
                errors.append(repr(error))
                continue
            leasing.append(leased - began)
            submitting.append(done - ready)
            answered.append(lease.query_id)
    told.put((leasing, submitting, answered, errors))


def verify(path: Path, answered: list[int], side: int) -> list[str]:
    """Return everything that is wrong with the store after all that; empty is well."""
    times = Counter(answered)
    wrong = [f"query {query_id} was answered twice" for query_id, n in times.items() if n > 1]
    with Store.open(path) as store:
        wrong += [f"{fault.subject}: {fault.sentence}" for fault in store.check()]
        for query in store.queries():
            revisions = store.revisions(query.slice_id)
            if len(revisions) != (query.query_id in times) or any(
                row.conflict for row in revisions
            ):
                wrong.append(f"query {query.query_id} has {len(revisions)} revisions")
            elif revisions and not np.array_equal(
                store.mask(revisions[0].revision_id), disc(side, query.query_id)
            ):
                wrong.append(f"query {query.query_id} has another query's mask")
    return wrong


def table(name: str, seconds: Sequence[float]) -> str:
    """Return one line: count, median, 99th per cent and longest, in ms."""
    median, late = np.percentile(seconds, (50, 99)) * 1000
    return f"{name:<8}{len(seconds):>7}{median:>12.1f}{late:>12.1f}{max(seconds) * 1000:>12.1f}"


def main() -> None:
    """Run the processes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="50 turns a process")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--turns", type=int, default=1000)
    parser.add_argument("--side", type=int, default=512, help="of a mask, in pixels")
    asked = parser.parse_args()
    turns = 50 if asked.quick else asked.turns
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "annotations.sqlite"
        make_project(path, asked.processes * turns, asked.side)
        start, told = context.Barrier(asked.processes + 1), context.Queue()
        workers = [
            context.Process(target=label, args=(path, number, turns, asked.side, start, told))
            for number in range(asked.processes)
        ]
        for worker in workers:
            worker.start()
        start.wait()
        began = time.perf_counter()
        results = [told.get() for _ in workers]
        wall = time.perf_counter() - began
        for worker in workers:
            worker.join()
        leasing, submitting, answered, errors = (
            [one for result in results for one in result[part]] for part in range(4)
        )
        wrong = verify(path, answered, asked.side)
    print(f"{asked.processes} processes, {turns} turns each, {wall:.1f} s")
    print(f"{len(answered) / wall:.0f} next + submit a second")
    print(f"{'call':<8}{'count':>7}{'median ms':>12}{'99 % ms':>12}{'longest ms':>12}")
    print(table("next", leasing))
    print(table("submit", submitting))
    print(f"errors that reached a caller: {len(errors)}")
    print(f"queries lost, doubled or wrong: {len(wrong)}")
    for line in (errors + wrong)[:10]:
        print(f"  {line}")
    if errors or wrong or len(answered) != asked.processes * turns:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
