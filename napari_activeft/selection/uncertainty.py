"""Later rounds: the slices of which the model is least certain.

The name of the selector says what the scores are; how they are chosen by is the same.
"""

from __future__ import annotations

import numpy as np

from napari_activeft.selection.candidates import Candidates, Choice
from napari_activeft.selection.room import Room


def highest_scores(candidates: Candidates, budget: int, seed: int) -> Choice:
    """Take the free rows of the highest score per cost; nothing is drawn.

    Neighbouring slices are uncertain together: give caps with it.
    """
    del seed
    if candidates.scores is None:
        raise ValueError("no scores were given: give one per row")
    worth = candidates.scores / candidates.effort
    free = candidates.free_rows
    order = free[np.argsort(-worth[free], kind="stable")]
    picks = Room(candidates, budget).take_first(order.tolist())
    return Choice(picks, [float(candidates.scores[row]) for row in picks])
