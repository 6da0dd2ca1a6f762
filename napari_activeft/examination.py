"""Looks after the image files of a project: whether they are there, and still the same."""

from __future__ import annotations

from napari_activeft.annotation_db import Fault, VolumeRecord
from napari_activeft.errors import OnProgress, UserError
from napari_activeft.project import Project, content_hash
from napari_activeft.results import DoctorResult
from napari_activeft.settings import DoctorSettings


def image_faults(project: Project, volume: VolumeRecord, *, quick: bool = False) -> list[Fault]:
    """Return what is wrong with the files of one volume.

    Parameters
    ----------
    quick
        Compare their size instead of their content.
    """
    faults = []
    label = project.label_path(volume)
    if label is not None and not label.is_file():
        sentence = "is missing: restore it, or add its folder again from where it is now"
        faults.append(Fault(str(label), f"the label map of {volume.name} {sentence}"))
    source = project.source(volume)
    missing = [path for path in source.paths if not path.exists()]
    if missing:
        sentence = "is missing: restore it, or add its folder again from where it is now"
        return [*faults, Fault(str(missing[0]), f"the image of {volume.name} {sentence}")]
    try:
        files = source.files
        size = sum(file.stat().st_size for file in files)
        same = size == volume.byte_count
        if same and not quick:
            same = content_hash(files)[0] == volume.content_hash
    except (OSError, UserError) as refusal:
        sentence = f"the image of {volume.name} cannot be read ({refusal}): check its permissions"
        return [*faults, Fault(str(source.paths[0]), sentence)]
    if not same:
        sentence = (
            f"the image of {volume.name} changed since it was added and its masks may no longer "
            "fit: restore the file, or add the new one under another name"
        )
        faults.append(Fault(str(source.paths[0]), sentence))
    return faults


def examine_project(
    project: Project, settings: DoctorSettings, on_progress: OnProgress
) -> DoctorResult:
    """Look at the whole project; see `workflow.doctor`."""
    store = project.store
    faults = store.check(on_progress)
    if any(fault.subject == "database" for fault in faults):
        return DoctorResult(project.folder, 0, 0, faults, 0, None)
    backup = store.back_up(project.folder / "backups") if settings.backup else None
    mended = store.mend_queue() if settings.mend else 0
    volumes = store.volumes()
    if mended:
        faults = store.check()
    masks = store.mask_count()
    for done, volume in enumerate(volumes, start=1):
        faults += image_faults(project, volume, quick=settings.quick)
        on_progress(masks + done, masks + len(volumes))
    return DoctorResult(project.folder, masks, len(volumes), faults, mended, backup)
