"""How well picks stand for a pool, without labels and without training.

Symbols: n rows of the pool, k picks, d numbers in a vector. Vectors are divided by their lengths;
distances are Euclidean between such vectors. W1 is the exact Wasserstein-1 distance between the
pool and the picks with uniform masses: how far the pool has to be carried on average until each
pick holds an equal share of it. rW1 divides it by the mean over random draws of the same size.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import OnProgress, no_progress

EXACT_PAIRS = 4_000_000
EMPTY_FROM = 0.5
_ENERGY_ROWS = 4096
_CHUNK_PAIRS = 8_000_000

Rows = Sequence[int] | NDArray[np.integer[Any]]


@dataclass(frozen=True)
class CoverageFigures:
    """How well k picks stand for a pool of n rows; lower is better unless it says otherwise.

    Attributes
    ----------
    picks, pool
        k and n.
    rw1
        W1 between pool and picks over its mean for random draws; 1.0 is as good as random.
    w1, random_w1
        The distance itself, and the mean for random draws.
    rw1_out, w1_out
        The same between the picks and slices of cases that are not in the pool; None without any.
    nearest_mean, radius_95, radius_max
        Mean, 95th percentile and maximum of the distance from a row to its nearest pick.
    energy
        Energy distance between pool and picks: 2 E|X-Y| - E|X-X'| - E|Y-Y'|.
    cases, pool_cases, volumes, pool_volumes
        How many of the pool's cases and volumes hold a pick; more is better.
    most_in_volume
        Picks in the volume that holds the most.
    adjacent_share
        Of picks that follow each other in one volume, the share that are neighbouring slices.
    empty_share
        Picks whose emptiness is at least 0.5; None where no emptiness is known.
    draws, draw_seed
        Random draws behind ``random_w1``, and their seed.
    measured_rows
        Rows of the pool that W1 was measured on: all, or a random sub-sample by ``draw_seed``.
    """

    picks: int
    pool: int
    rw1: float
    w1: float
    random_w1: float
    rw1_out: float | None
    w1_out: float | None
    nearest_mean: float
    radius_95: float
    radius_max: float
    energy: float
    cases: int
    pool_cases: int
    volumes: int
    pool_volumes: int
    most_in_volume: int
    adjacent_share: float
    empty_share: float | None
    draws: int
    draw_seed: int
    measured_rows: int


class CoverageMeter:
    """Measures picks of one pool; the random draws of each k are measured once and kept.

    Parameters
    ----------
    vectors
        (n, d), of any length above zero.
    groups, cases, positions
        n volumes, cases and positions in the volume; one volume, the volumes, and the rows by
        default.
    emptiness
        (n,), 0 to 1.
    outside
        (m, d): vectors of slices whose cases are not in the pool.
    draws, seed
        Random draws of the pool that picks are compared with, and the seed of everything drawn.
    exact_pairs
        Above n k of this W1 is measured on a sub-sample of the pool (and of ``outside``).
    """

    def __init__(
        self,
        vectors: NDArray[Any],
        *,
        groups: Sequence[Any] | None = None,
        cases: Sequence[Any] | None = None,
        positions: Sequence[int] | None = None,
        emptiness: NDArray[np.float64] | None = None,
        outside: NDArray[Any] | None = None,
        draws: int = 50,
        seed: int = 0,
        exact_pairs: int = EXACT_PAIRS,
    ) -> None:
        n = len(vectors)
        self.vectors = _unit(vectors)
        self.outside = None if outside is None or not len(outside) else _unit(outside)
        self.groups = list(groups) if groups is not None else [0] * n
        self.cases = list(cases) if cases is not None else self.groups
        self.positions = list(positions) if positions is not None else list(range(n))
        self.emptiness = emptiness
        self.draws, self.seed, self.exact_pairs = draws, seed, exact_pairs
        self._random: dict[int, tuple[float, float | None]] = {}
        self._spread: float | None = None
        for name, each in (("groups", self.groups), ("cases", self.cases)):
            if len(each) != n:
                raise ValueError(f"{len(each)} {name} for {n} vectors: give one per row")

    def know_random(self, k: int, w1: float, w1_out: float | None) -> None:
        """Take over what an earlier run measured for random draws of size k."""
        self._random[k] = (w1, w1_out)

    def figures(self, picks: Rows, on_progress: OnProgress = no_progress) -> CoverageFigures:
        """Return every figure for these rows.

        Raises
        ------
        ValueError
            If there are no picks, or they are not distinct rows of the pool.
        """
        rows = self._checked(picks)
        random_w1, random_out = self.random(len(rows), on_progress)
        w1, out = self.w1(rows), self._w1_out(rows)
        on_progress(self.draws, self.draws)
        near = self.nearest(rows)
        volumes = Counter(self.groups[row] for row in rows)
        return CoverageFigures(
            picks=len(rows),
            pool=len(self.vectors),
            rw1=ratio(w1, random_w1),
            w1=w1,
            random_w1=random_w1,
            rw1_out=None if out is None or random_out is None else ratio(out, random_out),
            w1_out=out,
            nearest_mean=float(near.mean()),
            radius_95=float(np.quantile(near, 0.95)),
            radius_max=float(near.max()),
            energy=self.energy(rows),
            cases=len({self.cases[row] for row in rows}),
            pool_cases=len(set(self.cases)),
            volumes=len(volumes),
            pool_volumes=len(set(self.groups)),
            most_in_volume=max(volumes.values()),
            adjacent_share=self.adjacent_share(rows),
            empty_share=self._empty_share(rows),
            draws=self.draws,
            draw_seed=self.seed,
            measured_rows=min(len(self.vectors), max(self.exact_pairs // len(rows), 1)),
        )

    def w1(self, picks: Rows, pairs: int | None = None) -> float:
        """Return the exact W1 between picks and pool, or a sub-sample of it above n k ``pairs``.

        Without ``pairs`` those of the meter count.
        """
        rows = self._checked(picks)
        part = self._sample(self.vectors, max((pairs or self.exact_pairs) // len(rows), 1))
        return _w1(part, self.vectors[rows])

    def _w1_out(self, rows: NDArray[np.int64]) -> float | None:
        if self.outside is None:
            return None
        part = self._sample(self.outside, max(self.exact_pairs // len(rows), 1))
        return _w1(part, self.vectors[rows])

    def random(self, k: int, on_progress: OnProgress = no_progress) -> tuple[float, float | None]:
        """Return the mean W1 of random draws of size k, to the pool and to the outside."""
        if k not in self._random:
            inside, out = [], []
            for at in range(self.draws):
                rows = self.drawn(k, at)
                inside.append(self.w1(rows))
                outside = self._w1_out(rows)
                out += [] if outside is None else [outside]
                on_progress(at + 1, self.draws)
            self._random[k] = (float(np.mean(inside)), float(np.mean(out)) if out else None)
        return self._random[k]

    def random_beside(
        self, base: Rows, k: int, draws: int, on_progress: OnProgress = no_progress
    ) -> float:
        """Return the mean W1 of ``base`` together with random draws of k other rows."""
        held, found = np.asarray(base, dtype=np.int64), []
        for at in range(draws):
            order = self.drawn(len(self.vectors), at)
            others = order[~np.isin(order, held)][:k]
            found.append(self.w1(np.concatenate([held, others])))
            on_progress(at + 1, draws)
        return float(np.mean(found))

    def drawn(self, k: int, at: int) -> NDArray[np.int64]:
        """Return the rows of random draw number ``at`` of size k; a larger k extends it."""
        order = np.random.default_rng((self.seed, at)).permutation(len(self.vectors))
        return order[:k].astype(np.int64)

    def nearest(self, picks: Rows) -> NDArray[np.float64]:
        """Return the distance of every row of the pool to its nearest pick, (n,)."""
        return nearest_distances(self.vectors, self.vectors[np.asarray(picks)])

    def energy(self, picks: Rows) -> float:
        """Return the energy distance; above 4,096 rows the pool's own spread is a sub-sample's."""
        chosen = self.vectors[np.asarray(picks)]
        if self._spread is None:
            part = self._sample(self.vectors, _ENERGY_ROWS)
            self._spread = _mean_distance(part, part)
        own = _mean_distance(chosen, self._sample(chosen, _ENERGY_ROWS))
        part = self._sample(self.vectors, max(_ENERGY_ROWS, self.exact_pairs // len(chosen)))
        return max(2 * _mean_distance(part, chosen) - self._spread - own, 0.0)

    def adjacent_share(self, picks: Rows) -> float:
        """Return the share of consecutive picks of one volume that are neighbours; 0 without."""
        places: dict[Any, list[int]] = {}
        for row in picks:
            places.setdefault(self.groups[row], []).append(self.positions[row])
        steps = [step for inside in places.values() for step in np.diff(sorted(inside))]
        return float(np.mean(np.asarray(steps) == 1)) if steps else 0.0

    def _empty_share(self, rows: NDArray[np.int64]) -> float | None:
        if self.emptiness is None:
            return None
        return float(np.mean(np.asarray(self.emptiness)[rows] >= EMPTY_FROM))

    def _checked(self, picks: Rows) -> NDArray[np.int64]:
        rows = np.asarray(picks, dtype=np.int64)
        n = len(self.vectors)
        if not len(rows) or len(np.unique(rows)) != len(rows) or rows.min() < 0 or rows.max() >= n:
            raise ValueError(
                f"{len(rows)} picks of a pool of {n} rows: give at least one, distinct, from 0 "
                f"to {n - 1}"
            )
        return rows

    def _sample(self, vectors: NDArray[np.float32], most: int) -> NDArray[np.float32]:
        part: NDArray[np.float32] = vectors[self._sampled(len(vectors), most)]
        return part

    def _sampled(self, n: int, most: int) -> NDArray[np.int64]:
        if n <= most:
            return np.arange(n)
        return np.sort(np.random.default_rng(self.seed).choice(n, most, replace=False))


def coverage(
    vectors: NDArray[Any],
    picks: Rows,
    *,
    groups: Sequence[Any] | None = None,
    cases: Sequence[Any] | None = None,
    positions: Sequence[int] | None = None,
    emptiness: NDArray[np.float64] | None = None,
    outside: NDArray[Any] | None = None,
    draws: int = 50,
    seed: int = 0,
    exact_pairs: int = EXACT_PAIRS,
) -> CoverageFigures:
    """Measure one set of picks; for several of one pool make one `CoverageMeter`.

    Parameters are those of `CoverageMeter` and ``picks``, the k chosen rows.
    """
    meter = CoverageMeter(
        vectors,
        groups=groups,
        cases=cases,
        positions=positions,
        emptiness=emptiness,
        outside=outside,
        draws=draws,
        seed=seed,
        exact_pairs=exact_pairs,
    )
    return meter.figures(picks)


def ratio(value: float, base: float) -> float:
    """Return value over base; 1.0 where both are 0 (every slice is like every other)."""
    return value / base if base > 1e-12 else (1.0 if value <= 1e-12 else float("inf"))


def nearest_distances(rows: NDArray[np.float32], chosen: NDArray[Any]) -> NDArray[np.float64]:
    """Return the distance of each row (n, d) to the nearest of (k, d), all of length 1.

    The nearest is found by float32 products; its distance is then taken from the difference, which
    is exact where two rows are the same.
    """
    near = np.empty(len(rows))
    step = max(_CHUNK_PAIRS // len(chosen), 1)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        best = chosen[np.argmax(part @ chosen.T, axis=1)]
        near[start : start + step] = np.linalg.norm(part.astype(np.float64) - best, axis=1)
    return near


def distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the Euclidean distances (n, m) between rows, computed in float64."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    squares = a64 @ b64.T
    squares *= -2.0
    squares += np.einsum("nd,nd->n", a64, a64)[:, None]
    squares += np.einsum("md,md->m", b64, b64)
    np.maximum(squares, 0.0, out=squares)
    return np.sqrt(squares, out=squares)


def _w1(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    import ot

    with warnings.catch_warnings():
        # A solve that stopped early would be a wrong figure: POT only warns of it.
        warnings.simplefilter("error")
        return float(ot.emd2([], [], distances(a, b), numItermax=100_000_000))


def _mean_distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    step = max(_CHUNK_PAIRS // len(b), 1)
    total = sum(float(distances(a[s : s + step], b).sum()) for s in range(0, len(a), step))
    return total / (len(a) * len(b))


def _unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Return the rows divided by their lengths, float32."""
    rows = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        bad = int(np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)).ravel())[0])
        raise ValueError(
            f"row {bad} of the vectors is not finite or has length zero: embed that slice again"
        )
    if np.allclose(lengths, 1.0, atol=1e-6):
        return rows
    scaled: NDArray[np.float32] = (rows / lengths).astype(np.float32)
    return scaled
