"""Turns the label maps that lie beside images into accepted masks."""

from __future__ import annotations

from napari_activeft.annotation_db import ImportCounts, StoreError
from napari_activeft.errors import OnProgress, Problem, UserError
from napari_activeft.label_maps import import_volume
from napari_activeft.project import Project
from napari_activeft.results import ImportResult
from napari_activeft.settings import ImportSettings


def import_label_maps(
    project: Project, settings: ImportSettings, on_progress: OnProgress
) -> ImportResult:
    """Store the label maps of volumes, or of their queried slices, one transaction a volume.

    Raises
    ------
    UserError
        If there is no label map, or no slice was selected and only such were wanted.
    """
    store = project.store
    queried: dict[int, set[int]] = {}
    for query in store.queries():
        queried.setdefault(query.volume_id, set()).add(query.position)
    if settings.only_queried and not queried:
        raise UserError(
            "no slice was selected yet, and only selected ones were to be imported: select some "
            "with `napari-activeft select`"
        )
    volumes = [v for v in store.volumes() if not settings.only_queried or v.volume_id in queried]
    with_labels = [volume for volume in volumes if volume.label_file]
    if not with_labels:
        raise UserError(
            "none of these volumes has a label map: add their folder again with --labels, for "
            "example `napari-activeft add FOLDER --labels '*_gt.nii.gz'`"
        )
    counts, problems = ImportCounts(0, 0, 0), []
    for done, volume in enumerate(with_labels, start=1):
        positions = queried[volume.volume_id] if settings.only_queried else None
        try:
            counts += import_volume(
                project, volume, positions, settings.author, settings.unlabelled
            )
        except (UserError, StoreError) as refusal:
            problems.append(Problem(str(project.label_path(volume)), str(refusal)))
        on_progress(done, len(with_labels))
    return ImportResult(
        label_maps=len(with_labels) - len(problems),
        stored=counts.stored,
        kept=counts.kept,
        leased=counts.leased,
        without_label_map=len(volumes) - len(with_labels),
        problems=problems,
    )
