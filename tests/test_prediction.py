"""Networks over whole volumes: windows, turns, certainty, memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from napari_activeft.errors import UserError
from napari_activeft.prediction.certainty import LEAST_SHARE, pixel_entropy, slice_means
from napari_activeft.prediction.predictor import Member, Predictor
from napari_activeft.prediction.turning import TURNS
from napari_activeft.prediction.windows import over_slices
from napari_activeft.training.networks import build_network
from napari_activeft.training.view import View

SIDE = 32
AS_STORED = View(pixel_mm=None, size=(SIDE, SIDE))


@pytest.fixture(scope="module")
def nano():
    return build_network("vm_unet_conv_nano", 1, 3, seed=1).eval()


def by_pixel(x):
    """Logits that depend on the pixel alone: it sees no turn, no window, no edge."""
    return torch.cat([0 * x[:, :1], 4 * x[:, :1] - 1, 2 - 3 * x[:, :1]], 1)


def by_neighbourhood(x):
    """Logits that are turned as the image is."""
    blurred = avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    return torch.cat([blurred[:, :1], 1 - blurred[:, :1]], 1)


def predictor(network=by_pixel, view=AS_STORED, classes=(7, 300), temperature=None, **options):
    members = [Member(network, view, temperature)]
    return Predictor(members, classes, **{"device": "cpu", "precision": "float32", **options})


def volume(rng, depth=5, shape=(1, 20, 27)):
    return rng.random((depth, *shape), dtype=np.float32)


def predicted(predictor, pixels, spacing=(1.0, 1.0)):
    def read(positions):
        return pixels[list(positions)]

    return list(predictor.volume(read, len(pixels), pixels.shape[1:], spacing))


def scaled(pixels):
    return torch.from_numpy((pixels - pixels.mean()) / pixels.std())


# Windows


@pytest.mark.parametrize("side", [SIDE, 64])
def test_a_slice_that_fits_goes_through_the_network_as_it_is(nano, side):
    x = torch.randn(2, 1, side, side)
    with torch.no_grad():
        torch.testing.assert_close(
            over_slices(nano, x, (side, side), overlap=0.5, at_once=4), nano(x), rtol=0, atol=0
        )


def test_windows_give_what_the_plain_call_gives_where_one_window_holds_the_slice(nano):
    x = torch.randn(2, 1, SIDE, SIDE)
    with torch.no_grad():
        made = over_slices(nano, x, (SIDE, SIDE), overlap=0.5, at_once=4, whole_up_to=0)
        torch.testing.assert_close(made, nano(x), rtol=1e-5, atol=1e-5)


def test_a_smaller_slice_is_set_into_its_minimum_as_in_training():
    seen = []
    x = torch.rand(1, 1, 20, 27) + 3

    made = over_slices(
        lambda given: seen.append(given) or given, x, (SIDE, SIDE), overlap=0, at_once=1
    )

    assert torch.equal(made, x)
    (framed,) = seen
    assert framed.shape == (1, 1, SIDE, SIDE)
    assert torch.equal(framed[0, 0, 6:26, 2:29], x[0, 0])
    assert (framed[0, 0, :6] == x.min()).all()
    assert (framed[0, 0, :, 29:] == x.min()).all()


@pytest.mark.parametrize(
    ("shape", "seen"),
    [((40, 33), {(64, 64)}), ((41, 20), {(32, 32)}), ((100, 70), {(32, 32)})],
    ids=["a quarter larger: whole", "more than that in one side", "in both"],
)
def test_a_larger_slice_is_covered_by_windows_of_the_training_size(shape, seen):
    sizes = set()
    x = torch.randn(2, 1, *shape)

    def network(given):
        sizes.add(tuple(given.shape[2:]))
        return by_pixel(given)

    made = over_slices(network, x, (SIDE, SIDE), overlap=0.5, at_once=3)

    assert sizes == seen
    torch.testing.assert_close(made, by_pixel(x), rtol=1e-4, atol=1e-4)


# Turns


@pytest.mark.parametrize(("kind", "count"), [("none", 1), ("flips", 4), ("full", 8)])
def test_each_kind_has_its_distinct_turns_and_each_turn_is_undone(kind, count):
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    laid = [turn.lay(x) for turn in TURNS[kind]]

    assert len({(*one.shape, *one.flatten().tolist()) for one in laid}) == count
    for turn, one in zip(TURNS[kind], laid, strict=True):
        assert tuple(one.shape[2:]) == turn.size((3, 4))
        assert torch.equal(turn.undo(one), x)


@pytest.mark.parametrize("kind", ["flips", "full"])
@pytest.mark.parametrize(
    ("network", "classes", "shape"),
    [(by_neighbourhood, [1], (1, 20, 27)), (by_pixel, [1, 2], (1, 70, 45))],
    ids=["whole", "in windows"],
)
def test_turning_changes_nothing_for_a_network_that_turns_with_the_image(
    rng, kind, network, classes, shape
):
    pixels = volume(rng, 2, shape)
    plain = predicted(predictor(network, classes=classes), pixels)
    turned = predicted(predictor(network, classes=classes, tta=kind), pixels)

    for one, other in zip(plain, turned, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)


def test_turned_predictions_are_the_mean_of_those_of_each_turn(rng):
    pixels = volume(rng, 1, (1, SIDE, SIDE))

    def falling(x):  # the further down the surer: every turn says something else
        return torch.cat([0 * x, x + torch.linspace(-2, 2, SIDE)[:, None]], 1)

    (found,) = predicted(predictor(falling, classes=[1], tta="full"), pixels)

    x = scaled(pixels)
    wanted = torch.stack([t.undo(falling(t.lay(x)).softmax(1)) for t in TURNS["full"]]).mean(0)
    np.testing.assert_allclose(found.probabilities, wanted[0], atol=1e-5)


# Certainty


def test_entropy_is_0_where_all_is_sure_and_1_where_each_class_is_as_likely():
    sure = torch.zeros(1, 4, 2, 2)
    sure[:, 2] = 1
    assert torch.equal(pixel_entropy(sure), torch.zeros(1, 2, 2))
    torch.testing.assert_close(pixel_entropy(torch.full((1, 4, 2, 2), 0.25)), torch.ones(1, 2, 2))


def test_entropy_of_one_class_alone_is_refused():
    with pytest.raises(ValueError, match="needs the background beside"):
        pixel_entropy(torch.ones(1, 1, 2, 2))


def test_a_slice_is_as_uncertain_as_the_pixels_that_matter_whatever_the_size_of_the_rest():
    entropy = torch.zeros(3, 40, 50)
    foreground = torch.zeros(3, 40, 50, dtype=torch.bool)
    foreground[0, :10, :20] = True  # an organ: half of it is doubtful
    entropy[0, :5, :20] = 0.8
    entropy[1, :10, :20] = 0.4  # background that may be an organ
    entropy[2, 0, 0] = 1.0  # a stray pixel

    (means,) = slice_means(entropy, foreground)

    torch.testing.assert_close(means, torch.tensor([0.4, 0.4, 1 / (LEAST_SHARE * 2000)]))


def test_a_slice_is_0_where_all_is_sure_background_and_1_where_all_is_open():
    nothing = torch.zeros(1, 30, 30)
    (sure,) = slice_means(nothing, nothing > 0)
    (open_,) = slice_means(nothing + 1, nothing > 0)
    assert (float(sure), float(open_)) == (0.0, 1.0)


def test_a_slice_of_even_logits_is_wholly_uncertain(rng):
    (found,) = predicted(predictor(lambda x: x.repeat(1, 3, 1, 1)), volume(rng, 1))
    assert found.uncertainty == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(found.entropy, 1.0, atol=1e-5)


def test_networks_that_are_sure_and_differ_disagree_and_equal_ones_do_not(rng):
    def sure_of(index):
        def network(x):
            logits = torch.zeros(len(x), 2, *x.shape[2:])
            logits[:, index] = 50
            return logits

        return Member(network, AS_STORED)

    def doubts(*indices):
        of = Predictor([sure_of(i) for i in indices], [1], device="cpu", precision="float32")
        (found,) = predicted(of, volume(rng, 1))
        return found.uncertainty, found.disagreement

    assert doubts(1) == (pytest.approx(0), None)
    assert doubts(1, 1) == (pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1e-6))
    assert doubts(0, 1) == (pytest.approx(1), pytest.approx(1))


def test_networks_predict_together_by_the_mean_of_their_probabilities_each_in_its_own_view(rng):
    pixels = volume(rng, 3)
    views = [AS_STORED, View(1.5, (SIDE, SIDE), context=1)]
    networks = [by_pixel, lambda x: by_pixel(x[:, 1:2])]
    options = {"device": "cpu", "precision": "float32"}
    members = [Member(n, v, t) for n, v, t in zip(networks, views, (None, 2.0), strict=True)]

    together = predicted(Predictor(members, [1, 2], **options), pixels)

    alone = [predicted(Predictor([one], [1, 2], **options), pixels) for one in members]
    for found, *others in zip(together, *alone, strict=True):
        mean = np.mean([one.probabilities for one in others], axis=0)
        np.testing.assert_allclose(found.probabilities, mean, atol=1e-6)


def test_a_temperature_divides_the_logits(rng):
    pixels = volume(rng, 1, (1, SIDE, SIDE))
    (found,) = predicted(predictor(temperature=2.5), pixels)
    wanted = (by_pixel(scaled(pixels)) / 2.5).softmax(1)[0]
    np.testing.assert_allclose(found.probabilities, wanted, atol=1e-5)


class LabelledSlice(NamedTuple):
    image: np.ndarray
    target: np.ndarray


def test_a_network_that_is_too_sure_is_calibrated_by_labelled_slices(rng):
    slices = []
    for shape in ((40, 70), (20, 27), (30, 30), (64, 64)):
        image = (3 * rng.standard_normal((1, *shape))).astype(np.float32)
        chances = (by_pixel(torch.from_numpy(image)[None]) / 4).softmax(1)[0].numpy()
        draws = rng.random(shape)
        target = (draws > chances[0]).astype(np.int16) + (draws > chances[:2].sum(0))
        target[:3] = -1
        slices.append(LabelledSlice(image, target.astype(np.int16)))
    of = predictor()

    found = of.calibration_of(of.members[0], slices)

    assert found.temperature == pytest.approx(4, rel=0.1)
    assert found.slices == 4


# Volumes


@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("spacing", [(0.7, 0.7), (3.1, 0.6)])
@pytest.mark.parametrize("shape", [(1, 21, 33), (2, 97, 5), (1, 1, 60)])
def test_what_comes_back_has_the_stored_shape(rng, shape, spacing, context):
    view = View(1.3, (SIDE, SIDE), context=context, channels=shape[0])
    made = predicted(predictor(view=view, tta="full", batch=2), volume(rng, 3, shape), spacing)

    assert [one.position for one in made] == [0, 1, 2]
    for one in made:
        assert one.labels.shape == one.entropy.shape == shape[1:]
        assert one.probabilities.shape == (3, *shape[1:])
        np.testing.assert_allclose(one.probabilities.sum(0), 1.0, atol=1e-5)


def test_labels_are_the_values_of_the_most_probable_classes(rng):
    pixels = volume(rng, 2, (1, SIDE, SIDE))
    for one in predicted(predictor(), pixels):
        assert one.labels.dtype == np.uint16
        wanted = np.array([0, 7, 300])[one.probabilities.argmax(0)]
        np.testing.assert_array_equal(one.labels, wanted)
    assert predicted(predictor(classes=[1, 2]), pixels)[0].labels.dtype == np.uint8


@pytest.mark.parametrize("batch", [1, 2, 3, 16])
def test_neighbours_are_the_same_whatever_the_batch(rng, batch):
    pixels = volume(rng, 7, (1, SIDE, SIDE))
    view = View(None, (SIDE, SIDE), context=2)

    def far_apart(x):
        return torch.cat([x[:, :1], x[:, 4:]], 1)

    made = predicted(predictor(far_apart, view, [1], batch=batch), pixels)

    z = scaled(pixels)
    for at, one in enumerate(made):
        logits = torch.cat([z[max(at - 2, 0)], z[min(at + 2, 6)]])
        np.testing.assert_allclose(one.probabilities, logits.softmax(0), atol=1e-5)


class Crowded:
    """A device that holds so many slices at once."""

    def __init__(self, most, refusal):
        self.most, self.refusal, self.seen = most, refusal, []

    def __call__(self, x):
        self.seen.append(len(x))
        if len(x) > self.most:
            raise self.refusal
        return by_pixel(x)


@pytest.mark.parametrize(
    "refusal",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    ],
)
def test_a_batch_that_finds_no_room_is_halved_and_no_slice_is_lost(rng, refusal):
    network = Crowded(2, refusal)
    pixels = volume(rng, 9)
    of = predictor(network, batch=8)

    made = predicted(of, pixels)

    assert network.seen == [8, 4, 2, 2, 2, 2, 1]
    assert of.batch == 2
    plain = predicted(predictor(), pixels)
    for one, other in zip(made, plain, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)


def test_no_room_for_one_slice_and_any_other_failure_are_told_apart(rng):
    with pytest.raises(UserError, match="no room for one slice of 20 x 27 pixels: close other"):
        predicted(predictor(Crowded(0, torch.OutOfMemoryError("no"))), volume(rng))
    with pytest.raises(RuntimeError, match="another thing"):
        predicted(predictor(Crowded(0, RuntimeError("another thing"))), volume(rng))


def test_only_a_batch_is_read_at_once(rng):
    most = []
    pixels = volume(rng, 40)

    def read(positions):
        most.append(len(positions))
        return pixels[list(positions)]

    of = predictor(view=View(None, (SIDE, SIDE), context=1), batch=4)
    for _ in of.volume(read, 40, (1, 20, 27), (1.0, 1.0)):
        pass
    assert max(most) == 5  # four, and one neighbour more: the others are held


def test_a_volume_of_other_channels_is_refused(rng):
    with pytest.raises(UserError, match="has 2 channels and the network takes images of 1"):
        predicted(predictor(), volume(rng, shape=(2, 20, 27)))


def test_no_network_is_refused():
    with pytest.raises(ValueError, match="no network was given"):
        Predictor([], [1], device="cpu")
