"""The figures of a comparison as tables: runs, what they come to, and the files that hold them."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft import selection
from napari_activeft.errors import UserError
from napari_activeft.reuse import hash_of_sources, whole_lines
from napari_activeft.selection.coverage import CoverageFigures
from napari_activeft.settings import SelectSettings

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
    "grew_by_mib",
)
LEAST_SEEDS = 5
"""An interval from fewer seeds would say little: none is given."""

_NOT_OF_A_CELL = {"budget", "selector", "seed", "encoder", "map_by"}
_NEW_COLUMNS = ("settings", "settings_hash", "version", "code")
_WITHOUT_CODE = 3  # of these, in tables that do not say which code chose
_VERSION_BEFORE = "0.1.0"  # of cells that do not say theirs
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
        Of the choice alone. The memory is what the process grew by at most: less than the choice
        took where earlier cells left memory to it.
    figures
        Coverage of the picks.
    settings, settings_hash
        Which settings of `select` were not the defaults, and a hash of them all.
    version, code
        Of this program, and a hash of the source of its selectors and figures, see `code_hash`;
        empty where a table does not say.
    """

    features: str
    digest: str
    selector: str
    budget: int
    seed: int
    seconds: float
    peak_mib: float
    figures: CoverageFigures
    settings: str
    settings_hash: str
    version: str
    code: str = ""

    @property
    def name(self) -> tuple[str, str, int, int, int, str]:
        """Return what tells cells of one code apart: what ran on what, under which settings."""
        conditions = (self.figures.draws, self.settings_hash)
        return self.digest, self.selector, self.budget, self.seed, *conditions

    def metric(self, name: str) -> float:
        """Return one of `METRICS`; NaN where it was not measured."""
        own = {"seconds": self.seconds, "grew_by_mib": self.peak_mib}
        value = own[name] if name in own else getattr(self.figures, name)
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
        by paired bootstrap over the seeds. All NaN without the reference; the interval is NaN from
        fewer than 5 seeds, and where the seed changed neither of both.
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
    """What `compare` hands back: the cells, their summary, and the files that hold them.

    Of the cells, ``reused`` were there from earlier runs under the same settings.
    """

    reference: str
    cells: list[Cell]
    standings: list[Standing]
    cells_csv: Path
    summary_csv: Path
    page: Path
    reused: int = 0


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
        if len(set(pairs)) == 1:
            interval = (interval[0], float("nan"), float("nan"))
        found.append(Standing(features, selector, budget, len(by_seed), means, *interval))
    return found


def paired_excess(
    pairs: Sequence[tuple[float, float]], seed: int = 0
) -> tuple[float, float, float]:
    """Return by how much the first of each pair exceeds the second: mean, and 95 % interval.

    The mean is that of the firsts over that of the seconds, less 1; pairs are drawn together. The
    interval is NaN for fewer than 5 pairs.
    """
    values = np.asarray(pairs, dtype=np.float64)
    whole = values.sum(axis=0)
    excess = _over(whole[:1], whole[1:])[0]
    if len(values) < LEAST_SEEDS:
        return float(excess), float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(0, len(values), (_RESAMPLES, len(values)))
    sums = values[drawn].sum(axis=1)
    low, high = np.quantile(_over(sums[:, 0], sums[:, 1]), (0.025, 0.975))
    return float(excess), float(low), float(high)


def _over(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return first / second - 1; 0 where both are 0."""
    equal = np.isclose(first, second, rtol=1e-12, atol=1e-12)
    return np.where(equal, 0.0, first / np.where(second > 0, second, np.nan) - 1)


@cache
def code_hash() -> str:
    """Return 12 digits of the SHA-256 of the source of the selectors and figures.

    What was chosen or measured by other code, within one version too, may be another thing.
    """
    folder = Path(selection.__file__).parent
    files = sorted(folder.rglob("*.py"))
    return hash_of_sources((file.relative_to(folder).as_posix(), file) for file in files)


def settings_hash(settings: SelectSettings) -> str:
    """Return 12 digits of the SHA-256 of the settings that act on what a selector chooses."""
    said = json.dumps(settings.model_dump(exclude=_NOT_OF_A_CELL), sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def changed_settings(settings: SelectSettings) -> str:
    """Return the settings that are not the defaults as JSON; nothing where all are."""
    changed = settings.model_dump(exclude=_NOT_OF_A_CELL, exclude_defaults=True)
    return json.dumps(changed, sort_keys=True) if changed else ""


def read_cells(path: Path) -> list[Cell]:
    """Return the cells that a ``cells.csv`` holds, whichever code made them.

    Cells of a table without settings and version count as made under the defaults.

    Raises
    ------
    UserError
        If the file is not one of these.
    """
    lines = whole_lines(path).decode("utf-8").splitlines()
    if not lines:
        return []
    reader = csv.DictReader(lines)
    if tuple(reader.fieldnames or ()) not in (_columns(), *_earlier_columns()):
        raise UserError(
            f"{path} does not hold the columns of a comparison of this version: name another "
            "folder, or remove the file"
        )
    return [_cell(row) for row in reader]


def _columns() -> tuple[str, ...]:
    return (*_old_columns(), *_NEW_COLUMNS)


def _old_columns() -> tuple[str, ...]:
    own = [field.name for field in _own_fields() if field.name not in _NEW_COLUMNS]
    return (*own, *(field.name for field in dataclasses.fields(CoverageFigures)))


def _earlier_columns() -> tuple[tuple[str, ...], ...]:
    old = _old_columns()
    return old, (*old, *_NEW_COLUMNS[:_WITHOUT_CODE])


def _own_fields() -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(Cell) if field.name != "figures"]


def append_cell(path: Path, cell: Cell) -> None:
    """Add a line to a ``cells.csv``; what a killed process left of one is cut off."""
    _add_new_columns(path)
    whole = len(whole_lines(path))
    with path.open("a", newline="", encoding="utf-8") as file:
        file.truncate(whole)
        writer = csv.DictWriter(file, _columns(), lineterminator="\n")
        if not whole:
            writer.writeheader()
        writer.writerow(_line(cell))


def write_cells(path: Path, cells: Iterable[Cell]) -> None:
    """Write a ``cells.csv`` that holds these cells and no other."""
    fresh = path.with_suffix(".part")
    with fresh.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _columns(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(_line(cell) for cell in cells)
    fresh.replace(path)


def _line(cell: Cell) -> dict[str, Any]:
    flat = dataclasses.asdict(cell)
    figures: dict[str, Any] = flat.pop("figures")
    return flat | figures


def _add_new_columns(path: Path) -> None:
    """Name the new columns in the header of an older table; its lines stay as they are."""
    header, _, lines = whole_lines(path).partition(b"\n")
    if tuple(header.decode("utf-8").strip().split(",")) not in _earlier_columns():
        return
    fresh = path.with_suffix(".part")
    fresh.write_bytes(",".join(_columns()).encode() + b"\n" + lines)
    fresh.replace(path)


def _cell(row: Mapping[str, str]) -> Cell:
    # A line of an older table, or of an older program that still runs, ends before these.
    before = {
        "settings": "",
        "settings_hash": settings_hash(SelectSettings()),
        "version": _VERSION_BEFORE,
        "code": "",
    }
    own: dict[str, Any] = {
        f.name: _value(row[f.name], str(f.type)) if row.get(f.name) else before.get(f.name)
        for f in _own_fields()
    }
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
