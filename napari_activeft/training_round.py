"""`train`: the accepted masks of a project become a run, in its store and in a folder.

The run is in the store from its first moment, so that a killed one is seen and can be resumed; its
log is ``log.txt`` in the folder, beside what `training.run_files` names.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_activeft.annotation_db import RunRecord, StoreError
from napari_activeft.encoder_sources import encoder_file
from napari_activeft.errors import Cancelled, OnProgress, UserError, no_progress
from napari_activeft.extras import need_compute
from napari_activeft.project import Project
from napari_activeft.reports.training_page import write_training_page
from napari_activeft.results.training import TrainResult
from napari_activeft.settings import TrainSettings
from napari_activeft.trained_runs import end_dead_runs, mark_process, run_folder
from napari_activeft.training.network_spec import ClassName, NetworkSpec, spec_to_json
from napari_activeft.training.progress import Progress, Watcher
from napari_activeft.training.run_files import SavedNetwork, read_curve, was_kept, weights_file
from napari_activeft.training.view import View, fit_view
from napari_activeft.training.whole_files import InUse, sole_process
from napari_activeft.training_data import class_values, labelled_volumes, stacks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from napari_activeft.training.dataset import LabelledVolume, SliceDataset
    from napari_activeft.training.fitting import Fitted
    from napari_activeft.training.starting import FirstWeights

LOG, PAGE, LOCK = "log.txt", "report.html", ".running"
_SPEC = "spec"


@dataclass(frozen=True)
class _Order:
    """A run that is to be done, or to go on.

    Attributes
    ----------
    number
        Of the run in the store.
    """

    number: int
    folder: Path
    spec: NetworkSpec
    settings: TrainSettings
    start: FirstWeights
    resume: bool


def train_run(
    project: Project, settings: TrainSettings, on_progress: OnProgress = no_progress
) -> TrainResult:
    """Train a network on the accepted masks of the pool, or go on with a run that was stopped.

    Parameters
    ----------
    on_progress
        Called with (steps done, steps). A `Watcher` also gets loss, Dice and the log. Where it
        raises `Cancelled` the run is kept as far as it came, to be resumed.

    Raises
    ------
    UserError
        If there is no accepted mask, or the run cannot go on; what was kept stays.
    """
    need_compute("training")
    settings = settings.absolute()
    end_dead_runs(project)
    stopped = _stopped_run(project, settings.run) if settings.resume else None
    unread = ""
    if stopped is not None:
        unread = _left_unread(settings, own := _settings_of(stopped))
        settings = own
    pool, val = _labelled(project)
    from napari_activeft.training.launching import launch

    fabric = launch(settings)
    order, training, watching = _order(project, settings, stopped, (pool, val), fabric)
    with _closing(project, order.number, fabric), _sole_process(order.folder, fabric):
        if fabric.global_rank == 0:
            project.store.update_run(order.number, state="running", metrics={"reason": ""})
        fitted = _fit(order, training, watching, fabric, on_progress, unread)
        if fabric.global_rank == 0:
            _note(project, order, fitted, training)
    notes = list(fitted.notes)
    if fabric.global_rank == 0:
        notes += _paged(order.folder, notes)
    return _result(order, fitted, training, fabric, notes)


def _labelled(project: Project) -> tuple[list[LabelledVolume], list[LabelledVolume]]:
    """Return the labelled volumes of pool and val."""
    pool = labelled_volumes(project, ("pool",))
    if not pool:
        raise UserError(
            "no slice of the pool has an accepted mask, and a network learns from these: label "
            "slices (`napari-activeft next`, then `submit`) or take label maps in "
            "(`napari-activeft import-labels`), then train again"
        )
    return pool, labelled_volumes(project, ("val",), by_people=True)


def _stopped_run(project: Project, number: int | None) -> RunRecord:
    """Return a run that did not get to its end, the newest one if none is named."""
    runs = [run for run in project.store.runs() if run.state != "done" and _SPEC in run.settings]
    kept = [run for run in runs if _can_go_on(run_folder(project, run.run_id))]
    if number is not None:
        asked = project.store.run(number)
        if asked not in runs:
            raise UserError(
                f"run {number} is {asked.state}, so there is nothing to go on with: name one that "
                f"was stopped, or write --start run:{number} to begin a new run with its weights"
            )
        return asked
    if not runs:
        raise UserError(
            "--resume was given, but no run of this project was stopped: leave it out to start one"
        )
    # One that failed before its first checkpoint would only fail again.
    begun = kept or [run for run in runs if run.state != "failed"] or runs
    return begun[-1]


def _can_go_on(folder: Path) -> bool:
    try:
        return was_kept(folder)
    except UserError:  # what it kept is damaged
        return False


def _settings_of(run: RunRecord) -> TrainSettings:
    known = {
        name: run.settings[name] for name in TrainSettings.model_fields if name in run.settings
    }
    return TrainSettings.model_validate(known)


def _left_unread(given: TrainSettings, own: TrainSettings) -> str:
    """Say which settings were given in vain to a run that goes on by its own; empty if none."""
    usual = TrainSettings()
    others = [
        name
        for name in TrainSettings.model_fields
        if name not in ("resume", "run")
        and getattr(given, name) not in (getattr(usual, name), getattr(own, name))
    ]
    if not others:
        return ""
    return f"goes on by its own settings: {', '.join(others)} given now are not read"


def _order(
    project: Project,
    settings: TrainSettings,
    stopped: RunRecord | None,
    labelled: tuple[list[LabelledVolume], list[LabelledVolume]],
    fabric: Fabric,
) -> tuple[_Order, SliceDataset, SliceDataset | None]:
    """Enter the run into the store, once all is seen that can be seen before, or find it there.

    All processes get the same number.

    Parameters
    ----------
    labelled
        The labelled volumes of pool and val.

    Returns
    -------
    order, training, watching
        With the slices to learn from, and those of val cases; None without any.
    """
    from napari_activeft.training.fitting import see_fit

    if stopped is None:
        view = fit_view(
            _of_the_pool(project) or labelled[0],
            pixel_mm=settings.pixel_mm,
            size=settings.size,
            context=settings.context,
        )
    else:
        view = View.from_json(stopped.settings[_SPEC]["view"])
    spec = NetworkSpec(settings.network, view.input_channels, _classes(project), view)
    start = _first_weights(project, settings, spec, fresh=stopped is None)
    training, watching = _slices(spec, *labelled)
    if stopped is None:
        see_fit(training, watching, spec, settings, start)
    number = 0
    if fabric.global_rank == 0:
        number = _new_run(project, settings, spec) if stopped is None else stopped.run_id
    number = fabric.broadcast(number)
    folder = run_folder(project, number)
    order = _Order(number, folder, spec, settings, start, stopped is not None)
    return order, training, watching


def _of_the_pool(project: Project) -> list[LabelledVolume]:
    """Return all volumes of the pool: rounds that follow look at slices in the same way."""
    return stacks(project, [one for one in project.store.volumes() if one.split == "pool"])


def _classes(project: Project) -> tuple[ClassName, ...]:
    names = {record.value: record.name for record in project.store.classes()}
    return tuple(ClassName(value, names[value]) for value in class_values(project))


def _first_weights(
    project: Project, settings: TrainSettings, spec: NetworkSpec, *, fresh: bool
) -> FirstWeights:
    """Return what a run begins with; of a new one see that it and the network can be had."""
    from napari_activeft.training.learning import see_learning
    from napari_activeft.training.networks import check_network
    from napari_activeft.training.starting import see_start, starter

    def folder_of(number: int) -> Path:
        return run_folder(project, number)

    def file_of(named: str) -> Path:
        return encoder_file(named, project.folder)

    if fresh:
        check_network(settings.network)
        see_learning(settings, spec.outputs)
        see_start(settings, spec, folder_of, file_of)
    return starter(settings, spec, folder_of, file_of)


def _new_run(project: Project, settings: TrainSettings, spec: NetworkSpec) -> int:
    """Enter a run and return its number."""
    rounds = project.store.rounds()
    number = max((run.run_id for run in project.store.runs()), default=0) + 1
    told = {**settings.model_dump(mode="json"), _SPEC: spec_to_json(spec)}
    record = project.store.add_run(
        f"run-{number:03d}",
        told,
        project.actor,
        round_number=rounds[-1].number if rounds else None,
    )
    return record.run_id


def _fit(
    order: _Order,
    training: SliceDataset,
    watching: SliceDataset | None,
    fabric: Fabric,
    on_progress: OnProgress,
    unread: str,
) -> Fitted:
    from napari_activeft.training.fitting import fit

    watcher = on_progress if isinstance(on_progress, Watcher) else None

    def course(progress: Progress) -> None:
        if watcher is not None:
            watcher.course(progress)
        on_progress(progress.step, progress.steps)

    def log(sentence: str) -> None:
        _append(order.folder / LOG, sentence)
        if watcher is not None:
            watcher.say(sentence)

    if unread and fabric.global_rank == 0:
        log(unread)
    return fit(
        training,
        watching,
        order.spec,
        order.settings,
        order.folder,
        start=order.start,
        resume=order.resume,
        fabric=fabric,
        on_progress=course,
        on_log=log,
    )


def _slices(
    spec: NetworkSpec, pool: list[LabelledVolume], val: list[LabelledVolume]
) -> tuple[SliceDataset, SliceDataset | None]:
    """Return what is learnt from, and the labelled slices of val; None without any."""
    from napari_activeft.training.dataset import SliceDataset

    values = [one.value for one in spec.classes]
    watching = SliceDataset(val, spec.view, values, training=False) if val else None
    return SliceDataset(pool, spec.view, values, training=True), watching


def _append(path: Path, sentence: str) -> None:
    """Add a line to a log, with the time."""
    # A log that cannot be written stops no run: the same sentences are told on the screen.
    with suppress(OSError), path.open("a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {sentence}\n")


@contextmanager
def _sole_process(folder: Path, fabric: Fabric) -> Iterator[None]:
    """Keep a second program from working in the folder of a run."""
    if fabric.global_rank != 0:
        yield
        return
    with sole_process(folder, LOCK, "run"):
        mark_process(folder)
        yield


@contextmanager
def _closing(project: Project, number: int, fabric: Fabric) -> Iterator[None]:
    """Note in the store how a run ended where it did not get to its end."""
    try:
        yield
    except InUse:  # of the process that works on it, not of this run
        raise
    except BaseException as reason:
        if fabric.global_rank == 0:
            stopped = isinstance(reason, (Cancelled, KeyboardInterrupt))
            told = "it was stopped" if stopped else " ".join(str(reason).split())
            state = "cancelled" if stopped else "failed"
            with suppress(StoreError):  # of a full disk; why the run ended is told all the same
                project.store.end_run(number, state, metrics={"reason": told})
        raise


def _note(project: Project, order: _Order, fitted: Fitted, training: SliceDataset) -> None:
    """Write what came out into the store."""
    saved = SavedNetwork.read(order.folder)
    balance = training.balance()
    metrics: dict[str, Any] = {
        "monitor": fitted.monitor,
        "score": fitted.score,
        "temperature": saved.temperature,
        "steps": fitted.trained.best_step,
        "seconds": fitted.trained.seconds,
        "slices": balance.slices,
        "cases": balance.cases,
        "pixels": {str(share.value): share.pixels for share in balance.classes},
        "learnt": fitted.trained.learnt,
        "weights": fitted.trained.weights,
        "weight_hash": saved.weight_hash,
        "notes": list(fitted.notes),
    }
    checkpoint = weights_file(order.folder, "best").relative_to(project.folder).as_posix()
    project.store.end_run(order.number, "done", metrics=metrics, checkpoint=checkpoint)


def _paged(folder: Path, notes: list[str]) -> list[str]:
    """Write the page; what is wrong with it is a note, since the run itself is done."""
    try:
        write_training_page(folder, folder / PAGE, notes)
    except (OSError, UserError) as fault:
        note = f"the run is done and kept, but its page was not written: {fault}"
        (folder / PAGE).unlink(missing_ok=True)  # of an earlier attempt, which says less
        _append(folder / LOG, note)
        return [note]
    return []


def _result(
    order: _Order, fitted: Fitted, training: SliceDataset, fabric: Fabric, notes: list[str]
) -> TrainResult:
    from napari_activeft.training.launching import number_type

    fabric.barrier()  # until the first process has written all files
    trained, saved = fitted.trained, SavedNetwork.read(order.folder)
    return TrainResult(
        run=order.number,
        folder=order.folder,
        network=order.spec.network,
        learns=order.settings.learns,
        slices=len(training),
        cases=len(training.cases),
        steps=trained.best_step,
        monitor=fitted.monitor,
        score=fitted.score,
        temperature=saved.temperature,
        seconds=trained.seconds,
        seconds_per_step=_seconds_per_step(order.folder),
        learnt=trained.learnt,
        weights=trained.weights,
        device=str(fabric.device),
        precision=number_type(order.settings, fabric.device),
        notes=tuple(notes),
        page=page if (page := order.folder / PAGE).is_file() else None,
    )


def _seconds_per_step(folder: Path) -> float:
    """Return what a step took in the run that is kept, measurements and checkpoints included."""
    rows = read_curve(folder)
    return (rows[-1]["seconds"] or 0.0) / len(rows) if rows else 0.0
