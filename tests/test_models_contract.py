"""What every segmentation network of the registry promises."""

import copy
import itertools

import pytest
import torch
from napari_activeft.models.layers import DropPath
from napari_activeft.models.registry import MODELS, build_model
from napari_activeft.models.segmenter import Segmenter

SEGMENTERS = [name for name, card in MODELS.items() if card.kind == "segmenter"]
SIZES = [(64, 64), (65, 47), (33, 97), (1, 1)]
CLASSES = 4
# All pairs for the smallest; the others meet 3 channels and 4 classes in every other test.
SHAPES = [
    (name, channels, classes)
    for name in SEGMENTERS
    for channels, classes in itertools.product((1, 3, 4), (1, 2, 4))
    if name.endswith("nano") or (channels, classes) in ((1, 1), (4, 2))
]
# Two ways of computing the same in float32: matrix products of other sizes are summed otherwise.
CLOSE = {"rtol": 1e-3, "atol": 1e-4}


def images(b=2, channels=3, h=64, w=64, seed=0):
    return torch.randn(b, channels, h, w, generator=torch.Generator().manual_seed(seed))


def loss_of(maps):
    """A loss that pulls every logit another way."""
    return sum((part * images(*part.shape, seed=1)).sum() for part in maps)


@pytest.fixture(scope="module", params=SEGMENTERS)
def model(request):
    return build_model(request.param, classes=CLASSES, seed=0).eval()


def test_the_registry_holds_every_network_in_its_sizes():
    sizes = {f"{name}{size}" for name in ("vm_unet", "vm_unet_v2", "vm_unet_conv", "vm_unet_detail")
             for size in ("", "_micro", "_nano")}  # fmt: skip

    assert sizes | {"vm_unet_s1", "vm_unet_default"} == set(SEGMENTERS)


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_logits_have_the_size_of_the_image_and_are_finite(model, size):
    logits = model(images(1, 3, *size))

    assert logits.shape == (1, CLASSES, *size)
    assert torch.isfinite(logits).all()


@torch.no_grad()
def test_deep_logits_halve_from_map_to_map_and_begin_with_the_full_size(model):
    x = images(1, 3, 65, 47)

    full, *sides = model.forward_deep(x)

    assert torch.equal(full, model(x))
    assert len(sides) == (3 if model.deep_supervision else 0)
    target = torch.zeros(1, 65, 47)
    for i, side in enumerate(sides, start=1):
        assert side.shape == (1, CLASSES, *target[..., :: 2**i, :: 2**i].shape[1:])


def test_gradients_reach_every_parameter_that_is_meant_to_learn(model):
    learner = copy.deepcopy(model)

    loss_of(learner.forward_deep(images())).backward()

    for name, parameter in learner.named_parameters():
        if learner.is_unused(name):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().max() > 0, name


@torch.no_grad()
def test_a_state_dict_makes_the_same_network_of_another(model, request):
    with torch.device("meta"):
        other = MODELS[request.node.callspec.params["model"]].build(classes=CLASSES)
    state = {key: weight.clone() for key, weight in model.state_dict().items()}

    other.load_state_dict(state, strict=True, assign=True)

    assert torch.equal(other.eval()(images(1)), model(images(1)))


@torch.no_grad()
def test_an_image_in_a_batch_gives_what_it_gives_alone(model):
    x = images(3)

    alone = torch.cat([model(x[i : i + 1]) for i in range(3)])

    torch.testing.assert_close(model(x), alone, **CLOSE)


@torch.no_grad()
def test_an_odd_size_gives_what_the_padded_image_gives_cropped(model):
    x = images(1, 3, 33, 50)
    padded = torch.nn.functional.pad(x, (0, 14, 0, 31), mode="replicate")

    assert torch.equal(model(x), model(padded)[:, :, :33, :50])


@torch.no_grad()
def test_grey_images_count_as_three_equal_channels(model):
    grey = images(1, 1)

    assert torch.equal(model(grey), model(grey.repeat(1, 3, 1, 1)))


def test_images_of_other_channels_are_refused_in_a_sentence(model):
    with pytest.raises(ValueError, match=r"\(1, 2, 64, 64\).*3.*build it with another number"):
        model(images(1, 2))


@pytest.mark.parametrize(("name", "channels", "classes"), SHAPES)
@torch.no_grad()
def test_channels_and_classes_are_free(name, channels, classes):
    model = build_model(name, channels=channels, classes=classes, seed=0).eval()

    logits = model(images(2, channels, 32, 33))

    assert logits.shape == (2, classes, 32, 33)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_seed_makes_the_same_weights_again_and_leaves_the_generator_alone(name):
    before = torch.random.get_rng_state()

    first, again = (build_model(name, seed=3).state_dict() for _ in range(2))

    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_another_seed_makes_other_weights():
    first, other = (build_model("vm_unet_nano", seed=seed).state_dict() for seed in (3, 4))

    assert not torch.equal(*(s["vmunet.patch_embed.proj.weight"] for s in (first, other)))


@torch.no_grad()
def test_training_leaves_paths_out_where_the_network_has_a_rate_and_evaluation_never(model):
    learner = copy.deepcopy(model).train()
    rates = [part.rate for part in learner.modules() if isinstance(part, DropPath)]
    x = images(8, h=32, w=32)
    torch.manual_seed(0)

    first, again = learner.forward_deep(x), learner.forward_deep(x)

    assert all(torch.isfinite(part).all() for part in first)
    assert torch.equal(first[0], again[0]) == (max(rates) == 0)
    assert torch.equal(learner.eval()(x), learner(x))


def test_every_network_is_a_segmenter_of_a_stated_number_of_classes(model):
    assert isinstance(model, Segmenter)
    assert (model.channels, model.classes, model.as_published) == (3, CLASSES, False)
