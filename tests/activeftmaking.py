"""Pools of patients, and what `activeft` chooses of them."""

from __future__ import annotations

import numpy as np
import ot

from napari_activeft.selection import select
from napari_activeft.selection.blocks import costs_of
from napari_activeft.settings import ActiveFTSettings


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def patients(rng, cases=14, slices=12, d=12):
    """Slices of one case lie on a short curve of their own, neighbours near to one another."""
    along = np.linspace(-1.0, 1.0, slices)[:, None]
    curves = [
        rng.normal(size=d) + along * rng.normal(size=d) + 0.1 * rng.normal(size=(slices, d))
        for _ in range(cases)
    ]
    return unit(np.concatenate(curves)), np.repeat(np.arange(cases), slices)


def keys(n):
    return [f"slice {row:05d}" for row in range(n)]


def w1(vectors, rows, weights=None):
    n, k = len(vectors), len(rows)
    masses = np.full(n, 1 / n) if weights is None else weights
    return float(ot.emd2(masses, np.full(k, 1 / k), costs_of(vectors, np.arange(n), rows)))


def nearest_mean(vectors, rows):
    return float(costs_of(vectors, np.arange(len(vectors)), rows).min(axis=1).mean())


def cost(vectors, rows, nearest=ActiveFTSettings().nearest):
    """Transport mixed with the distance to the nearest pick, as `activeft` does by default."""
    return (1 - nearest) * w1(vectors, rows) + nearest * nearest_mean(vectors, rows)


def chosen(vectors, budget, groups=None, options=None, **more):
    settings = ActiveFTSettings(**(options or {}))
    more.setdefault("keys", keys(len(vectors)))
    return select(vectors, budget, groups=groups, selector="activeft", options=settings, **more)
