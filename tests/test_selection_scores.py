"""Scores of uncertainty, and the selectors of later rounds that go by them."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from selectionmaking import Pool

from napari_activeft.selection import Caps, bald_scores, entropy_scores


def test_entropy_is_that_of_each_slice():
    scores = entropy_scores([[1.0, 0.0], [0.5, 0.5], [0.9, 0.1]])
    assert scores == pytest.approx([0.0, log(2), -0.9 * log(0.9) - 0.1 * log(0.1)])


def test_entropy_is_the_mean_over_the_pixels():
    maps = np.zeros((1, 2, 2, 2))
    maps[0, 0] = [[1.0, 0.5], [0.5, 1.0]]
    maps[0, 1] = 1 - maps[0, 0]
    assert entropy_scores(maps) == pytest.approx([log(2) / 2])


def test_mutual_information_tells_doubt_from_disagreement():
    doubt = [[0.5, 0.5], [0.5, 0.5]]
    disagreement = [[1.0, 0.0], [0.0, 1.0]]
    sure = [[1.0, 0.0], [1.0, 0.0]]
    by_prediction = np.swapaxes([doubt, disagreement, sure], 0, 1)
    assert bald_scores(by_prediction) == pytest.approx([0.0, log(2), 0.0])
    assert entropy_scores(by_prediction.mean(axis=0)) == pytest.approx([log(2), log(2), 0.0])


def test_mutual_information_lies_between_0_and_the_entropy(rng):
    drawn = rng.dirichlet([0.3, 0.3, 0.3], size=(5, 20, 4, 3))
    predicted = np.moveaxis(drawn, -1, 2)  # (t, n, c, h, w)
    scores = bald_scores(predicted)
    assert scores.shape == (20,)
    assert (scores > 0).all()
    assert (scores < entropy_scores(predicted.mean(axis=0))).all()


@pytest.mark.parametrize(
    ("score", "wrong"),
    [
        (entropy_scores, [0.5, 0.5]),
        (entropy_scores, [[0.5, 0.6]]),
        (entropy_scores, [[1.5, -0.5]]),
        (entropy_scores, [[np.nan, 1.0]]),
        (entropy_scores, np.zeros((0, 2))),
        (bald_scores, [[0.5, 0.5]]),
        (bald_scores, [[[2.0, 3.0]]]),
    ],
)
def test_what_are_no_probabilities_is_refused(score, wrong):
    with pytest.raises(ValueError, match=r"give|softmax"):
        score(wrong)


@pytest.mark.parametrize("selector", ["entropy", "bald"])
def test_the_highest_scores_are_taken_in_order_and_equals_by_key(selector):
    pool = Pool(6)
    pool.scores = np.array([0.1, 0.7, 0.3, 0.7, 0.0, 0.2])
    choice = pool.choose(4, selector=selector)
    first, second = sorted([1, 3], key=pool.keys.__getitem__)
    assert choice.rows.tolist() == [first, second, 2, 5]
    assert choice.gains.tolist() == [0.7, 0.7, 0.3, 0.2]


def test_the_caps_pass_over_neighbours_that_are_uncertain_together():
    pool = Pool(6)
    pool.scores = np.array([0.1, 0.7, 0.8, 0.7, 0.0, 0.2])
    assert pool.select(3, selector="entropy", caps=Caps(gap=2)) == [2, 5, 0]


def test_what_costs_twice_has_to_be_twice_as_uncertain():
    pool = Pool(3)
    pool.scores = np.array([0.9, 0.5, 0.4])
    assert pool.select(3, selector="bald", costs=[2.0, 1.0, 1.0]) == [1, 0, 2]
