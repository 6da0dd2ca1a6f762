"""The figures of a comparison as tables: runs, what they come to, and the files that hold them."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import UserError
from napari_activeft.selection.coverage import CoverageFigures

METRICS = (
    "rw1",
    "rw1_out",
    "nearest_mean",
    "radius_95",
    "radius_max",
    "energy",
    "cases",
    "volumes",
    "most_in_volume",
    "adjacent_share",
    "empty_share",
    "seconds",
    "peak_mib",
)
_RESAMPLES = 10_000


@dataclass(frozen=True)
class Cell:
    """One run of a selector.

    Attributes
    ----------
    features, digest
        Name of the pool and a hash of its vectors, see `FeatureSet`.
    selector, budget, seed
        What ran; the budget is in slices.
    seconds, peak_mib
        Of the choice alone; the memory is what the process grew by at most.
    figures
        Coverage of the picks.
    """

    features: str
    digest: str
    selector: str
    budget: int
    seed: int
    seconds: float
    peak_mib: float
    figures: CoverageFigures

    @property
    def name(self) -> tuple[str, str, int, int]:
        """Return what tells cells of one comparison apart."""
        return self.digest, self.selector, self.budget, self.seed

    def metric(self, name: str) -> float:
        """Return one of `METRICS`; NaN where it was not measured."""
        value = getattr(self if name in ("seconds", "peak_mib") else self.figures, name)
        return float("nan") if value is None else float(value)


@dataclass(frozen=True)
class Standing:
    """A selector on one pool with one budget, over all seeds.

    Attributes
    ----------
    means
        By metric, over the seeds.
    excess, low, high
        By how much its mean rW1 exceeds the reference's, as a share of it, and the 95 % interval
        by paired bootstrap over the seeds; NaN without the reference.
    """

    features: str
    selector: str
    budget: int
    seeds: int
    means: dict[str, float]
    excess: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """What `compare` hands back: the cells, their summary, and the files that hold them."""

    reference: str
    cells: list[Cell]
    standings: list[Standing]
    cells_csv: Path
    summary_csv: Path
    page: Path


def summarise(cells: Sequence[Cell], reference: str) -> list[Standing]:
    """Return one standing per pool, budget and selector, in the order of the cells."""
    runs: dict[tuple[str, int, str], dict[int, Cell]] = {}
    for cell in cells:
        runs.setdefault((cell.features, cell.budget, cell.selector), {})[cell.seed] = cell
    found = []
    for (features, budget, selector), by_seed in runs.items():
        means = {
            metric: float(np.mean([cell.metric(metric) for cell in by_seed.values()]))
            for metric in METRICS
        }
        against = runs.get((features, budget, reference), {})
        pairs = [(by_seed[s].figures.w1, against[s].figures.w1) for s in by_seed if s in against]
        interval = paired_excess(pairs) if pairs else (float("nan"),) * 3
        found.append(Standing(features, selector, budget, len(by_seed), means, *interval))
    return found


def paired_excess(
    pairs: Sequence[tuple[float, float]], seed: int = 0
) -> tuple[float, float, float]:
    """Return by how much the first of each pair exceeds the second: mean, and 95 % interval.

    The mean is that of the firsts over that of the seconds, less 1; pairs are drawn together.
    """
    values = np.asarray(pairs, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(values), (_RESAMPLES, len(values)))
    sums = values[drawn].sum(axis=1)
    whole = values.sum(axis=0)
    excess = _over(whole[:1], whole[1:])[0]
    low, high = np.quantile(_over(sums[:, 0], sums[:, 1]), (0.025, 0.975))
    return float(excess), float(low), float(high)


def _over(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return first / second - 1; 0 where both are 0."""
    equal = np.isclose(first, second, rtol=1e-12, atol=1e-12)
    return np.where(equal, 0.0, first / np.where(second > 0, second, np.nan) - 1)


def read_cells(path: Path) -> list[Cell]:
    """Return the cells that a ``cells.csv`` holds.

    Raises
    ------
    UserError
        If the file is not one of these.
    """
    lines = _whole_lines(path).decode("utf-8").splitlines()
    if not lines:
        return []
    reader = csv.DictReader(lines)
    if tuple(reader.fieldnames or ()) != _columns():
        raise UserError(
            f"{path} does not hold the columns of a comparison of this version: name another "
            "folder, or remove the file"
        )
    return [_cell(row) for row in reader]


def _columns() -> tuple[str, ...]:
    own = [field.name for field in dataclasses.fields(Cell) if field.name != "figures"]
    return (*own, *(field.name for field in dataclasses.fields(CoverageFigures)))


def append_cell(path: Path, cell: Cell) -> None:
    """Add a line to a ``cells.csv``; what a killed process left of one is cut off."""
    flat = dataclasses.asdict(cell)
    flat |= flat.pop("figures")
    whole = len(_whole_lines(path))
    with path.open("a", newline="", encoding="utf-8") as file:
        file.truncate(whole)
        writer = csv.DictWriter(file, _columns(), lineterminator="\n")
        if not whole:
            writer.writeheader()
        writer.writerow(flat)


def _whole_lines(path: Path) -> bytes:
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def _cell(row: Mapping[str, str]) -> Cell:
    own = {f.name: _value(row[f.name], str(f.type)) for f in dataclasses.fields(Cell)[:-1]}
    figures = {
        f.name: _value(row[f.name], str(f.type)) for f in dataclasses.fields(CoverageFigures)
    }
    return Cell(**own, figures=CoverageFigures(**figures))


def write_summary(path: Path, standings: Sequence[Standing]) -> None:
    """Write one line per standing, the means of all metrics in it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        fixed = ("features", "budget", "selector", "seeds", "excess", "low", "high")
        writer.writerow([*fixed, *METRICS])
        for row in standings:
            writer.writerow(
                [getattr(row, name) for name in fixed] + [row.means[name] for name in METRICS]
            )


def _value(text: str, kind: str) -> Any:  # noqa: ANN401 - what the field's type says
    if kind == "str" or not text:
        return text or None
    return int(text) if kind == "int" else float(text)
