"""Uniform draws: the baseline that every other selector has to beat."""

from __future__ import annotations

from napari_activeft.selection.candidates import Candidates, draw


def random_draw(candidates: Candidates, budget: int, seed: int) -> list[int]:
    """Draw free rows without replacement; a larger budget extends a smaller one."""
    keys = candidates.keys
    return sorted(candidates.free, key=lambda row: (draw(seed, keys[row]), keys[row]))[:budget]
