"""One chain of cells: choose, train, predict, measure, and the next round."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
from numpy.typing import NDArray

from napari_activeft.comparison import growing_memory
from napari_activeft.errors import UserError
from napari_activeft.geometry import Geometry
from napari_activeft.prediction.cleaning import CleanUp
from napari_activeft.prediction.predictor import Predictor
from napari_activeft.prediction.stacking import stacked
from napari_activeft.settings import TrainSettings
from napari_activeft.settings.simulation import SimulateSettings
from napari_activeft.simulation.cells import Cell, Known, Measurement, Pick, Tables
from napari_activeft.simulation.choice import choose_rows
from napari_activeft.simulation.material import Material, Tested
from napari_activeft.simulation.plan import Chain, Conditions, takes_scores
from napari_activeft.simulation.progress import Stage, Watched
from napari_activeft.simulation.study import steps_of
from napari_activeft.trained_runs import known_turns
from napari_activeft.training.metrics import TOGETHER, mean_of_defined, measure
from napari_activeft.training.network_spec import NetworkSpec
from napari_activeft.training.run_files import RESUME, SavedNetwork, is_over
from napari_activeft.training.view import fit_view

if TYPE_CHECKING:
    from napari_activeft.training.dataset import LabelledVolume

NETWORKS = "networks"
"""Folder of the networks while they are trained, and after that where they are kept."""
LOG = "log.txt"
_STARTS = "starts from "
_MIB = 2**20


@dataclass
class _Cost:
    """What a cell took, in seconds and MiB."""

    select: float = 0.0
    train: float = 0.0
    step: float = 0.0
    predict: float = 0.0
    slices: int = 0
    peak_mib: float = 0.0
    device_mib: float = 0.0
    device: str = "cpu"
    start: str = ""
    steps: int = 0


@dataclass
class ChainWork:
    """All that one chain needs to be run.

    Attributes
    ----------
    known
        Cells that are there already; new ones are added to it.
    """

    material: Material
    settings: SimulateSettings
    conditions: Conditions
    tables: Tables
    chain: Chain
    known: Known
    watched: Watched
    _scores: NDArray[np.float64] | None = field(default=None, repr=False)

    def run(self) -> int:
        """Make the cells that are not there yet; return how many were made.

        Raises
        ------
        UserError
            If a choice or a training cannot be done; the cells before stay.
        """
        rows: list[int] = []
        made = 0
        for number in range(1, self.chain.rounds + 1):
            found = self._found(number)
            if found is None:
                rows = self._made(number, rows)
                made += 1
            else:
                rows = found
            self.watched.cell_done()
        return made

    def _found(self, number: int) -> list[int] | None:
        """Return the rows labelled after a round that was done before; None if it is to be done."""
        plan = self.conditions.plan_of(self.chain, number)
        if plan not in self.known.cells:
            return None
        row_of = {row.key: at for at, row in enumerate(self.material.pool)}
        picks = sorted(self.known.picks[plan], key=lambda pick: pick.rank)
        rows = [row_of[pick.key] for pick in picks if pick.key in row_of]
        if len(rows) != self.chain.total(number):
            return None
        if self._scores_needed(number):
            self._scores = self.tables.scores(self.known.cells[plan].cell, len(self.material.pool))
            if self._scores is None:
                return None
        return rows

    def _scores_needed(self, number: int) -> bool:
        return number < self.chain.rounds and takes_scores(self.chain.selector, self.settings)

    def _made(self, number: int, before: Sequence[int]) -> list[int]:
        """Make a cell and keep it; return all rows that are labelled then."""
        plan = self.conditions.plan_of(self.chain, number)
        folder = self.tables.folder / NETWORKS / f"{plan}-{self.conditions.code}"
        cost = _Cost()
        with growing_memory() as peak:
            at_first = _held_mib()
            rows = [*before, *self._chosen(number, before, cost)]
            saved = self._trained(rows, folder, cost)
            measured = self._measured(saved, cost)
            cost.peak_mib = at_first + peak[0]
        self._scores = None
        if self._scores_needed(number):
            self._scores = self._doubts(saved)
            self.tables.keep_scores(f"{plan}-{self.conditions.code}", self._scores)
        cell = self._cell(number, rows, measured, cost)
        picks = self._picks(rows)
        self.tables.add(cell, measured, picks)
        self.known.cells[plan] = cell
        self.known.measured[plan], self.known.picks[plan] = measured, picks
        if not self.settings.keep:
            shutil.rmtree(folder, ignore_errors=True)
        return rows

    def _chosen(self, number: int, before: Sequence[int], cost: _Cost) -> list[int]:
        began = time.perf_counter()
        count = self.chain.total(number) - len(before)
        self.watched.stage(Stage("choosing", 0.0))
        rows = choose_rows(
            self.material,
            self.chain,
            count,
            self.settings,
            labelled=before,
            scores=self._scores,
            on_progress=self.watched.look,
        )
        cost.select = time.perf_counter() - began
        return rows

    def _trained(self, rows: Sequence[int], folder: Path, cost: _Cost) -> SavedNetwork:
        """Train on what the annotator drew on some rows; a killed training goes on."""
        from napari_activeft.training.dataset import SliceDataset
        from napari_activeft.training.fitting import fit
        from napari_activeft.training.starting import starter

        settings, spec = self._train_settings(len(rows)), self._spec()
        values = [one.value for one in spec.classes]
        training = SliceDataset(self.material.labelled(rows), spec.view, values, training=True)
        if not is_over(folder):
            fit(
                training,
                None,
                spec,
                settings,
                folder,
                start=starter(settings, spec, _no_run),
                resume=(folder / RESUME).is_file(),
                on_progress=self.watched.course,
                on_log=_Log(folder / LOG),
            )
        saved = SavedNetwork.read(folder)
        cost.train, cost.steps = saved.seconds, saved.steps
        cost.step = saved.seconds / max(1, saved.steps)
        cost.start = _start_of(folder)
        return saved

    def _train_settings(self, slices: int) -> TrainSettings:
        own = self.settings.train
        steps = own.steps
        if self.settings.recipe == "study":
            steps = steps_of(slices, self.settings.epochs, own.batch * own.accumulate)
        return own.model_copy(
            update={"network": self.chain.network, "seed": self.chain.seed, "steps": steps}
        )

    def _spec(self) -> NetworkSpec:
        """Return what the network is; its view is fitted to all images that may be chosen from."""
        own, material = self.settings.train, self.material
        seen = dict.fromkeys(material.pool[row].volume_id for row in self.chain.division.rows)
        stacks: list[LabelledVolume] = [material.stack(volume_id) for volume_id in seen]
        view = fit_view(stacks, pixel_mm=own.pixel_mm, size=own.size, context=own.context)
        return NetworkSpec(self.chain.network, view.input_channels, material.classes, view)

    def _predictor(self, saved: SavedNetwork) -> Predictor:
        own = self.settings.train
        tta = known_turns([saved]) if self.settings.tta == "auto" else self.settings.tta
        precision = own.precision if own.precision != "float16" else "auto"
        return Predictor.load(
            saved,
            scan=own.scan_name,
            device=own.device,
            precision=precision,
            tta=tta,
            batch=max(own.batch, 8),
        )

    def _measured(self, saved: SavedNetwork, cost: _Cost) -> list[Measurement]:
        """Predict what is tested, and measure it."""
        predictor, clean_up = self._predictor(saved), CleanUp(self.settings.largest)
        cost.device = str(predictor.device)
        made: list[Measurement] = []
        tested = self.chain.division.tested
        for at, one in enumerate(tested):
            self.watched.stage(Stage(f"predicting {at + 1} of {len(tested)}", 1.0))
            began = time.perf_counter()
            labels = stacked(predictor, one.stack, self.watched.look_at).labels
            labels = clean_up(labels, voxel_mm3=1.0)  # only the largest: sizes are not compared
            cost.predict += time.perf_counter() - began
            cost.slices += len(labels)
            made += self._compared(one, labels)
        cost.device_mib = _device_mib(cost.device)
        return made

    def _compared(self, one: Tested, labels: NDArray[np.generic]) -> list[Measurement]:
        truth = self.material.whole_truth(one.volume)
        values = [each.value for each in self.material.classes]
        spacing = _spacing(one)
        zero = self.settings.absent_as_zero or self.settings.recipe == "study"
        made = []
        for position in (None,) if one.positions is None else one.positions:
            cut = slice(None) if position is None else slice(position, position + 1)
            figures = measure(truth[cut], labels[cut], values, spacing, absent_as_zero=zero)
            made += [
                Measurement(
                    one.volume.name, one.volume.case, position, value, of["dice"], of["hd95_mm"]
                )
                for value, of in figures.items()
            ]
        return made

    def _doubts(self, saved: SavedNetwork) -> NDArray[np.float64]:
        """Return how uncertain a network is of each row of the pool, (n,), uncalibrated."""
        predictor, material = self._predictor(saved), self.material
        doubts = np.zeros(len(material.pool))
        rows: dict[int, dict[int, int]] = {}
        for row in self.chain.division.rows:
            where = material.pool[row]
            rows.setdefault(where.volume_id, {})[where.position] = row
        for at, (volume_id, row_at) in enumerate(rows.items()):
            self.watched.stage(Stage(f"looking at the pool, {at + 1} of {len(rows)}", 1.0))
            predicted = stacked(predictor, material.stack(volume_id), self.watched.look_at)
            for position, row in row_at.items():
                doubts[row] = predicted.doubts[position][0]
        return doubts

    def _picks(self, rows: Sequence[int]) -> list[Pick]:
        material = self.material
        return [
            Pick(rank, where.key, material.volumes[where.volume_id].name, where.position)
            for rank, where in enumerate((material.pool[row] for row in rows), start=1)
        ]

    def _cell(
        self, number: int, rows: Sequence[int], measured: Sequence[Measurement], cost: _Cost
    ) -> Cell:
        chain, conditions = self.chain, self.conditions
        values = [TOGETHER, *(one.value for one in self.material.classes)]
        dice = {
            v: mean_of_defined([one.dice for one in measured if one.value == v]) for v in values
        }
        return Cell(
            cell=f"{conditions.plan_of(chain, number)}-{conditions.code}",
            data=conditions.data,
            recipe=conditions.recipe,
            code=conditions.code,
            network=chain.network,
            selector=chain.selector,
            budget=chain.budget,
            slices=len(rows),
            seed=chain.seed,
            rounds=chain.rounds,
            round=number,
            fold=chain.division.fold,
            labelled_cases=len({self.material.pool[row].case for row in rows}),
            tested_cases=len({one.case for one in measured}),
            tested=len([one for one in measured if one.value == TOGETHER]),
            dice=dice.pop(TOGETHER),
            hd95_mm=mean_of_defined([one.hd95_mm for one in measured if one.value == TOGETHER]),
            steps=cost.steps,
            select_seconds=round(cost.select, 3),
            train_seconds=round(cost.train, 3),
            step_seconds=round(cost.step, 5),
            predict_seconds=round(cost.predict, 3),
            slice_seconds=round(cost.predict / max(1, cost.slices), 5),
            peak_mib=round(cost.peak_mib, 1),
            device_mib=round(cost.device_mib, 1),
            device=cost.device,
            start=cost.start,
            by_class=dice,
        )


class _Log:
    """Appends sentences to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, sentence: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{sentence}\n")


def _start_of(folder: Path) -> str:
    """Return where the weights came from, as the log says it."""
    try:
        lines = (folder / LOG).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((one.removeprefix(_STARTS) for one in lines if one.startswith(_STARTS)), "")


def _no_run(number: int) -> Path:
    raise UserError(
        f"a start from run {number} was asked, which may have learnt from tested cases: write "
        "random, auto or encoder:NAME"
    )


def _spacing(one: Tested) -> tuple[float, float, float]:
    """Return millimetres from slice to slice, per pixel down, and across."""
    return (Geometry.from_json(one.volume.geometry).spacing[one.volume.axis], *one.stack.spacing)


def _held_mib() -> float:
    return float(psutil.Process().memory_info().rss) / _MIB


def _device_mib(device: str) -> float:
    """Return the most memory of an accelerator since the last time; 0 on a CPU."""
    import torch

    if not device.startswith("cuda"):
        return 0.0
    most = torch.cuda.max_memory_allocated(device) / _MIB
    torch.cuda.reset_peak_memory_stats(device)
    return float(most)
