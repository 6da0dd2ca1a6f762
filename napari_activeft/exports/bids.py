"""A BIDS derivative data set of discrete segmentations."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from napari_activeft.errors import OnProgress
from napari_activeft.exports.labelled import (
    TRAINING,
    ClassLabel,
    ExportReport,
    LabelledVolume,
    count_files,
    label_map,
    manifest_entry,
    partly_labelled,
    partly_note,
    with_masks,
    write_json,
)
from napari_activeft.exports.names import alphanumeric
from napari_activeft.volume import write_label_map

BIDS_VERSION = "1.10.0"
CODE_URL = "https://github.com/napari-activeft/napari-activeft"
README = """{name}

Segmentations drawn or corrected, and accepted, by an annotator in napari-activeft. A slice that
nobody labelled is 0, like background: the sidecar of each segmentation lists the labelled slices.

- dseg.tsv: the classes, their names and colours.
- dseg.json: what holds for every segmentation.
- participants.tsv: the case each subject was made from, and whether it trains, validates or tests.
- sub-<label>/anat/sub-<label>_desc-<volume>_dseg.nii.gz: one segmentation per volume, on the grid
  of its image. BIDS knows no computed tomography and no pathology: all volumes are under anat.
"""
# What holds for every segmentation lies once at the root, by BIDS' inheritance principle.
_SEGMENTATIONS = {
    "Description": "Class of every voxel, accepted by an annotator slice by slice",
    "SpatialReference": "orig",
}
_PARTICIPANTS = {
    "Description": "The cases of the project, one subject each",
    "case": {"Description": "Name of the case in the project"},
    "split": {
        "Description": "Which part of the data the subject's volumes belong to",
        "Levels": {
            "pool": "Training",
            "val": "Validation",
            "test": "Test",
            "mixed": "More than one, see the sidecars of the segmentations",
        },
    },
}


def export_bids(
    volumes: Sequence[LabelledVolume],
    classes: Sequence[ClassLabel],
    out: Path,
    *,
    name: str,
    on_progress: OnProgress,
) -> ExportReport:
    """Write ``sub-<case>/anat/sub-<case>_desc-<volume>_dseg.nii.gz`` and what describes them.

    Takes and raises what `napari_activeft.exports.export` does.
    """
    subjects = alphanumeric({volume.case for volume in volumes}, empty="case")
    # Unique over all subjects: a subset of the files can be told apart without their folders.
    labels = alphanumeric((volume.name for volume in volumes), empty="volume")
    exported = []
    slices = in_part = 0
    for volume, masks in with_masks(volumes, classes, on_progress):
        subject = f"sub-{subjects[volume.case]}"
        folder = out / subject / "anat"
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{subject}_desc-{labels[volume.name]}_dseg"
        write_label_map(folder / f"{stem}.nii.gz", label_map(volume, masks), volume.geometry)
        write_json(folder / f"{stem}.json", _sidecar(manifest_entry(volume, masks)))
        exported.append(volume)
        slices += len(masks)
        in_part += len(partly_labelled(masks))
    _write_descriptions(out, name, classes)
    _write_participants(out, exported, subjects)
    held_out = sum(volume.split != TRAINING for volume in exported)
    notes = []
    if in_part:
        notes.append(partly_note(in_part, "the sidecar of each segmentation"))
    if held_out:
        notes.append(
            f"{held_out} of {len(exported)} segmentations are held out for validation or test: "
            "participants.tsv says which, keep them out of training."
        )
    return ExportReport(
        format="bids",
        folder=out,
        volumes=len(exported),
        slices=slices,
        files=count_files(out),
        notes=tuple(notes),
    )


def _sidecar(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON beside a segmentation; BIDS writes keys as one capitalised word."""
    return {
        "SourceVolume": entry["name"],
        "Split": entry["split"],
        # BIDS names the axes of the array on disk i, j, k.
        "SliceAxis": dict(zip("xyz", "ijk", strict=True))[entry["axis"]],
        "LabelledPositions": entry["labelled_positions"],
        "PartlyLabelledPositions": entry["partly_labelled_positions"],
        "FullyLabelled": entry["fully_labelled"],
    }


def _write_descriptions(out: Path, name: str, classes: Sequence[ClassLabel]) -> None:
    """Write what every BIDS data set has, and the look-up table of the classes."""
    generator = {
        "Name": "napari-activeft",
        "Version": metadata.version("napari-activeft"),
        "CodeURL": CODE_URL,
    }
    write_json(
        out / "dataset_description.json",
        {
            "Name": name,
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [generator],
        },
    )
    (out / "README").write_text(README.format(name=name), encoding="utf-8", newline="\n")
    rows = [("0", "background", "#000000")]
    rows += [(str(label.value), label.name, label.colour) for label in classes]
    write_json(out / "dseg.json", _SEGMENTATIONS)
    _write_tsv(out / "dseg.tsv", ("index", "name", "color"), rows)


def _write_participants(
    out: Path, volumes: Iterable[LabelledVolume], subjects: Mapping[str, str]
) -> None:
    """Write participants.tsv, one row per case, and what its columns mean."""
    splits = defaultdict(set)
    for volume in volumes:
        splits[volume.case].add(volume.split)
    rows = [
        (f"sub-{subjects[case]}", case, found.pop() if len(found) == 1 else "mixed")
        for case, found in splits.items()
    ]
    _write_tsv(out / "participants.tsv", ("participant_id", "case", "split"), sorted(rows))
    write_json(out / "participants.json", _PARTICIPANTS)


def _write_tsv(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Write a table; a tab or line break inside a name, which TSV cannot hold, becomes a space."""
    lines = [header, *(tuple(re.sub(r"\s+", " ", cell) for cell in row) for row in rows)]
    text = "".join("\t".join(line) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8", newline="\n")
