"""MaxHerding: greedy coverage of the pool under a Gaussian kernel.

Bae, Noh and Sutherland, Generalized Coverage for More Robust Low-Budget Active Learning, 2024:

    K(x, y) = exp(-|x - y|^2 / h^2)

with h = 1 on vectors of length 1, as published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_activeft.selection.candidates import Candidates, Choice
from napari_activeft.selection.greedy_cover import GreedyCover, anchor_rows
from napari_activeft.selection.kcenter import farthest_first
from napari_activeft.selection.room import Room

if TYPE_CHECKING:
    import torch

_WIDTH = 1.0


def maxherding(candidates: Candidates, budget: int, seed: int) -> Choice:
    """Choose greedily what covers the pool best; labelled rows cover it already.

    Nothing is drawn. Rows that are left when every row is the copy of a pick add nothing; they
    are taken furthest first.
    """
    del seed
    room = Room(candidates, budget)
    anchors = anchor_rows(candidates)
    cover = GreedyCover(candidates, room, _gaussian, anchors)
    picks, gains = cover.take(budget)
    report = {"covered": round(cover.covered, 6), "measured_on": len(anchors)}
    if len(picks) < budget:
        rest, _ = farthest_first(candidates, room, budget - len(picks), picks)
        gains += [0.0] * len(rest)
        picks = picks + rest
    return Choice(picks, gains, report)


def _gaussian(squared_distances: torch.Tensor) -> torch.Tensor:
    return squared_distances.mul_(-1.0 / _WIDTH**2).exp_()
