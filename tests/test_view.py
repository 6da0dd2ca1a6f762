import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from napari_activeft.annotation_db import UNLABELLED as STORED
from trainingmaking import labelled_volume

from napari_activeft.errors import UserError
from napari_activeft.training.view import (
    UNLABELLED,
    Scaling,
    View,
    back,
    fit_view,
    neighbours,
    prepare,
    prepare_mask,
    scaling_of,
    with_neighbours,
)

AS_IT_IS = Scaling(np.zeros(1, "f4"), np.ones(1, "f4"))


def blob(shape, centre):
    """Return a smooth hill (1, 1, h, w), its top at a point in shares of the sides."""
    rows, columns = ((np.arange(n) + 0.5) / n for n in shape)
    away = (rows[:, None] - centre[0]) ** 2 + (columns[None] - centre[1]) ** 2
    return np.exp(-away / 0.02).astype("f4")[None, None]


def middle(hill):
    """Return the centre of mass of (h, w) in shares of the sides."""
    rows, columns = ((np.arange(n) + 0.5) / n for n in hill.shape)
    return np.array([(hill.sum(1) * rows).sum(), (hill.sum(0) * columns).sum()]) / hill.sum()


def test_a_pixel_that_nobody_labelled_is_told_as_in_the_store():
    assert UNLABELLED == STORED


@pytest.mark.parametrize("pixel_mm", [1.5, None])
def test_a_view_survives_json(pixel_mm):
    view = View(pixel_mm, (160, 192), 2, 3)

    assert View.from_json(json.loads(json.dumps(view.to_json()))) == view
    assert view.input_channels == 15


@pytest.mark.parametrize(
    "wrong",
    [
        {"pixel_mm": 0.0},
        {"pixel_mm": float("nan")},
        {"size": (100, 96)},
        {"size": (0, 32)},
        {"context": -1},
        {"channels": 0},
    ],
    ids=str,
)
def test_a_view_out_of_range_is_refused(wrong):
    with pytest.raises(UserError, match=": "):
        View(**{"pixel_mm": 1.0, "size": (64, 64), **wrong})


def test_the_automatic_view_takes_the_median_pixel_and_holds_the_median_slice():
    volumes = [
        labelled_volume(np.zeros((1, h, 90)), name=str(h), spacing=(mm, mm))
        for h, mm in [(60, 1.0), (70, 2.0), (80, 3.0)]
    ]

    view = fit_view(volumes, context=1)

    assert view == View(2.0, (96, 96), 1, 1)  # 70 x 90 pixels of 2 mm


def test_the_automatic_view_of_large_slices_stays_at_192():
    view = fit_view([labelled_volume(np.zeros((1, 300, 40)))])

    assert view.size == (192, 64)


def test_pixels_of_two_sides_become_square():
    volume = labelled_volume(np.zeros((1, 60, 60)), spacing=(2.0, 0.5))

    view = fit_view([volume])

    assert view.pixel_mm == 1.0
    assert view.shape_of((60, 60), volume.spacing) == (120, 30)


def test_volumes_of_different_channels_are_refused_by_name():
    grey = labelled_volume(np.zeros((1, 8, 8)), name="grey")
    colour = labelled_volume(np.zeros((1, 3, 8, 8)), name="colour")

    with pytest.raises(UserError, match="grey has 1 and colour has 3 channels"):
        fit_view([grey, colour])


def test_a_pixel_so_small_that_slices_would_not_fit_is_refused():
    with pytest.raises(UserError, match="choose a larger pixel-mm"):
        View(0.001, (64, 64)).shape_of((256, 256), (1.0, 1.0))
    with pytest.raises(UserError, match="would become 3 x 2 at 100 mm: choose a smaller pixel-mm"):
        View(100.0, (64, 64)).shape_of((256, 200), (1.0, 1.0))
    assert View(100.0, (64, 64)).shape_of((3, 2), (1.0, 1.0)) == (1, 1)  # it was as small before


@given(
    shape=st.tuples(st.integers(24, 90), st.integers(24, 90)),
    spacing=st.tuples(st.floats(0.5, 2.0), st.floats(0.5, 2.0)),
    pixel_mm=st.sampled_from([None, 0.7, 1.0, 1.5]),
    centre=st.tuples(st.floats(0.35, 0.65), st.floats(0.35, 0.65)),
)
def test_there_and_back_nothing_moves_by_half_a_pixel(shape, spacing, pixel_mm, centre):
    view = View(pixel_mm, (32, 32))
    hill = blob(shape, centre)

    there = prepare(hill, spacing, view, AS_IT_IS)
    again = back(torch.from_numpy(there), shape).numpy()

    assert there.shape == (1, 1, *view.shape_of(shape, spacing))
    assert again.shape == (1, 1, *shape)
    for seen in (there, again):
        moved = (middle(seen[0, 0]) - middle(hill[0, 0])) * seen.shape[2:]
        assert np.abs(moved).max() < 0.25
    assert np.abs(again - hill).max() < 0.2


@given(
    old=st.tuples(st.integers(20, 90), st.integers(20, 90)),
    new=st.tuples(st.integers(20, 90), st.integers(20, 90)),
)
def test_image_and_mask_share_one_grid(old, new):
    mask = np.zeros(old, np.uint8)
    mask[old[0] // 3 : -(old[0] // 4), old[1] // 4 : -(old[1] // 3)] = 1

    resampled = back(torch.from_numpy(mask[None, None].astype("f4")), new).numpy()[0, 0]
    chosen = prepare_mask(mask, new)

    assert chosen.shape == new
    assert chosen.dtype == np.uint8
    off = (np.array(middle(resampled)) - middle(chosen.astype(float))) * np.array(new)
    assert np.abs(off).max() < 0.51 * max(1, *(n / o for n, o in zip(new, old, strict=True)))


def test_a_mask_keeps_its_values_whatever_they_are():
    mask = np.array([[0, 7, 60000], [UNLABELLED, 7, 0]], np.uint16)

    assert set(np.unique(prepare_mask(mask, (11, 13)))) == {0, 7, 60000, UNLABELLED}


def test_probabilities_that_come_back_still_sum_to_one():
    probabilities = torch.rand(2, 4, 33, 21).softmax(1)

    for shape in [(50, 64), (17, 8)]:
        assert torch.allclose(back(probabilities, shape).sum(1), torch.ones(2, *shape), atol=1e-5)


def test_a_volume_is_scaled_to_mean_0_and_deviation_1_channel_by_channel(rng):
    image = rng.random((5, 2, 12, 9)).astype("f4") * np.array([0.2, 0.9], "f4")[:, None, None]
    volume = labelled_volume(image)

    scaling = scaling_of(volume.read, volume.depth)
    seen = prepare(image, volume.spacing, View(None, (32, 32), channels=2), scaling)

    np.testing.assert_allclose(seen.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std((0, 2, 3)), 1, atol=1e-5)


def test_a_constant_volume_becomes_zero_and_not_infinite():
    volume = labelled_volume(np.full((2, 8, 8), 0.4))

    seen = prepare(
        volume.read([0, 1]), (1.0, 1.0), View(None, (32, 32)), scaling_of(volume.read, 2)
    )

    np.testing.assert_allclose(seen, 0, atol=1e-6)


def test_a_deep_volume_is_scaled_by_32_slices_from_end_to_end():
    asked = []
    volume = labelled_volume(np.zeros((200, 4, 4)), asked=asked)

    scaling_of(volume.read, volume.depth)

    positions = sorted(at for positions in asked for at in positions)
    assert len(positions) == 32
    assert positions[0] == 0
    assert positions[-1] == 199
    assert max(np.diff(positions)) <= 7


def test_a_volume_of_other_channels_than_the_network_takes_is_refused():
    with pytest.raises(UserError, match="3 channels and the network takes images of 1"):
        prepare(np.zeros((1, 3, 8, 8), "f4"), (1.0, 1.0), View(None, (32, 32)), AS_IT_IS)


@pytest.mark.parametrize(
    ("position", "expected"),
    [(0, [0, 0, 0, 1, 2]), (3, [1, 2, 3, 4, 4]), (4, [2, 3, 4, 4, 4]), (2, [0, 1, 2, 3, 4])],
)
def test_at_the_ends_of_a_volume_the_last_slice_is_repeated(position, expected):
    assert neighbours(position, 5, 2) == expected


def test_neighbours_become_channels_in_their_order():
    planes = {at: np.stack([np.full((2, 3), at), np.full((2, 3), 10 + at)]) for at in range(3)}

    seen = with_neighbours(planes, 0, 3, 1)

    assert seen.dtype == np.float32
    assert seen[:, 0, 0].tolist() == [0, 10, 0, 10, 1, 11]
