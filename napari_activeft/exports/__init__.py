"""Accepted masks as data sets that other tools read, one format a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from napari_activeft.errors import OnProgress, UserError, no_progress
from napari_activeft.exports.bids import export_bids
from napari_activeft.exports.coco import export_coco
from napari_activeft.exports.labelled import (
    SPLITS,
    ClassLabel,
    Exporter,
    ExportReport,
    LabelledVolume,
    cases_on_both_sides,
)
from napari_activeft.exports.nifti import export_nifti
from napari_activeft.exports.nnunet import export_nnunet

__all__ = ["EXPORTERS", "ClassLabel", "ExportReport", "Exporter", "LabelledVolume", "export"]

EXPORTERS: dict[str, Exporter] = {
    "nifti": export_nifti,
    "nnunet": export_nnunet,
    "coco": export_coco,
    "bids": export_bids,
}


def export(
    format: str,  # noqa: A002 - the word that users of the command line type
    volumes: Sequence[LabelledVolume],
    classes: Sequence[ClassLabel],
    out: Path,
    *,
    name: str,
    on_progress: OnProgress = no_progress,
    data_set: str | None = None,
) -> ExportReport:
    """Write the accepted masks of volumes as a data set of another tool.

    Parameters
    ----------
    format
        A key of `EXPORTERS`.
    volumes
        Those without an accepted mask are passed over.
    classes
        Every class that the masks may hold.
    out
        A new, empty folder. What lies in it after an error or a cancellation is not complete.
    name
        Name of the data set.
    on_progress
        Called after every volume; may raise `Cancelled`.
    data_set
        Name of nnU-Net's folder, such as Dataset501_Heart; Dataset001 and ``name`` by default.

    Raises
    ------
    UserError
        If the format is unknown, no volume has a mask, or the masks do not fit the format.
    """
    exporter = EXPORTERS.get(format)
    if exporter is None:
        raise UserError(f"there is no export {format!r}: choose one of {', '.join(EXPORTERS)}")
    if exporter is export_nnunet:
        exporter = partial(export_nnunet, data_set=data_set)
    _check(volumes, classes)
    report = exporter(volumes, classes, out, name=name, on_progress=on_progress)
    both = cases_on_both_sides(volumes)
    if not both:
        return report
    note = (
        f"Cases with volumes in more than one of training, validation and test: {len(both)}, "
        f"the first is {both[0]!r}; scores on them are too good."
    )
    return replace(report, notes=(*report.notes, note))


def _check(volumes: Sequence[LabelledVolume], classes: Sequence[ClassLabel]) -> None:
    """Refuse what no store of ours would hand over and every format would write down wrongly."""
    for what, found in (
        ("volume", Counter(v.name for v in volumes)),
        ("class", Counter(c.name for c in classes)),
        ("class id", Counter(str(c.value) for c in classes)),
    ):
        twice = [one for one, times in found.items() if times > 1]
        if twice:
            raise UserError(f"the {what} {twice[0]!r} is there twice: rename one of the two")
    for volume in volumes:
        if volume.split not in SPLITS:
            raise UserError(
                f"the split of {volume.name!r} is {volume.split!r}: choose one of "
                f"{', '.join(SPLITS)}"
            )
    for label in classes:
        if not 1 <= label.value <= 65534:
            raise UserError(
                f"class {label.name!r} has id {label.value}, and ids go from 1 to 65534: give it "
                "another"
            )
