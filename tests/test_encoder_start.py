"""Segmentation networks start from the weights of a pre-trained VMamba, strictly."""

import pytest
import torch
from napari_activeft.models.checkpoints import CheckpointError, MisfitError, save_safetensors
from napari_activeft.models.encoder_start import load_encoder
from napari_activeft.models.registry import build_model
from napari_activeft.models.vm_unet import vm_unet
from napari_activeft.models.vm_unet_conv import vm_unet_conv
from napari_activeft.models.weight_names import to_current_names

FIRST, SECOND = "vmamba_v0_small", "vmamba_small_s2l15"
COUNTS = {
    # network: (encoder, weights taken, weights mirrored in the decoder)
    "vm_unet": (FIRST, 117, 91),
    "vm_unet_default": (FIRST, 208, 195),
    "vm_unet_v2": (FIRST, 208, 0),
    "vm_unet_conv": (SECOND, 400, 0),
    "vm_unet_s1": (SECOND, 400, 108),
    "vm_unet_conv_nano": ("vmamba_nano", 112, 0),
    "vm_unet_conv_micro": ("vmamba_micro", 238, 0),
}


def weights_of(encoder):
    """Every weight of an encoder, each filled with a number of its own; takes no memory."""
    with torch.device("meta"):
        shapes = {key: w.shape for key, w in build_model(encoder).state_dict().items()}
    return {
        key: torch.tensor(i + 2.0).expand(shape) for i, (key, shape) in enumerate(shapes.items())
    }


def snapshot(model):
    return {key: weight.clone() for key, weight in model.state_dict().items()}


@pytest.mark.parametrize("name", COUNTS)
def test_every_weight_of_the_encoder_comes_from_the_file(name):
    encoder, taken, mirrored = COUNTS[name]
    file, model = weights_of(encoder), build_model(name)
    before = snapshot(model)

    start = load_encoder(model, file)

    after = model.state_dict()
    assert (len(start.taken), len(start.mirrored)) == (taken, mirrored)
    for key in start.taken:
        inner = key.split(".", 1)[1].replace("outnorm3.", "classifier.norm.")
        assert torch.equal(after[key], file[inner]), key
    for key in start.fresh:
        assert torch.equal(after[key], before[key]), key
    assert {*start.taken, *start.mirrored, *start.fresh} == set(after)
    assert not any("patch_embed" in key or ".layers." in key for key in start.fresh)


@pytest.mark.parametrize("name", ["vm_unet", "vm_unet_s1"])
def test_the_decoder_starts_from_the_encoder_stage_of_its_width(name):
    file, model = weights_of(COUNTS[name][0]), build_model(name)
    stages = 4 if name == "vm_unet" else 3

    start = load_encoder(model, file)

    for key in start.mirrored:
        number, _, rest = key.split("layers_up.")[1].partition(".")
        origin = f"layers.{stages - 1 - int(number)}.{rest}"
        assert torch.equal(model.state_dict()[key], file[origin]), key
    assert not any(".blocks." in key for key in start.fresh)


def test_the_pooled_vector_of_a_started_network_is_that_of_the_encoder():
    encoder = build_model("vmamba_nano", seed=1).eval()
    torch.nn.init.normal_(
        encoder.classifier.norm.weight, generator=torch.Generator().manual_seed(2)
    )
    model = build_model("vm_unet_conv_nano", seed=3).eval()
    x = torch.randn(2, 3, 50, 40, generator=torch.Generator().manual_seed(0))

    load_encoder(model, encoder.state_dict())

    with torch.no_grad():
        torch.testing.assert_close(model.pooled(x), encoder.forward_features(x).pooled)


def test_the_published_form_keeps_the_notebooks_random_biases_and_untrained_norms():
    model = vm_unet_conv(as_published=True)

    start = load_encoder(model, weights_of(SECOND))

    assert sum(key.endswith("op.conv2d.bias") for key in start.fresh) == 21
    assert sum("outnorm" in key for key in start.fresh) == 8
    assert len(start.taken) == 398
    assert "classifier.norm.weight" in start.left_out


def test_a_segmentation_file_brings_its_output_norms():
    file = {key: w for key, w in weights_of(SECOND).items() if not key.startswith("classifier.")}
    file |= {f"outnorm{i}.{part}": torch.full((96 * 2**i,), 0.5 + i)
             for i in range(4) for part in ("weight", "bias")}  # fmt: skip
    model = vm_unet_conv()

    start = load_encoder(model, file)

    assert len(start.taken) == 406
    assert torch.equal(model.encoder.outnorm1.weight, file["outnorm1.weight"])


def test_a_grey_network_answers_grey_images_as_the_file_answers_three_equal_channels():
    file = build_model("vmamba_nano", seed=1).state_dict()
    grey, colour = (build_model("vm_unet_conv_nano", channels=k, seed=2).eval() for k in (1, 3))
    x = torch.randn(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))

    assert load_encoder(grey, {"model": file}).stem_adapted
    assert not load_encoder(colour, file).stem_adapted

    with torch.no_grad():
        torch.testing.assert_close(grey.pooled(x), colour.pooled(x), rtol=1e-4, atol=1e-5)


def test_an_encoder_that_was_trained_on_grey_starts_a_colour_network_with_their_mean():
    encoder = build_model("vmamba_nano", channels=1, seed=1).eval()
    model = build_model("vm_unet_conv_nano", seed=3).eval()
    x = torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))

    assert load_encoder(model, encoder.state_dict()).stem_adapted

    with torch.no_grad():
        grey = encoder.forward_features(x.mean(dim=1, keepdim=True)).pooled
        torch.testing.assert_close(model.pooled(x), grey, rtol=1e-4, atol=1e-5)


def test_files_and_the_other_forms_of_names_and_shapes_are_understood(tmp_path):
    file = weights_of(FIRST)
    other = to_current_names(file)
    other = {
        key: w[..., None, None] if key.endswith("in_proj.weight") else w for key, w in other.items()
    }
    first, second = vm_unet(), vm_unet()
    torch.save({"model": {key: w.clone() for key, w in file.items()}}, tmp_path / "official.pth")

    load_encoder(first, tmp_path / "official.pth")
    load_encoder(second, other)

    for key in load_encoder(second, other).taken:
        assert torch.equal(first.state_dict()[key], second.state_dict()[key])


def test_a_safetensors_file_starts_a_network(tmp_path):
    state = build_model("vmamba_nano", seed=1).state_dict()
    save_safetensors(state, tmp_path / "nano.safetensors")
    model = build_model("vm_unet_conv_nano")

    start = load_encoder(model, tmp_path / "nano.safetensors")

    assert len(start.taken) == COUNTS["vm_unet_conv_nano"][1]


def broken(fault):
    """Weights of the nano encoder with one fault."""
    state = dict(build_model("vmamba_nano", seed=0).state_dict())
    key = "layers.0.blocks.0.op.in_proj.weight"
    if fault == "missing":
        del state[key]
    elif fault == "shape":
        state[key] = torch.zeros(3, 5)
    elif fault == "unknown":
        state["layers.0.blocks.0.op.conv2d.bias"] = torch.zeros(24)
    elif fault == "whole numbers":
        state[key] = torch.ones(24, 24, dtype=torch.int8)
    elif fault == "deeper":
        state["layers.1.blocks.7.norm.weight"] = torch.zeros(48)
    return state


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("missing", r"1 weight that the encoder needs is missing \(layers.0.blocks.0.op.in_proj"),
        ("shape", r"1 is of another shape .*\(3, 5\) where \(24, 24\) is due"),
        ("whole numbers", r"1 is of another kind of numbers \(.*in_proj.weight is int8"),
        ("unknown", r"1 has no place in it \(layers.0.blocks.0.op.conv2d.bias"),
        ("deeper", r"1 has no place in it \(layers.1.blocks.7.norm.weight"),
    ],
)
def test_a_weight_that_does_not_fit_is_an_error_and_nothing_is_changed(fault, sentence):
    model = build_model("vm_unet_conv_nano", seed=5)
    before = snapshot(model)

    with pytest.raises(MisfitError, match=sentence):
        load_encoder(model, broken(fault))

    assert all(torch.equal(before[key], w) for key, w in model.state_dict().items())


@pytest.mark.parametrize(
    ("network", "encoder"),
    [("vm_unet", SECOND), ("vm_unet_conv", FIRST), ("vm_unet_s1", "vmamba_small_s1l20")],
)
def test_weights_of_another_encoder_are_refused_by_their_name(network, encoder):
    model = build_model(network)

    with pytest.raises(MisfitError, match=f"those of {encoder}"):
        load_encoder(model, weights_of(encoder))


def test_weights_by_name_are_checked_as_those_of_a_file_are():
    state = broken("none")
    state["layers.0.blocks.0.op.Ds"] = torch.full((96,), float("nan"))

    with pytest.raises(CheckpointError, match=r"not finite, in layers.0.blocks.0.op.Ds"):
        load_encoder(build_model("vm_unet_conv_nano"), state)


def test_an_encoder_in_place_of_a_network_is_refused():
    encoder = build_model("vmamba_nano")

    with pytest.raises(TypeError, match=r"a VMamba was given .* segmentation network"):
        load_encoder(encoder, encoder.state_dict())
