"""Connected-component clean-up of a predicted label map.

Symbols: a label map is (z, y, x) or any three axes of a volume; voxels touch that share a corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.voxels import LabelMap


@dataclass(frozen=True)
class CleanUp:
    """What is taken out of a label map; it becomes background.

    Attributes
    ----------
    largest
        Keep only the largest component of each class.
    smallest_mm3
        Drop components of a class below this volume; 0 drops none.
    """

    largest: bool = False
    smallest_mm3: float = 0.0

    def __bool__(self) -> bool:
        return self.largest or self.smallest_mm3 > 0

    def __call__(self, label_map: LabelMap, voxel_mm3: float) -> LabelMap:
        """Return a cleaned copy of a label map whose voxels are so large."""
        cleaned = label_map.copy()
        if self:
            for value in np.flatnonzero(np.bincount(label_map.ravel())[1:]) + 1:
                self._clean(cleaned, int(value), voxel_mm3)
        return cleaned

    def _clean(self, label_map: LabelMap, value: int, voxel_mm3: float) -> None:
        """Take components of one class out of a label map, in its place."""
        from skimage.measure import label

        box = _bounding_box(label_map == value)
        part = label_map[box]
        # 26 neighbours.
        components = label(part == value)  # type: ignore[no-untyped-call]
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        kept = sizes * voxel_mm3 >= self.smallest_mm3
        if self.largest:
            kept &= np.arange(len(sizes)) == np.argmax(sizes)
        kept[0] = True  # all that is not of this class
        part[~kept[components]] = 0


def _bounding_box(there: NDArray[np.bool_]) -> tuple[Any, ...]:
    """Return the slices of the smallest box around all that is there; something must be."""
    box = []
    for axis in range(there.ndim):
        others = tuple(a for a in range(there.ndim) if a != axis)
        found = np.flatnonzero(there.any(axis=others))
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(box)
