"""What a large project costs: time and memory of the commands, and of next + submit, by pool size.

    python benchmarks/pool_scale.py            1,000, 10,000 and 100,000 slices, some minutes
    python benchmarks/pool_scale.py --quick    1,000 and 5,000 slices

The pool is made of small volumes (10 slices of 24 x 24) made on the fly. The commands run as
processes of their own, start-up included. For next + submit, 32 volumes of 10 slices of 512 x 512
are added and queried: the picture, the slice and the ticket are written, and a mask is read and
stored, as for an annotator.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
from napari_activeft.annotation_db import ClassRecord, NewRound

from napari_activeft import workflow
from napari_activeft.project import Project
from napari_activeft.settings import NextSettings, SubmitSettings

SLICES_A_VOLUME = 10
TURNS = 150


def write_volumes(folder: Path, count: int, side: int, seed: int) -> None:
    """Write NIfTI volumes of 10 slices: a smooth body with noise of 2 %, each another."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    x, y = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    body = 800 * np.exp(-2 * (x**2 + y**2)) * (1 + 0.3 * np.sin(9 * x) * np.cos(7 * y))
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    for index in range(count):
        noise = rng.normal(0, 16, (side, side, SLICES_A_VOLUME))
        voxels = (body[..., None] + noise).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / f"volume_{index:05d}.nii")


def command(*words: str | Path) -> tuple[float, float]:
    """Run one command in a process of its own; return its seconds and peak memory in MiB."""
    # The process tells its own peak: what the system counts for a child starts with its parent's.
    script = (
        "import runpy, re, sys, atexit; from pathlib import Path;"
        "atexit.register(lambda: print(re.search(r'VmHWM:\\s*(\\d+)',"
        " Path('/proc/self/status').read_text())[1]));"
        "runpy.run_module('napari_activeft', run_name='__main__')"
    )
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True, check=True
    )
    return time.perf_counter() - started, int(done.stdout.split()[-1]) / 1024


def mask_512() -> np.ndarray:
    """Return a mask of 512 x 512 as an annotator draws it: two nested organs."""
    y, x = np.mgrid[:512, :512]
    mask = np.zeros((512, 512), np.uint8)
    distance = (y - 240) ** 2 + (x - 280) ** 2
    mask[distance < 110**2] = 1
    mask[distance < 70**2] = 2
    return mask


def queue_wide_slices(project: Project, most: int) -> int:
    """Queue slices of 512 x 512 that were not queried yet, at the most ``most``; count them."""
    store = project.store
    asked = {query.slice_id for query in store.queries()}
    wide = {volume.volume_id for volume in store.volumes() if volume.slice_width == 512}
    free = [row for row in store.pool_slices() if row.volume_id in wide]
    ids = [row.slice_id for row in free if row.slice_id not in asked][:most]
    store.add_round(NewRound("benchmark", len(ids), 0, {}, "", {}, ids), "benchmark")
    return len(ids)


def next_and_submit(project: Project, out: Path) -> tuple[list[float], list[float]]:
    """Answer queries of 512 x 512; return milliseconds of each next and each submit."""
    queue_wide_slices(project, TURNS)
    np.save(out.with_suffix(".npy"), mask_512())
    nexts, submits = [], []
    for _ in range(TURNS):
        started = time.perf_counter()
        handed = workflow.next_query(project, NextSettings(annotator="a", out=out))
        middle = time.perf_counter()
        answer = SubmitSettings(ticket=handed.ticket, mask=out.with_suffix(".npy"))
        workflow.submit(project, answer)
        nexts.append((middle - started) * 1e3)
        submits.append((time.perf_counter() - middle) * 1e3)
    return nexts, submits


def store_alone(project: Project) -> list[float]:
    """Return milliseconds of lease + submit in the store, without any file."""
    mask, took = mask_512(), []
    for _ in range(queue_wide_slices(project, TURNS)):
        started = time.perf_counter()
        lease = project.store.lease_next("a")
        project.store.submit(lease.token, mask)
        took.append((time.perf_counter() - started) * 1e3)
    return took


def measure(slices: int, folder: Path) -> None:
    """Print one row of each figure for a pool of some size."""
    volumes = slices // SLICES_A_VOLUME
    write_volumes(folder / "images", volumes, 24, seed=1)
    write_volumes(folder / "wide", 32, 512, seed=2)
    at = folder / "project"
    command("init", at)
    rows = {"add": command("add", folder / "images", "--case", "file", "-p", at)}
    rows["add again"] = command("add", folder / "images", "--case", "file", "-p", at)
    command("add", folder / "wide", "--case", "file", "-p", at)
    rows["select 5 %"] = command(
        *("select", "--budget", "0.05", "--selector", "stratified_random", "-p", at)
    )
    rows["next"] = command("next", "--annotator", "a", "--out", folder / "q", "-p", at)
    rows["info"] = command("info", "-p", at)
    for name, (seconds, mib) in rows.items():
        print(f"{slices:>9,} {name:<16} {seconds:>9.2f} s {mib:>8.0f} MiB", flush=True)
    with Project.open(at) as project:
        project.store.set_classes(
            [ClassRecord(1, "a", "#e69f00"), ClassRecord(2, "b", "#56b4e9")], "benchmark"
        )
        # The queries of the selection are in the way of those to be measured.
        for _ in range(sum(project.store.query_counts().values())):
            lease = project.store.lease_next("a")
            if lease is not None:
                project.store.skip(lease.token, "benchmark")
        nexts, submits = next_and_submit(project, folder / "queries")
        alone = store_alone(project)
    both = [a + b for a, b in zip(nexts, submits, strict=True)]
    figures = {"next": nexts, "submit": submits, "next + submit": both, "store alone": alone}
    for name, took in figures.items():
        worst = statistics.quantiles(took, n=100)[98]
        print(
            f"{slices:>9,} {name:<16} {statistics.median(took):>9.2f} ms median "
            f"{worst:>7.2f} ms 99 %",
            flush=True,
        )


def main() -> None:
    """Measure every pool size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    sizes = [1_000, 5_000] if parser.parse_args().quick else [1_000, 10_000, 100_000]
    print(f"{'slices':>9} {'what':<16}")
    for slices in sizes:
        with tempfile.TemporaryDirectory() as folder:
            measure(slices, Path(folder))


if __name__ == "__main__":
    main()
