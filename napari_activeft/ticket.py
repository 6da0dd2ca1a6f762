"""A query on paper: a picture of the slice, the slice itself, and a ticket to answer it with.

All three lie in one folder under one name: ``query-0007.png`` to look at (8 bit, contrast
normalised), ``query-0007.nii`` with the stored intensities in their place in the patient, and
``query-0007.json``, the ticket. A mask has the size of the picture: row by row the same pixels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_activeft.annotation_db import MAX_SIDE, ClassRecord, LeaseRecord, VolumeRecord
from napari_activeft.errors import UserError
from napari_activeft.folder_walk import QUERY_STEM
from napari_activeft.geometry import Geometry
from napari_activeft.pool import normalise, picture, slice_spacing, take_slice
from napari_activeft.volume import Volume, write_image, write_label_map, write_png

_FORMAT = 1


@dataclass(frozen=True)
class Ticket:
    """What is needed to answer a query.

    Attributes
    ----------
    project
        Identity of the project that wrote it.
    token
        Proof of the lease.
    shape
        Height and width of the slice in pixels.
    """

    project: str
    query: int
    token: str
    annotator: str
    shape: tuple[int, int]


def write_query(
    out: Path,
    *,
    project_uid: str,
    lease: LeaseRecord,
    record: VolumeRecord,
    volume: Volume,
    classes: list[ClassRecord],
    previous: np.ndarray[Any, Any] | None,
) -> tuple[Path, Path]:
    """Write picture, slice and ticket of a query; return the paths of ticket and picture.

    The ticket is written last, so that a ticket always has its picture.

    Parameters
    ----------
    out
        A folder that exists.
    lease, record, volume
        The query's lease, and the volume it belongs to.
    classes
        What the mask may hold, for the annotator to read.
    previous
        The slice's mask so far, (h, w), None if it has none.
    """
    stem = QUERY_STEM.format(lease.query_id)
    pixels = take_slice(volume.data, record.axis, lease.position)
    ranges = [(low, high) for low, high in record.intensity_range]
    # Uncompressed: an annotator waits for it, and the slice is small.
    image, slice_file = out / f"{stem}.png", out / f"{stem}.nii"
    geometry = volume.geometry.slice_geometry(record.axis, lease.position)
    write_png(image, picture(normalise(pixels, ranges)))
    # Of a picture with several channels the first is enough to find the place; the PNG has all.
    grey = pixels if pixels.ndim == 2 else pixels[0]
    write_image(slice_file, np.expand_dims(grey, record.axis), geometry)
    if previous is not None:
        earlier = np.expand_dims(previous, record.axis)
        write_label_map(out / f"{stem}-previous-mask.nii.gz", earlier, geometry)
        if previous.max(initial=0) < 256:
            write_png(out / f"{stem}-previous-mask.png", previous.astype(np.uint8))
    ticket = out / f"{stem}.json"
    written = _ticket(project_uid, lease, record, geometry, classes)
    partial = ticket.with_suffix(".partial")
    partial.write_text(json.dumps(written, indent=2, ensure_ascii=False), encoding="utf-8")
    partial.replace(ticket)
    return ticket, image


def _ticket(
    project_uid: str,
    lease: LeaseRecord,
    record: VolumeRecord,
    geometry: Geometry,
    classes: list[ClassRecord],
) -> dict[str, Any]:
    return {
        "napari-activeft ticket": _FORMAT,
        "project": project_uid,
        "query": lease.query_id,
        "token": lease.token,
        "annotator": lease.annotator,
        "expires_at": lease.expires_at.isoformat(),
        "round": lease.round_number,
        "rank": lease.rank,
        "volume": record.name,
        "case": record.case,
        "axis": record.axis,
        "position": lease.position,
        "mask_shape": [record.slice_height, record.slice_width],
        "pixel_spacing_mm": list(slice_spacing(geometry, record.axis)),
        "geometry": geometry.to_json(),
        "classes": {str(record.value): record.name for record in classes},
        "parent_revision": lease.parent_revision_id,
        "review_comment": lease.review_comment,
    }


def read_ticket(path: Path) -> Ticket:
    """Read what `write_query` wrote.

    Raises
    ------
    UserError
        If it cannot be read or is no ticket of this program.
    """
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        if written["napari-activeft ticket"] > _FORMAT:
            raise UserError(
                f"{path} was written by a newer version of the program: upgrade this one"
            )
        height, width = (int(side) for side in written["mask_shape"])
        if not 1 <= min(height, width) <= max(height, width) <= MAX_SIDE:
            raise ValueError("no slice has this shape")
        return Ticket(
            project=str(written["project"]),
            query=int(written["query"]),
            token=str(written["token"]),
            annotator=str(written["annotator"]),
            shape=(height, width),
        )
    except OSError as refusal:
        raise UserError(
            f"the ticket {path} cannot be read ({refusal.strerror}): name the .json file that "
            "`napari-activeft next` wrote"
        ) from refusal
    except (ValueError, KeyError, TypeError, OverflowError) as refusal:
        raise UserError(
            f"{path} is no ticket: name the .json file that `napari-activeft next` wrote"
        ) from refusal
