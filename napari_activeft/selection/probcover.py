"""ProbCover: balls of one radius, each around the slice whose ball covers the most anew.

Yehuda, Dekel, Hacohen and Weinshall, Active Learning Through a Covering Lens, 2022. The radius is
the largest at which 95 % of the balls are pure, hold rows of one class only; classes are not
known, so k-means stands for them, as published. Published is one cluster per class; here, where
nobody knows how many there are, one per labelled and wanted slice, at most 100. The radius can be
read off: balls are open, so it is the 5 % quantile of how far a row is from the nearest one of
another cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_activeft.selection.candidates import Candidates, Choice, draws
from napari_activeft.selection.clusters import find_clusters
from napari_activeft.selection.greedy_cover import GreedyCover, anchor_rows
from napari_activeft.selection.kcenter import farthest_first
from napari_activeft.selection.neighbours import SAME, chunks, squared
from napari_activeft.selection.products import dots
from napari_activeft.selection.room import Room

if TYPE_CHECKING:
    import torch

_PURITY = 0.95
_MOST_CLUSTERS = 100
_MEASURED_ROWS = 5_000


def probcover(candidates: Candidates, budget: int, seed: int) -> Choice:
    """Choose greedily what covers most rows not covered yet; labelled rows have balls already.

    The gain of a pick is the share of the pool that it covers anew. Once everything is covered,
    the rest is taken furthest first, and adds nothing.
    """
    radius = _pure_radius(candidates, budget, seed)

    def ball(squared_distances: torch.Tensor) -> torch.Tensor:
        return (squared_distances < max(radius**2, SAME)).float()

    room = Room(candidates, budget)
    anchors = anchor_rows(candidates)
    cover = GreedyCover(candidates, room, ball, anchors)
    picks, gains = cover.take(budget)
    report = {
        "radius": round(radius, 6),
        "covered": round(cover.covered, 6),
        "balls": len(picks),
        "measured_on": len(anchors),
    }
    if len(picks) < budget:
        rest, _ = farthest_first(candidates, room, budget - len(picks), picks)
        gains += [0.0] * len(rest)
        picks = picks + rest
    return Choice(picks, gains, report)


def _pure_radius(candidates: Candidates, budget: int, seed: int) -> float:
    """Return the largest radius at which `_PURITY` of the balls hold one cluster only."""
    import torch

    vectors = candidates.tensor
    count = min(len(candidates.labelled) + budget, _MOST_CLUSTERS, len(candidates))
    found = find_clusters(
        vectors,
        max(count, min(2, len(candidates))),
        seed=seed,
        weights=candidates.weights,
        on_progress=candidates.on_progress,
    )
    rows = np.arange(len(candidates))
    if len(rows) > _MEASURED_ROWS:
        drawn = np.argsort(draws(seed, candidates.keys), kind="stable")
        rows = np.sort(drawn[:_MEASURED_ROWS])
    members = torch.from_numpy(found.members).to(vectors.device)
    borders = np.empty(len(rows))
    for part in chunks(len(rows), len(vectors)):
        distances = squared(dots(vectors[rows[part]], vectors))
        same = members[rows[part], None] == members[None, :]
        borders[part] = distances.masked_fill_(same, 4.0).amin(dim=1).cpu().numpy()
    return float(np.sqrt(np.quantile(borders, 1.0 - _PURITY, method="lower")))
