"""COCO: 8-bit pictures of the labelled slices and run-length encoded masks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import OnProgress
from napari_activeft.exports.labelled import (
    TEST,
    TRAINING,
    VALIDATION,
    ClassLabel,
    ExportReport,
    LabelledVolume,
    Mask,
    count_files,
    image_channels,
    partly_labelled,
    partly_note,
    with_masks,
    write_json,
)
from napari_activeft.exports.names import safe_file_names
from napari_activeft.volume import write_png
from napari_activeft.voxels import UNLABELLED

# One file a split: whoever trains on annotations.json cannot meet a held out picture.
ANNOTATIONS = {
    TRAINING: "annotations.json",
    VALIDATION: "annotations_val.json",
    TEST: "annotations_test.json",
}
PICTURES = "images"


@dataclass
class _Records:
    """The images of one split and their annotations, which get their ids when written."""

    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)


def export_coco(
    volumes: Sequence[LabelledVolume],
    classes: Sequence[ClassLabel],
    out: Path,
    *,
    name: str,
    on_progress: OnProgress,
) -> ExportReport:
    """Write a PNG per labelled slice and ``annotations.json``, one annotation per class in it.

    Validation and test slices have annotation files of their own. A category's id is the class
    id. Takes and raises what `napari_activeft.exports.export` does.
    """
    (out / PICTURES).mkdir()
    file_names = safe_file_names(volume.name for volume in volumes)
    records: defaultdict[str, _Records] = defaultdict(_Records)
    exported = slices = single = in_part = 0
    for volume, masks in with_masks(volumes, classes, on_progress):
        channels = image_channels(volume)
        for position, mask in masks.items():
            slices += 1
            file = f"{file_names[volume.name]}_{position:04d}.png"
            image = np.take(channels, position, axis=volume.axis + 1)
            write_png(out / PICTURES / file, picture(image, volume.intensity_range))
            _add_slice(records[volume.split], slices, file, volume, position, mask)
        exported += 1
        in_part += len(partly_labelled(masks))
        single += len(channels) > 1 and not _is_rgb(channels)
    annotation_ids = count(1)
    for split, found in records.items():
        content = _annotation_file(name, split, classes, found, annotation_ids)
        write_json(out / ANNOTATIONS[split], content)
    return ExportReport(
        format="coco",
        folder=out,
        volumes=exported,
        slices=slices,
        files=count_files(out),
        notes=_notes(set(records), single, in_part),
    )


def picture(
    image: NDArray[Any], intensity_range: Sequence[tuple[float, float]]
) -> NDArray[np.uint8]:
    """Return one slice as 8-bit grey (h, w) or RGB (h, w, 3).

    Parameters
    ----------
    image
        Channels (c, h, w). Three of uint8 are RGB; of other channels only the first is shown.
        What is 8-bit already stays as it is.
    intensity_range
        Low and high of each channel, which become 0 and 255.
    """
    if _is_rgb(image):
        return np.ascontiguousarray(np.moveaxis(image, 0, -1))
    grey = image[0]
    if grey.dtype == np.uint8:
        kept: NDArray[np.uint8] = grey
        return kept
    low, high = intensity_range[0]
    # float64, since int32 and uint16 do not fit float32 and differences of int8 not int8.
    scaled = (grey.astype(np.float64) - low) / max(high - low, np.finfo(np.float32).tiny)
    shown: NDArray[np.uint8] = np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    return shown


def _is_rgb(channels: NDArray[Any]) -> bool:
    return len(channels) == 3 and channels.dtype == np.uint8


def _add_slice(
    records: _Records,
    image_id: int,
    file: str,
    volume: LabelledVolume,
    position: int,
    mask: Mask,
) -> None:
    """Enter one picture and the annotation of each class in its mask."""
    from pycocotools import mask as coco_mask

    height, width = mask.shape
    row_mm, column_mm = np.delete(volume.geometry.spacing, volume.axis).tolist()
    records.images.append(
        {
            "id": image_id,
            "file_name": file,
            "height": height,
            "width": width,
            "volume": volume.name,
            "case": volume.case,
            "axis": "zyx"[volume.axis],
            "position": position,
            "spacing_mm": [row_mm, column_mm],
            "partly_labelled": bool(partly_labelled({position: mask})),
        }
    )
    for value in np.unique(mask[(mask > 0) & (mask < UNLABELLED)]).tolist():
        encoded = coco_mask.encode(np.asfortranarray(mask == value, dtype=np.uint8))
        records.annotations.append(
            {
                "image_id": image_id,
                "category_id": value,
                "segmentation": {
                    "size": [height, width],
                    "counts": encoded["counts"].decode("ascii"),
                },
                "area": int(coco_mask.area(encoded)),
                "bbox": [float(edge) for edge in coco_mask.toBbox(encoded)],
                "iscrowd": 0,
            }
        )


def _annotation_file(
    name: str,
    split: str,
    classes: Sequence[ClassLabel],
    records: _Records,
    annotation_ids: Iterator[int],
) -> Mapping[str, Any]:
    """Return one annotation file as COCO lays it out; ids are unique over all files."""
    return {
        "info": {"description": name, "split": split},
        "licenses": [],
        "images": records.images,
        "categories": [
            {"id": label.value, "name": label.name, "supercategory": "", "color": label.colour}
            for label in classes
        ],
        "annotations": [
            {"id": next(annotation_ids), **annotation} for annotation in records.annotations
        ],
    }


def _notes(splits: set[str], single: int, in_part: int) -> tuple[str, ...]:
    notes = []
    if in_part:
        notes.append(partly_note(in_part, "the annotation file (partly_labelled)"))
    if splits != {TRAINING}:
        held_out = [ANNOTATIONS[split] for split in (VALIDATION, TEST) if split in splits]
        notes.append(
            f"Slices held out for validation or test are in {' and '.join(held_out)}, not in "
            f"{ANNOTATIONS[TRAINING]}."
        )
    if single:
        notes.append(
            f"A picture holds one channel or RGB, so of {single} volumes with other channels only "
            "the first is shown."
        )
    return tuple(notes)
