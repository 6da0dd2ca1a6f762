"""Slices to vectors: pictures, the encoders without weights, and the engine that drives them."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from napari_activeft.embedding import engine
from napari_activeft.embedding.engine import Stack, embed, sample
from napari_activeft.embedding.feature_file import FeatureFile
from napari_activeft.embedding.hog import Hog
from napari_activeft.embedding.pictures import fitted, pictures
from napari_activeft.embedding.pixels import PixelsPca
from napari_activeft.errors import Cancelled, UserError


class Moments:
    """An encoder whose vectors can be told by hand: mean and largest value of a picture."""

    name, side, channels, size, weight_hash = "moments", 8, 1, 2, "0"

    def __init__(self):
        self.batches = []

    def identity(self):
        return {}

    def embed(self, block):
        self.batches.append(len(block))
        flat = block.reshape(len(block), -1)
        return np.stack([flat.mean(1), flat.max(1)], axis=1)


def stack_of(name, values, shape=(6, 9), refusal=None):
    """A volume whose slice at a position holds the value of that position everywhere."""

    def read(positions):
        if refusal:
            raise UserError(refusal)
        return np.stack([np.full((1, *shape), values[at], np.float32) for at in positions])

    keys = [f"{name}:0:{at}" for at in range(len(values))]
    return Stack(name, keys, range(len(values)), (1, *shape), (1.0, 1.0), read)


def run(folder, stacks, batch=4, encoder=None, on_progress=lambda done, total: None):
    encoder = encoder or Moments()
    with FeatureFile.writing(folder, encoder.size, {}) as file:
        problems = embed(stacks, encoder, file, batch=batch, on_progress=on_progress)
        return dict(zip(file.keys, np.array(file.matrix()), strict=True)), problems, encoder


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    batch=st.integers(1, 9),
)
def test_each_slice_gets_its_own_vector_whatever_the_batch(tmp_path_factory, counts, batch):
    folder = tmp_path_factory.mktemp("f")
    stacks = [
        stack_of(f"v{v}", [(10 * v + at + 1) / 100 for at in range(count)])
        for v, count in enumerate(counts)
    ]

    found, problems, encoder = run(folder, stacks, batch)

    assert problems == []
    expected = {
        key: (10 * v + at + 1) / 100
        for v, stack in enumerate(stacks)
        for at, key in enumerate(stack.keys)
    }
    assert {key: pytest.approx(vector[1]) for key, vector in found.items()} == expected
    assert all(size == batch for size in encoder.batches[:-1])


def test_a_volume_that_cannot_be_read_is_listed_and_stops_no_other(tmp_path):
    stacks = [
        stack_of("good", [0.1, 0.2]),
        stack_of("bad", [0.3], refusal="its file is gone: restore it"),
        stack_of("fine", [0.4]),
    ]

    found, problems, _ = run(tmp_path, stacks)

    assert len(found) == 3
    assert [(one.path, one.sentence) for one in problems] == [
        ("bad", "its file is gone: restore it")
    ]


def test_only_slices_without_a_vector_are_read(tmp_path):
    first, second = stack_of("a", [0.1, 0.2, 0.3]), stack_of("b", [0.4])
    run(tmp_path, [first])
    read = []

    def counting(positions):
        read.extend(positions)
        return second.read(positions)

    again = replace(second, read=counting)
    refusing = replace(first, read=lambda _: 1 / 0)

    found, _, encoder = run(tmp_path, [refusing, again])

    assert read == [0]
    assert encoder.batches == [1]
    assert len(found) == 4


def test_a_cancelled_run_keeps_what_is_done_and_goes_on_from_there(tmp_path):
    stacks = [stack_of(f"v{v}", [v / 10, v / 20]) for v in range(1, 7)]

    def cancel(done, total):
        assert total == 12
        if done >= 4:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(tmp_path, stacks, batch=2, on_progress=cancel)
    calls = []

    found, _, encoder = run(
        tmp_path, stacks, batch=2, on_progress=lambda *numbers: calls.append(numbers)
    )

    assert calls[0] == (4, 12)
    assert calls[-1] == (12, 12)
    assert sum(encoder.batches) == 8
    assert len(found) == 12


def test_a_failing_encoder_leaves_no_thread_behind(tmp_path):
    class Failing(Moments):
        def embed(self, block):
            raise ZeroDivisionError

    before = threading.active_count()

    with pytest.raises(ZeroDivisionError):
        run(tmp_path, [stack_of(f"v{v}", [0.5]) for v in range(20)], batch=2, encoder=Failing())

    assert threading.active_count() == before


def test_the_sample_is_drawn_by_keys_and_spread_over_volumes():
    stacks = [stack_of(f"v{v}", np.linspace(0.1, 0.9, 10) + v / 1000) for v in range(30)]

    drawn, whole = sample(stacks, 8, 20, seed=3)
    shuffled, _ = sample(stacks[::-1], 8, 20, seed=3)

    assert whole
    assert np.array_equal(drawn, shuffled)
    assert len(drawn) == 20
    assert not np.array_equal(drawn, sample(stacks, 8, 20, seed=4)[0])


def test_a_sample_says_that_a_volume_was_passed_over():
    stacks = [stack_of("bad", [0.1], refusal="gone"), stack_of("good", [0.1, 0.2])]

    drawn, whole = sample(stacks, 8, 5, seed=0)

    assert (len(drawn), whole) == (2, False)


def test_large_pictures_are_read_in_pieces_that_fit_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "_PIECE_BYTES", 3 * 6 * 9 * 4)
    stack, read = stack_of("v", [0.1] * 8), []

    def counting(positions):
        read.append(len(positions))
        return stack.read(positions)

    found, _, encoder = run(tmp_path, [replace(stack, read=counting)], batch=8)

    assert read == [3, 3, 2]
    assert encoder.batches == [8]
    assert len(found) == 8


def test_a_pool_of_unreadable_images_is_one_sentence():
    with pytest.raises(UserError, match="doctor"):
        sample([stack_of("bad", [0.1], refusal="gone")], 8, 5, seed=0)


@given(height=st.floats(0.5, 900), width=st.floats(0.5, 900), side=st.integers(8, 512))
def test_an_area_keeps_its_proportions_and_fills_the_longer_side(height, width, side):
    h, w = fitted(height, width, side)

    assert max(h, w) == side
    assert min(h, w) >= 1
    assert abs(min(h, w) - max(side * min(height, width) / max(height, width), 1)) <= 0.5


def test_pictures_keep_millimetres_and_pad_with_the_darkest():
    slices = np.ones((2, 1, 10, 20), np.float32)

    square = pictures(slices, spacing=(1.0, 1.0), side=40)
    tall = pictures(slices, spacing=(4.0, 1.0), side=40)

    assert square.shape == tall.shape == (2, 1, 40, 40)
    assert np.all(square[:, :, 10:30] == 1)
    assert square[:, :, :10].max() == square[:, :, 30:].max() == 0
    assert np.all(tall[..., 10:30] == 1)
    assert tall[..., :10].max() == tall[..., 30:].max() == 0


def test_a_slice_without_any_gradient_has_a_vector_too():
    empty, bright = Hog(1).embed(np.stack([np.zeros((1, 128, 128)), np.ones((1, 128, 128))]))

    assert np.linalg.norm(empty) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(empty, bright)


def test_shrinking_a_fine_grating_gives_grey_and_no_moire():
    stripes = np.tile(np.array([0.0, 1.0], np.float32), 128)[None, None, None].repeat(256, axis=2)

    small = pictures(stripes, (1.0, 1.0), 60)

    assert abs(small[..., 2:-2] - 0.5).max() < 0.1


def test_pixels_pca_gives_the_coordinates_that_scikit_learn_gives(rng, tmp_path):
    blocks = rng.random((40, 2, 8, 8)).astype(np.float32)

    fitted_pca = PixelsPca.fit(blocks, seed=0)
    fitted_pca.save(tmp_path / "basis.npz")
    loaded = PixelsPca.load(tmp_path / "basis.npz")

    exact = PCA(39, svd_solver="full").fit_transform(blocks.reshape(40, -1))
    found = loaded.embed(blocks)
    assert loaded.weight_hash == fitted_pca.weight_hash
    assert np.allclose(np.abs(found), np.abs(exact), atol=1e-3)
    assert np.allclose(loaded.components @ loaded.components.T, np.eye(39), atol=1e-4)


@pytest.mark.parametrize("blocks", [np.zeros((1, 1, 8, 8)), np.ones((5, 1, 8, 8))])
def test_pixels_pca_refuses_a_pool_without_differences(blocks):
    with pytest.raises(UserError, match="do not"):
        PixelsPca.fit(blocks.astype(np.float32), seed=0)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_hog_tells_upright_from_lying_bars(channels):
    bars = np.zeros((1, channels, 128, 128), np.float32)
    bars[..., ::32] = bars[..., 1::32] = 1

    upright, lying = Hog(channels).embed(np.concatenate([bars, bars.transpose(0, 1, 3, 2)]))

    by_angle = [vector.reshape(-1, 9).sum(0) for vector in (upright, lying)]
    assert by_angle[0].argmax() == 0
    assert by_angle[1].argmax() == 4
    assert Hog(channels).size == len(upright)
