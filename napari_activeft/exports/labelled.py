"""What an exporter is given, what it hands back, and the steps that all formats share.

Symbols: a label map is (z, y, x), a mask (h, w), the two axes that are left of it in their order.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import OnProgress, UserError
from napari_activeft.geometry import Geometry
from napari_activeft.volume import Source, open_volume
from napari_activeft.voxels import UNLABELLED

TRAINING, VALIDATION, TEST = "pool", "val", "test"
SPLITS = (TRAINING, VALIDATION, TEST)

Mask = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class ClassLabel:
    """One class of the project; background, class 0, is none of them.

    Attributes
    ----------
    value
        Class id in the masks, 1 to 65534.
    name
        As the user wrote it.
    colour
        As "#rrggbb".
    """

    value: int
    name: str
    colour: str


@dataclass(frozen=True)
class LabelledVolume:
    """One volume and its accepted masks.

    Attributes
    ----------
    case
        The examination or patient, by which volumes are kept on one side of a split.
    name
        Unique within the project; may hold spaces, slashes and any letter.
    split
        "pool", which trains, "val" or "test".
    source
        The image files.
    geometry
        Geometry of the image as it was when the volume was added.
    axis
        Axis of the (z, y, x) array along which slices are taken.
    masks
        Called once per export, so that the masks of one volume at a time are in memory: returns
        the accepted masks, class ids (h, w), by position.
    intensity_range
        Low and high of each channel, which become black and white in an 8-bit picture.
    """

    case: str
    name: str
    split: str
    source: Source
    geometry: Geometry
    axis: int
    masks: Callable[[], Mapping[int, Mask]]
    intensity_range: tuple[tuple[float, float], ...]

    @property
    def depth(self) -> int:
        """Slices of the volume along its axis."""
        return self.geometry.shape[self.axis]


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote.

    Attributes
    ----------
    format
        Name of the exporter.
    folder
        The folder it wrote into.
    volumes, slices, files
        How many volumes have a mask, how many masks there are, how many files were written.
    notes
        Sentences the user should read before using the export.
    """

    format: str
    folder: Path
    volumes: int
    slices: int
    files: int
    notes: tuple[str, ...] = ()


class Exporter(Protocol):
    """Write volumes and their masks into a new, empty folder."""

    def __call__(
        self,
        volumes: Sequence[LabelledVolume],
        classes: Sequence[ClassLabel],
        out: Path,
        *,
        name: str,
        on_progress: OnProgress,
    ) -> ExportReport:
        """Write and report; see `napari_activeft.exports.export`."""


def with_masks(
    volumes: Sequence[LabelledVolume],
    classes: Sequence[ClassLabel],
    on_progress: OnProgress,
) -> Iterator[tuple[LabelledVolume, dict[int, Mask]]]:
    """Yield each volume that has accepted masks, with them in order of position.

    Progress is told after every volume, also those without a mask.

    Raises
    ------
    UserError
        If no volume has a mask, or a mask does not fit its volume or the classes.
    """
    known = np.array([0, UNLABELLED, *(label.value for label in classes)])
    found = False
    for done, volume in enumerate(volumes, start=1):
        masks = dict(sorted(volume.masks().items()))
        for position, mask in masks.items():
            _check_mask(volume, position, mask, known)
        if masks:
            found = True
            yield volume, masks
        on_progress(done, len(volumes))
    if not found:
        raise UserError(
            f"none of the {len(volumes)} volumes has an accepted mask, and an export needs one: "
            "annotate and submit a slice first"
        )


def label_map(
    volume: LabelledVolume,
    masks: Mapping[int, Mask],
    *,
    renumber: Mapping[int, int] | None = None,
    unlabelled: int = 0,
) -> Mask:
    """Return the masks of a volume as one label map (z, y, x).

    Parameters
    ----------
    volume
        Whose shape and axis the map has.
    masks
        Class ids (h, w) by position, as `with_masks` yields them.
    renumber
        New value for each class id; ids stay as they are without it.
    unlabelled
        Value of the slices that have no mask and of the pixels that nobody labelled.

    Returns
    -------
    numpy.ndarray
        The smallest of uint8 and uint16 that holds the values.
    """
    if renumber is not None:
        table = np.zeros(UNLABELLED + 1, dtype=np.uint16)
        table[list(renumber)] = list(renumber.values())
        table[UNLABELLED] = unlabelled
        masks = {position: table[mask] for position, mask in masks.items()}
    else:
        # Of numpy's own type: a plain number would be too large for uint8.
        value = np.uint16(UNLABELLED)
        masks = {
            position: np.where(mask == value, np.uint16(unlabelled), mask)
            for position, mask in masks.items()
        }
    fill = unlabelled if len(masks) < volume.depth else 0
    highest = max((int(mask.max()) for mask in masks.values()), default=0)
    shape = volume.geometry.shape
    small = max(highest, fill) <= 255
    label_values = np.full(shape, fill, np.uint8) if small else np.full(shape, fill, np.uint16)
    along_axis = np.moveaxis(label_values, volume.axis, 0)
    for position, mask in masks.items():
        along_axis[position] = mask
    return label_values


def image_channels(volume: LabelledVolume) -> NDArray[Any]:
    """Read the image of a volume as (c, z, y, x), whatever the number of channels.

    Raises
    ------
    UserError
        If the image cannot be read, or has another shape than when it was added.
    """
    data = open_volume(volume.source).data
    channels = data[np.newaxis] if data.ndim == 3 else data
    if channels.shape[1:] != volume.geometry.shape:
        raise UserError(
            f"the image of {volume.name!r} is {channels.shape[1:]} voxels (z, y, x), but was "
            f"{volume.geometry.shape} when it was added: put the original file back"
        )
    return channels


def manifest_entry(volume: LabelledVolume, masks: Mapping[int, Mask]) -> dict[str, Any]:
    """Return what a file's name does not tell: original name, case, split, labelled slices."""
    return {
        "name": volume.name,
        "case": volume.case,
        "split": volume.split,
        # A letter means the same to readers that index (z, y, x) and to those that index (x, y, z).
        "axis": "zyx"[volume.axis],
        "labelled_positions": sorted(masks),
        "partly_labelled_positions": (partly := partly_labelled(masks)),
        "slices": volume.depth,
        "fully_labelled": len(masks) == volume.depth and not partly,
    }


def partly_labelled(masks: Mapping[int, Mask]) -> list[int]:
    """Return the positions, sorted, of the masks in which somebody left pixels unlabelled."""
    return sorted(position for position, mask in masks.items() if mask.max(initial=0) == UNLABELLED)


def partly_note(slices: int, where: str) -> str:
    """Return the note of a format that has no value for a pixel that nobody labelled.

    Parameters
    ----------
    slices
        How many slices are labelled in part, at least one.
    where
        Which of the written files lists them.
    """
    return (
        f"In {slices} slices some pixels were not labelled by anybody, and this format can only "
        f"say background there: {where} lists these slices, keep them out of training."
    )


def class_records(classes: Iterable[ClassLabel]) -> list[dict[str, Any]]:
    """Return the classes, background first, as a manifest lists them."""
    return [
        {"value": 0, "name": "background"},
        *({"value": c.value, "name": c.name, "colour": c.colour} for c in classes),
    ]


def cases_on_both_sides(volumes: Iterable[LabelledVolume]) -> list[str]:
    """Return the cases, sorted, that have volumes in more than one split."""
    splits = defaultdict(set)
    for volume in volumes:
        splits[volume.case].add(volume.split)
    return sorted(case for case, found in splits.items() if len(found) > 1)


def write_json(path: Path, content: object) -> None:
    """Write an object as indented JSON."""
    # Letters escaped: nnU-Net and pycocotools read in the encoding of the locale, not in UTF-8.
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="ascii", newline="\n")


def count_files(folder: Path) -> int:
    """Return how many files lie in a folder and below."""
    return sum(path.is_file() for path in folder.rglob("*"))


def _check_mask(
    volume: LabelledVolume, position: int, mask: Mask, known: NDArray[np.int64]
) -> None:
    """Refuse a mask that does not fit its volume or holds an unknown class."""
    if not 0 <= position < volume.depth:
        raise UserError(
            f"a mask of {volume.name!r} is at position {position}, but the volume has slices 0 to "
            f"{volume.depth - 1} along axis {'zyx'[volume.axis]}: check which image the project "
            "points to"
        )
    expected = tuple(np.delete(volume.geometry.shape, volume.axis).tolist())
    if mask.shape != expected:
        raise UserError(
            f"the mask of slice {position} of {volume.name!r} is {mask.shape}, its slice is "
            f"{expected}: check which image the project points to"
        )
    unknown = np.setdiff1d(mask, known)
    if unknown.size:
        raise UserError(
            f"the mask of slice {position} of {volume.name!r} holds class {unknown[0]}, which the "
            "project does not list: add the class or correct the mask"
        )
