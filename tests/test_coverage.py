"""The figures that judge a selection, against POT, scipy and cases worked out by hand."""

import numpy as np
import ot
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from napari_activeft.errors import Cancelled
from napari_activeft.selection.coverage import (
    CoverageMeter,
    coverage,
    distances,
    nearest_distances,
    ratio,
)
from napari_activeft.selection.coverage_curve import prefix_curve, prefix_sizes


@pytest.fixture
def vectors(rng):
    rows = rng.normal(size=(60, 5)).astype("float32")
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_w1_is_what_scipy_assignment_gives_when_every_pick_stands_for_three_rows(vectors):
    picks = [3, 0, 17, 40, 22, 59, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 23]
    costs = cdist(vectors.astype(float), np.repeat(vectors[picks], 3, axis=0).astype(float))
    rows, columns = linear_sum_assignment(costs)

    assert CoverageMeter(vectors).w1(picks) == pytest.approx(costs[rows, columns].mean(), abs=1e-7)


def test_rw1_is_pots_emd2_over_its_mean_for_fifty_random_draws(vectors):
    def emd(rows):
        return ot.emd2([], [], cdist(vectors.astype(float), vectors[rows].astype(float)))

    meter = CoverageMeter(vectors, seed=3)
    figures = meter.figures([1, 5, 9, 30])

    random = np.mean([emd(meter.drawn(4, at)) for at in range(50)])
    assert figures.rw1 == pytest.approx(emd([1, 5, 9, 30]) / random, rel=1e-6)
    assert figures.draws == 50
    assert figures.measured_rows == 60


def test_picks_are_measured_against_slices_outside_of_the_pool_too(vectors, rng):
    outside = rng.normal(size=(25, 5))
    meter = CoverageMeter(vectors, outside=outside, draws=4)
    unit = outside / np.linalg.norm(outside, axis=1, keepdims=True)

    figures = meter.figures([4, 7, 2])

    expected = ot.emd2([], [], cdist(unit, vectors[[4, 7, 2]].astype(float)))
    assert figures.w1_out == pytest.approx(expected, rel=1e-5)
    assert figures.rw1_out == pytest.approx(figures.w1_out / meter.random(3)[1])
    assert coverage(vectors, [4, 7, 2], draws=2).rw1_out is None


def test_all_rows_as_picks_leave_nothing_uncovered(vectors):
    figures = coverage(vectors, range(60), draws=2)

    assert figures.w1 == pytest.approx(0, abs=1e-6)
    assert figures.rw1 == 1.0
    assert figures.nearest_mean == figures.radius_max == 0
    assert figures.energy == pytest.approx(0, abs=1e-6)


def test_radii_and_energy_are_those_of_scipy(vectors):
    picks = [2, 50, 31, 7, 44]
    to_picks = cdist(vectors.astype(float), vectors[picks].astype(float))
    near = to_picks.min(axis=1)
    spread = cdist(vectors.astype(float), vectors.astype(float)).mean()
    own = cdist(vectors[picks].astype(float), vectors[picks].astype(float)).mean()

    figures = coverage(vectors, picks, draws=2)

    assert figures.nearest_mean == pytest.approx(near.mean(), rel=1e-6)
    assert figures.radius_95 == pytest.approx(np.quantile(near, 0.95), rel=1e-6)
    assert figures.radius_max == pytest.approx(near.max(), rel=1e-6)
    assert figures.energy == pytest.approx(2 * to_picks.mean() - spread - own, rel=1e-5)


def test_a_pick_per_corner_of_a_square_is_better_than_four_of_one_corner():
    corners = np.repeat(np.eye(4), 5, axis=0)

    even = coverage(corners, [0, 5, 10, 15])
    lumped = coverage(corners, [0, 1, 2, 3])

    assert even.w1 == pytest.approx(0, abs=1e-7)
    assert lumped.w1 == pytest.approx(0.75 * np.sqrt(2))
    assert even.rw1 < 1 < lumped.rw1


def test_cases_volumes_neighbours_and_empty_slices_are_counted(rng):
    figures = coverage(
        rng.normal(size=(8, 3)),
        [0, 1, 3, 4, 6],
        groups=[1, 1, 1, 1, 2, 2, 3, 3],
        cases=["a", "a", "a", "a", "a", "a", "b", "b"],
        positions=[0, 1, 2, 3, 0, 1, 0, 1],
        emptiness=np.array([0.9, 0, 0, 0.5, 0, 1, 0.2, 1]),
        draws=2,
    )

    assert (figures.cases, figures.pool_cases) == (2, 2)
    assert (figures.volumes, figures.pool_volumes) == (3, 3)
    assert figures.most_in_volume == 3
    assert figures.adjacent_share == 0.5  # 0-1 is a pair of neighbours, 1-3 is none
    assert figures.empty_share == pytest.approx(2 / 5)


def test_without_volumes_and_emptiness_the_pool_is_one_volume(vectors):
    figures = coverage(vectors, [0, 2], draws=2)

    assert figures.pool_cases == figures.pool_volumes == 1
    assert figures.empty_share is None


def test_lengths_of_vectors_do_not_count(vectors, rng):
    scaled = vectors * rng.uniform(0.1, 9, size=(60, 1))

    assert coverage(scaled, [1, 2], draws=3).rw1 == pytest.approx(
        coverage(vectors, [1, 2], draws=3).rw1, rel=1e-5
    )


def test_a_large_pool_is_measured_on_a_seeded_sub_sample_that_is_named(vectors):
    meters = [CoverageMeter(vectors, draws=3, seed=seed, exact_pairs=100) for seed in (0, 0, 1)]

    first, again, other = (meter.figures([3, 8, 41, 5]) for meter in meters)

    assert first.measured_rows == 25
    assert first == again
    assert first.w1 != other.w1


def test_random_draws_of_a_size_are_measured_once(vectors, monkeypatch):
    meter = CoverageMeter(vectors, draws=5)
    meter.random(4)
    drawn = []
    monkeypatch.setattr(CoverageMeter, "drawn", lambda self, k, at: drawn.append((k, at)))

    meter.figures([0, 1, 2, 3])
    meter.know_random(2, 0.5, None)

    assert meter.figures([0, 1]).random_w1 == 0.5
    assert not drawn


def test_random_draws_of_all_sizes_extend_each_other(vectors):
    meter = CoverageMeter(vectors)

    assert meter.drawn(9, 2)[:4].tolist() == meter.drawn(4, 2).tolist()
    assert meter.drawn(9, 2).tolist() != meter.drawn(9, 3).tolist()


@pytest.mark.parametrize("picks", [[], [1, 1], [60], [-1]], ids=str)
def test_picks_that_are_no_distinct_rows_are_refused(vectors, picks):
    with pytest.raises(ValueError, match="of a pool of 60 rows: give at least one, distinct"):
        coverage(vectors, picks)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_a_vector_without_direction_is_refused_by_its_row(vectors, bad):
    vectors[7] = bad

    with pytest.raises(ValueError, match="row 7 of the vectors"):
        CoverageMeter(vectors)


def test_nearest_distances_in_chunks_are_the_plain_ones(vectors, monkeypatch):
    monkeypatch.setattr("napari_activeft.selection.coverage._CHUNK_PAIRS", 21)

    near = nearest_distances(vectors, vectors[[3, 4, 5]])

    assert near == pytest.approx(distances(vectors, vectors[[3, 4, 5]]).min(axis=1), abs=1e-7)
    assert near[4] == 0


def test_a_pool_of_equal_slices_is_as_good_as_random():
    assert coverage(np.ones((6, 3)), [0, 1], draws=2).rw1 == 1.0
    assert ratio(0.2, 0.0) == float("inf")


def test_each_point_of_a_curve_is_the_figure_of_that_prefix(vectors):
    ranking = [9, 1, 30, 22, 57, 3]
    meter = CoverageMeter(vectors)

    curve = prefix_curve(meter, {"mine": ranking}, sizes=(1, 3, 6), draws=4)

    for at, size in enumerate((1, 3, 6)):
        figures = meter.figures(ranking[:size])
        assert curve.nearest["mine"][at] == pytest.approx(figures.nearest_mean)
        assert curve.w1["mine"][at] == pytest.approx(figures.w1)
    drawn = [meter.w1(meter.drawn(3, at)) for at in range(4)]
    assert curve.random_w1[:, 1] == pytest.approx([np.mean(drawn), min(drawn), max(drawn)])


def test_rows_labelled_before_belong_to_every_point_of_a_curve(vectors):
    base, ranking = [5, 40], [9, 1, 30]
    meter = CoverageMeter(vectors)

    curve = prefix_curve(meter, {"mine": ranking}, base=base, sizes=(1, 3), draws=3)

    for at, size in enumerate((1, 3)):
        figures = meter.figures([*base, *ranking[:size]])
        assert curve.nearest["mine"][at] == pytest.approx(figures.nearest_mean)
        assert curve.w1["mine"][at] == pytest.approx(figures.w1)
    added = [[row for row in meter.drawn(60, at) if row not in base][:3] for at in range(3)]
    drawn = [meter.w1([*base, *rows]) for rows in added]
    assert curve.random_w1[:, 1] == pytest.approx([np.mean(drawn), min(drawn), max(drawn)])


def test_the_curve_says_how_far_it_is_and_can_be_stopped(vectors):
    seen = []

    def stop(done, total):
        seen.append((done, total))
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        prefix_curve(CoverageMeter(vectors), {"mine": [9, 1]}, draws=4, on_progress=stop)
    assert seen == [(1, 5), (2, 5)]


def test_a_curve_of_a_large_pool_is_measured_on_a_sub_sample_and_says_so(vectors):
    meter = CoverageMeter(vectors)

    curve = prefix_curve(meter, {"mine": [9, 1, 30]}, sizes=(1, 3), draws=2, pairs=60)

    assert (curve.measured_rows, curve.sampled) == (20, True)
    assert curve.w1["mine"][0] == meter.w1([9])  # 60 rows x 1 pick
    assert curve.w1["mine"][1] == CoverageMeter(vectors, exact_pairs=60).w1([9, 1, 30])
    whole = prefix_curve(meter, {"mine": [9, 1, 30]}, draws=2)
    assert (whole.measured_rows, whole.sampled) == (60, False)


@pytest.mark.parametrize(
    ("k", "sizes"), [(1, (1,)), (3, (1, 2, 3)), (100, (1, 2, 3, 5, 8, 13, 22, 36, 60, 100))]
)
def test_prefix_lengths_rise_to_the_budget(k, sizes):
    assert prefix_sizes(k) == sizes
