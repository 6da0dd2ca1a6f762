"""What a selector takes of the slices, in memory: the rounds of the project are not touched."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import OnProgress, no_progress
from napari_activeft.select_arguments import select_arguments
from napari_activeft.selection import SELECTORS, select
from napari_activeft.settings import SelectSettings
from napari_activeft.settings.choice import ChoiceSettings
from napari_activeft.settings.simulation import SimulateSettings
from napari_activeft.simulation.material import Material
from napari_activeft.simulation.plan import ALL, FIRST, Chain, takes_scores


def choose_rows(
    material: Material,
    chain: Chain,
    count: int,
    settings: SimulateSettings,
    *,
    labelled: Collection[int] = (),
    scores: NDArray[np.float64] | None = None,
    on_progress: OnProgress = no_progress,
) -> list[int]:
    """Return rows of the material's pool that a selector takes next, the most valuable first.

    Parameters
    ----------
    count
        How many.
    labelled
        Rows that it took in rounds before.
    scores
        How uncertain the last network is of each row of the pool, (n,); None in the first round.
    """
    rows = list(chain.division.rows)
    if chain.selector == ALL:
        return rows
    entry = SELECTORS[chain.selector]
    name = FIRST if entry.needs_scores and scores is None else chain.selector
    reads = scores is not None and takes_scores(name, settings)
    pool = [material.pool[row] for row in rows]
    place = {row: at for at, row in enumerate(rows)}
    vectors = material.vectors if SELECTORS[name].needs_vectors else None
    taken = select(
        None if vectors is None else vectors[rows],
        count,
        **select_arguments(
            _asked(settings, name, chain.seed, reads=reads),
            np.array([row.emptiness for row in pool]),
        ),
        keys=[row.key for row in pool],
        groups=[row.volume_id for row in pool],
        cases=[row.case for row in pool],
        positions=[row.position for row in pool],
        scores=scores[rows] if reads and scores is not None else None,
        labelled=[place[row] for row in labelled],
        on_progress=on_progress,
    ).rows
    return [rows[at] for at in taken.tolist()]


def _asked(settings: SimulateSettings, name: str, seed: int, *, reads: bool) -> SelectSettings:
    """Return settings of one choice; from the second round on activeft weighs uncertainty."""
    shared = {one: getattr(settings, one) for one in ChoiceSettings.model_fields}
    weight = settings.uncertainty if reads and name == "activeft" else 0.0
    shared["activeft"] = settings.activeft.model_copy(update={"uncertainty": weight})
    # Not validated: which run says how uncertain it is has no number here.
    return SelectSettings().model_copy(update={**shared, "selector": name, "seed": seed})
