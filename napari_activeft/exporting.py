"""Writes the accepted masks of a project as a data set of another tool."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Final

from napari_activeft.errors import OnProgress, UserError
from napari_activeft.exports import ClassLabel, LabelledVolume
from napari_activeft.exports import export as write_export
from napari_activeft.geometry import Geometry
from napari_activeft.project import Project
from napari_activeft.results import ExportResult
from napari_activeft.settings import ExportSettings
from napari_activeft.whole_folder import whole_folder

_DATASET: Final = re.compile(r"Dataset[0-9]{3}_(?P<name>[A-Za-z0-9_-]+)")


def export_project(
    project: Project, settings: ExportSettings, on_progress: OnProgress
) -> ExportResult:
    """Write an export that appears only when it is complete; an earlier one stays until then.

    A folder that is called as nnU-Net calls its data sets, ``Dataset501_Heart``, becomes that very
    data set; any other one holds it as ``Dataset001_<project>``.
    """
    out = settings.out or project.folder / "exports" / settings.format
    named = _DATASET.fullmatch(out.name) if settings.format == "nnunet" else None
    if settings.format == "nnunet" and not named and re.match(r"Dataset\d", out.name):
        raise UserError(
            f"{out.name} was given, but nnU-Net calls its data sets Dataset, three digits, _ and a "
            "name of letters, figures, - and _: write for example Dataset012_Heart"
        )
    with whole_folder(out, overwrite=settings.overwrite) as staging:
        report = write_export(
            settings.format,
            _labelled_volumes(project),
            [ClassLabel(c.value, c.name, c.colour) for c in project.store.classes()],
            staging,
            name=named["name"] if named else project.store.project().name,
            data_set=out.name if named else None,
            on_progress=on_progress,
        )
        if named:
            _lift(staging / out.name)
    return ExportResult(
        settings.format, out, report.volumes, report.slices, report.files, list(report.notes)
    )


def _lift(folder: Path) -> None:
    """Move what a folder holds to where it lies itself."""
    for path in list(folder.iterdir()):
        path.rename(folder.parent / path.name)
    folder.rmdir()


def _labelled_volumes(project: Project) -> list[LabelledVolume]:
    accepted = {record.volume_id for record in project.store.accepted()}
    return [
        LabelledVolume(
            case=volume.case,
            name=volume.name,
            split=volume.split,
            source=project.source(volume),
            geometry=Geometry.from_json(volume.geometry),
            axis=volume.axis,
            masks=partial(project.store.accepted_masks, volume.volume_id),
            intensity_range=tuple((low, high) for low, high in volume.intensity_range),
        )
        for volume in project.store.volumes()
        if volume.volume_id in accepted
    ]
