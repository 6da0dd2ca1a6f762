"""TypiClust: the most typical slice of each cluster, the largest uncovered clusters first.

Hacohen, Dekel and Weinshall, Active Learning on a Budget: Opposite Strategies Suit High and Low
Budgets, 2022:

    typicality(x) = 1 / (mean distance from its nearest neighbours in the cluster)

with 20 neighbours, or half of the cluster if it is smaller, and at most 500 clusters. Typicality
means nothing in clusters of a few members: clusters under 5 wait until the others are used up, as
published; and beyond the published way there are never more clusters than leave 10 slices to each
on average, since at budgets of 10 % and more all of them would be too small.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray

from napari_activeft.selection.candidates import Candidates, Choice
from napari_activeft.selection.clusters import find_clusters
from napari_activeft.selection.neighbours import nearest_lists
from napari_activeft.selection.room import Room

_NEIGHBOURS = 20
_MOST_CLUSTERS = 500
_LEAST_MEMBERS = 5
_MEAN_MEMBERS = 10


def typiclust(candidates: Candidates, budget: int, seed: int) -> Choice:
    """Choose typical slices, one cluster after the other.

    The cluster with the fewest labelled and chosen slices is next, of these the largest. The gain
    of a pick is the share of the pool in its cluster, halved with every slice the cluster had.
    """
    vectors = candidates.tensor
    wanted = min(len(candidates.labelled) + budget, _MOST_CLUSTERS)
    count = max(1, min(wanted, len(candidates) // _MEAN_MEMBERS))
    found = find_clusters(
        vectors,
        count,
        seed=seed,
        weights=np.full(len(candidates), 1.0 / len(candidates)),
        on_progress=candidates.on_progress,
    )
    picks, gains = _take_in_turns(candidates, Room(candidates, budget), found.members, budget)
    small = int((np.bincount(found.members, minlength=count) < _LEAST_MEMBERS).sum())
    return Choice(picks, gains, {"clusters": count, "clusters_too_small": small})


def _take_in_turns(
    candidates: Candidates, room: Room, members: NDArray[np.int64], budget: int
) -> tuple[list[int], list[float]]:
    sizes = np.bincount(members)
    had = np.bincount(members[candidates.support], minlength=len(sizes))
    turns = [
        (bool(size < _LEAST_MEMBERS), int(had[cluster]), -int(size), cluster)
        for cluster, size in enumerate(sizes)
        if size
    ]
    heapify(turns)
    picks: list[int] = []
    gains: list[float] = []
    while len(picks) < budget:
        too_small, before, size, cluster = heappop(turns)
        inside = np.flatnonzero(members == cluster)
        if not room.mask(inside).any():
            continue
        candidates.on_progress(len(picks), budget)
        row = _most_typical(candidates, room, inside, picks)
        room.take(row)
        picks.append(row)
        gains.append(-size / len(members) / 2.0**before)
        heappush(turns, (too_small, before + 1, size, cluster))
    return picks, gains


def _most_typical(
    candidates: Candidates, room: Room, inside: NDArray[np.int64], picks: list[int]
) -> int:
    """Return the most typical row of a cluster that fits; chosen rows are no neighbours."""
    unlabelled = inside[~np.isin(inside, [*candidates.labelled, *picks])]
    fits = room.mask(unlabelled)
    neighbours = min(_NEIGHBOURS, len(unlabelled) // 2)
    if not neighbours:
        return int(unlabelled[np.argmax(fits)])
    vectors = candidates.tensor[unlabelled]
    _, squared_distances = nearest_lists(vectors, vectors, neighbours + 1)
    # The nearest is the row itself, at distance 0.
    distances = squared_distances.sqrt().double().sum(dim=1).cpu().numpy() / neighbours
    typicality = 1.0 / (distances + 1e-5) / candidates.effort[unlabelled]
    return int(unlabelled[np.argmax(np.where(fits, typicality, -np.inf))])
