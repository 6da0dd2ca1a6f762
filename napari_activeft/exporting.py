"""Writes the accepted masks of a project as a data set of another tool."""

from __future__ import annotations

from functools import partial

from napari_activeft.errors import OnProgress
from napari_activeft.exports import ClassLabel, LabelledVolume
from napari_activeft.exports import export as write_export
from napari_activeft.geometry import Geometry
from napari_activeft.project import Project
from napari_activeft.results import ExportResult
from napari_activeft.settings import ExportSettings
from napari_activeft.whole_folder import whole_folder


def export_project(
    project: Project, settings: ExportSettings, on_progress: OnProgress
) -> ExportResult:
    """Write an export that appears only when it is complete; an earlier one stays until then."""
    out = settings.out or project.folder / "exports" / settings.format
    with whole_folder(out, overwrite=settings.overwrite) as staging:
        report = write_export(
            settings.format,
            _labelled_volumes(project),
            [ClassLabel(c.value, c.name, c.colour) for c in project.store.classes()],
            staging,
            name=project.store.project().name,
            on_progress=on_progress,
        )
    return ExportResult(
        settings.format, out, report.volumes, report.slices, report.files, list(report.notes)
    )


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
