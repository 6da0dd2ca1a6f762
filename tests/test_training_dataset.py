from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from trainingmaking import disc, labelled_volume

from napari_activeft.errors import UserError
from napari_activeft.training.cropping import IGNORED, Window, cut, place
from napari_activeft.training.dataset import SliceDataset
from napari_activeft.training.view import UNLABELLED, View

VIEW = View(None, (32, 32))


def stack(depth=6, shape=(40, 50), seed=0):
    """Return slices (d, h, w) that tell their position by their brightness."""
    noise = np.random.default_rng(seed).random((depth, *shape)) * 0.05
    return noise + np.linspace(0.1, 0.9, depth)[:, None, None]


def heart(**about):
    return labelled_volume(stack(), {2: disc((40, 50)), 4: disc((40, 50), 0.3)}, **about)


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_case_that_is_kept_apart_is_never_learnt_from(split):
    apart = heart(name="scan 7", case="patient 7", split=split)

    with pytest.raises(UserError, match=f"case patient 7 .* is kept for {split}"):
        SliceDataset([heart(), apart], VIEW, [1, 2], training=True)

    assert len(SliceDataset([apart], VIEW, [1, 2], training=False)) == 2


def test_a_case_that_is_kept_apart_is_refused_even_without_a_mask():
    apart = labelled_volume(stack(), {}, name="b", split="test")

    with pytest.raises(UserError, match="case b"):
        SliceDataset([heart(), apart], VIEW, [1, 2], training=True)


def test_targets_hold_indices_in_the_order_of_the_classes():
    mask = np.array([[0, 3, 9], [9, UNLABELLED, 0]], np.uint16).repeat(20, 0).repeat(20, 1)
    volume = labelled_volume(stack(shape=mask.shape), {1: mask})

    example = SliceDataset([volume], VIEW, [9, 3], training=True).examples[0]

    assert example.target[::20, ::20].tolist() == [[0, 2, 1], [1, IGNORED, 0]]
    assert example.target.dtype == np.int16
    assert (example.case, example.position) == ("heart", 1)


def test_masks_of_uint8_are_taken_as_well_as_of_uint16():
    masks = {1: disc((40, 50)), 2: disc((40, 50)).astype(np.uint16)}

    first, second = SliceDataset(
        [labelled_volume(stack(), masks)], VIEW, [1, 2], training=True
    ).examples

    np.testing.assert_array_equal(first.target, second.target)


def test_neighbours_are_of_the_same_volume_and_repeat_at_its_ends():
    low = labelled_volume(np.full((2, 40, 40), 0.1) + stack(2, (40, 40)) / 9, {1: disc((40, 40))})
    high = labelled_volume(stack(3, (40, 40)), {0: disc((40, 40))}, name="other")

    dataset = SliceDataset([low, high], View(None, (32, 32), 1), [1, 2], training=True)
    last, first = (example.image for example in dataset.examples)

    assert last.shape == (3, 40, 40)
    np.testing.assert_array_equal(last[1], last[2])
    assert not np.array_equal(last[0], last[1])
    np.testing.assert_array_equal(first[0], first[1])
    assert first[1].mean() < first[2].mean()


def test_a_slice_without_a_labelled_pixel_is_left_out_and_noted():
    nobody = np.full((40, 50), UNLABELLED, np.uint16)
    volume = labelled_volume(stack(), {1: disc((40, 50)), 3: nobody})

    dataset = SliceDataset([volume], VIEW, [1, 2], training=True)

    assert len(dataset) == 1
    assert dataset.notes == ["slice 3 of heart has no labelled pixel and was left out"]


def test_nothing_labelled_at_all_is_refused():
    nobody = np.full((40, 50), UNLABELLED, np.uint16)

    with pytest.raises(UserError, match="no pixel of 1 accepted masks is labelled"):
        SliceDataset([labelled_volume(stack(), {3: nobody})], VIEW, [1], training=True)
    with pytest.raises(UserError, match="none of 1 volumes has an accepted mask"):
        SliceDataset([labelled_volume(stack())], VIEW, [1], training=True)


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ({1: disc((40, 49))}, "slice 1 of heart is 40 x 49 pixels and the slice 40 x 50"),
        ({1: disc((40, 50)) * 5}, "slice 1 of heart holds 5, 10, which the class table lacks"),
        ({6: disc((40, 50))}, "a mask at slice 6, and its slices are 0 to 5"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_by_name(masks, said):
    with pytest.raises(UserError, match=said):
        SliceDataset([labelled_volume(stack(), masks)], VIEW, [1, 2], training=True)


@pytest.mark.parametrize("values", [[], [0, 1], [1, 1], [UNLABELLED]], ids=str)
def test_a_class_table_that_masks_cannot_hold_is_refused(values):
    with pytest.raises(UserError, match="correct the class table"):
        SliceDataset([heart()], VIEW, values, training=True)


def test_volumes_of_different_channels_or_of_others_than_the_view_are_refused():
    colour = labelled_volume(np.zeros((1, 3, 8, 8)), {0: disc((8, 8))}, name="colour")

    with pytest.raises(UserError, match="heart has 1 and colour has 3 channels"):
        SliceDataset([heart(), colour], VIEW, [1, 2], training=True)
    with pytest.raises(UserError, match="colour has 3 channels and the network takes images of 1"):
        SliceDataset([colour], VIEW, [1, 2], training=True)


def test_a_volume_that_is_given_twice_is_refused():
    with pytest.raises(UserError, match="heart was given twice"):
        SliceDataset([heart(), heart()], VIEW, [1, 2], training=True)


def test_an_image_of_another_shape_than_its_volume_says_is_refused():
    volume = heart()
    object.__setattr__(volume, "read", lambda at: np.zeros((len(at), 1, 40, 51), "f4"))

    with pytest.raises(UserError, match="heart gave slices of 1 x 40 x 51"):
        SliceDataset([volume], VIEW, [1, 2], training=True)


def test_the_balance_counts_pixels_and_slices_of_every_class():
    mask = np.zeros((40, 50), np.uint16)
    mask[:10], mask[10:15] = 1, UNLABELLED
    volumes = [
        labelled_volume(stack(), {0: mask}),
        labelled_volume(stack(), {0: np.ones((40, 50), np.uint8)}, name="b"),
    ]

    balance = SliceDataset(volumes, VIEW, [1, 7], training=True).balance()

    assert [(c.value, c.pixels, c.slices) for c in balance.classes] == [
        (0, 1250, 1),
        (1, 2500, 2),
        (7, 0, 0),
    ]
    assert (balance.unlabelled_pixels, balance.partly_labelled, balance.cases) == (250, 1, 2)
    assert balance.never_labelled == [7]
    assert balance.told({1: "wall", 7: "clot"}) == (
        "2 slices of 2 cases, 1 of them in part: background 33.33% in 1 slices, wall 66.67% in 2 "
        "slices, clot never"
    )


def test_a_smaller_memory_stores_halves_and_then_reads_again_what_finds_no_room():
    def dataset(volume, cache_bytes):
        view = View(None, (32, 32), 1)
        return SliceDataset([volume], view, [1, 2], training=True, cache_bytes=cache_bytes)

    slice_bytes = 4 * 40 * 50  # positions 1 to 5 are needed
    whole, half = dataset(heart(), 5 * slice_bytes), dataset(heart(), 5 * slice_bytes - 1)
    asked = []
    tight = dataset(heart(asked=asked), slice_bytes)

    assert whole.kept_bytes == 5 * slice_bytes
    assert half.kept_bytes == 5 * slice_bytes // 2
    assert tight.kept_bytes == slice_bytes
    asked.clear()
    for exact, rounded, again in zip(whole.examples, half.examples, tight.examples, strict=True):
        np.testing.assert_allclose(rounded.image, exact.image, atol=2e-3)
        np.testing.assert_allclose(again.image, exact.image, atol=2e-3)
    assert asked == [[3], [3, 4, 5]]


def test_what_is_in_memory_is_read_once():
    asked = []
    dataset = SliceDataset([heart(asked=asked)], VIEW, [1, 2], training=True)
    asked.clear()

    dataset.batch([0, 1, 0], np.random.default_rng(0))

    assert not asked


def test_cases_can_be_taken_out_without_reading_again():
    asked = []
    volumes = [heart(name=name, case=name[0], asked=asked) for name in ("a1", "a2", "b1")]
    dataset = SliceDataset(volumes, VIEW, [1, 2], training=True)
    asked.clear()

    part = dataset.subset(["b"])

    assert dataset.cases == ["a", "b"]
    assert (part.cases, len(part), len(dataset)) == (["b"], 2, 6)
    assert part.balance().cases == 1
    np.testing.assert_array_equal(part.examples[0].image, dataset.examples[4].image)
    assert not asked
    for wrong in (["c"], []):
        with pytest.raises(UserError, match="choose among a, b"):
            dataset.subset(wrong)


def test_slices_of_any_size_give_crops_of_one_size():
    volumes = [
        labelled_volume(stack(1, shape), {0: disc(shape)}, name=str(shape))
        for shape in [(20, 90), (33, 31), (64, 64), (1, 1)]
    ]
    dataset = SliceDataset(volumes, VIEW, [1, 2], training=True)

    images, targets = dataset.batch(range(4), np.random.default_rng(0))

    assert images.shape == (4, 1, 32, 32)
    assert targets.shape == (4, 32, 32)
    assert str(targets.dtype) == "torch.int64"
    assert int((targets[3] >= 0).sum()) == 1


def test_a_crop_is_what_the_generator_says():
    dataset = SliceDataset([heart()], VIEW, [1, 2], training=True)

    first, same, other = (dataset.crop(0, np.random.default_rng(seed))[0] for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_threads_get_the_same_crops_as_one():
    dataset = SliceDataset([heart()], VIEW, [1, 2], training=True, cache_bytes=0)

    def crop(seed):
        return dataset.crop(seed % 2, np.random.default_rng(seed))[0]

    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(crop, range(40)))

    for seed, image in enumerate(made):
        np.testing.assert_array_equal(image, crop(seed))


def test_a_crop_over_the_edge_is_filled_with_the_darkest_and_ignored(rng):
    image = rng.random((2, 20, 30)).astype("f4")
    target = np.ones((20, 30), np.int16)

    cropped, labels = cut(image, target, Window(-5, 10, 32, 32))

    np.testing.assert_array_equal(cropped[:, 5:25, :20], image[:, :, 10:])
    assert (labels[5:25, :20] == 1).all()
    assert (labels != IGNORED).sum() == 400
    for channel, lowest in zip(cropped, image.min((1, 2)), strict=True):
        assert (channel[:5] == lowest).all()
        assert (channel[25:] == lowest).all()
        assert (channel[:, 20:] == lowest).all()


def test_two_thirds_of_crops_hold_foreground_and_classes_come_as_often(rng):
    target = np.zeros((300, 300), np.int16)
    target[10:13, 280:283] = 1
    target[150:250, 20:120] = 2
    held = np.zeros(3)
    for _ in range(600):
        window = place(target, (32, 32), rng)
        _, labels = cut(target[None].astype("f4"), target, window)
        assert (labels != IGNORED).all()
        held += [np.any(labels == 1), np.any(labels == 2), np.any(labels > 0)]

    assert 0.25 < held[0] / 600 < 0.45  # a third, and hardly one by chance
    assert held[2] / 600 > 0.62


def test_foreground_lies_in_the_inner_half_of_its_crops(rng):
    target = np.zeros((200, 200), np.int16)
    target[100, 100] = 1
    places = []
    for _ in range(200):
        window = place(target, (32, 64), rng)
        if window.top <= 100 < window.top + 32 and window.left <= 100 < window.left + 64:
            places.append((100 - window.top, 100 - window.left))
    rows, columns = np.array(places).T

    assert len(places) > 100
    assert np.quantile(rows, 0.05) >= 8
    assert np.quantile(rows, 0.95) < 24
    assert np.quantile(columns, 0.05) >= 16
    assert np.quantile(columns, 0.95) < 48
    assert set(rows.tolist()) >= set(range(8, 24))


def test_an_empty_slice_is_cropped_anywhere(rng):
    starts = [place(np.zeros((64, 20), np.int16), (32, 32), rng) for _ in range(300)]

    assert {window.top for window in starts} == set(range(33))
    assert {window.left for window in starts} == {-6}


def test_progress_is_told_volume_by_volume():
    told = []

    SliceDataset(
        [heart(name="a"), labelled_volume(stack(), name="unlabelled"), heart(name="b")],
        VIEW,
        [1, 2],
        training=True,
        on_progress=lambda *at: told.append(at),
    )

    assert told == [(0, 2), (1, 2), (2, 2)]
