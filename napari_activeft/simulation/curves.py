"""What cells come to: means over classes and volumes, with intervals over cases and seeds.

Symbols: s seeds, c cases; S and N sums and counts of a figure in each pair of them, (s, c).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_activeft.simulation.cells import Cell, Known, Measurement
from napari_activeft.simulation.plan import ALL
from napari_activeft.training.metric_tables import LEAST_CASES
from napari_activeft.training.metrics import TOGETHER

_RESAMPLES = 4000
Place = tuple[str, str, str, int, int]
"""Network, selector, budget, rounds, round: what a point of a curve is about."""
_Where = tuple[int, str, str, int | None]  # seed, case, volume, position
_Values = Mapping[_Where, float]


@dataclass(frozen=True)
class Interval:
    """A mean, and its 95 % interval; NaN from fewer than 5 cases."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """One point of a learning curve.

    Attributes
    ----------
    slices
        Labelled, mean over seeds and folds.
    seeds, cases, cells
        It is the mean of.
    dice, by_class
        Of all classes together, and by class value.
    hd95_mm
        Mean; NaN where none is defined.
    labelled_cases, steps, train_seconds, step_seconds, slice_seconds
        Means over the cells.
    peak_mib
        The most of any cell.
    """

    network: str
    selector: str
    budget: str
    rounds: int
    round: int
    slices: float
    seeds: int
    cases: int
    cells: int
    dice: Interval
    by_class: Mapping[int, Interval]
    hd95_mm: float
    labelled_cases: float
    steps: float
    train_seconds: float
    step_seconds: float
    slice_seconds: float
    peak_mib: float

    @property
    def is_ceiling(self) -> bool:
        """Whether every slice was labelled, so that no selector had a choice."""
        return self.selector == ALL

    @property
    def place(self) -> Place:
        """What it is about."""
        return self.network, self.selector, self.budget, self.rounds, self.round


@dataclass(frozen=True)
class Difference:
    """By how much the Dice of one selector or network exceeds that of the reference.

    Attributes
    ----------
    kind
        selector or network: which of both differs from ``against``.
    excess
        Mean difference of the pairs.
    pairs
        Volumes (or slices) with a seed that both have.
    """

    kind: str
    network: str
    selector: str
    budget: str
    rounds: int
    round: int
    against: str
    excess: Interval
    pairs: int


@dataclass(frozen=True)
class Curves:
    """All points and differences, in the order of the plan."""

    points: list[Point]
    differences: list[Difference]


def curves_of(
    known: Known,
    plans: Iterable[str],
    class_values: Sequence[int],
    *,
    reference: str,
    networks: Sequence[str],
    seed: int = 0,
) -> Curves:
    """Return what some cells come to.

    Parameters
    ----------
    plans
        Names of the cells in the order of the plan; those that are not there are passed over.
    reference
        The selector that others are set against; the network is the first of ``networks``.
    seed
        Of the bootstrap.
    """
    groups: dict[Place, list[str]] = {}
    for plan in plans:
        if plan in known.cells:
            groups.setdefault(_place(known.cells[plan]), []).append(plan)
    values = {place: _values(known, of, TOGETHER) for place, of in groups.items()}
    points = [
        _point(known, place, of, values[place], class_values, seed) for place, of in groups.items()
    ]
    told = [
        _difference(kind, place, against, values, seed)
        for place in groups
        for kind, against in _set_against(place, reference, networks[0])
        if against in values
    ]
    return Curves(points, told)


def _place(cell: Cell) -> Place:
    return cell.network, cell.selector, cell.budget, cell.rounds, cell.round


def _set_against(place: Place, reference: str, first: str) -> list[tuple[str, Place]]:
    """Return what a point is compared with."""
    network, selector, *rest = place
    found: list[tuple[str, Place]] = []
    if selector not in (ALL, reference):
        found.append(("selector", (network, reference, *rest)))  # type: ignore[arg-type]
    if network != first:
        found.append(("network", (first, selector, *rest)))  # type: ignore[arg-type]
    return found


def _values(
    known: Known,
    plans: Iterable[str],
    value: int,
    figure: Callable[[Measurement], float] = lambda one: one.dice,
) -> dict[_Where, float]:
    """Return a figure of one class of each volume or slice and seed, where it is defined."""
    return {
        (known.cells[plan].seed, one.case, one.volume, one.position): figure(one)
        for plan in plans
        for one in known.measured[plan]
        if one.value == value and math.isfinite(figure(one))
    }


def _point(
    known: Known,
    place: Place,
    plans: Sequence[str],
    values: _Values,
    class_values: Sequence[int],
    seed: int,
) -> Point:
    cells = [known.cells[plan] for plan in plans]
    distances = list(_values(known, plans, TOGETHER, lambda one: one.hd95_mm).values())

    def mean(figure: Callable[[Cell], float]) -> float:
        return float(np.mean([figure(cell) for cell in cells]))

    return Point(
        *place,
        slices=mean(lambda cell: cell.slices),
        seeds=len({cell.seed for cell in cells}),
        cases=len({case for _, case, *_ in values}),
        cells=len(cells),
        dice=interval(values, seed),
        by_class={v: interval(_values(known, plans, v), seed) for v in class_values},
        hd95_mm=float(np.mean(distances)) if distances else math.nan,
        labelled_cases=mean(lambda cell: cell.labelled_cases),
        steps=mean(lambda cell: cell.steps),
        train_seconds=mean(lambda cell: cell.train_seconds),
        step_seconds=mean(lambda cell: cell.step_seconds),
        slice_seconds=mean(lambda cell: cell.slice_seconds),
        peak_mib=max(cell.peak_mib for cell in cells),
    )


def _difference(
    kind: str, place: Place, against: Place, values: Mapping[Place, _Values], seed: int
) -> Difference:
    mine, other = values[place], values[against]
    pairs = {where: mine[where] - other[where] for where in mine if where in other}
    named = against[1] if kind == "selector" else against[0]
    return Difference(kind, *place, named, interval(pairs, seed), len(pairs))


def interval(values: _Values, seed: int = 0) -> Interval:
    """Return the mean of some values, and the interval from drawing cases and seeds.

    Both are drawn with replacement, cases with all their volumes, each time the same for all
    figures of as many of them. One seed alone is not drawn.

    Parameters
    ----------
    values
        By (seed, case, volume, position).
    """
    if not values:
        return Interval(math.nan, math.nan, math.nan)
    seeds = sorted({where[0] for where in values})
    cases = sorted({where[1] for where in values})
    sums, counts = np.zeros((2, len(seeds), len(cases)))
    for (at, case, *_), value in values.items():
        place = seeds.index(at), cases.index(case)
        sums[place] += value
        counts[place] += 1
    mean = float(sums.sum() / counts.sum())
    if len(cases) < LEAST_CASES:
        return Interval(mean, math.nan, math.nan)
    low, high = np.percentile(_resampled(sums, counts, seed), (2.5, 97.5))
    return Interval(mean, float(low), float(high))


def _resampled(
    sums: NDArray[np.float64], counts: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    """Return the means of draws of seeds and cases."""
    rng = np.random.default_rng(seed)
    s, c = sums.shape
    of_seeds = rng.multinomial(s, np.full(s, 1 / s), _RESAMPLES)
    of_cases = rng.multinomial(c, np.full(c, 1 / c), _RESAMPLES)
    drawn = (of_seeds @ counts * of_cases).sum(1)
    found = (of_seeds @ sums * of_cases).sum(1)[drawn > 0]
    means: NDArray[np.float64] = found / drawn[drawn > 0]
    return means


def point_lines(points: Sequence[Point], names: Mapping[int, str]) -> list[dict[str, object]]:
    """Return points as lines of a table; what is not defined is None.

    Parameters
    ----------
    names
        Of the classes by value.
    """
    lines = []
    for one in points:
        line: dict[str, object] = {
            **dict(
                zip(("network", "selector", "budget", "rounds", "round"), one.place, strict=True)
            ),
            "slices": one.slices,
            "seeds": one.seeds,
            "cases": one.cases,
            "cells": one.cells,
            **_interval_told("dice", one.dice),
        }
        for value, of in one.by_class.items():
            line |= _interval_told(f"dice_{value}_{names[value]}", of)
        for name in (
            "hd95_mm",
            "labelled_cases",
            "steps",
            "train_seconds",
            "step_seconds",
            "slice_seconds",
            "peak_mib",
        ):
            line[name] = _or_none(getattr(one, name))
        lines.append(line)
    return lines


def difference_lines(differences: Sequence[Difference]) -> list[dict[str, object]]:
    """Return differences as lines of a table."""
    names = ("kind", "network", "selector", "budget", "rounds", "round", "against")
    return [
        {
            **{name: getattr(one, name) for name in names},
            **_interval_told("excess", one.excess),
            "pairs": one.pairs,
        }
        for one in differences
    ]


def as_csv(lines: Sequence[Mapping[str, object]]) -> str:
    """Return lines as CSV; None is left empty."""
    made = io.StringIO()
    table = csv.DictWriter(made, list(lines[0]) if lines else [], lineterminator="\n")
    table.writeheader()
    table.writerows({k: "" if v is None else v for k, v in line.items()} for line in lines)
    return made.getvalue()


def _interval_told(name: str, of: Interval) -> dict[str, object]:
    return {
        name: _or_none(of.mean),
        f"{name}_low": _or_none(of.low),
        f"{name}_high": _or_none(of.high),
    }


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
