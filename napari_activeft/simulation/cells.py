"""Cells, and the tables that hold them: several processes may add to them at once.

``cells.csv`` has a line a cell, ``cases.csv`` one for each volume and class of it, ``picks.csv``
one for each slice that was chosen. A cell's line is written last, so that lines of the other two
without a cell are what a killed process left. Nothing is taken out again: cells of other code stay
where they are, and are passed over.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import UserError
from napari_activeft.reuse import whole_lines
from napari_activeft.training.whole_files import write_whole

AGAIN = "run the command again, which goes on from there"
"""What a user does who has made room on a full disk."""
CELLS, CASES, PICKS = "cells.csv", "cases.csv", "picks.csv"
_LOCK, _SCORES = ".tables.lock", "scores"
_DICE = "dice_"
_CASE_COLUMNS = ("cell", "volume", "case", "slice", "class", "dice", "hd95_mm")
_PICK_COLUMNS = ("cell", "rank", "key", "volume", "position")
_COUNTS = {"slices", "seed", "rounds", "round", "labelled_cases", "tested_cases", "tested", "steps"}
_WORDS = {"cell", "data", "recipe", "code", "network", "selector", "budget", "device", "start"}


@dataclass(frozen=True)
class Measurement:
    """One volume or slice that was measured, one class of it, 0 for all classes together."""

    volume: str
    case: str
    position: int | None
    value: int
    dice: float
    hd95_mm: float


@dataclass(frozen=True)
class Pick:
    """One slice that was chosen; ``rank`` counts from 1 through all rounds of its chain."""

    rank: int
    key: str
    volume: str
    position: int


@dataclass(frozen=True)
class Cell:
    """One training and what came of it.

    Attributes
    ----------
    cell, data, recipe, code
        Its name, that of its plan and the code behind a dash; and what `plan.Conditions` says.
    budget, slices
        As asked for the last round, and labelled in this one.
    labelled_cases, tested_cases, tested
        Cases among the picks, cases tested, and volumes (or slices) that were measured.
    dice, hd95_mm
        Mean over classes and volumes; NaN where none is defined.
    steps, train_seconds, step_seconds
        Of the training; a step with all that goes with it.
    predict_seconds, slice_seconds
        Of the tested volumes, and per slice.
    peak_mib, device_mib
        Most memory of the process, and of the accelerator (0 without one).
    start
        Where the weights came from.
    by_class
        Mean Dice by class value.
    """

    cell: str
    data: str
    recipe: str
    code: str
    network: str
    selector: str
    budget: str
    slices: int
    seed: int
    rounds: int
    round: int
    fold: int | None
    labelled_cases: int
    tested_cases: int
    tested: int
    dice: float
    hd95_mm: float
    steps: int
    select_seconds: float
    train_seconds: float
    step_seconds: float
    predict_seconds: float
    slice_seconds: float
    peak_mib: float
    device_mib: float
    device: str
    start: str
    by_class: Mapping[int, float] = field(default_factory=dict)

    @property
    def plan(self) -> str:
        """The name of its plan, which is the same whatever code made it."""
        return self.cell.partition("-")[0]


@dataclass
class Known:
    """What a folder holds of cells, by the names of their plans."""

    cells: dict[str, Cell] = field(default_factory=dict)
    measured: dict[str, list[Measurement]] = field(default_factory=dict)
    picks: dict[str, list[Pick]] = field(default_factory=dict)


class Tables:
    """The three tables of a folder.

    Parameters
    ----------
    folder
        Which is made.
    code
        Hash of the code; cells of other code are passed over.
    trust
        Take cells of any code.

    Raises
    ------
    UserError
        If the folder cannot be made.
    """

    def __init__(self, folder: Path, code: str, *, trust: bool = False) -> None:
        self.folder, self._code, self._trust = folder, code, trust
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as refusal:
            raise UserError(
                f"{folder} cannot be made ({refusal.strerror or refusal}): name another folder"
            ) from refusal

    def read(self) -> Known:
        """Return the cells that may be taken as they are, with all that belongs to them."""
        with self._alone():
            return self._read()

    def add(self, cell: Cell, measured: Sequence[Measurement], picks: Sequence[Pick]) -> None:
        """Add a cell; whatever happens meanwhile, it is there whole or not at all.

        Raises
        ------
        UserError
            If the disk refuses.
        """
        with self._alone():
            self._append(CASES, _CASE_COLUMNS, _case_lines({cell.cell: measured}))
            self._append(PICKS, _PICK_COLUMNS, _pick_lines({cell.cell: picks}))
            self._append(CELLS, _cell_columns([cell]), [_line(cell)])

    def keep_scores(self, cell: str, scores: NDArray[np.float64]) -> None:
        """Keep how uncertain a cell's network is of the pool, for the round that follows."""
        path = self.folder / _SCORES / f"{cell}.npy"

        def save(part: Path) -> None:
            with part.open("wb") as file:
                np.save(file, scores)

        write_whole(path, save, AGAIN)

    def scores(self, cell: str, count: int) -> NDArray[np.float64] | None:
        """Return how uncertain a cell's network was of ``count`` rows; None if it is not known."""
        try:
            found = np.load(self.folder / _SCORES / f"{cell}.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return np.asarray(found, np.float64) if found.shape == (count,) else None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        from filelock import FileLock

        with FileLock(self.folder / _LOCK):
            yield

    def _read(self) -> Known:
        found = [_cell(row, self.folder / CELLS) for row in self._rows(CELLS)]
        known = Known({c.plan: c for c in found if self._trust or c.code == self._code})
        plan_of = {cell.cell: plan for plan, cell in known.cells.items()}
        # A cell that was made twice has its lines twice: the last count.
        measured: dict[str, dict[tuple[Any, ...], Measurement]] = {one: {} for one in known.cells}
        picks: dict[str, dict[int, Pick]] = {one: {} for one in known.cells}
        for row in self._rows(CASES):
            if row["cell"] in plan_of:
                one = _measurement(row)
                measured[plan_of[row["cell"]]][one.volume, one.position, one.value] = one
        for row in self._rows(PICKS):
            if row["cell"] in plan_of:
                rank = int(row["rank"])
                pick = Pick(rank, row["key"], row["volume"], int(row["position"]))
                picks[plan_of[row["cell"]]][rank] = pick
        known.measured = {plan: list(of.values()) for plan, of in measured.items()}
        known.picks = {plan: list(of.values()) for plan, of in picks.items()}
        return known

    def _rows(self, name: str) -> list[dict[str, str]]:
        return list(csv.DictReader(whole_lines(self.folder / name).decode("utf-8").splitlines()))

    def _append(self, name: str, columns: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
        path = self.folder / name
        whole = whole_lines(path)
        header = ",".join(columns)
        if whole and whole.split(b"\n", 1)[0].decode("utf-8") != header:
            raise UserError(
                f"{path} has other columns than this simulation writes: name another folder with "
                "--out"
            )
        made = io.StringIO()
        csv.writer(made, lineterminator="\n").writerows(lines)
        text = made.getvalue() if whole else f"{header}\n{made.getvalue()}"
        try:
            with path.open("ab") as file:
                file.truncate(len(whole))
                file.write(text.encode("utf-8"))
        except OSError as refusal:
            raise UserError(
                f"{path} cannot be written ({refusal.strerror}): make room on the disk, the same "
                "command goes on from there"
            ) from refusal


def _fixed() -> list[str]:
    return [one.name for one in dataclasses.fields(Cell) if one.name != "by_class"]


def _cell_columns(cells: Iterable[Cell]) -> list[str]:
    values = sorted({value for cell in cells for value in cell.by_class})
    return [*_fixed(), *(f"{_DICE}{value}" for value in values)]


def _line(cell: Cell) -> list[str]:
    fixed = [_text(getattr(cell, name)) for name in _fixed()]
    return [*fixed, *(_text(cell.by_class[value]) for value in sorted(cell.by_class))]


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def _number(text: str) -> float:
    return float(text) if text else math.nan


def _case_lines(by_cell: Mapping[str, Sequence[Measurement]]) -> Iterator[list[str]]:
    for cell, measured in by_cell.items():
        for one in measured:
            figures = (_text(one.dice), _text(one.hd95_mm))
            yield [cell, one.volume, one.case, _text(one.position), str(one.value), *figures]


def _pick_lines(by_cell: Mapping[str, Sequence[Pick]]) -> Iterator[list[Any]]:
    for cell, picks in by_cell.items():
        for one in picks:
            yield [cell, one.rank, one.key, one.volume, one.position]


def _measurement(row: Mapping[str, str]) -> Measurement:
    return Measurement(
        row["volume"],
        row["case"],
        int(row["slice"]) if row["slice"] else None,
        int(row["class"]),
        _number(row["dice"]),
        _number(row["hd95_mm"]),
    )


def _cell(row: Mapping[str, str], path: Path) -> Cell:
    told: dict[str, Any] = {}
    try:
        for name in _fixed():
            if name == "fold":
                told[name] = int(row[name]) if row[name] else None
            elif name in _COUNTS:
                told[name] = int(row[name])
            else:
                told[name] = row[name] if name in _WORDS else _number(row[name])
        classes = [name for name in row if name and name.startswith(_DICE)]
        by_class = {int(name.removeprefix(_DICE)): _number(row[name]) for name in classes}
    except (KeyError, ValueError, TypeError) as refusal:
        raise UserError(
            f"{path} does not hold the cells of a simulation of this version: name another folder "
            "with --out, or remove the file"
        ) from refusal
    return Cell(**told, by_class=by_class)
