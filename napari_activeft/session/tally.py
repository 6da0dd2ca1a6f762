"""What is labelled so far, by class, and how long labelling takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from napari_activeft.annotation_db import CorruptMaskError
from napari_activeft.project import Project

USUAL_SECONDS: Final = 90.0
"""Of a slice, until people's own times are known."""
_ENOUGH_MASKS: Final = 5


@dataclass(frozen=True)
class ClassTally:
    """How often a class was labelled.

    Attributes
    ----------
    value, name, colour
        Of the class.
    slices, cases, pixels
        With accepted masks that show it.
    """

    value: int
    name: str
    colour: str
    slices: int
    cases: int
    pixels: int


@dataclass(frozen=True)
class Tally:
    """What is labelled so far, of the pool.

    Attributes
    ----------
    slices, cases
        With an accepted mask.
    classes
        Of the class table, in its order.
    """

    slices: int
    cases: int
    classes: tuple[ClassTally, ...]


class Tallies:
    """Counts accepted masks; each is looked at once, however often it is asked.

    Parameters
    ----------
    project
        Open.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._counts: dict[int, dict[int, int]] = {}  # pixels by class, by revision

    def count(self) -> Tally:
        """Count what is accepted now; a damaged mask, which `doctor` names, counts for nothing."""
        store = self._project.store
        cases = {v.volume_id: v.case for v in store.volumes() if v.split == "pool"}
        accepted = [one for one in store.accepted() if one.volume_id in cases]
        for one in accepted:
            if one.revision_id not in self._counts:
                self._counts[one.revision_id] = self._pixels(one.revision_id)
        shown = [
            (self._counts[one.revision_id], cases[one.volume_id])
            for one in accepted
            if one.revision_id in self._counts
        ]
        classes = tuple(
            ClassTally(
                record.value,
                record.name,
                record.colour,
                sum(record.value in pixels for pixels, _ in shown),
                len({case for pixels, case in shown if record.value in pixels}),
                sum(pixels.get(record.value, 0) for pixels, _ in shown),
            )
            for record in store.classes()
        )
        return Tally(len(accepted), len({cases[one.volume_id] for one in accepted}), classes)

    def _pixels(self, revision_id: int) -> dict[int, int]:
        try:
            counts = np.bincount(self._project.store.mask(revision_id).ravel())
        except CorruptMaskError:
            return {}
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


def seconds_a_slice(project: Project) -> tuple[float, bool]:
    """Return how long a slice takes to label, and whether that was measured here.

    The mean of all masks that people made in this project, once there are a few.
    """
    totals = project.store.annotator_totals()
    masks = sum(one["timed"] for one in totals)
    if masks < _ENOUGH_MASKS:
        return USUAL_SECONDS, False
    return sum(one["seconds"] for one in totals) / masks, True
