"""How well every selector's picks stand for a pool: rW1 over pools, budgets and seeds.

Runs `comparison.compare`, cell by cell into ``benchmarks/results/selection_quality/cells.csv``;
stopped and run again it goes on. scikit-activeml's selectors take part where it is installed
(``pip install scikit-activeml -c constraints.txt``). A cell of the summary is one pool with one
budget; a rival's value is its mean over the seeds.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from selection_pools import pools

from napari_activeft.comparison import Choose, choose_by, compare, write_tables
from napari_activeft.comparison_tables import (
    Comparison,
    Standing,
    paired_excess,
    read_cells,
)
from napari_activeft.feature_sets import FeatureSet
from napari_activeft.selection import SELECTORS, select
from napari_activeft.selection.coverage import CoverageMeter
from napari_activeft.settings import ActiveFTSettings, SelectSettings

HERE = Path(__file__).parent
BUDGETS = (0.01, 0.02, 0.05, 0.1, 0.2)
OURS = "activeft"
# The same method, so neither a rival of the default nor of itself.
VARIANTS = (OURS, "activeft, plain")
PLAIN = SelectSettings(activeft=ActiveFTSettings(cover_cases=False, reweight=0.0))
OUTSIDERS = ("TypiClust", "ProbCover", "CoreSet")


def contenders(wanted: Sequence[str]) -> dict[str, Choose]:
    """Return every selector that works on features alone, ours first, and the outsiders."""
    found = {name: choose_by(name) for name, entry in SELECTORS.items() if not entry.needs_scores}
    found["activeft, plain"] = choose_by(OURS, PLAIN)
    if find_spec("skactiveml"):
        found |= {f"skactiveml {name}": partial(_skactiveml, name) for name in OUTSIDERS}
    return {name: choose for name, choose in found.items() if not wanted or name in wanted}


def _skactiveml(name: str, pool: FeatureSet, budget: int, seed: int) -> Sequence[int]:
    """Ask scikit-activeml with its own defaults; vectors of length 1, no labels yet."""
    import skactiveml.pool

    vectors = pool.vectors / np.linalg.norm(pool.vectors, axis=1, keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        strategy = getattr(skactiveml.pool, name)(random_state=seed)
        rows = strategy.query(vectors, np.full(len(vectors), np.nan), batch_size=budget)
    return [int(row) for row in rows]


def print_summary(made: Comparison) -> None:
    """Print what the issue asks for."""
    cells: dict[tuple[str, int], dict[str, Standing]] = {}
    for row in made.standings:
        cells.setdefault((row.features, row.budget), {})[row.selector] = row
    print("\n| pool | slices | activeft | best rival | its rW1 | excess over it (95 %) |")
    print("|---|---|---|---|---|---|")
    lowest, clear, worst = 0, 0, -np.inf
    near, cases, counted = [], 0, 0
    for (pool, budget), rows in cells.items():
        rivals = [row for name, row in rows.items() if name not in VARIANTS]
        if OURS not in rows or not rivals:
            continue
        counted += 1
        best = min(rivals, key=lambda row: row.means["rw1"])
        excess, low, high = _excess(made, pool, budget, best.selector)
        lowest, clear, worst = lowest + (excess <= 0), clear + (high < 0), max(worst, excess)
        print(
            f"| {pool} | {budget} | {rows[OURS].means['rw1']:.4f} | {best.selector} | "
            f"{best.means['rw1']:.4f} | {100 * excess:+.2f} % ({100 * low:+.2f} to "
            f"{100 * high:+.2f}) |"
        )
        if "maxherding" in rows:
            near.append(rows[OURS].means["nearest_mean"] / rows["maxherding"].means["nearest_mean"])
        if "stratified_random" in rows:
            cases += rows[OURS].means["cases"] >= rows["stratified_random"].means["cases"]
    if not counted:
        return
    print(
        f"\nlowest rW1 in {lowest} of {counted} cells, its interval under the best rival in {clear}"
    )
    print(f"worst excess over the best rival: {100 * worst:+.2f} %")
    if near:
        print(
            f"mean nearest-neighbour distance against maxherding: median {np.median(near):.3f}, "
            f"worst {max(near):.3f}, within 3 % in {sum(n <= 1.03 for n in near)} of {len(near)}"
        )
    print(f"at least the cases of stratified_random in {cases} of {counted} cells")


def _excess(made: Comparison, pool: str, budget: int, rival: str) -> tuple[float, float, float]:
    """Return ours over a rival, less 1, paired by seed."""
    values: dict[str, dict[int, float]] = {OURS: {}, rival: {}}
    for cell in made.cells:
        if (cell.features, cell.budget) == (pool, budget) and cell.selector in values:
            values[cell.selector][cell.seed] = cell.figures.w1
    pairs = [(w1, values[rival][s]) for s, w1 in values[OURS].items() if s in values[rival]]
    return paired_excess(pairs)


def print_snapping(folder: Path, wanted: Sequence[str], share: float = 0.05) -> None:
    """Print what is lost from centres to real slices, and what the exchanges win back."""
    print("\n| pool | slices | centres | snapped | after exchanges | W1: activeft | kmeans |")
    print("|---|---|---|---|---|---|---|")
    for pool in pools(folder, []):
        if wanted and pool.name not in wanted:
            continue
        k = max(1, round(share * len(pool.vectors)))
        about = {"keys": pool.keys, "groups": pool.groups, "cases": pool.cases}
        about |= {"positions": pool.positions}
        ours = select(pool.vectors, k, **about, selector=OURS)
        cheap = select(pool.vectors, k, **about, selector="kmeans")
        meter = CoverageMeter(pool.vectors)
        values = [ours.report["objective_of_centres"], ours.report["objective_of_snapped"]]
        values += [ours.report["objective"], meter.w1(ours.rows), meter.w1(cheap.rows)]
        print(f"| {pool.name} | {k} | " + " | ".join(f"{v:.4f}" for v in values) + " |", flush=True)


def main() -> None:
    """Run what is missing and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "selection_quality")
    parser.add_argument("--features", type=Path, default=HERE / "results" / "pools")
    parser.add_argument("--network", action="append", default=[], help="one more encoder")
    parser.add_argument("--pools", nargs="*", default=[], help="names of pools; all by default")
    parser.add_argument("--selectors", nargs="*", default=[], help="all by default")
    parser.add_argument("--budgets", nargs="*", type=float, default=BUDGETS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trust", action="store_true", help="keep cells of an earlier code")
    parser.add_argument("--only-print", action="store_true", help="run nothing")
    parser.add_argument("--snapping", action="store_true", help="print only the snapping loss")
    options = parser.parse_args()
    if options.snapping:
        print_snapping(options.features, options.pools)
        return
    if options.only_print:
        print_summary(write_tables(read_cells(options.out / "cells.csv"), OURS, options.out))
        return
    for pool in pools(options.features, options.network):
        if options.pools and pool.name not in options.pools:
            continue
        # 1 % of a small pool may be no slice: one is the least.
        sizes = sorted({max(1, round(share * len(pool.vectors))) for share in options.budgets})
        print(f"{pool.name}: {pool.vectors.shape}, budgets {sizes}", flush=True)
        found = contenders(options.selectors)
        compare(
            [pool],
            found,
            sizes,
            range(options.seeds),
            options.out,
            reference=OURS if OURS in found else next(iter(found)),
            trust=options.trust,
        )
    print_summary(write_tables(read_cells(options.out / "cells.csv"), OURS, options.out))


if __name__ == "__main__":
    main()
