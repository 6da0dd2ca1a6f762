"""Seconds and memory of selections, beside ActiveFT written the published, dense way and POT.

Every line of the first table is a process of its own on synthetic slices; memory is what the
process grew by above the features. The published loop below keeps a table of n x k in every step,
as its code does; it is here to be measured, not to be used. Also: growth with n and k.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESULTS = Path(__file__).parent / "results"
SIZES = ((1841, 368, 768), (50_000, 2_500, 384), (200_000, 2_000, 384))
GROWTH = (
    (1_000, 100),
    (3_000, 300),
    (10_000, 100),
    (10_000, 1_000),
    (30_000, 1_000),
    (10_000, 3_000),
    (30_000, 3_000),
    (100_000, 1_000),
    (100_000, 3_000),
    (100_000, 10_000),
    (300_000, 3_000),
    (1_000_000, 1_000),
    (1_000_000, 10_000),
)
Vectors = NDArray[np.float32]


def slices(n: int, d: int, seed: int = 0) -> Vectors:
    """Return n vectors of length 1: 20 slices a volume, two volumes a case, made in place."""
    rng = np.random.default_rng(seed)
    scale = (1.0 / np.sqrt(1 + np.arange(d))).astype(np.float32)
    rows = np.empty((n, d), dtype=np.float32)
    for start in range(0, n, 40):
        part = rows[start : start + 40]
        part[:] = rng.normal(size=d) + 0.7 * rng.normal(size=part.shape)
        part[:] += np.linspace(-1, 1, len(part))[:, None] * rng.normal(size=d)
        part *= scale
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows


def choose(selector: str, n: int, k: int, d: int, device: str) -> dict[str, Any]:
    """Time one selection in this process."""
    from napari_activeft.comparison import growing_memory
    from napari_activeft.selection import select

    vectors = slices(n, d)
    names: dict[str, Any] = {
        "keys": [f"{row:08d}" for row in range(n)],
        "groups": [row // 20 for row in range(n)],
        "cases": [row // 40 for row in range(n)],
        "positions": [row % 20 for row in range(n)],
    }
    # Loads torch and the selector, so that neither counts.
    select(vectors[:64], 4, **{a: b[:64] for a, b in names.items()}, selector=selector)
    with growing_memory() as peak:
        start = time.perf_counter()
        chosen = select(vectors, k, **names, selector=selector, device=device)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_mib": peak[0], "report": _plain(chosen.report)}


def _plain(report: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if isinstance(value, str | int | float)}


def in_a_process(selector: str, n: int, k: int, d: int, options: argparse.Namespace) -> Any:  # noqa: ANN401 - JSON
    """Run `choose` in a fresh process; a word why there is no result where it fails."""
    job = json.dumps([selector, n, k, d, options.device])
    command = [sys.executable, __file__, "--job", job, "--threads", str(options.threads)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=options.limit, check=False
        )
    except subprocess.TimeoutExpired:
        return f"over {options.limit:.0f} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1][:80]
    return json.loads(done.stdout.splitlines()[-1])


def print_selections(selectors: list[str], options: argparse.Namespace) -> None:
    """Print seconds and memory of each selector at each size."""
    print("\n| rows x picks, d | selector | seconds | MiB above the features |")
    print("|---|---|---|---|")
    for n, k, d in SIZES[: options.sizes]:
        for selector in selectors:
            made = in_a_process(selector, n, k, d, options)
            what = (
                made if isinstance(made, str) else f"{made['seconds']:.2f} | {made['peak_mib']:.0f}"
            )
            print(f"| {n:,} x {k:,}, {d} | {selector} | {what} |", flush=True)


class Published:
    """Published ActiveFT as its code computes it: tables of n x k, gradients by autograd."""

    def __init__(self, vectors: Vectors, start: Vectors, tau: float = 0.07) -> None:
        import torch

        self.torch, self.tau = torch, tau
        self.features = torch.from_numpy(vectors)
        self.centres = torch.nn.Parameter(torch.from_numpy(start.copy()))
        self.adam = torch.optim.Adam([self.centres], lr=1e-3)

    def step(self) -> None:
        """Move the centres once."""
        torch = self.torch
        theta = torch.nn.functional.normalize(self.centres, dim=1)
        near, nearest = torch.exp(self.features @ theta.T / self.tau).max(dim=1)
        apart = torch.exp(theta.detach() @ theta.T / self.tau).sum(dim=0)
        loss = -torch.log(near / (near + apart[nearest])).mean()
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()

    def found(self) -> Any:  # noqa: ANN401 - a tensor
        """Return the centres, (k, d) of length 1."""
        return self.torch.nn.functional.normalize(self.centres.detach(), dim=1)


def assigned(vectors: Vectors, centres: Any) -> list[int]:  # noqa: ANN401 - a tensor
    """Return, for each centre in turn, the most similar row that is not taken."""
    likeness = vectors @ np.asarray(centres).T
    rows: list[int] = []
    for column in likeness.T:
        column[rows] = -np.inf
        rows.append(int(column.argmax()))
    return rows


def print_published(n: int, k: int, d: int, count: int) -> None:
    """Print our two forms of the published method against the dense one, ``count`` steps."""
    import torch

    from napari_activeft.selection.activeft_cvpr2023 import (
        EXACT,
        fast_steps,
        move_centres,
        objective,
    )

    vectors = slices(n, d)
    start = vectors[np.random.default_rng(0).choice(n, k, replace=False)]
    masses = np.full(n, 1.0 / n)
    tensors = torch.from_numpy(vectors), torch.from_numpy(start)
    published = Published(vectors, start)
    dense = _timed(lambda: [published.step() for _ in range(count)])[0]
    exact, ours = _timed(lambda: move_centres(*tensors, masses, EXACT))
    fast, quick = _timed(lambda: move_centres(*tensors, masses, fast_steps(n, k), seed=0))
    print(f"\npublished ActiveFT, {n:,} x {k:,}, d {d}, {torch.get_num_threads()} threads")
    print(f"  dense: {1e3 * dense / count:.1f} ms a step ({count} steps measured)")
    print(
        f"  exact: {1e3 * exact / EXACT.count:.1f} ms a step, "
        f"{dense / count * EXACT.count / exact:.2f} x"
    )
    total = dense / count * EXACT.count
    print(f"  fast: {fast:.2f} s in all against {total:.1f} s, {total / fast:.1f} x")
    rows = {"exact": assigned(vectors, ours), "fast": assigned(vectors, quick)}
    if count == EXACT.count:
        rows["dense"] = assigned(vectors, published.found())
        same = sum(a == b for a, b in zip(rows["dense"], rows["exact"], strict=True))
        print(f"  picks of exact that are those of dense: {same} of {k}")
    worth = {a: objective(tensors[0], tensors[0][b], masses) for a, b in rows.items()}
    base = worth.get("dense", worth["exact"])
    for name, value in worth.items():
        print(f"  objective of the picks, {name}: {value:.5f} ({100 * (value / base - 1):+.3f} %)")


def print_sinkhorn(n: int, k: int, d: int) -> None:
    """Print one outer step of ours (two sweeps, warm) against one solve of POT."""
    import ot
    import torch

    from napari_activeft.selection.transport import Pool, sweep

    vectors = slices(n, d)
    support = vectors[np.random.default_rng(0).choice(n, k, replace=False)]
    costs = (2 - 2 * vectors.astype(np.float64) @ support.T).clip(0)
    pool = Pool(vectors, np.full(n, 1.0 / n))
    wanted, points = torch.full((k,), 1.0 / k), torch.from_numpy(support)
    print(f"\none outer step of transport, {n:,} x {k:,}, d {d}")
    for share in (0.05, 0.02):
        eps = share * float(np.median(costs))

        def outer(eps: float = eps) -> None:
            g = torch.zeros(k)
            for last in (False, True):
                g = sweep(pool, points, wanted, g, eps, barycentres=last).potentials

        outer()
        ours = min(_timed(outer)[0] for _ in range(5))
        solve = _timed(
            lambda eps=eps: ot.bregman.sinkhorn_log(
                np.full(n, 1.0 / n), np.full(k, 1.0 / k), costs, eps, numItermax=500, warn=False
            )
        )[0]
        print(
            f"  eps {share} of the median: ours {1e3 * ours:.1f} ms, POT sinkhorn_log (at most "
            f"500 iterations) {1e3 * solve:.0f} ms, {solve / ours:.0f} x"
        )


def print_growth(selectors: list[str], options: argparse.Namespace) -> None:
    """Print seconds over n and k, and write them as CSV and as a log-log plot."""
    print("\n| rows x picks, d 64 | " + " | ".join(selectors) + " |")
    print("|---" * (len(selectors) + 1) + "|")
    lines = ["rows,picks,selector,seconds,peak_mib"]
    for n, k in (size for size in GROWTH if size[0] <= options.growth):
        cells = []
        for selector in selectors:
            made = in_a_process(selector, n, k, 64, options)
            failed = isinstance(made, str)
            cells.append(made if failed else f"{made['seconds']:.1f} s, {made['peak_mib']:.0f} MiB")
            if not failed:
                lines.append(f"{n},{k},{selector},{made['seconds']},{made['peak_mib']}")
        print(f"| {n:,} x {k:,} | " + " | ".join(cells) + " |", flush=True)
    RESULTS.mkdir(exist_ok=True)
    table = RESULTS / "selection_growth.csv"
    table.write_text("\n".join(lines) + "\n")
    for selector in selectors:
        draw_growth(table, selector, RESULTS / f"selection_growth_{selector}.png")


def draw_growth(table: Path, selector: str, picture: Path) -> None:
    """Draw seconds over rows, a line for each number of picks, both axes logarithmic."""
    from matplotlib.figure import Figure

    with table.open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["selector"] == selector]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for picks in sorted({int(row["picks"]) for row in rows}):
        points = sorted(
            (int(row["rows"]), float(row["seconds"])) for row in rows if int(row["picks"]) == picks
        )
        axes.loglog(*zip(*points, strict=True), marker="o", label=f"{picks:,} picks")
    axes.set(xlabel="rows (d 64)", ylabel="seconds, two threads", title=selector)
    axes.grid(which="both", alpha=0.2)
    axes.legend()
    figure.savefig(picture, dpi=120)


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = run()
    return time.perf_counter() - start, found


def main() -> None:
    """Run one job of a child process, or all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job", help="of a child process: JSON")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--selectors", nargs="*", default=["activeft", "kmeans", "maxherding"])
    parser.add_argument("--sizes", type=int, default=3, help="how many of the three")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds a selection may take")
    parser.add_argument("--growth", type=int, default=0, help="largest n of the growth table")
    parser.add_argument("--only", choices=("selections", "published", "sinkhorn", "growth"))
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    if options.job:
        print(json.dumps(choose(*json.loads(options.job))))
        return
    print(f"{options.threads} threads, torch {torch.__version__}, {options.device}")
    if options.only in (None, "sinkhorn"):
        print_sinkhorn(1841, 368, 768)
    if options.only in (None, "published"):
        print_published(1841, 368, 768, 300)
        print_published(10_000, 500, 384, 300)
    if options.only in (None, "selections"):
        print_selections(options.selectors, options)
    if options.only == "growth" or options.growth:
        options.growth = options.growth or 100_000
        print_growth(options.selectors, options)


if __name__ == "__main__":
    main()
