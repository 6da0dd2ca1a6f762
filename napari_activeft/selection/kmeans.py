"""k-means: the real slice nearest to each centre. Cheap, and the rival to beat."""

from __future__ import annotations

import numpy as np

from napari_activeft.selection.candidates import Candidates, Choice
from napari_activeft.selection.clusters import find_clusters
from napari_activeft.selection.room import Room
from napari_activeft.selection.snapping import snap


def kmeans(candidates: Candidates, budget: int, seed: int) -> Choice:
    """Choose one slice per cluster, that of the largest cluster first.

    Labelled rows are centres that stay. The gain of a pick is the mass of its cluster. Costs have
    no place in k-means and are not looked at.
    """
    vectors = candidates.tensor
    found = find_clusters(
        vectors,
        budget,
        seed=seed,
        weights=candidates.weights,
        fixed=vectors[candidates.support],
        on_progress=candidates.on_progress,
    )
    order = np.argsort(-found.masses, kind="stable")
    room = Room(candidates, budget)
    picks = list(snap(candidates, room, vectors, found.centres[order]))
    report = {"inertia": round(found.inertia, 6), "iterations": found.iterations}
    return Choice(picks, found.masses[order].tolist(), report)
