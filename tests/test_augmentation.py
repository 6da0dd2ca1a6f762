import dataclasses
import time

import numpy as np
import pytest
import torch
from trainingmaking import disc

from napari_activeft.training.augmentation import augmenter
from napari_activeft.training.cropping import IGNORED, Window, cut
from napari_activeft.training.view import View

SIZE = (64, 64)
WHOLE = Window(0, 0, *SIZE)
STRENGTHS = ("light", "strong")


def view(channels=1, size=SIZE):
    return View(None, size, 0, channels)


def generators(count):
    return [np.random.default_rng([3, seed]) for seed in range(count)]


def scene(shape=(80, 90)):
    """Return an image (1, h, w) that is its own mask, and the mask."""
    mask = disc(shape, 0.3)
    return mask.astype("f4")[None], mask.astype(np.int16)


def geometry_only(strength, turns="flips", size=SIZE):
    made = augmenter(strength, view(size=size), turns)
    made._intensity = []
    return made


def test_no_augmentation_only_cuts(rng):
    image, target = scene()
    window = Window(5, -4, *SIZE)

    for made, expected in zip(
        augmenter("none", view())(image, target, rng, window),
        cut(image, target, window),
        strict=True,
    ):
        np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("turns", ["none", "flips", "full"])
@pytest.mark.parametrize("strength", STRENGTHS)
def test_image_and_mask_stay_aligned(strength, turns):
    target = (disc((80, 90), 0.3) > 0).astype(np.int16)
    augment = geometry_only(strength, turns)

    for rng in generators(40):
        seen, labels = augment(target[None].astype("f4"), target, rng, Window(8, 13, *SIZE))
        there = labels != IGNORED
        # Of the four pixels that a linear value is of, the nearest has a quarter's weight at least.
        assert np.abs(seen[0] - labels)[there].max() < 0.7501
        assert set(np.unique(labels)) <= {IGNORED, 0, 1}


@pytest.mark.parametrize("strength", STRENGTHS)
def test_outside_of_the_slice_the_image_is_its_minimum_and_nobody_labelled(strength):
    image = np.full((2, 30, 30), 5.0, "f4")
    image[0, 3, 3], image[1, 4, 4] = -1.0, -7.0
    target = np.ones((30, 30), np.int16)

    for rng in generators(20):
        made = augmenter(strength, view(2))
        made._intensity = []
        seen, labels = made(image, target, rng, Window(-17, -17, *SIZE))
        outside = labels == IGNORED
        assert outside[[0, 0, -1, -1], [0, -1, 0, -1]].all()
        assert set(np.unique(labels)) == {IGNORED, 1}
        corners = seen[:, [0, 0, -1, -1], [0, -1, 0, -1]]
        np.testing.assert_allclose(corners, [[-1.0] * 4, [-7.0] * 4], atol=1e-5)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_the_same_generator_gives_the_same_crop_whoever_came_before(strength):
    rng = np.random.default_rng(0)
    image, target = rng.normal(size=(3, 70, 70)).astype("f4"), disc((70, 70)).astype(np.int16)
    used, fresh = (augmenter(strength, view(3), "full") for _ in range(2))
    for one in generators(10):
        used(image, target, one, WHOLE)

    for first, second in zip(generators(30)[10:], generators(30)[10:], strict=True):
        here, there = (
            used(image, target, first, WHOLE),
            fresh(image, target, second, WHOLE),
        )
        np.testing.assert_array_equal(here[0], there[0])
        np.testing.assert_array_equal(here[1], there[1])


def worlds_states():
    """Return the states of the generators that all the world shares, as bytes."""
    numpys = np.random.get_state()  # noqa: NPY002
    return numpys[1].tobytes(), numpys[2], torch.get_rng_state().numpy().tobytes()


def test_nothing_of_the_world_is_drawn_from_or_reseeded():
    image, target = scene()
    before = worlds_states()

    augment = augmenter("strong", view(), "full")
    for rng in generators(20):
        augment(image, target, rng, WHOLE)

    assert worlds_states() == before


def test_different_generators_give_different_crops():
    image, target = scene()
    augment = augmenter("strong", view())

    made = {augment(image, target, rng, WHOLE)[0].tobytes() for rng in generators(30)}

    assert len(made) > 25


@pytest.mark.parametrize("strength", STRENGTHS)
def test_the_input_is_left_as_it_was(strength):
    image, target = scene()
    kept = image.copy(), target.copy()

    for rng in generators(20):
        seen, labels = augmenter(strength, view())(image, target, rng, WHOLE)
        seen += 1
        labels += 1

    np.testing.assert_array_equal(image, kept[0])
    np.testing.assert_array_equal(target, kept[1])


def sides(turns, count=60):
    """Return in which of the 4 corners of a crop what was in the first one came to lie."""
    image = np.zeros((1, *SIZE), "f4")
    image[0, 8:24, 8:24] = 1
    augment = geometry_only("light", turns)
    found = set()
    for rng in generators(count):
        seen = augment(image, np.zeros(SIZE, np.int16), rng, WHOLE)[0][0]
        row, column = np.argwhere(seen > 0.5).mean(0)
        found.add((bool(row > 32), bool(column > 32)))
    return found


def test_a_slice_is_mirrored_only_where_that_is_allowed():
    assert sides("none") == {(False, False)}
    assert sides("flips") == {(False, False), (False, True), (True, False), (True, True)}


def long_side(turns):
    """Return whether a lying bar was ever stood up."""
    image = np.zeros((1, *SIZE), "f4")
    image[0, 28:36, 4:60] = 1
    augment = geometry_only("light", turns)
    made = [augment(image, image[0].astype(np.int16), rng, WHOLE)[1] for rng in generators(30)]
    extents = [np.ptp(np.argwhere(labels == 1), axis=0) for labels in made]
    return {bool(down > across) for down, across in extents}


def test_a_slice_is_turned_by_a_quarter_only_where_that_is_allowed():
    assert long_side("flips") == {False}
    assert long_side("full") == {False, True}


@pytest.mark.parametrize(("strength", "least", "most"), [("light", 0.7, 1.4), ("strong", 0.5, 2)])
def test_what_is_there_keeps_its_shape_and_nearly_its_size(strength, least, most):
    from skimage.measure import label

    image, target = scene((96, 96))
    augment = geometry_only(strength, "full", (96, 96))
    area = int((target > 0).sum())

    for rng in generators(60):
        _, labels = augment(image, target, rng, Window(0, 0, 96, 96))
        assert label(labels == 2).max() == 1  # in one piece: nothing was folded over
        whole = labels > 0
        if not (whole[[0, -1]].any() or whole[:, [0, -1]].any()):  # else it was cut off
            assert least < whole.sum() / area < most


def test_bending_moves_the_middle_of_no_crop():
    """The control points must lie as the pixels do; a grid that is off by a cell would shift."""
    augment = geometry_only("strong", "none", (96, 96))
    shifts = []
    for seed in range(300):
        grid = augment._grid(
            np.random.default_rng(seed), np.random.RandomState(seed), Window(7, -9, 96, 96)
        )
        if grid is not None:
            shifts.append(np.asarray(grid[:2]).mean((1, 2)) - [7 + 47.5, -9 + 47.5])

    assert len(shifts) > 200
    # Shifts are uniform within 10 % of 96 pixels: their mean has a standard error of 0.33.
    assert np.abs(np.mean(shifts, axis=0)).max() < 1.3
    assert np.abs(shifts).max() < 0.1 * 96 + 6


def test_lighting_keeps_the_scale_that_networks_see():
    image = np.sin(np.arange(64) / 4 + np.arange(64)[:, None] / 6).astype("f4")[None] * 1.4
    augment = augmenter("strong", view())
    made = [augment(image, np.zeros(SIZE, np.int16), one, WHOLE)[0] for one in generators(80)]

    assert all(np.isfinite(one).all() for one in made)
    deviations = [one.std() for one in made]
    assert min(deviations) > 0.3
    assert max(deviations) < 1.7
    assert max(abs(one.mean()) for one in made) < 1.5


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_constant_slice_stays_finite(strength):
    for rng in generators(40):
        seen, _ = augmenter(strength, view(3), "full")(
            np.zeros((3, 20, 20), "f4"), np.zeros((20, 20), np.int16), rng, WHOLE
        )
        assert seen.dtype == np.float32
        assert np.isfinite(seen).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_crop_of_160_x_160_takes_less_than_8_ms_on_one_thread(channels):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(channels, 200, 190)).astype("f4")
    target = disc((200, 190)).astype(np.int16)
    augment = augmenter("strong", view(channels, (160, 160)), "full")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        started = time.thread_time()  # what others do meanwhile does not count
        for one in generators(40):
            augment(image, target, one, Window(20, 10, 160, 160))
        seconds = (time.thread_time() - started) / 40
    finally:
        torch.set_num_threads(threads)

    assert seconds < 0.008


def test_a_crop_of_a_large_slice_is_that_of_a_small_one_around_it():
    rng = np.random.default_rng(0)
    small = rng.normal(size=(1, 220, 220)).astype("f4")
    small[0, 0, 0] = -9
    large = np.full((1, 900, 800), -9, "f4")
    large[:, 300:520, 400:620] = small
    augment = augmenter("strong", view(), "full")

    for seed in range(20):
        here, there = (
            augment(image, np.zeros(image.shape[1:], np.int16), np.random.default_rng(seed), at)[0]
            for image, at in [(small, Window(70, 80, *SIZE)), (large, Window(370, 480, *SIZE))]
        )
        np.testing.assert_allclose(here, there, atol=1e-3)


def test_a_crop_that_is_only_mirrored_or_turned_holds_the_same_pixels():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 80, 90)).astype("f4")
    target = rng.integers(0, 3, (80, 90)).astype(np.int16)
    augment = geometry_only("strong", "full")
    augment._bounds = dataclasses.replace(augment._bounds, moved=0.0)
    plain, labels = cut(image, target, Window(9, 14, *SIZE))
    ways = [
        (quarters, step, *(np.rot90(a[..., ::step], quarters, (-2, -1)) for a in (plain, labels)))
        for quarters in range(4)
        for step in (1, -1)
    ]

    met = set()
    for one in generators(60):
        seen, turned = augment(image, target, one, Window(9, 14, *SIZE))
        fits = [way[:2] for way in ways if np.allclose(way[2], seen, atol=1e-3)]
        assert len(fits) == 1
        np.testing.assert_array_equal(turned, next(way[3] for way in ways if way[:2] == fits[0]))
        met.update(fits)
    assert len(met) == 8
