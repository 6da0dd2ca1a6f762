"""k-means and the selectors that stand on clusters, against scikit-learn and naive code."""

from __future__ import annotations

import numpy as np
import pytest
from selectionmaking import Pool

from napari_activeft.selection import probcover, select
from napari_activeft.selection.clusters import find_clusters, spread_rows

torch = pytest.importorskip("torch")
cluster = pytest.importorskip("sklearn.cluster")

BLOBS = 7


@pytest.fixture
def blobs(rng):
    """140 unit vectors around seven directions that are far apart, and which each belongs to."""
    of = np.arange(140) % BLOBS
    drawn = np.eye(BLOBS, 9)[of] + 0.06 * rng.normal(size=(140, 9))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32), of


def clusters_of(vectors, count, **ask):
    ask = {"seed": 0, "weights": np.full(len(vectors), 1 / len(vectors)), **ask}
    return find_clusters(torch.from_numpy(vectors), count, **ask)


def keys_of(vectors) -> list[str]:
    return [f"{row:04}" for row in range(len(vectors))]


def test_centres_are_those_of_scikit_learn(rng):
    vectors = rng.normal(size=(300, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    weights = rng.random(300)
    start = vectors[:20].copy()
    ours = clusters_of(vectors, 20, start=torch.from_numpy(start), weights=weights / weights.sum())
    theirs = cluster.KMeans(20, init=start, n_init=1, tol=1e-6, max_iter=50)
    theirs.fit(vectors, sample_weight=weights)
    np.testing.assert_array_equal(ours.members, theirs.labels_)
    np.testing.assert_allclose(ours.centres, theirs.cluster_centers_, atol=0.02)
    assert ours.inertia == pytest.approx(theirs.inertia_ / weights.sum(), rel=1e-3)


def test_started_apart_no_cluster_is_worse_than_what_scikit_learn_finds(rng):
    vectors = rng.normal(size=(500, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ours = np.mean([clusters_of(vectors, 40, seed=seed).inertia for seed in range(3)])
    theirs = cluster.KMeans(40, n_init=3, random_state=0).fit(vectors).inertia_ / 500
    assert ours < 1.06 * theirs


def test_picks_are_the_rows_nearest_to_the_centres(blobs):
    vectors, _ = blobs
    choice = select(vectors, BLOBS, keys=keys_of(vectors), selector="kmeans")
    theirs = cluster.KMeans(BLOBS, n_init=5, random_state=0).fit(vectors)
    distances = ((vectors[:, None] - theirs.cluster_centers_[None]) ** 2).sum(axis=2)
    assert set(choice.rows.tolist()) == set(distances.argmin(axis=0).tolist())
    assert choice.gains == pytest.approx(np.full(BLOBS, 1 / BLOBS))


@pytest.mark.parametrize("selector", ["kmeans", "typiclust", "kcenter", "maxherding", "energy"])
def test_where_a_label_is_none_is_needed(blobs, selector):
    vectors, of = blobs
    picks = select(vectors, 4, keys=keys_of(vectors), labelled=[0, 8, 16], selector=selector).rows
    assert sorted(of[picks]) == [3, 4, 5, 6]


def test_fixed_centres_do_not_move_and_keep_their_rows(blobs):
    vectors, of = blobs
    fixed = torch.from_numpy(vectors[of == 0][:1])
    found = clusters_of(vectors, BLOBS - 1, fixed=fixed)
    assert set(found.members[of == 0]) == {BLOBS - 1}
    assert sorted(found.masses) == pytest.approx(np.full(BLOBS - 1, 1 / BLOBS))


def test_the_largest_cluster_comes_first(rng):
    sizes = [10, 40, 20]
    of = np.repeat(range(3), sizes)
    vectors = np.eye(3)[of] + 0.02 * rng.normal(size=(70, 3))
    choice = select(vectors, 3, keys=keys_of(vectors), selector="kmeans")
    assert of[choice.rows].tolist() == [1, 2, 0]
    assert choice.gains == pytest.approx([4 / 7, 2 / 7, 1 / 7])


def test_a_cluster_that_ran_empty_goes_where_it_is_needed(blobs):
    vectors, _ = blobs
    start = torch.from_numpy(np.repeat(vectors[:1], BLOBS, axis=0))
    found = clusters_of(vectors, BLOBS, start=start)
    assert (found.masses > 0).all()
    assert len(set(found.members)) == BLOBS


def test_rows_are_drawn_apart_and_by_their_mass(blobs):
    vectors, of = blobs
    table = torch.from_numpy(vectors)
    hits = [
        len(
            {
                int((table @ row).argmax()) % BLOBS
                for row in spread_rows(table, BLOBS, seed, np.full(140, 1 / 140), table[:0])
            }
        )
        for seed in range(10)
    ]
    assert np.mean(hits) > 6.5
    only_two = np.isin(of, [2, 5]).astype(float)
    drawn = spread_rows(table, 2, 0, only_two, table[:0])
    assert sorted(int((table @ row).argmax()) % BLOBS for row in drawn) == [2, 5]


def naive_typiclust(vectors, members, labelled, budget) -> list[int]:
    """Take turns through the clusters, written after the paper's text."""
    labelled = set(labelled)
    picks: list[int] = []
    for _ in range(budget):

        def rank(name):
            inside = np.flatnonzero(members == name)
            had = sum(row in labelled for row in inside)
            return (len(inside) < 5, had, -len(inside), name)

        open_ = [name for name in set(members) if set(np.flatnonzero(members == name)) - labelled]
        best = min(open_, key=rank)
        rows = [row for row in np.flatnonzero(members == best) if row not in labelled]
        neighbours = min(20, len(rows) // 2)
        x = vectors[rows].astype(np.float64)
        distances = np.sort(np.linalg.norm(x[:, None] - x[None], axis=2), axis=1)
        if neighbours:
            row = rows[int(distances[:, 1 : neighbours + 1].mean(axis=1).argmin())]
        else:
            row = rows[0]
        picks.append(int(row))
        labelled.add(row)
    return picks


@pytest.mark.parametrize("budget", [1, 5, 14, 60])
def test_typiclust_is_that_of_the_paper(rng, budget):
    vectors = rng.normal(size=(150, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labelled = [3, 30, 77]
    count = min(3 + budget, 15)  # 10 slices to a cluster
    members = clusters_of(vectors, count, seed=5).members
    choice = select(
        vectors, budget, keys=keys_of(vectors), labelled=labelled, selector="typiclust", seed=5
    )
    assert choice.report["clusters"] == count
    assert choice.rows.tolist() == naive_typiclust(vectors, members, labelled, budget)


def naive_probcover(vectors, radius, labelled, budget) -> list[int]:
    """Drop covered rows from the graph of balls, the largest out-degree first."""
    x = vectors.astype(np.float64)
    inside = np.linalg.norm(x[:, None] - x[None], axis=2) < radius
    covered = inside[labelled].any(axis=0)
    picks: list[int] = []
    while len(picks) < budget and not covered.all():
        degree = (inside & ~covered).sum(axis=1)
        degree[labelled] = -1
        picks.append(int(degree.argmax()))
        covered |= inside[picks[-1]]
    return picks


@pytest.mark.parametrize("labelled", [[], [3, 30, 77]])
def test_probcover_is_that_of_the_paper(rng, labelled):
    vectors = rng.normal(size=(150, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    choice = select(
        vectors, 20, keys=keys_of(vectors), labelled=labelled, selector="probcover", seed=2
    )
    members = clusters_of(vectors, 20 + len(labelled), seed=2).members
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)

    def purity(radius: float) -> float:
        impure = (distances < radius) & (members[:, None] != members[None, :])
        return 1 - impure.any(axis=1).mean()

    radius = choice.report["radius"]
    assert purity(radius - 1e-5) >= 0.95 > purity(radius + 0.02)
    plain = naive_probcover(vectors, radius, labelled, 20)
    assert choice.rows[: len(plain)].tolist() == plain
    assert choice.report["balls"] == len(plain)


def test_probcover_goes_furthest_first_once_everything_is_covered(blobs, monkeypatch):
    vectors, of = blobs
    monkeypatch.setattr(probcover, "_pure_radius", lambda *ask: 0.8)
    choice = select(vectors, BLOBS + 2, keys=keys_of(vectors), labelled=[0], selector="probcover")
    assert sorted(of[choice.rows[: BLOBS - 1]]) == list(range(1, BLOBS))
    assert choice.report["balls"] == BLOBS - 1
    assert choice.report["covered"] == 1.0
    assert (choice.gains[BLOBS - 1 :] == 0).all()
    chosen = [0, *choice.rows[: BLOBS - 1]]
    distances = np.linalg.norm(vectors[:, None] - vectors[chosen], axis=2).min(axis=1)
    assert choice.rows[BLOBS - 1] == distances.argmax()


def test_copies_take_no_cluster_from_others():
    pool = Pool(30, 30, kind="copies")
    kinds = {tuple(vector) for vector in pool.vectors}
    picks = pool.select(len(kinds), selector="kmeans")
    assert len({tuple(pool.vectors[row]) for row in picks}) == len(kinds)
