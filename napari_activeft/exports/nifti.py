"""One NIfTI label map per volume and a manifest: what any tool can read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_activeft.errors import OnProgress
from napari_activeft.exports.labelled import (
    TRAINING,
    ClassLabel,
    ExportReport,
    LabelledVolume,
    class_records,
    count_files,
    label_map,
    manifest_entry,
    partly_note,
    with_masks,
    write_json,
)
from napari_activeft.exports.names import safe_file_names
from napari_activeft.volume import write_label_map

MANIFEST = "labels.json"


def export_nifti(
    volumes: Sequence[LabelledVolume],
    classes: Sequence[ClassLabel],
    out: Path,
    *,
    name: str,
    on_progress: OnProgress,
) -> ExportReport:
    """Write ``<name>.nii.gz`` for every volume with a mask, and ``labels.json``.

    Slices without a mask are 0; the manifest says which have one. Takes and raises what
    `napari_activeft.exports.export` does.
    """
    file_names = safe_file_names(volume.name for volume in volumes)
    entries = []
    for volume, masks in with_masks(volumes, classes, on_progress):
        file = f"{file_names[volume.name]}.nii.gz"
        write_label_map(out / file, label_map(volume, masks), volume.geometry)
        entries.append({"file": file, **manifest_entry(volume, masks)})
    write_json(
        out / MANIFEST, {"dataset": name, "classes": class_records(classes), "files": entries}
    )

    notes = []
    partly = sum(len(entry["labelled_positions"]) < entry["slices"] for entry in entries)
    if partly:
        notes.append(
            f"{partly} of {len(entries)} label maps have slices that nobody labelled, which are 0 "
            f"like background: {MANIFEST} lists the labelled ones."
        )
    in_part = sum(len(entry["partly_labelled_positions"]) for entry in entries)
    if in_part:
        notes.append(partly_note(in_part, MANIFEST))
    held_out = sum(entry["split"] != TRAINING for entry in entries)
    if held_out:
        notes.append(
            f"{held_out} of {len(entries)} label maps are held out for validation or test: "
            f"{MANIFEST} says which, keep them out of training."
        )
    return ExportReport(
        format="nifti",
        folder=out,
        volumes=len(entries),
        slices=sum(len(entry["labelled_positions"]) for entry in entries),
        files=count_files(out),
        notes=tuple(notes),
    )
