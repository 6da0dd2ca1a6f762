"""The table that led to the defaults of `ActiveFTSettings`: one setting changed at a time.

    python benchmarks/activeft_tuning.py [--pools FILE.npy ...] [--budgets 0.05 0.2] [--seeds 2]

A pool is a file of vectors as `napari-activeft embed --out` writes it, with its ``.csv`` of rows
beside it where it has one. Without files it is scikit-learn's digits and a synthetic pool of
patients. Each cell is the mean over pools and budgets; rW1 is the exact transport cost from pool
to picks over that of random draws.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ot
import torch
from numpy.typing import NDArray

from napari_activeft.selection import select
from napari_activeft.selection.blocks import costs_of
from napari_activeft.settings import ActiveFTSettings

CHANGES: list[dict[str, Any]] = [
    {},
    {"walks": 0},
    {"epsilon": 0.1},
    {"epsilon": 0.02},
    {"epsilon": 0.005},
    {"lam": 0.01},
    {"lam": 0.1},
    {"lam": 1.0},
    {"rho": 1.0},
    {"rho": 0.1},
    {"nearest": 0.0},
    {"nearest": 0.25},
    {"nearest": 0.75},
    {"nearest": 1.0},
    {"reweight": 0.5},
    {"reweight": 1.0},
    {"cover_cases": False},
    {"neighbours": 6},
    {"neighbours": 24},
    {"tries": 10},
    {"tries": 100},
    {"starts": 1},
    {"starts": 8},
]
RIVALS = ("kmeans", "maxherding", "energy", "stratified_random")
_DRAWS = 10


@dataclass(frozen=True)
class Pool:
    """Vectors and where they come from."""

    name: str
    vectors: NDArray[np.float32]
    keys: list[str]
    cases: NDArray[np.int64]
    volumes: NDArray[np.int64]

    def w1(self, rows: NDArray[np.int64]) -> tuple[float, float]:
        """Return the exact transport cost to rows, and the mean distance to the nearest."""
        n, k = len(self.vectors), len(rows)
        costs = costs_of(self.vectors, np.arange(n), rows)
        cost = ot.emd2(np.full(n, 1 / n), np.full(k, 1 / k), costs, numItermax=10_000_000)
        return float(cost), float(costs.min(axis=1).mean())

    def choose(
        self, selector: str, budget: int, seed: int, change: dict[str, Any]
    ) -> NDArray[np.int64]:
        """Select."""
        options = ActiveFTSettings(**change) if selector == "activeft" else None
        ask: dict[str, Any] = {"cases": self.cases, "groups": self.volumes, "keys": self.keys}
        return select(
            self.vectors, budget, **ask, selector=selector, seed=seed, options=options
        ).rows


def unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Return rows of length 1."""
    long = vectors.astype(np.float64)
    return (long / np.linalg.norm(long, axis=1, keepdims=True)).astype(np.float32)


def from_file(path: Path) -> Pool:
    """Read a pool that `embed --out` wrote."""
    vectors = unit(np.load(path))
    table = path.with_suffix(".csv")
    if not table.exists():
        each = np.arange(len(vectors))
        return Pool(path.stem, vectors, [f"{row:07d}" for row in each], each, each)
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    cases, volumes = (
        np.unique([row[name] for row in rows], return_inverse=True)[1]
        for name in ("case", "volume")
    )
    return Pool(path.stem, vectors, [row["key"] for row in rows], cases, volumes)


def digits() -> Pool:
    """Return scikit-learn's digits, each a case of its own."""
    from sklearn.datasets import load_digits

    vectors = unit(load_digits().data)
    each = np.arange(len(vectors))
    return Pool("digits", vectors, [f"{row:07d}" for row in each], each, each)


def patients(cases: int = 60, size: int = 48) -> Pool:
    """Return 60 patients with two volumes each, their slices along smooth curves."""
    rng = np.random.default_rng(0)
    shape = rng.normal(size=(3, size))
    parts, whose, where = [], [], []
    for case in range(cases):
        own = 0.8 * rng.normal(size=size)
        for volume in range(2):
            z = np.linspace(0, 1, rng.integers(6, 22))[:, None]
            curve = shape[0] + 2 * np.cos(3 * z) * shape[1] + 2 * z * shape[2] + own
            noise = 0.15 * rng.normal(size=(len(z), size))
            parts.append(curve + 0.25 * rng.normal(size=size) + noise)
            whose += [case] * len(z)
            where += [2 * case + volume] * len(z)
    keys = [f"{row:07d}" for row in range(len(whose))]
    return Pool("patients", unit(np.concatenate(parts)), keys, np.asarray(whose), np.asarray(where))


@dataclass(frozen=True)
class Cell:
    """One selection, relative to random draws."""

    r_w1: float
    nearest: float
    cases: float
    seconds: float


def cells(
    pools: list[Pool], budgets: list[float], seeds: int, selector: str, change: dict[str, Any]
) -> Iterator[Cell]:
    """Select on every pool, for every budget and seed."""
    for pool in pools:
        for share in budgets:
            budget = max(1, round(share * len(pool.vectors)))
            rng = np.random.default_rng(0)
            draws = [rng.choice(len(pool.vectors), budget, replace=False) for _ in range(_DRAWS)]
            chance = np.mean([pool.w1(rows) for rows in draws], axis=0)
            for seed in range(seeds):
                started = time.process_time()
                rows = pool.choose(selector, budget, seed, change)
                seconds = time.process_time() - started
                cost, nearest = pool.w1(rows)
                reached = len(set(pool.cases[rows])) / budget
                yield Cell(cost / chance[0], nearest / chance[1], reached, seconds)


def line(name: str, found: list[Cell]) -> str:
    """Return one line of the table in Markdown."""
    rows = np.array([(cell.r_w1, cell.nearest, cell.cases, cell.seconds) for cell in found])
    mean = rows.mean(axis=0)
    each = " ".join(f"{value:.3f}" for value in rows[:, 0])
    return f"| {name} | {mean[0]:.4f} | {mean[1]:.4f} | {mean[2]:.3f} | {mean[3]:.2f} | {each} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pools", type=Path, nargs="*", default=[])
    parser.add_argument("--budgets", type=float, nargs="*", default=[0.05, 0.2])
    parser.add_argument("--seeds", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    pools = [from_file(path) for path in asked.pools] or [digits(), patients()]
    print(", ".join(f"{pool.name} ({len(pool.vectors)})" for pool in pools))
    print("| change | rW1 | nearest / random | cases per pick | CPU s | rW1 of each cell |")
    print("|---|---|---|---|---|---|")
    for change in CHANGES:
        name = ", ".join(f"{key} {value}" for key, value in change.items()) or "**defaults**"
        found = list(cells(pools, asked.budgets, asked.seeds, "activeft", change))
        print(line(name, found), flush=True)
    for rival in RIVALS:
        found = list(cells(pools, asked.budgets, asked.seeds, rival, {}))
        print(line(rival, found), flush=True)


if __name__ == "__main__":
    main()
