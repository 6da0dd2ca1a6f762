"""The uncertainty of each predicted slice, kept in the folder of a run for later rounds.

One line a slice. A later prediction replaces the lines of the slices it predicted and leaves the
others.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from napari_activeft.errors import UserError
from napari_activeft.nifti_bytes import replacing

FILE = "uncertainty.csv"
_COLUMNS = ("volume", "position", "entropy", "bald", "networks")

Place = tuple[str, int]
"""Name of a volume and position of a slice in it."""


@dataclass(frozen=True)
class SliceUncertainty:
    """How sure networks were of one slice.

    Attributes
    ----------
    volume, position
        Which slice.
    entropy
        0 (sure) to 1, see `prediction.certainty`.
    bald
        How far several networks disagree, 0 to 1; None where there was only one.
    networks
        How many predicted together.
    """

    volume: str
    position: int
    entropy: float
    bald: float | None
    networks: int

    @property
    def place(self) -> Place:
        """Which slice."""
        return self.volume, self.position


def read_uncertainty(folder: Path) -> dict[Place, SliceUncertainty]:
    """Read what a run's predictions said; empty where it predicted nothing yet.

    Raises
    ------
    UserError
        If the table is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [_row(told) for told in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError) as refusal:
        raise UserError(
            f"{path} is damaged: remove it, and run `napari-activeft predict` again"
        ) from refusal
    return {row.place: row for row in rows}


def _row(told: Mapping[str, str]) -> SliceUncertainty:
    return SliceUncertainty(
        volume=told["volume"],
        position=int(told["position"]),
        entropy=float(told["entropy"]),
        bald=float(told["bald"]) if told["bald"] else None,
        networks=int(told["networks"]),
    )


def write_uncertainty(
    folder: Path, held: Mapping[Place, SliceUncertainty], new: Iterable[SliceUncertainty]
) -> dict[Place, SliceUncertainty]:
    """Write the table whole or not at all, new lines in the place of held ones, and return it.

    Raises
    ------
    UserError
        If the disk refuses; an earlier table stays.
    """
    merged = {**held, **{row.place: row for row in new}}
    made = io.StringIO()
    table = csv.writer(made, lineterminator="\n")
    table.writerow(_COLUMNS)
    for _, row in sorted(merged.items()):
        bald = "" if row.bald is None else f"{row.bald:.6g}"
        table.writerow([row.volume, row.position, f"{row.entropy:.6g}", bald, row.networks])
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(made.getvalue().encode())
    except OSError as refusal:
        raise UserError(
            f"{path} cannot be written ({refusal.strerror}): make room on the disk, and predict "
            "again; masks that were proposed already stay"
        ) from refusal
    return merged
