"""`predict`: volumes of a project through the networks of its runs, and what becomes of it.

One volume after the other: its masks reach the store in one transaction, so that a killed
prediction leaves whole volumes and no half ones; then its slices' uncertainty reaches the run's
folder.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from napari_activeft.annotation_db import RunRecord, VolumeRecord
from napari_activeft.calibrating import calibrated
from napari_activeft.devices import use_threads
from napari_activeft.errors import OnProgress, Problem, UserError, no_progress
from napari_activeft.exports.names import safe_file_names
from napari_activeft.extras import need_compute
from napari_activeft.geometry import Geometry
from napari_activeft.interrupts import without_interrupts
from napari_activeft.prediction.cleaning import CleanUp
from napari_activeft.prediction.entropy_files import entropy_file, write_entropy
from napari_activeft.prediction.origins import Origin, read_origins, write_origins
from napari_activeft.prediction.predictor import Predictor
from napari_activeft.prediction.stacking import PredictedVolume, stacked
from napari_activeft.prediction.uncertainty_table import (
    FILE,
    SliceUncertainty,
    read_uncertainty,
    write_uncertainty,
)
from napari_activeft.prediction.written import write_predicted
from napari_activeft.project import Project
from napari_activeft.results import PredictResult
from napari_activeft.settings import PredictSettings
from napari_activeft.trained_runs import (
    chosen_runs,
    known_turns,
    notes_on_classes,
    run_folder,
    saved_networks,
)
from napari_activeft.training.run_files import SavedNetwork
from napari_activeft.training_data import stacks
from napari_activeft.volume_choice import chosen_volumes


@dataclass
class _Tally:
    """What was done so far."""

    volumes: int = 0
    slices: int = 0
    proposed: int = 0
    doubts: list[float] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def predict_volumes(
    project: Project, settings: PredictSettings, on_progress: OnProgress = no_progress
) -> PredictResult:
    """Predict volumes, propose the masks, and keep how uncertain each slice is.

    A volume that cannot be read is listed and stops no other. What is done stays if
    ``on_progress``, called with (slices done, slices), raises `Cancelled`.

    Raises
    ------
    UserError
        If there is no run, its network cannot be read or knows other classes than the project, or
        no volume is meant.
    """
    need_compute("predicting")
    use_threads(settings.threads)
    runs = chosen_runs(project, settings.runs)
    saved = saved_networks(project, runs, settings.which)
    volumes = chosen_volumes(project, settings.splits, settings.volumes)
    started = time.monotonic()
    saved, why_not = _calibrated(project, saved, settings)
    tta = known_turns(saved) if settings.tta == "auto" else settings.tta
    predictor = Predictor.load(
        saved,
        scan=None if settings.scan == "auto" else settings.scan,
        device=settings.device,
        precision=settings.precision,
        tta=tta,
        overlap=settings.overlap,
        whole_up_to=settings.whole_up_to,
        batch=settings.batch,
    )
    numbers = tuple(run.run_id for run in runs)
    origin = Origin(
        numbers,
        tuple(one.hash_now() for one in saved),
        settings.which,
        tta,
        settings.largest,
        settings.smallest_mm3,
    )
    tally = _Work(project, settings, origin, predictor, saved[0]).run(volumes, on_progress)
    return PredictResult(
        runs=numbers,
        volumes=tally.volumes,
        slices=tally.slices,
        proposed=tally.proposed,
        seconds=time.monotonic() - started,
        device=str(predictor.device),
        precision=predictor.precision,
        temperature=tuple(one.temperature for one in saved),
        uncertainty=float(np.mean(tally.doubts)) if tally.doubts else None,
        table=run_folder(project, numbers[0]) / FILE,
        nifti=settings.nifti,
        notes=(
            *_on_unfinished(runs),
            *notes_on_classes(project, saved[0]),
            *why_not,
            *_on_memory(predictor, settings),
        ),
        problems=tally.problems,
    )


class _Work:
    """One prediction of several volumes."""

    def __init__(
        self,
        project: Project,
        settings: PredictSettings,
        origin: Origin,
        predictor: Predictor,
        saved: SavedNetwork,
    ) -> None:
        self._project, self._settings = project, settings
        self._origin, self._run = origin, origin.runs[0]
        self._predictor, self._saved = predictor, saved
        self._folder = run_folder(project, self._run)
        self._told = read_uncertainty(self._folder)
        self._origins = read_origins(self._folder)
        self._clean_up = CleanUp(settings.largest, settings.smallest_mm3)
        self._file_names = safe_file_names(volume.name for volume in project.store.volumes())

    def run(self, volumes: Sequence[VolumeRecord], on_progress: OnProgress) -> _Tally:
        """Predict each volume that can be read."""
        tally = _Tally()
        total = sum(volume.slice_count for volume in volumes)
        before = 0
        on_progress(0, total)
        for volume, stack in zip(volumes, stacks(self._project, volumes), strict=True):

            def on_slice(done: int, before: int = before) -> None:
                on_progress(before + done, total)

            try:
                predicted = stacked(
                    self._predictor,
                    stack,
                    on_slice,
                    keep=self._settings.probabilities,
                    keep_entropy=self._settings.entropy,
                )
            except UserError as refusal:
                tally.problems.append(Problem(volume.name, str(refusal)))
            else:
                self._keep(volume, predicted, tally)
            before += volume.slice_count
            on_progress(before, total)
        return tally

    def _keep(self, volume: VolumeRecord, predicted: PredictedVolume, tally: _Tally) -> None:
        """Store what was predicted of one volume."""
        geometry = Geometry.from_json(volume.geometry)
        labels = self._clean_up(predicted.labels, math.prod(geometry.spacing))
        store = self._project.store
        masks = {
            store.slice_id(volume.volume_id, position): mask for position, mask in enumerate(labels)
        }
        doubts = [
            SliceUncertainty(volume.name, position, entropy, bald, len(self._predictor.members))
            for position, (entropy, bald) in enumerate(predicted.doubts)
        ]
        if self._settings.nifti is not None:
            write_predicted(
                self._settings.nifti,
                self._file_names[volume.name],
                labels,
                volume.axis,
                geometry,
                probabilities=predicted.probabilities,
                class_values=[one.value for one in self._saved.classes],
            )
        entropy = entropy_file(self._folder, volume.content_hash)
        if predicted.entropy is not None:
            write_entropy(entropy, predicted.entropy)
        else:
            entropy.unlink(missing_ok=True)  # of weights that the run no longer has, perhaps
        with without_interrupts():
            proposed = store.propose_masks(self._run, masks)
            self._told = write_uncertainty(self._folder, self._told, doubts)
            self._origins[volume.name] = self._origin
            write_origins(self._folder, self._origins)
        tally.volumes += 1
        tally.slices += len(labels)
        tally.proposed += len(proposed)
        tally.doubts += [one.entropy for one in doubts]


def _calibrated(
    project: Project, saved: Sequence[SavedNetwork], settings: PredictSettings
) -> tuple[list[SavedNetwork], list[str]]:
    """Return networks with their temperatures, and a sentence about each that has none."""
    found = [calibrated(project, one, settings.device, settings.precision) for one in saved]
    return [one for one, _ in found], [why_not for _, why_not in found if why_not]


def _on_unfinished(runs: Sequence[RunRecord]) -> list[str]:
    """Say whose weights will be others if the run goes on."""
    return [
        f"Run {run.run_id} is {run.state}: these are its weights so far. Once it goes on, predict "
        "again."
        for run in runs
        if run.state != "done"
    ]


def _on_memory(predictor: Predictor, settings: PredictSettings) -> list[str]:
    """Say so where the batch had to be made smaller."""
    if predictor.batch == settings.batch:
        return []
    return [
        f"Memory held {predictor.batch} slices at once, not {settings.batch}: --batch "
        f"{predictor.batch} saves the attempts."
    ]
