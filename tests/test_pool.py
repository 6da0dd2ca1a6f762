"""From a volume to slices: which plane, how bright, how empty, and read from memory."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from imagemaking import distinct, write_nifti
from projectmaking import make_project, write_folder

from napari_activeft import volume as volume_module
from napari_activeft.errors import UserError
from napari_activeft.geometry import plain_geometry
from napari_activeft.pool import (
    VolumeCache,
    emptiness,
    intensity_range,
    normalise,
    picture,
    plane_axis,
    slice_shape,
    slice_up,
    take_slice,
)
from napari_activeft.volume import VolumeError, open_volume

GREY = arrays.arrays(np.float32, (3, 5, 7), elements=st.floats(-1e6, 1e6, width=32))


# The plane


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [
        ((5.0, 1.0, 1.0), 0),
        ((1.0, 5.0, 1.0), 1),
        ((1.0, 1.0, 5.0), 2),
        ((1.0, 1.0, 1.0), 0),
        ((1.0, 1.005, 1.0), 0),  # headers round
        ((1.0, 1.02, 1.0), 1),
        ((1.0, 3.0, 3.0), 1),
        ((3.0, 1.0, 3.0), 0),
        ((0.001, 0.001, 0.004), 2),
    ],
)
def test_slices_follow_each_other_along_the_coarsest_spacing(spacing, axis):
    assert plane_axis(plain_geometry((4, 5, 6), spacing)) == axis


def test_an_isotropic_volume_is_sliced_along_the_last_axis_on_disk(tmp_path):
    path = write_nifti(tmp_path / "a.nii", distinct((4, 5, 6)))

    axis = plane_axis(open_volume(path).geometry)
    pixels = take_slice(open_volume(path).data, axis, 2)

    stored = np.asarray(nib.load(path).dataobj)
    np.testing.assert_array_equal(pixels, stored[:, :, 2].T)


@pytest.mark.parametrize("shape", [(1, 5, 6), (5, 1, 6), (5, 6, 1)])
@pytest.mark.parametrize("plane", ["auto", "z", "y", "x"])
def test_an_axis_of_one_voxel_decides_whatever_is_asked(shape, plane):
    spacing = (1.0, 1.0, 9.0)
    assert plane_axis(plain_geometry(shape, spacing), plane) == shape.index(1)


@pytest.mark.parametrize(("plane", "axis"), [("z", 0), ("y", 1), ("x", 2)])
def test_a_plane_can_be_forced(plane, axis):
    assert plane_axis(plain_geometry((4, 5, 6), (1.0, 9.0, 1.0)), plane) == axis


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("channels", [(), (2,)])
def test_a_slice_is_a_view_along_its_axis(axis, channels):
    data = distinct((*channels, 4, 5, 6))
    count = data.shape[-3:][axis]

    for position in range(count):
        pixels = take_slice(data, axis, position)
        assert pixels.base is data or pixels.base is data.base
        assert pixels.shape[-2:] == slice_shape(plain_geometry((4, 5, 6)), axis)
        expected = np.stack([np.take(c, position, axis) for c in data.reshape(-1, 4, 5, 6)])
        np.testing.assert_array_equal(pixels, expected.reshape(pixels.shape))


# Intensities


@given(GREY)
def test_normalised_slices_are_float32_from_0_to_1_without_nan(data):
    ranges = intensity_range(data)
    for position in range(len(data)):
        scaled = normalise(data[position], ranges)
        assert scaled.dtype == np.float32
        assert scaled.shape == (5, 7)
        assert 0 <= scaled.min() <= scaled.max() <= 1


@given(GREY)
def test_normalising_keeps_the_order_of_intensities(data):
    scaled = normalise(data[0], intensity_range(data)).ravel()
    order = np.argsort(data[0].ravel(), kind="stable")
    assert np.all(np.diff(scaled[order]) >= 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_a_constant_volume_becomes_black(dtype):
    data = np.full((3, 4, 5), 100, dtype)
    assert intensity_range(data) == [(100.0, 100.0)]
    assert not normalise(data[0], intensity_range(data)).any()


def test_the_ends_of_the_range_become_0_and_1():
    data = np.linspace(-1000, 3000, 10_000).reshape(10, 20, 50).astype(np.int16)
    ((low, high),) = intensity_range(data)
    assert (low, high) == pytest.approx((-980, 2980), abs=2)
    scaled = normalise(data, [(low, high)])
    assert (scaled.min(), scaled.max()) == (0, 1)


def test_a_few_hot_voxels_do_not_darken_the_rest(rng):
    data = rng.integers(0, 1000, size=(10, 40, 40)).astype(np.float32)
    calm = normalise(data[3], intensity_range(data))
    data[0, :2, :20] = 1e6
    hot = normalise(data[3], intensity_range(data))
    np.testing.assert_allclose(hot, calm, atol=0.02)


def test_a_volume_that_is_nearly_all_background_still_shows_what_is_there():
    data = np.zeros((10, 40, 40), np.int16)
    data[5, 10:12, 10:12] = 700
    assert intensity_range(data) == [(0.0, 700.0)]
    assert normalise(data[5], [(0.0, 700.0)]).max() == 1


def test_each_channel_has_its_own_range():
    data = np.stack([distinct((3, 4, 50)), 1000 - 3 * distinct((3, 4, 50)), np.zeros((3, 4, 50))])
    ranges = intensity_range(data)
    scaled = normalise(take_slice(data, 1, 2), ranges)
    assert len(ranges) == 3
    for channel in range(3):
        alone = normalise(take_slice(data[channel], 1, 2), ranges[channel : channel + 1])
        np.testing.assert_array_equal(scaled[channel], alone)


def test_the_range_of_a_large_volume_is_sampled_from_all_columns():
    data = np.zeros((20, 512, 512), np.int16)
    data[:] = np.arange(512)
    ((low, high),) = intensity_range(data)
    assert (low, high) == pytest.approx((0.005 * 511, 0.995 * 511), abs=2)


def test_pictures_are_8_bit_grey_or_colour():
    grey = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    three = np.stack([grey, 1 - grey, grey * 0])
    assert picture(grey).dtype == np.uint8
    assert (picture(grey).min(), picture(grey).max()) == (0, 255)
    assert picture(three).shape == (3, 4, 3)
    np.testing.assert_array_equal(picture(three)[..., 1], picture(1 - grey))
    np.testing.assert_array_equal(picture(three[:2]), picture(grey))


# Emptiness


def phantom(rng: np.random.Generator, dtype=np.int16) -> np.ndarray:
    """Slices of air, of noise, of a small disc and of a large one, in this order."""
    rows, columns = np.mgrid[:48, :40]
    distance = np.hypot(rows - 24, columns - 20)
    data = np.zeros((12, 48, 40))
    data[3:] += rng.normal(0, 8, size=data[3:].shape)
    data[6:9] += 500 * (distance < 6)
    data[9:] += 500 * (distance < 16)
    return data.astype(dtype)


def empty_share(data: np.ndarray, axis: int = 0) -> np.ndarray:
    return np.array(emptiness(data, axis, intensity_range(data)))


def test_a_slice_is_the_emptier_the_less_structure_it_shows(rng):
    found = empty_share(phantom(rng))

    assert list(found[:3]) == [1, 1, 1]
    assert found[3:6].min() > 0.8  # noise is not structure
    assert found[3:6].max() < 1
    assert found[3:6].min() > found[6:9].max()
    assert found[6:9].min() > found[9:].max()
    assert found[9:].max() < 0.05


@pytest.mark.parametrize("axis", [1, 2])
def test_emptiness_is_the_same_along_every_axis(rng, axis):
    data = phantom(rng)
    turned = np.moveaxis(data, 0, axis)
    np.testing.assert_allclose(empty_share(turned, axis), empty_share(data), atol=1e-12)


def test_a_channel_with_structure_makes_a_slice_full(rng):
    data = phantom(rng)
    both = np.stack([np.zeros_like(data), data])
    np.testing.assert_allclose(empty_share(both), empty_share(data))


@given(
    arrays.arrays(np.float32, (4, 9, 10), elements=st.floats(0, 1000, width=32)),
    st.floats(1e-3, 1e3),
    st.floats(-1000, 1000),
)
def test_emptiness_does_not_depend_on_unit_or_offset(data, factor, offset):
    data = data.astype(np.float64)
    ((low, high),) = intensity_range(data)
    if 0 < high - low < 1e-6:
        return  # an offset would round such structure away
    moved = data * factor + offset
    np.testing.assert_allclose(empty_share(moved), empty_share(data), atol=1e-4)


@given(GREY)
def test_emptiness_is_one_number_from_0_to_1_per_slice(data):
    for axis in range(3):
        found = empty_share(data, axis)
        assert len(found) == data.shape[axis]
        assert 0 <= found.min() <= found.max() <= 1


def test_tiny_slices_have_an_emptiness_too():
    assert list(empty_share(np.zeros((3, 1, 2), np.uint8))) == [1, 1, 1]


def test_a_volume_that_is_not_finite_is_refused(tmp_path):
    data = distinct((3, 4, 5), np.float32)
    data[0, 0, 0] = np.nan
    path = write_nifti(tmp_path / "a.nii", data)
    with pytest.raises(VolumeError, match="NaN"):
        slice_up(open_volume(path))


def test_slicing_up_says_all_that_the_store_needs(tmp_path, rng):
    path = write_nifti(tmp_path / "a.nii", phantom(rng).T, np.diag([1.0, 2.0, 1.0, 1.0]))

    sliced = slice_up(open_volume(path))

    assert (sliced.axis, sliced.height, sliced.width) == (1, 12, 40)
    assert len(sliced.emptiness) == 48
    assert len(sliced.ranges) == 1


# The cache


class Opener:
    """Counts how often each volume is opened."""

    def __init__(self, folder, count=4, shape=(3, 4, 5)):
        self.opened: list[int] = []
        self.paths = [write_nifti(folder / f"{k}.nii", distinct(shape) + k) for k in range(count)]

    def __call__(self, volume_id):
        self.opened.append(volume_id)
        return open_volume(self.paths[volume_id])


def test_a_volume_in_the_cache_is_not_opened_again(tmp_path):
    opener = Opener(tmp_path)
    cache = VolumeCache(opener)

    first = cache.volume(1)
    opener.paths[1].unlink()

    assert cache.volume(1) is first
    assert take_slice(cache.volume(1).data, 0, 2).shape == (4, 3)
    assert opener.opened == [1]


def test_the_volume_used_longest_ago_makes_room_and_is_read_again(tmp_path):
    opener = Opener(tmp_path)
    cache = VolumeCache(opener, max_bytes=2 * 3 * 4 * 5 * 2)

    for volume_id in (0, 1, 0, 2, 0, 1):
        data = cache.volume(volume_id).data
        np.testing.assert_array_equal(data, distinct((3, 4, 5)).T + volume_id)

    assert opener.opened == [0, 1, 2, 1]


def test_a_volume_beyond_the_cache_is_kept_until_the_next(tmp_path):
    opener = Opener(tmp_path)
    cache = VolumeCache(opener, max_bytes=0)
    for volume_id in (0, 0, 1, 1, 0):
        cache.volume(volume_id)
    assert opener.opened == [0, 1, 0]


def test_a_volume_that_cannot_be_opened_leaves_the_others_in_the_cache(tmp_path):
    opener = Opener(tmp_path)
    cache = VolumeCache(opener)
    cache.volume(0)
    opener.paths[1].write_bytes(b"")
    with pytest.raises(VolumeError):
        cache.volume(1)
    cache.volume(0)
    assert opener.opened == [0, 1]


def test_a_volume_in_memory_is_had_at_once_while_others_are_read(tmp_path):
    opener, slow, go_on = Opener(tmp_path), threading.Event(), threading.Event()

    def open_slowly(volume_id):
        if volume_id == 1:
            slow.set()
            assert go_on.wait(10)
        return opener(volume_id)

    cache = VolumeCache(open_slowly)
    first = cache.volume(0)
    with ThreadPoolExecutor(2) as threads:
        reading = [threads.submit(cache.volume, 1) for _ in range(2)]
        assert slow.wait(10)
        assert cache.volume(0) is first  # would wait for ever behind one lock for all
        assert (cache.holds(0), cache.holds(1)) == (True, False)
        go_on.set()
        made, again = (one.result() for one in reading)

    assert made is again
    assert opener.opened == [0, 1]


def test_a_cache_of_negative_size_is_refused():
    with pytest.raises(UserError):
        VolumeCache(lambda volume_id: None, max_bytes=-1)


def test_slices_of_a_project_are_read_from_its_file_once(tmp_path, monkeypatch):
    images = write_folder(tmp_path / "images", patients=1, labels=False)
    reads = []
    plain = volume_module.nifti_bytes.read_voxels

    def counted(path, *arguments):
        reads.append(path)
        return plain(path, *arguments)

    with make_project(tmp_path / "p", images) as project:
        monkeypatch.setattr(volume_module.nifti_bytes, "read_voxels", counted)
        (record,) = project.store.volumes()
        for position in range(record.slice_count):
            take_slice(project.cache.volume(record.volume_id).data, record.axis, position)

    assert len(reads) == 1
