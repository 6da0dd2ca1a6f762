"""`evaluate`: predictions beside the truth, in figures, tables and pictures."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_activeft import __version__
from napari_activeft.annotation_db import StoreError, VolumeRecord
from napari_activeft.errors import OnProgress, Problem, UserError, no_progress
from napari_activeft.evaluation_pictures import Gallery
from napari_activeft.evaluation_sources import (
    FolderPredictions,
    OnSlice,
    Predictions,
    RunPredictions,
    Truths,
)
from napari_activeft.exports.names import safe_file_names
from napari_activeft.extras import need_compute
from napari_activeft.geometry import Geometry
from napari_activeft.nifti_bytes import replacing
from napari_activeft.pool import slice_spacing
from napari_activeft.project import Project
from napari_activeft.results import EvaluateResult
from napari_activeft.settings import EvaluateSettings
from napari_activeft.trained_runs import chosen_runs
from napari_activeft.training.metric_tables import (
    Row,
    Summaries,
    as_csv,
    as_json,
    summaries,
)
from napari_activeft.training.metrics import METRICS, compare_volume
from napari_activeft.training_data import class_values
from napari_activeft.volume_choice import chosen_volumes

FORMAT = 1
PAGE = "index.html"
_KEPT_IN_STORE = ("dice", "hd95_mm")


@dataclass
class Measurements:
    """What was measured so far: rows of volumes and of slices, and what stood in the way."""

    volumes: list[Row] = field(default_factory=list)
    slices: list[Row] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    without_truth: int = 0
    in_part: int = 0

    @property
    def level(self) -> str:
        """What the main table is of: slices only where no volume has truth for all of its own."""
        return "volumes" if self.volumes else "slices"

    @property
    def rows(self) -> list[Row]:
        """The rows of that table."""
        return self.volumes or self.slices


def evaluate_predictions(
    project: Project, settings: EvaluateSettings, on_progress: OnProgress = no_progress
) -> EvaluateResult:
    """Measure predictions of a split's volumes against their truth, and write tables and a page.

    Only slices that have truth count, and whole volumes only where all of their slices have it. A
    volume that cannot be measured is listed and stops no other. Nothing is written if
    ``on_progress``, called with (slices done, slices), raises `Cancelled`.

    Raises
    ------
    UserError
        If there is no run or folder, no volume or class, no truth, or nothing can be written.
    """
    need_compute("evaluating")
    classes = class_values(project)
    volumes = chosen_volumes(project, (settings.split,), ())
    source, predictions = _predictions(project, settings)
    truths, gallery = Truths(project, settings), Gallery(project)
    made = _Work(settings, classes, truths, predictions, gallery).run(volumes, on_progress)
    _see_something(made, settings)
    report = _Report(project, settings, source, made)
    notes = (*_on_choice(made, settings), *truths.notes(), *predictions.notes())
    folder = report.write(notes, gallery)
    if isinstance(source, int):
        project.store.update_run(source, metrics={f"evaluation_{settings.split}": report.kept()})
    return EvaluateResult(
        run=source if isinstance(source, int) else None,
        split=settings.split,
        truth=settings.truth,
        cases=len({row.case for row in made.slices}),
        volumes=len(made.volumes),
        slices=len(made.slices),
        level=made.level,
        summary=as_json(report.main, report.class_names),
        folder=folder,
        page=folder / PAGE,
        notes=notes,
        problems=made.problems,
    )


def _predictions(project: Project, settings: EvaluateSettings) -> tuple[int | Path, Predictions]:
    """Return the number of the run or the folder that is measured, and its predictions."""
    if settings.predictions is not None:
        return settings.predictions, FolderPredictions(project, settings.predictions)
    run = chosen_runs(project, [settings.run] if settings.run else [])[0].run_id
    return run, RunPredictions(project, run, settings)


class _Work:
    """Measures one volume after the other."""

    def __init__(
        self,
        settings: EvaluateSettings,
        classes: Sequence[int],
        truths: Truths,
        predictions: Predictions,
        gallery: Gallery,
    ) -> None:
        self._settings, self._classes = settings, classes
        self._truths, self._predictions, self._gallery = truths, predictions, gallery

    def run(self, volumes: Sequence[VolumeRecord], on_progress: OnProgress) -> Measurements:
        """Measure each volume that has truth and a prediction."""
        made = Measurements()
        total = sum(volume.slice_count for volume in volumes)
        before = 0
        on_progress(0, total)
        for volume in volumes:

            def on_slice(done: int, before: int = before) -> None:
                on_progress(before + done, total)

            try:
                self._measure(volume, made, on_slice)
            except (UserError, StoreError) as refusal:
                made.problems.append(Problem(volume.name, str(refusal)))
            before += volume.slice_count
            on_progress(before, total)
        return made

    def _measure(self, volume: VolumeRecord, made: Measurements, on_slice: OnSlice) -> None:
        truth = self._truths.of(volume)
        if not truth:
            made.without_truth += 1
            return
        labels = self._predictions.of(volume, truth.keys(), on_slice)
        compared = compare_volume(
            truth,
            labels,
            self._classes,
            _spacing(volume),
            absent_as_zero=self._settings.absent_as_zero,
        )
        about = (volume.name, volume.case, volume.split)
        made.slices += [Row(*about, at, figures) for at, figures in compared.slices.items()]
        if compared.volume is None:
            made.in_part += 1
        else:
            made.volumes.append(Row(*about, None, compared.volume))
        self._gallery.keep(volume, truth, labels, compared)


def _spacing(volume: VolumeRecord) -> tuple[float, float, float]:
    """Return millimetres from slice to slice, per pixel down, and across."""
    geometry = Geometry.from_json(volume.geometry)
    return (geometry.spacing[volume.axis], *slice_spacing(geometry, volume.axis))


def _see_something(made: Measurements, settings: EvaluateSettings) -> None:
    if made.slices:
        return
    if made.problems:
        raise UserError(
            f"no volume of the split {settings.split} could be measured: {made.problems[0].path}: "
            f"{made.problems[0].sentence}"
        )
    if settings.truth == "labels":
        raise UserError(
            f"no volume of the split {settings.split} has a label map: add the folder again with "
            "--labels, or measure against accepted masks with --truth masks"
        )
    raise UserError(
        f"no slice of the split {settings.split} has an accepted mask that a person made: import "
        "label maps with `napari-activeft import-labels`, or measure against those that `add` "
        "found with --truth labels"
    )


def _on_choice(made: Measurements, settings: EvaluateSettings) -> list[str]:
    """Return what there is to know about which volumes and slices were measured."""
    notes = []
    if settings.split == "pool":
        notes.append(
            "These are volumes of the pool, on which networks train: figures of slices that a "
            "network learnt from say how well it remembers them. Patients it never saw are in the "
            "split test."
        )
    if settings.split == "val":
        notes.append(
            "Where slices of val have accepted masks, training stops by them: a little too good "
            "to be true. Patients it never saw are in the split test."
        )
    if made.in_part:
        notes.append(
            f"Volumes with truth for some of their slices only, {made.in_part}: they are measured "
            "slice by slice and not as volumes."
        )
    if made.without_truth:
        notes.append(f"Volumes without any truth, which are left out, {made.without_truth}.")
    if settings.absent_as_zero:
        notes.append(
            "A class in neither truth nor prediction has Dice, IoU and sensitivity 0, as older "
            "studies count; by default it is left out."
        )
    return notes


class _Report:
    """The tables of an evaluation, and the files that hold them."""

    def __init__(
        self, project: Project, settings: EvaluateSettings, source: int | Path, made: Measurements
    ) -> None:
        self._project, self._settings, self._source, self._made = project, settings, source, made
        self.class_names = {one.value: one.name for one in project.store.classes()}
        self.slices: Summaries = summaries(made.slices, seed=settings.seed)
        self.main = summaries(made.volumes, seed=settings.seed) if made.volumes else self.slices

    def kept(self) -> dict[str, Any]:
        """Return the few figures that the run's record in the store keeps."""
        told = as_json(self.main, self.class_names)
        return {
            "truth": self._settings.truth,
            "absent_as_zero": self._settings.absent_as_zero,
            "of": self._made.level,
            "figures": {
                which: {"name": of_class["name"]}
                | {name: of_class[name] for name in _KEPT_IN_STORE}
                for which, of_class in told.items()
            },
        }

    def write(self, notes: Sequence[str], gallery: Gallery) -> Path:
        """Write all files, the page last, and return their folder."""
        files = {
            "slices.csv": as_csv(self._made.slices, self.class_names),
            "metrics.csv": as_csv(self._made.volumes, self.class_names),
            "summary.json": json.dumps(self._summary(notes), indent=2, allow_nan=False) + "\n",
            PAGE: self._page(notes, gallery),
        }
        return _written(self._folder(), files)

    def _folder(self) -> Path:
        if self._settings.out is not None:
            return self._settings.out
        return self._project.folder / "reports" / f"evaluation-{self._name()}{self._suffix()}"

    def _name(self) -> str:
        """Return what tells these predictions from others."""
        if isinstance(self._source, int):
            return f"run-{self._source:03d}"
        name = self._source.resolve().name or "folder"
        return safe_file_names([name])[name]

    def _suffix(self) -> str:
        return "" if self._settings.split == "test" else f"-{self._settings.split}"

    def _summary(self, notes: Sequence[str]) -> dict[str, Any]:
        made, settings = self._made, self._settings
        return {
            "format": FORMAT,
            "version": __version__,
            "predictions": str(settings.predictions) if settings.predictions else self._name(),
            "split": settings.split,
            "truth": settings.truth,
            "absent_as_zero": settings.absent_as_zero,
            "seed": settings.seed,
            "units": {name: about.unit for name, about in METRICS.items()},
            "volumes": as_json(summaries(made.volumes, seed=settings.seed), self.class_names),
            "slices": as_json(self.slices, self.class_names),
            "notes": list(notes),
            "problems": [vars(problem) for problem in made.problems],
        }

    def _page(self, notes: Sequence[str], gallery: Gallery) -> str:
        from napari_activeft.reports.evaluation_page import EvaluationPage, evaluation_page

        made, settings = self._made, self._settings
        run = isinstance(self._source, int)
        whose = f"run {self._source}" if run else f"the folder {self._name()}"
        against = "accepted masks" if settings.truth == "masks" else "the label maps of the data"
        return evaluation_page(
            EvaluationPage(
                title=self._project.store.project().name,
                subtitle=f"predictions of {whose} on the split {settings.split}, against {against}",
                level=made.level,
                class_names=self.class_names,
                rows=made.rows,
                summary=self.main,
                slices=made.slices,
                slice_summary=self.slices,
                examples=gallery.examples(),
                notes=notes,
                problems=[(problem.path, problem.sentence) for problem in made.problems],
                absent_as_zero=settings.absent_as_zero,
                command=self._command(),
            )
        )

    def _command(self) -> str:
        """Return what to type to measure so again."""
        settings = self._settings
        parts = ["napari-activeft", "evaluate"]
        parts += ["--run", str(self._source)] if isinstance(self._source, int) else []
        for name in ("predictions", "split", "truth", "unlabelled", "seed", "tta", "out"):
            value = getattr(settings, name)
            if value != type(settings).model_fields[name].default:
                parts += [f"--{name}", str(value)]
        parts += ["--absent-as-zero"] if settings.absent_as_zero else []
        return shlex.join(parts)


def _written(folder: Path, files: Mapping[str, str]) -> Path:
    """Write files into a folder, which is made too; each takes its place when it is complete."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with replacing(folder / name) as file:
                file.write(content.encode("utf-8"))
    except OSError as refusal:
        raise UserError(
            f"the evaluation cannot be written to {folder} ({refusal.strerror}): mend the rights "
            "of the folder, free some space, or choose another --out"
        ) from refusal
    return folder
