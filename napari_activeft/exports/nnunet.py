"""An nnU-Net v2 raw data set: images, label maps, dataset.json and folds that keep cases whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_activeft.errors import OnProgress, UserError
from napari_activeft.exports.labelled import (
    TEST,
    TRAINING,
    VALIDATION,
    ClassLabel,
    ExportReport,
    LabelledVolume,
    Mask,
    class_records,
    count_files,
    image_channels,
    label_map,
    manifest_entry,
    with_masks,
    write_json,
)
from napari_activeft.exports.names import alphanumeric, safe_identifiers
from napari_activeft.volume import write_image, write_label_map

MANIFEST = "manifest.json"
FILE_ENDING = ".nii.gz"
MOST_FOLDS = 5
# The two names in dataset.json that mean something to nnU-Net.
RESERVED = ("background", "ignore")

Folds = list[dict[str, list[str]]]


@dataclass
class _Written:
    """What has been written so far.

    Attributes
    ----------
    entries
        Manifest entry by identifier, in the order written.
    channels
        Number of channels, of which all volumes must have the same; None before the first.
    """

    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    channels: int | None = None

    def of_split(self, *splits: str) -> list[str]:
        """Return the identifiers of these splits."""
        return [i for i, entry in self.entries.items() if entry["split"] in splits]


def export_nnunet(
    volumes: Sequence[LabelledVolume],
    classes: Sequence[ClassLabel],
    out: Path,
    *,
    name: str,
    on_progress: OnProgress,
    data_set: str | None = None,
) -> ExportReport:
    """Write ``Dataset001_<Name>`` as nnU-Net v2 wants it in its folder ``nnUNet_raw``.

    Class ids become 1, 2, 3 and so on in order; slices without a mask and pixels that nobody
    labelled get the ignore label, which is one more. Training and validation volumes go to
    ``imagesTr``, test volumes to ``imagesTs``. Takes and raises what
    `napari_activeft.exports.export` does.

    Parameters
    ----------
    data_set
        Name of the folder, ``Dataset`` with three digits and a name; Dataset001 by default.

    Raises
    ------
    UserError
        Moreover if no training volume has a mask, or the volumes differ in their channels.
    """
    folder = out / (data_set or f"Dataset001_{alphanumeric([name], empty='Export')[name]}")
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    renumber = {0: 0} | {label.value: n for n, label in enumerate(_in_order(classes), start=1)}
    identifiers = safe_identifiers(volume.name for volume in volumes)
    written = _Written()
    for volume, masks in with_masks(volumes, classes, on_progress):
        _write_volume(folder, identifiers[volume.name], volume, masks, renumber, written)
    if not written.of_split(TRAINING):
        raise UserError(
            "only validation and test volumes have accepted masks, and nnU-Net needs one to train "
            "on: annotate a slice of a training volume"
        )
    labels = _label_names(classes)
    ignored = any(not entry["fully_labelled"] for entry in written.entries.values())
    _write_descriptions(folder, name, labels, ignored, renumber, classes, written)
    folds = _folds(written)
    if folds:
        write_json(folder / "splits_final.json", folds)
    return ExportReport(
        format="nnunet",
        folder=out,
        volumes=len(written.entries),
        slices=sum(len(entry["labelled_positions"]) for entry in written.entries.values()),
        files=count_files(out),
        notes=_notes(folder, classes, labels, ignored, folds, written),
    )


def _write_volume(
    folder: Path,
    identifier: str,
    volume: LabelledVolume,
    masks: Mapping[int, Mask],
    renumber: Mapping[int, int],
    written: _Written,
) -> None:
    """Write the channels and the label map of one volume and enter it in ``written``."""
    side = "Ts" if volume.split == TEST else "Tr"
    for part in (f"images{side}", f"labels{side}"):
        (folder / part).mkdir(exist_ok=True)
    channels = image_channels(volume)
    if written.channels not in (None, len(channels)):
        raise UserError(
            f"{volume.name!r} has {len(channels)} channels and a volume before it "
            f"{written.channels}, and nnU-Net needs the same number in all: export them apart"
        )
    written.channels = len(channels)
    # The image is written anew rather than copied, so that nnU-Net finds one geometry in both.
    for number, channel in enumerate(channels):
        path = folder / f"images{side}" / f"{identifier}_{number:04d}{FILE_ENDING}"
        write_image(path, channel, volume.geometry)
    label_values = label_map(volume, masks, renumber=renumber, unlabelled=len(renumber))
    path = folder / f"labels{side}" / f"{identifier}{FILE_ENDING}"
    write_label_map(path, label_values, volume.geometry)
    written.entries[identifier] = manifest_entry(volume, masks)


def _write_descriptions(
    folder: Path,
    name: str,
    labels: Mapping[int, str],
    ignored: bool,
    renumber: Mapping[int, int],
    classes: Sequence[ClassLabel],
    written: _Written,
) -> None:
    """Write dataset.json and the manifest that maps values and identifiers back."""
    values = {"background": 0} | {labels[value]: new for value, new in renumber.items() if value}
    if ignored:
        values["ignore"] = len(renumber)
    channels = range(written.channels or 0)
    write_json(
        folder / "dataset.json",
        {
            "name": name,
            "channel_names": {str(number): f"channel{number}" for number in channels},
            "labels": values,
            "numTraining": len(written.of_split(TRAINING, VALIDATION)),
            "file_ending": FILE_ENDING,
        },
    )
    records = [
        {**record, "nnunet_value": renumber[record["value"]]}
        for record in class_records(_in_order(classes))
    ]
    files = [{"identifier": i, **entry} for i, entry in written.entries.items()]
    write_json(folder / MANIFEST, {"dataset": name, "classes": records, "files": files})


def _in_order(classes: Sequence[ClassLabel]) -> list[ClassLabel]:
    return sorted(classes, key=lambda label: label.value)


def _label_names(classes: Sequence[ClassLabel]) -> dict[int, str]:
    """Return each class's name in dataset.json by class id, none of them a reserved one."""
    taken = {label.name for label in classes}
    names = {}
    for label in classes:
        new = label.name
        while new in RESERVED or (new != label.name and new in taken):
            new = f"{new} (class {label.value})"
        names[label.value] = new
    return names


def _folds(written: _Written) -> Folds:
    """Return the folds to train, with the volumes of one case always on the same side.

    One fold where there are validation volumes; otherwise up to five by case, or none with a
    single case.
    """
    training, validation = written.of_split(TRAINING), written.of_split(VALIDATION)
    if validation:
        return [{"train": sorted(training), "val": sorted(validation)}]
    by_case = defaultdict(list)
    for identifier in training:
        by_case[written.entries[identifier]["case"]].append(identifier)
    if len(by_case) < 2:
        return []
    held_out: list[list[str]] = [[] for _ in range(min(MOST_FOLDS, len(by_case)))]
    # The largest case first, each into the smallest fold: about as many volumes in every fold.
    for case in sorted(by_case, key=lambda case: (-len(by_case[case]), case)):
        min(held_out, key=len).extend(by_case[case])
    return [{"train": sorted(set(training) - set(val)), "val": sorted(val)} for val in held_out]


def _notes(
    folder: Path,
    classes: Sequence[ClassLabel],
    labels: Mapping[int, str],
    ignored: bool,
    folds: Folds,
    written: _Written,
) -> tuple[str, ...]:
    """Return what a user of nnU-Net must know and would not see in time."""
    notes = [
        f'All channels are normalised by z-score: for CT write "CT" as channel name into '
        f"{folder.name}/dataset.json before planning."
    ]
    if folds:
        how_many = (
            'fold 0 only; any other fold, and fold "all", trains on the validation volumes too'
            if written.of_split(VALIDATION)
            else f"folds 0 to {len(folds) - 1}"
        )
        notes.append(
            "nnU-Net's own folds would put slices of one case on both sides: copy "
            f"{folder.name}/splits_final.json to nnUNet_preprocessed/{folder.name}/ before "
            f"training, and train {how_many}."
        )
    else:
        notes.append('All training volumes are of one case, so there are no folds: train "all".')
    if ignored:
        notes.append(
            'Slices and pixels that nobody labelled have the label "ignore", which nnU-Net leaves '
            "out of the loss."
        )
    renamed = [(c.name, labels[c.value]) for c in classes if labels[c.value] != c.name]
    if renamed:
        pairs = ", ".join(f"{old!r} to {new!r}" for old, new in renamed)
        notes.append(f"nnU-Net keeps two class names to itself, so these are renamed: {pairs}.")
    return tuple(notes)
