"""What `SelectSettings` mean to `selection.select`: one place for `select` and `compare`."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from napari_activeft.selection.candidates import Caps
from napari_activeft.settings import ActiveFTSettings, SelectSettings


class SelectArguments(TypedDict):
    """Arguments of `selection.select` that settings decide."""

    selector: str
    seed: int
    weights: NDArray[np.float64] | None
    caps: Caps
    device: str
    options: ActiveFTSettings


def select_arguments(
    settings: SelectSettings, emptiness: NDArray[np.float64] | None
) -> SelectArguments:
    """Return what settings say to `selection.select`.

    Parameters
    ----------
    emptiness
        (n,), 0 to 1, of the pool's rows; None where it is not known: all rows count the same.
    """
    return {
        "selector": settings.selector,
        "seed": settings.seed,
        # Less for a slice that shows little, never nothing.
        "weights": None if emptiness is None else 1.0 - settings.emptiness * emptiness,
        "caps": Caps(settings.per_case, settings.per_volume, settings.gap),
        "device": settings.device,
        "options": settings.activeft,
    }
