"""Coverage of every prefix of a ranking: an annotator may stop at any time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import OnProgress, no_progress
from napari_activeft.selection.coverage import CoverageMeter, Rows

CURVE_PAIRS = 400_000


@dataclass(frozen=True)
class PrefixCurve:
    """Coverage of the first picks of a ranking, for a few prefix lengths.

    Attributes
    ----------
    sizes
        Prefix lengths, rising, the last is k.
    nearest, w1
        By name of a ranking, the mean distance to the nearest pick and W1, one value per size.
    random_nearest, random_w1
        (3, sizes): mean, lowest and highest over the random draws.
    draws
        How many of those.
    measured_rows
        Rows of the pool that the last W1 was measured on, the least of all prefixes.
    sampled
        Whether these are not all of them.
    """

    sizes: tuple[int, ...]
    nearest: dict[str, tuple[float, ...]]
    w1: dict[str, tuple[float, ...]]
    random_nearest: NDArray[np.float64]
    random_w1: NDArray[np.float64]
    draws: int
    measured_rows: int
    sampled: bool


def prefix_sizes(k: int, count: int = 10) -> tuple[int, ...]:
    """Return up to ``count`` prefix lengths from 1 to k, evenly spread on a log scale."""
    return tuple(sorted({round(float(size)) for size in np.geomspace(1, k, count)}))


def prefix_curve(
    meter: CoverageMeter,
    rankings: Mapping[str, Rows],
    *,
    base: Sequence[int] = (),
    sizes: Sequence[int] | None = None,
    draws: int = 10,
    pairs: int = CURVE_PAIRS,
    on_progress: OnProgress = no_progress,
) -> PrefixCurve:
    """Measure prefixes of rankings and of random draws of the same pool.

    Parameters
    ----------
    rankings
        Ranked rows by name: the selection and the baselines, each at least ``max(sizes)`` long.
    base
        Rows labelled before: every prefix, and every random draw, is measured together with them.
    sizes
        Prefix lengths; about ten up to the shortest ranking by default.
    pairs
        Above n k of this W1 is measured on a sub-sample of the pool: there are many to measure.
    on_progress
        Called after each ranking and each draw; it may raise `Cancelled`.
    """
    sizes = tuple(sizes or prefix_sizes(min(len(rows) for rows in rankings.values())))
    held = np.asarray(base, dtype=np.int64)
    steps = len(rankings) + draws
    nearest, w1 = {}, {}
    for at, (name, rows) in enumerate(rankings.items(), start=1):
        nearest[name], w1[name] = _of_prefixes(meter, held, np.asarray(rows), sizes, pairs)
        on_progress(at, steps)
    random = []
    for at in range(draws):
        order = meter.drawn(len(meter.vectors), at)
        added = order[~np.isin(order, held)]
        random.append(_of_prefixes(meter, held, added, sizes, pairs))
        on_progress(len(rankings) + at + 1, steps)
    drawn = np.array(random)
    band = np.stack([drawn.mean(axis=0), drawn.min(axis=0), drawn.max(axis=0)])
    measured = min(len(meter.vectors), max(pairs // (len(held) + sizes[-1]), 1))
    return PrefixCurve(
        sizes, nearest, w1, band[:, 0], band[:, 1], draws, measured, measured < len(meter.vectors)
    )


def _of_prefixes(
    meter: CoverageMeter,
    base: NDArray[np.int64],
    rows: NDArray[np.int64],
    sizes: Sequence[int],
    pairs: int,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean nearest distance and W1 of each prefix; the distances grow from the last."""
    near = meter.nearest(base) if len(base) else np.full(len(meter.vectors), np.inf)
    means, w1, start = [], [], 0
    for size in sizes:
        near = np.minimum(near, meter.nearest(rows[start:size]))
        means.append(float(near.mean()))
        w1.append(meter.w1(np.concatenate([base, rows[:size]]), pairs))
        start = size
    return tuple(means), tuple(w1)
