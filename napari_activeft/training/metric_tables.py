"""Figures of many volumes or slices as tables: what they come to, and how sure that is.

A patient's volumes resemble each other, so the interval comes from drawing patients (cases), not
volumes: a bootstrap that takes all rows of each case that it draws.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_activeft.training.metrics import METRICS, TOGETHER, Measured

LEAST_CASES = 5
"""An interval from fewer cases would say little: none is given."""
RESAMPLES = 10_000


@dataclass(frozen=True)
class Row:
    """What was measured of one volume, or of one slice.

    Attributes
    ----------
    case, split
        Of the patient or examination.
    position
        Of the slice; None where the figures are those of the volume.
    """

    volume: str
    case: str
    split: str
    position: int | None
    figures: Measured


@dataclass(frozen=True)
class Summary:
    """What the values of one figure come to.

    Attributes
    ----------
    rows, cases
        In which it is defined.
    left_out
        Rows in which it is not.
    mean, median
        Over the rows; NaN where there are none.
    low, high
        The 95 % interval of the mean by a bootstrap over cases; NaN from fewer than 5.
    """

    rows: int
    cases: int
    left_out: int
    mean: float
    median: float
    low: float
    high: float


Summaries = dict[int, dict[str, Summary]]
"""By class value, `TOGETHER` first, and name of the figure."""


class Resampling:
    """Draws of cases with replacement, the same ones for all figures of as many cases."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._drawn: dict[int, NDArray[np.int32]] = {}

    def interval(
        self, values: NDArray[np.float64], case_of: NDArray[np.intp]
    ) -> tuple[float, float]:
        """Return the 95 % interval of the mean, drawing cases with all their values.

        Parameters
        ----------
        values, case_of
            (m,) each; cases are numbered from 0.
        """
        cases = int(case_of.max()) + 1
        if cases < LEAST_CASES:
            return math.nan, math.nan
        drawn = self._draws(cases)
        sums = np.bincount(case_of, values, minlength=cases)
        sizes = np.bincount(case_of, minlength=cases)
        low, high = np.percentile((drawn @ sums) / (drawn @ sizes), (2.5, 97.5))
        return float(low), float(high)

    def _draws(self, cases: int) -> NDArray[np.int32]:
        """Return how often each case is drawn, (resamples, cases)."""
        if cases not in self._drawn:
            rng = np.random.default_rng(self._seed)
            drawn = rng.multinomial(cases, np.full(cases, 1 / cases), RESAMPLES)
            self._drawn[cases] = drawn.astype(np.int32)
        return self._drawn[cases]


def summaries(rows: Sequence[Row], *, seed: int = 0) -> Summaries:
    """Return what every figure of every class comes to.

    Parameters
    ----------
    seed
        Of the bootstrap.
    """
    values = list(rows[0].figures) if rows else []
    cases = [row.case for row in rows]
    resampling = Resampling(seed)
    return {
        value: {
            name: summarised([row.figures[value][name] for row in rows], cases, resampling)
            for name in METRICS
        }
        for value in values
    }


def summarised(
    values: Sequence[float], cases: Sequence[str], resampling: Resampling | None = None
) -> Summary:
    """Return what some values come to; NaN among them is left out.

    Parameters
    ----------
    cases
        The case of each value.
    resampling
        For the interval; one of seed 0 by default.
    """
    defined = [(v, case) for v, case in zip(values, cases, strict=True) if math.isfinite(v)]
    if not defined:
        return Summary(0, 0, len(values), *[math.nan] * 4)
    kept = np.array([value for value, _ in defined])
    names, case_of = np.unique([case for _, case in defined], return_inverse=True)
    low, high = (resampling or Resampling()).interval(kept, case_of)
    return Summary(
        rows=len(kept),
        cases=len(names),
        left_out=len(values) - len(kept),
        mean=float(kept.mean()),
        median=float(np.median(kept)),
        low=low,
        high=high,
    )


def as_csv(rows: Sequence[Row], class_names: Mapping[int, str]) -> str:
    """Return rows in long form, one line a figure; a figure that is not defined is left empty.

    Parameters
    ----------
    class_names
        By class value.
    """
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    of_slices = any(row.position is not None for row in rows)
    place = ["slice"] if of_slices else []
    writer.writerow(["volume", "case", "split", *place, "class", "class_name", "metric", "value"])
    for row in rows:
        where = [row.volume, row.case, row.split, *([row.position] if of_slices else [])]
        for which, name, metric, value in _figures(row.figures, class_names):
            writer.writerow([*where, which, name, metric, "" if math.isnan(value) else repr(value)])
    return written.getvalue()


def _figures(
    figures: Measured, class_names: Mapping[int, str]
) -> Iterator[tuple[str, str, str, float]]:
    for value, of_class in figures.items():
        together = value == TOGETHER
        which, name = ("all", "all classes") if together else (str(value), class_names[value])
        for metric, number in of_class.items():
            yield which, name, metric, number


def as_json(made: Summaries, class_names: Mapping[int, str]) -> dict[str, dict[str, object]]:
    """Return summaries as JSON holds them, by class value (``all`` for all) and metric.

    What is not defined is null: NaN is no JSON.
    """
    told: dict[str, dict[str, object]] = {}
    for value, of_class in made.items():
        together = value == TOGETHER
        metrics: dict[str, object] = {
            metric: {
                name: None if isinstance(number, float) and math.isnan(number) else number
                for name, number in vars(summary).items()
            }
            for metric, summary in of_class.items()
        }
        name = "all classes" if together else class_names[value]
        told["all" if together else str(value)] = {"name": name, **metrics}
    return told
