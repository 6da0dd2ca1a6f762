"""Small pictures of slices, and the pool in two dimensions, as a window shows them."""

from __future__ import annotations

import queue
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from napari_activeft.annotation_db import SliceRow, StoreError
from projectmaking import make_project, write_volume

from napari_activeft import thumbnails as thumbnails_module
from napari_activeft.embedding.feature_file import FeatureFile
from napari_activeft.pool import normalise, picture, take_slice
from napari_activeft.pool_map import FILE, read_map, write_map
from napari_activeft.reports import projection
from napari_activeft.reports.projection import principal_points
from napari_activeft.slice_pictures import SlicePictures
from napari_activeft.thumbnails import SIDE, Thumbnails, shrunk
from napari_activeft.vectors import embeddings_folder
from napari_activeft.volume import open_volume

SECONDS = 10.0


class Made:
    """Collects what thumbnails tell."""

    def __init__(self):
        self._told = queue.Queue()

    def __call__(self, place, path):
        self._told.put((place, path))

    def take(self, count):
        return [self._told.get(timeout=SECONDS) for _ in range(count)]

    @property
    def rest(self):
        return self._told.qsize()


@pytest.fixture
def made():
    return Made()


def places(project, *volumes):
    chosen = [project.store.volumes()[at] for at in volumes]
    return [(v.volume_id, at) for v in chosen for at in range(v.slice_count)]


def pixels(path):
    return np.squeeze(open_volume(path).data)


# Slices as pictures


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_picture_is_the_slice_in_the_intensities_of_its_volume(tmp_path, axis):
    spacing = [1.0, 1.0, 1.0]
    spacing[axis] = 5.0
    data = write_volume(tmp_path / "i" / "one.nii.gz", (5, 6, 7), spacing=tuple(spacing))
    with make_project(tmp_path / "p", tmp_path / "i") as project:
        (volume,) = project.store.volumes()
        pictures = SlicePictures(project)
        for position in (0, volume.slice_count - 1):
            seen = take_slice(data, axis, position)
            ranges = [tuple(each) for each in volume.intensity_range]

            shown = pictures.of(volume.volume_id, position)

            np.testing.assert_array_equal(shown, picture(normalise(seen, ranges)))
            assert shown.shape == (volume.slice_height, volume.slice_width)
            assert len(np.unique(shown)) > 3


def test_an_image_that_is_missing_has_no_picture_and_leaves_others_theirs(project):
    first, second, _ = project.store.volumes()
    project.source(first).paths[0].unlink()
    pictures = SlicePictures(project)

    assert pictures.of(first.volume_id, 0) is None
    assert pictures.of(second.volume_id, 0) is not None
    assert not project.cache.holds(second.volume_id), "the annotator's volumes stay where they are"


def test_volumes_that_are_added_later_have_pictures_too(project, images):
    from projectmaking import add

    pictures = SlicePictures(project)
    write_volume(images / "patient9" / "later.nii.gz", seed=99)
    add(project, images, labels="*_gt.nii.gz")
    (volume,) = [v for v in project.store.volumes() if "later" in v.name]

    assert pictures.volume(volume.volume_id) == volume
    assert pictures.of(volume.volume_id, 1).shape == (9, 11)


# Thumbnails


def test_a_thumbnail_is_the_picture_of_its_slice_in_its_proportions(project, made):
    asked = places(project, 1)
    with Thumbnails(project, made) as thumbnails:
        thumbnails.ask(asked)
        told = dict(made.take(4))

    assert sorted(told) == asked
    volume = project.store.volumes()[1]
    pictures = SlicePictures(project)
    for (volume_id, position), path in told.items():
        assert path == thumbnails.path(volume, position)
        small = shrunk(pictures.of(volume_id, position), (1.0, 1.5))
        np.testing.assert_array_equal(pixels(path), small)
        assert small.shape == (round(SIDE * 9 / 16.5), SIDE)
    assert len({path.read_bytes() for path in told.values()}) == 4


def test_a_thumbnail_is_made_once_and_kept_on_the_disk(project, made):
    with Thumbnails(project, made) as thumbnails:
        thumbnails.ask(places(project, 0))
        first = dict(made.take(4))
    marked = [path for path in first.values() if path.write_bytes(b"kept")]
    for volume in project.store.volumes():
        project.source(volume).paths[0].unlink()

    with Thumbnails(project, made) as again:
        again.ask(places(project, 0))
        assert dict(made.take(4)) == first

    assert [path.read_bytes() for path in marked] == [b"kept"] * 4


def test_a_missing_image_an_unknown_volume_and_no_slice_are_told_as_none(project, made):
    gone, there, _ = project.store.volumes()
    project.source(gone).paths[0].unlink()
    asked = [(gone.volume_id, 0), (999, 0), (there.volume_id, 77), (there.volume_id, 2)]

    with Thumbnails(project, made) as thumbnails:
        thumbnails.ask(asked)
        told = dict(made.take(4))

    assert [place for place, path in told.items() if path is not None] == [asked[3]]
    assert set(told) == set(asked)


def test_a_store_that_refuses_once_does_not_end_the_thread(project, made, monkeypatch):
    refused = []

    def busy():
        refused.append(1)
        raise StoreError("another program writes: try again")

    with Thumbnails(project, made) as thumbnails:
        with monkeypatch.context() as patched:
            patched.setattr(project.store, "volumes", busy)
            thumbnails.ask([(1, 0)])
            assert made.take(1) == [((1, 0), None)]
        assert refused
        thumbnails.ask([(1, 0)])
        ((_, path),) = made.take(1)

    assert path.is_file()


def test_a_folder_that_cannot_be_made_is_told_as_none(project, made):
    (project.folder / "thumbnails").write_bytes(b"a file")
    with Thumbnails(project, made) as thumbnails:
        thumbnails.ask([(1, 0)])
        assert made.take(1) == [((1, 0), None)]


def test_the_newest_wish_comes_first_and_with_it_all_of_its_volume(project, monkeypatch):
    began, go_on, order = threading.Event(), threading.Event(), queue.Queue()

    def slowly(place, path):
        del path
        order.put(place)
        began.set()
        go_on.wait(SECONDS)

    first, second, third = (v.volume_id for v in project.store.volumes())
    with Thumbnails(project, slowly) as thumbnails:
        thumbnails.ask([(first, 0)])
        assert began.wait(SECONDS)
        thumbnails.ask([(second, 0), (third, 1)])
        thumbnails.ask([(third, 0)])
        thumbnails.ask([(second, 1), (second, 0)])
        go_on.set()
        made = [order.get(timeout=SECONDS) for _ in range(5)]

    assert made[0] == (first, 0)
    assert made[1] == (second, 0), "wished for last"
    assert {place[0] for place in made[1:3]} == {second}
    assert made[3:] == [(third, 0), (third, 1)]


def test_closing_while_some_wait_drops_them_and_ends_the_thread(project):
    began, go_on, told = threading.Event(), threading.Event(), []

    def slowly(place, path):
        told.append((place, path))
        began.set()
        go_on.wait(SECONDS)

    thumbnails = Thumbnails(project, slowly)
    thumbnails.ask(places(project, 0, 1, 2))
    assert began.wait(SECONDS)
    closing = threading.Thread(target=thumbnails.close)
    closing.start()
    closing.join(0.1)
    assert closing.is_alive(), "what is being made is made first"
    go_on.set()
    closing.join(SECONDS)

    assert not closing.is_alive()
    assert "thumbnails" not in {thread.name for thread in threading.enumerate()}
    assert len(told) == 1


def test_closing_with_nothing_to_do_returns(project, made):
    Thumbnails(project, made).close()
    assert made.rest == 0


def test_two_states_of_a_volume_have_two_thumbnails(project, made):
    volume = project.store.volumes()[0]
    with Thumbnails(project, made) as thumbnails:
        paths = {
            thumbnails.path(one, position)
            for one in (volume, replace(volume, content_hash="f" * 64), replace(volume, axis=2))
            for position in (0, 10)
        }
    assert len(paths) == 6


@given(
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    down=st.floats(0.1, 20.0),
    across=st.floats(0.1, 20.0),
    colour=st.booleans(),
)
def test_a_shrunk_picture_has_the_proportions_in_millimetres(height, width, down, across, colour):
    shape = (height, width, 3) if colour else (height, width)
    rows = np.linspace(0, 255, height).astype(np.uint8)
    shown = np.broadcast_to(rows.reshape(-1, *[1] * (len(shape) - 1)), shape)

    small = shrunk(shown, (down, across))

    tall, wide = height * down, width * across
    assert small.dtype == np.uint8
    assert small.shape[2:] == shape[2:]
    assert max(small.shape[:2]) == SIDE
    assert min(small.shape[:2]) >= 1
    longer = max(tall, wide)
    assert abs(small.shape[0] - SIDE * tall / longer) <= 1
    assert abs(small.shape[1] - SIDE * wide / longer) <= 1
    # Rows stay rows, and in their order.
    assert (small == small[:, :1]).all()
    assert (np.diff(small[:, 0].astype(int), axis=0) >= 0).all()


@given(arrays(np.uint8, st.tuples(st.integers(1, 150), st.integers(1, 150))))
def test_a_shrunk_picture_is_neither_brighter_nor_darker(shown):
    small = shrunk(shown, (1.0, 1.0))

    assert shown.min() <= small.min()
    assert small.max() <= shown.max()


@pytest.mark.parametrize("value", [0, 1, 254, 255])
def test_a_picture_of_one_grey_keeps_it(value):
    assert (shrunk(np.full((300, 200), value, np.uint8), (1.0, 1.0)) == value).all()


def test_what_falls_together_is_averaged():
    checked = np.indices((SIDE * 2, SIDE * 2)).sum(axis=0) % 2 * 200
    assert (shrunk(checked.astype(np.uint8), (1.0, 1.0)) == 100).all()


def test_thumbnails_lie_below_the_project(project):
    with Thumbnails(project, lambda *_: None) as thumbnails:
        path = thumbnails.path(project.store.volumes()[0], 0)
    assert path.is_relative_to(project.folder / thumbnails_module.FOLDER)


# The map of the pool


def keep_vectors(project, keys, vectors, encoder="hog", used_at="2024-02-29"):
    """Keep vectors as `embed` does, and the map of them."""
    about = {"encoder": encoder, "weight_hash": "", "random_weights": False, "side": 8}
    about |= {"precision": "float32", "created_at": used_at}
    folder = embeddings_folder(project) / f"{encoder}-1"
    with FeatureFile.writing(folder, vectors.shape[1], about) as file:
        file.append(keys, vectors)
        write_map(file)
    return folder


def test_the_map_has_the_slices_in_the_order_of_the_pool(project, rng):
    pool = project.store.pool_slices()
    vectors = rng.normal(size=(12, 5)).astype(np.float32)
    order = rng.permutation(12)
    keep_vectors(project, [pool[at].key for at in order], vectors[order])

    found = read_map(project, pool)

    assert (found.encoder, found.missing) == ("hog", 0)
    np.testing.assert_allclose(found.points, principal_points(vectors), atol=1e-5)
    backwards = read_map(project, pool[::-1])
    np.testing.assert_array_equal(backwards.points, found.points[::-1])


def test_slices_without_a_vector_have_no_place(project, rng):
    pool = project.store.pool_slices()
    keep_vectors(project, [row.key for row in pool[:7]], rng.normal(size=(7, 5)))

    found = read_map(project, pool)

    assert found.missing == 5
    assert np.isnan(found.points[7:]).all()
    assert not np.isnan(found.points[:7]).any()


def test_a_slice_is_not_taken_for_one_whose_key_begins_alike(project, rng):
    def row(key):
        return SliceRow(1, key, 1, "case", 0, 0.0)

    keep_vectors(project, ["a:1", "a:2"], rng.normal(size=(2, 5)))

    found = read_map(project, [row("a:10"), row("a:2"), row("a:"), row("z")])

    assert np.isnan(found.points[:, 0]).tolist() == [True, False, True, True]


def test_the_map_is_that_of_the_encoder_used_last(project, rng):
    keys = [row.key for row in project.store.pool_slices()]
    for encoder, used_at in [("hog", "2024-03-01"), ("pixels_pca", "2024-02-01")]:
        keep_vectors(project, keys, rng.normal(size=(12, 5)), encoder, used_at)

    assert read_map(project, project.store.pool_slices()).encoder == "hog"


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off", None])
def test_a_map_that_is_damaged_or_missing_is_none(project, rng, content):
    keys = [row.key for row in project.store.pool_slices()]
    path = keep_vectors(project, keys, rng.normal(size=(12, 5))) / FILE
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)

    assert read_map(project, project.store.pool_slices()) is None


def test_nothing_embedded_and_an_empty_pool_have_no_places(project, rng):
    assert read_map(project, project.store.pool_slices()) is None
    keep_vectors(project, ["a", "b"], rng.normal(size=(2, 5)))
    assert read_map(project, []).points.shape == (0, 2)
    assert read_map(project, project.store.pool_slices()).missing == 12


def test_a_map_that_the_disk_refuses_is_no_failure(project, rng, monkeypatch):
    def full(path):
        del path
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_activeft.pool_map.replacing", full)
    folder = keep_vectors(project, ["a", "b"], rng.normal(size=(2, 5)))
    assert not (folder / FILE).exists()


def test_embed_keeps_a_map_and_completes_it_with_the_pool(project, images):
    from projectmaking import add

    from napari_activeft import workflow
    from napari_activeft.settings import EmbedSettings

    result = workflow.embed(project, EmbedSettings(encoder="hog"))
    before = read_map(project, project.store.pool_slices())
    assert (before.encoder, before.missing) == ("hog", 0)
    assert np.ptp(before.points, axis=0).min() > 0
    written = (result.folder / FILE).stat().st_mtime_ns
    workflow.embed(project, EmbedSettings(encoder="hog"))
    assert (result.folder / FILE).stat().st_mtime_ns == written, "nothing was new"

    write_volume(images / "patient9" / "later.nii.gz", seed=99)
    add(project, images, labels="*_gt.nii.gz")
    assert read_map(project, project.store.pool_slices()).missing == 4
    workflow.embed(project, EmbedSettings(encoder="hog"))
    assert read_map(project, project.store.pool_slices()).missing == 0


# The plane


def up_to_sign(points, expected):
    return np.abs(points), np.abs(expected)


def test_a_large_pool_in_parts_lies_on_the_plane_of_a_small_one(rng, monkeypatch):
    plane = rng.normal(size=(2, 6)) * [[5.0], [2.0]]
    vectors = (rng.normal(size=(503, 2)) @ plane).astype(np.float32)
    whole = principal_points(vectors)

    monkeypatch.setattr(projection, "_SAMPLE", 100)
    parts = principal_points(vectors)

    assert parts.shape == (503, 2)
    # A sample turns and shifts the axes within the plane; how far slices are apart stays.
    for at in (0, 99, 100, 250, 502):
        apart = np.linalg.norm(parts - parts[at], axis=1)
        np.testing.assert_allclose(apart, np.linalg.norm(whole - whole[at], axis=1), rtol=1e-3)


def test_a_large_pool_whose_parts_are_alike_has_the_same_points_up_to_sign(rng, monkeypatch):
    sample = rng.normal(size=(40, 6)).astype(np.float32) * [9, 5, 1, 1, 1, 1]
    vectors = np.repeat(sample, 3, axis=0)
    whole = principal_points(vectors)

    monkeypatch.setattr(projection, "_SAMPLE", 40)
    parts = principal_points(vectors)

    np.testing.assert_allclose(*up_to_sign(parts, whole), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 4), (2, 4), (3, 30), (30, 3), (30, 1)])
def test_few_vectors_and_few_numbers_have_points_too(rng, shape):
    points = principal_points(rng.normal(size=shape).astype(np.float32))

    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()


def test_points_keep_the_most_of_how_far_slices_are_apart(rng):
    vectors = rng.normal(size=(50, 4)) * [9.0, 4.0, 1e-3, 1e-3]
    points = principal_points((vectors + 100).astype(np.float32))

    centred = vectors - vectors.mean(axis=0)
    spread = np.linalg.norm(points, axis=1)
    np.testing.assert_allclose(spread, np.linalg.norm(centred, axis=1), rtol=1e-2)
    assert points[:, 0].var() > points[:, 1].var()
