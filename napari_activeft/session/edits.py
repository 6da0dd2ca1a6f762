"""Which slices of a volume an edit in the viewer touched.

A Labels layer of napari tells of an edit in one of two forms: since 0.8 its painting tools tell a
bounding box, a mask and values; ``data_setitem``, which helpers use, still tells indices and
values. Only the places are read here: what changed there is found by comparing masks.

Symbols: the layer's axes are those of the volume, (z, y, x) or (y, x).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def touched_positions(atoms: Iterable[Any], axis: int, shape: tuple[int, ...]) -> list[int]:
    """Return the positions along an axis that an edit touched, rising.

    Parameters
    ----------
    atoms
        Value of the layer's ``paint`` event: each has ``slice_key``, a slice for each axis, or is a
        tuple (indices, old values, new values) with an array of indices for each axis.
    axis
        Along which the volume is sliced.
    shape
        Of the layer's data. With two axes there is one slice, position 0.
    """
    if len(shape) < 3:
        return [0]
    found: set[int] = set()
    for atom in atoms:
        key = getattr(atom, "slice_key", None)
        if key is not None:
            found.update(range(*_along(key, axis).indices(shape[axis])))
            continue
        along = atom[0][axis] if len(atom[0]) > axis else slice(None)
        if isinstance(along, slice):
            found.update(range(*along.indices(shape[axis])))
        else:
            places = np.unique(np.asarray(along))
            found.update(int(at) % shape[axis] for at in places)
    return sorted(found)


def _along(key: tuple[Any, ...], axis: int) -> slice:
    """Return the part of a bounding box along one axis; an integer is a box of one."""
    part = key[axis] if len(key) > axis else slice(None)
    return part if isinstance(part, slice) else slice(int(part), int(part) + 1)
