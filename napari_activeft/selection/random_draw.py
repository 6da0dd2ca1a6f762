"""Uniform draws: the baseline that every other selector has to beat."""

from __future__ import annotations

from napari_activeft.selection.candidates import Candidates, Choice, draw
from napari_activeft.selection.room import Room


def random_draw(candidates: Candidates, budget: int, seed: int) -> Choice:
    """Draw free rows without replacement; a larger budget extends a smaller one."""
    keys = candidates.keys
    order = sorted(candidates.free, key=lambda row: (draw(seed, keys[row]), row))
    return Choice.drawn(Room(candidates, budget).take_first(order))
