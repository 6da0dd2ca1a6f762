"""From centres, which are no slices, to the real slices nearest to them.

Symbols: n rows, k centres, d numbers in a vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from napari_activeft.selection.candidates import Candidates
from napari_activeft.selection.neighbours import chunks
from napari_activeft.selection.products import dots
from napari_activeft.selection.room import Room

if TYPE_CHECKING:
    import torch

_LISTED = 32


def snap(
    candidates: Candidates, room: Room, vectors: torch.Tensor, centres: torch.Tensor
) -> Iterator[int]:
    """Take for each centre in turn the free row nearest to it that fits and is not taken yet.

    Nearness is the dot product: for one centre the order is that of the distances, since all
    rows have length 1.
    """
    import torch

    free = candidates.free_rows
    ours = vectors if len(free) == len(vectors) else vectors[torch.from_numpy(free)]
    for part in chunks(len(centres), len(free)):
        closeness = dots(centres[part], ours)
        listed = closeness.topk(min(_LISTED, len(free)), dim=1).indices.cpu().numpy()
        listed = np.sort(listed, axis=1)  # of rows equally near the first comes first
        values = closeness.cpu().numpy()
        for place in range(len(listed)):
            order = listed[place][np.argsort(-values[place][listed[place]], kind="stable")]
            at = next((int(at) for at in order if room.fits(int(free[at]))), None)
            if at is None:
                at = int(np.argmax(np.where(room.mask(free), values[place], -np.inf)))
            room.take(int(free[at]))
            yield int(free[at])
