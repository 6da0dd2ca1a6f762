"""Selectors against each other on pools of features.

A cell is one selector on one pool with one budget and one seed. Each cell is written to
``cells.csv`` as it comes, and a later run with the same folder skips what is there, if it was made
under the same settings by the same code. Differences from a reference selector are paired by
seed and carry bootstrap intervals.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from napari_activeft import __version__
from napari_activeft.comparison_tables import (
    Cell,
    Comparison,
    append_cell,
    changed_settings,
    code_hash,
    read_cells,
    settings_hash,
    summarise,
    write_cells,
    write_summary,
)
from napari_activeft.errors import OnProgress, UserError, no_progress
from napari_activeft.feature_sets import FeatureSet
from napari_activeft.select_arguments import select_arguments
from napari_activeft.selection.coverage import CoverageMeter
from napari_activeft.settings import Budget, SelectSettings

Choose = Callable[[FeatureSet, int, int], Sequence[int] | NDArray[np.integer[Any]]]
"""A selector: a pool, a budget and a seed to ranked rows."""


def choose_by(selector: str, settings: SelectSettings = SelectSettings()) -> Choose:
    """Return the package's selector of this name as a contender, with the settings of `select`."""
    from napari_activeft.selection import select

    def choose(pool: FeatureSet, budget: int, seed: int) -> NDArray[np.int64]:
        own = settings.model_copy(update={"selector": selector, "seed": seed})
        return select(
            pool.vectors,
            budget,
            keys=pool.keys,
            groups=pool.groups,
            cases=pool.cases,
            positions=pool.positions,
            **select_arguments(own, pool.emptiness),
        ).rows

    return choose


def compare(
    pools: Sequence[FeatureSet],
    selectors: Sequence[str] | Mapping[str, Choose],
    budgets: Sequence[str | float | Budget],
    seeds: Sequence[int],
    out: Path,
    *,
    reference: str = "activeft",
    draws: int = 50,
    settings: SelectSettings = SelectSettings(),
    trust: bool = False,
    on_progress: OnProgress = no_progress,
) -> Comparison:
    """Run every selector on every pool with every budget and seed, and write the tables.

    Parameters
    ----------
    selectors
        Names of `selection.SELECTORS`, or functions by name.
    budgets
        Shares or counts, see `Budget.parse`; a budget that a pool cannot meet is an error.
    out
        Folder for ``cells.csv``, ``summary.csv`` and ``comparison.html``; what ``cells.csv``
        holds already is not run again. Cells that other code made are dropped from it.
    reference
        The selector that the others are set against.
    draws
        Random draws behind rW1.
    settings
        How the named selectors choose; budget, selector, seed and encoder are of no account.
    trust
        Take cells whichever code made them, and drop none: for who knows that what has changed
        since does not act on them.

    Raises
    ------
    UserError
        If there is nothing to compare, the reference does not take part, two pools bear one name,
        or a folder cannot be written.
    """
    contenders = _contenders(selectors, settings)
    plan = _plan(pools, contenders, budgets, seeds, reference)
    path = _folder(out) / "cells.csv"
    cells = _known(path, trust)
    conditions = (draws, settings_hash(settings))
    wanted: list[Cell] = []
    reused, warm = 0, set[str]()
    measured: FeatureSet | None = None
    for at, (pool, name, budget, seed) in enumerate(plan):
        cell = cells.get((pool.digest, name, budget, seed, *conditions))
        if cell is not None:
            reused += 1
        else:
            if measured is not pool:
                measured, meter = pool, _meter(pool, draws, cells.values())
            if name not in warm:
                warm.add(name)
                contenders[name](_warm_up_pool(pool), 2, 0)
            cell = _run(pool, name, contenders[name], budget, seed, meter, settings)
            append_cell(path, cell)
        wanted.append(cell)
        on_progress(at + 1, len(plan))
    return write_tables(wanted, reference, out, reused)


def _known(path: Path, trust: bool) -> dict[tuple[Any, ...], Cell]:
    """Return the cells that may be taken from earlier runs; the others leave the table."""
    found = read_cells(path)
    kept = [cell for cell in found if trust or cell.code == code_hash()]
    if len(kept) < len(found):
        write_cells(path, kept)
    return {cell.name: cell for cell in kept}


def write_tables(cells: Sequence[Cell], reference: str, out: Path, reused: int = 0) -> Comparison:
    """Summarise cells and write ``summary.csv`` and ``comparison.html`` into a folder."""
    from napari_activeft.reports.comparison_page import comparison_page

    standings = summarise(cells, reference)
    made = Comparison(
        reference,
        list(cells),
        standings,
        out / "cells.csv",
        out / "summary.csv",
        out / "comparison.html",
        reused,
    )
    write_summary(made.summary_csv, standings)
    made.page.write_text(comparison_page(made), encoding="utf-8")
    return made


def _contenders(
    selectors: Sequence[str] | Mapping[str, Choose], settings: SelectSettings
) -> dict[str, Choose]:
    if isinstance(selectors, Mapping):
        return dict(selectors)
    from napari_activeft.selection import SELECTORS

    for name in selectors:
        if name not in SELECTORS:
            raise UserError(
                f"the selector {name!r} is not known: choose among {', '.join(SELECTORS)}"
            )
    return {name: choose_by(name, settings) for name in selectors}


def _plan(
    pools: Sequence[FeatureSet],
    contenders: Mapping[str, Choose],
    budgets: Sequence[str | float | Budget],
    seeds: Sequence[int],
    reference: str,
) -> list[tuple[FeatureSet, str, int, int]]:
    if not (pools and contenders and budgets and seeds):
        raise UserError(
            f"{len(pools)} feature files, {len(contenders)} selectors, {len(budgets)} budgets and "
            f"{len(seeds)} seeds were given: give at least one of each"
        )
    if reference not in contenders:
        raise UserError(
            f"the reference {reference!r} is not among the selectors {', '.join(contenders)}: add "
            "it to them, or set them against one of these with --reference"
        )
    names = [pool.name for pool in pools]
    if len(set(names)) < len(names):
        raise UserError(
            f"two feature files bear one name among {', '.join(names)}: rename one of them"
        )
    plan = []
    for pool in pools:
        n = len(pool.vectors)
        sizes = dict.fromkeys(Budget.parse(budget).slices(n, n) for budget in budgets)
        plan += [(pool, name, k, seed) for k in sizes for name in contenders for seed in seeds]
    return plan


def _folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as refusal:
        raise UserError(
            f"{out} cannot be made ({refusal.strerror or refusal}): name another folder"
        ) from refusal
    return out


def _meter(pool: FeatureSet, draws: int, known: Iterable[Cell]) -> CoverageMeter:
    """Return the pool's meter; what earlier cells say of random draws is not measured again."""
    meter = CoverageMeter(
        pool.vectors,
        groups=pool.groups,
        cases=pool.cases,
        positions=pool.positions,
        emptiness=pool.emptiness,
        outside=pool.outside,
        draws=draws,
    )
    for cell in known:
        about = cell.figures
        if cell.digest == pool.digest and about.draws == draws and about.draw_seed == meter.seed:
            out = None if about.rw1_out is None else (about.w1_out or 0.0) / about.rw1_out
            meter.know_random(cell.budget, about.random_w1, out)
    return meter


def _warm_up_pool(pool: FeatureSet) -> FeatureSet:
    """Return 12 rows: what loads and compiles on the first call does so here, untimed."""
    size = pool.vectors.shape[1]
    return FeatureSet.of("warm-up", np.random.default_rng(0).normal(size=(12, size)))


def _run(
    pool: FeatureSet,
    name: str,
    choose: Choose,
    budget: int,
    seed: int,
    meter: CoverageMeter,
    settings: SelectSettings,
) -> Cell:
    with growing_memory() as peak:
        start = time.perf_counter()
        rows = np.asarray(choose(pool, budget, seed))
        seconds = time.perf_counter() - start
    if len(rows) != budget:
        raise ValueError(f"{name} chose {len(rows)} rows instead of {budget}: mend the selector")
    figures = meter.figures(rows)
    return Cell(
        pool.name,
        pool.digest,
        name,
        budget,
        seed,
        seconds,
        peak[0],
        figures,
        changed_settings(settings),
        settings_hash(settings),
        __version__,
        code_hash(),
    )


@contextmanager
def growing_memory() -> Iterator[list[float]]:
    """Watch by how many MiB this process grows; read every 10 ms by a thread."""
    process, done, peak = psutil.Process(os.getpid()), threading.Event(), [0.0]
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], (process.memory_info().rss - before) / 2**20)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
