"""A run from labelled slices to weights: what it is watched by, and once more on all of them."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_activeft.training.finetune import finetune
from napari_activeft.training.launching import launch
from napari_activeft.training.measuring import temperature_of
from napari_activeft.training.network_spec import NetworkSpec
from napari_activeft.training.planning import (
    Plan,
    keep_plan,
    kept_plan,
    plan_monitoring,
    see_classes,
)
from napari_activeft.training.progress import OnCourse, OnLog, Trained, ignore
from napari_activeft.training.run_files import FOLD, RESUME, SavedNetwork, is_over, was_kept
from napari_activeft.training.starting import RANDOM_WEIGHTS, FirstWeights
from napari_activeft.wording import counted

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from napari_activeft.settings import TrainSettings
    from napari_activeft.training.dataset import SliceDataset


@dataclass(frozen=True)
class Fitted:
    """What labelled slices became.

    Attributes
    ----------
    trained
        The run whose weights are kept.
    monitor
        val, folds or none.
    score
        Mean Dice that was measured: of these weights with val, of those that the cases held back
        did not teach with folds.
    notes
        What a reader of the log should know, sentences.
    """

    trained: Trained
    monitor: str
    score: float | None
    notes: tuple[str, ...]


def fit(
    training: SliceDataset,
    val: SliceDataset | None,
    spec: NetworkSpec,
    settings: TrainSettings,
    folder: Path,
    *,
    start: FirstWeights = RANDOM_WEIGHTS,
    resume: bool = False,
    fabric: Fabric | None = None,
    on_progress: OnCourse = ignore,
    on_log: OnLog = ignore,
) -> Fitted:
    """Train as the settings say; see `finetune` for the parameters.

    Parameters
    ----------
    training, val
        Labelled slices of the pool, and of the cases kept as val; None without any.
    start
        What the network begins with; cases that taught it are not held back.
    resume
        Go on from what is in the folder; where nothing was kept yet, from the first step.
    """
    notes: list[str] = []
    fabric = fabric or launch(settings)

    def log(sentence: str) -> None:
        if fabric.global_rank == 0:
            notes.append(sentence)
            on_log(sentence)

    folder = Path(folder)
    if resume and was_kept(folder):
        plan = kept_plan(folder, training, val)
    else:
        plan = plan_monitoring(training, val, settings, _taught(start))
        if fabric.global_rank == 0:
            shutil.rmtree(folder / FOLD, ignore_errors=True)  # of an attempt that kept nothing
            keep_plan(plan, folder, training, val)
        fabric.barrier()
    log(training.balance().told({one.value: one.name for one in spec.classes}))
    for note in training.notes:
        log(note)
    log(plan.sentence)
    ways = _Ways(spec, settings, start, resume, fabric, on_progress, log)
    trained, score = _run(training, val, plan, ways, folder)
    return Fitted(trained, plan.monitor, score, tuple(notes))


def see_fit(
    training: SliceDataset,
    val: SliceDataset | None,
    spec: NetworkSpec,
    settings: TrainSettings,
    start: FirstWeights,
) -> None:
    """See that `fit` can be done, before anything is begun.

    Raises
    ------
    UserError
        If it cannot.
    """
    plan_monitoring(training, val, settings, _taught(start))
    see_classes(training, spec, settings)


def _taught(start: FirstWeights) -> frozenset[str] | None:
    """Return the cases that may not be held back, since they taught what a fold starts from."""
    return (start.before_refit or start).cases


@dataclass(frozen=True)
class _Ways:
    """What all runs of one `fit` share."""

    spec: NetworkSpec
    settings: TrainSettings
    start: FirstWeights
    resume: bool
    fabric: Fabric
    on_progress: OnCourse
    on_log: OnLog

    def finetune(
        self,
        training: SliceDataset,
        monitoring: SliceDataset | None,
        settings: TrainSettings,
        folder: Path,
        monitor: str,
    ) -> Trained:
        """Train, from where it stopped if it did."""
        start, watched = self.start, set(monitoring.cases if monitoring else ())
        if start.before_refit and (start.cases is None or watched & start.cases):
            start = start.before_refit
        return finetune(
            training,
            monitoring,
            self.spec,
            settings,
            folder,
            monitor=monitor,
            start=start.put,
            taught=start.cases,
            resume=self.resume and (folder / RESUME).is_file(),
            fabric=self.fabric,
            on_progress=self.on_progress,
            on_log=self.on_log,
        )


def _run(
    training: SliceDataset, val: SliceDataset | None, plan: Plan, ways: _Ways, folder: Path
) -> tuple[Trained, float | None]:
    """Do what was planned; return the run that is kept, and its score."""
    if plan.monitor == "folds":
        fold = training.subset(set(training.cases) - plan.held)
        watched = training.subset(plan.held, by_people=True)
        if ways.settings.refit:
            return _on_a_fold_then_all(training, fold, watched, ways, folder)
        training, val = fold, watched
    watched_by = None if plan.monitor == "none" else val
    trained = ways.finetune(training, watched_by, ways.settings, folder, plan.monitor)
    if ways.fabric.global_rank == 0 and watched_by is not None:
        _note(folder, _calibration(folder, watched_by, ways))
    return trained, trained.score


def _on_a_fold_then_all(
    training: SliceDataset, fold: SliceDataset, watched: SliceDataset, ways: _Ways, folder: Path
) -> tuple[Trained, float | None]:
    """Find the number of steps on a fold, then take as many on all labelled slices.

    The temperature is that of the fold's network too: nothing else was kept from the last one.
    """
    first = folder / FOLD
    if not (ways.resume and is_over(first)):
        ways.finetune(fold, watched, ways.settings, first, "folds")
    found = SavedNetwork.read(first)
    told = (
        "" if found.score is None else f" with a Dice of {found.score:.4f} on the cases held back"
    )
    ways.on_log(f"{found.steps} steps were best{told}: now as many on all labelled slices")
    again = ways.settings.model_copy(update={"steps": found.steps, "patience": 0})
    trained = ways.finetune(training, None, again, folder, "none")
    if ways.fabric.global_rank == 0:
        temperature = _calibration(first, watched, ways)
        seconds = found.seconds + trained.seconds
        _note(folder, temperature, monitor="folds", score=found.score, seconds=seconds)
        trained = dataclasses.replace(trained, seconds=seconds)
    return trained, found.score


def _calibration(folder: Path, watched: SliceDataset, ways: _Ways) -> float:
    """Return the temperature of a run's best weights, on slices that they were not taught by."""
    network = SavedNetwork.read(folder).build(ways.settings.scan_name)
    temperature = temperature_of(network.to(ways.fabric.device), watched, ways.fabric)
    other = folder.name == FOLD
    whose = ", that of the network that the cases held back did not teach" if other else ""
    count = counted(len(watched), "slice")
    ways.on_log(f"calibrated by a temperature of {temperature:.3f} on {count}{whose}")
    return temperature


def _note(folder: Path, temperature: float, **changes: Any) -> None:  # noqa: ANN401
    saved = SavedNetwork.read(folder)
    dataclasses.replace(saved, temperature=temperature, **changes).write()
