"""VM-UNet, VM-UNetV2 and the study's network against what their authors' code computes."""

from functools import cache

import pytest
import torch
from goldenweights import (
    assert_golden,
    facts,
    fill,
    golden_input,
    golden_names,
    golden_state,
    needs_golden,
    shapes,
)
from napari_activeft.models.scan_backends import available_scans, use_scan
from napari_activeft.models.vm_unet import vm_unet, vm_unet_default
from napari_activeft.models.vm_unet_conv import vm_unet_conv
from napari_activeft.models.vm_unet_v2 import vm_unet_v2

BUILDERS = {
    "vmunet_isic": lambda: vm_unet(as_published=True),
    "vmunet_synapse": lambda: vm_unet(classes=9, as_published=True),
    "vmunet_default": lambda: vm_unet_default(as_published=True),
    "vmunetv2": lambda: vm_unet_v2(as_published=True),
    "vmunetv2_nods_4class": lambda: vm_unet_v2(
        classes=4, deep_supervision=False, depths=(2, 2, 2, 2), as_published=True
    ),
    "seed_perfect_vmunet": lambda: vm_unet_conv(as_published=True),
}
WITH_NUMBERS = ["vmunet_isic", "vmunet_synapse", "vmunetv2", "seed_perfect_vmunet"]
FLOAT32_SCANS = [scan for scan in ("c", "torch") if available_scans()[scan] is None]

# Name of a stored tensor -> the module that makes it. Ours keep maps channels-last inside.

CHANNELS_LAST = {
    "vmunet": {"patch_embed": "vmunet.patch_embed"}
    | {"stage0_block0_op": "vmunet.layers.0.blocks.0.self_attention"}
    | {f"enc{i}": f"vmunet.layers.{i}" for i in range(4)}
    | {f"dec{i}_upsample": f"vmunet.layers_up.{i}.upsample" for i in range(1, 4)}
    | {f"dec{i}": f"vmunet.layers_up.{i}" for i in range(4)}
    | {"final_up": "vmunet.final_up"},
    "vmunetv2": {"encoder_f.0": "vmunet.patch_embed"}
    | {f"encoder_f.{i + 1}": f"vmunet.layers.{i}" for i in range(3)},
    "seed": {f"stage{i}_blocks": f"encoder.layers.{i}.blocks" for i in range(4)}
    | {f"encoder_outnorm.{i}": f"encoder.outnorm{i}" for i in range(4)},
}
CHANNELS_FIRST = {
    "vmunet": {"logits": "vmunet.final_conv"},
    "vmunetv2": {f"{part}_{i}": f"{part}_{i}" for part in ("ca", "sa", "sdi") for i in range(1, 5)}
    | {f"trans_{i}": f"Translayer_{i}" for i in range(1, 5)}
    | {f"seg_outs_{j}": f"seg_outs.{j}" for j in range(4)}
    | {f"deconv{j}": f"deconv{j}" for j in (2, 3, 4, 6)},
    "seed": {name: name for name in ("conv4", "conv3", "conv2", "conv1", "final")},
}


def family(name):
    return name.split("_")[0]


@cache
def state(name):
    return golden_state(shapes(name))


def golden_model(name, dtype=torch.float32):
    with torch.device("meta"):
        model = BUILDERS[name]()
    fill(model, state(name), dtype)
    return model


def tensors(model, x, name):
    """Run a model and return every tensor that the fixture stores, by its name there."""
    got, hooks = {}, []

    def keep(stored, channels_last):
        def hook(_module, _inputs, output):
            output = output[1] if isinstance(output, tuple) else output
            got[stored] = output.permute(0, 3, 1, 2) if channels_last else output

        return hook

    for table, last in ((CHANNELS_LAST, True), (CHANNELS_FIRST, False)):
        for stored, path in table[family(name)].items():
            hooks.append(model.get_submodule(path).register_forward_hook(keep(stored, last)))
    with torch.no_grad():
        got["output"] = model(x)
    for hook in hooks:
        hook.remove()
    if family(name) == "seed":
        with torch.no_grad():
            got["pooled"] = model.pooled(x)
    return got


def inputs(name):
    """The fixture's inputs by their name, the main one without."""
    shapes_of = {"": facts(name)["input"]["shape"]}
    shapes_of |= {key: extra["shape"] for key, extra in facts(name).get("extra_inputs", {}).items()}
    return {key: golden_input(shape) for key, shape in shapes_of.items()}


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs_golden(n)) for n in BUILDERS])
def test_names_and_shapes_of_the_weights_are_the_published_ones(name):
    with torch.device("meta"):
        model = BUILDERS[name]()

    assert {key: tuple(w.shape) for key, w in model.state_dict().items()} == shapes(name)
    assert sum(p.numel() for p in model.parameters()) == facts(name)["n_parameters"]


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs_golden(n)) for n in WITH_NUMBERS])
def test_float64_meets_every_stored_tensor(name):
    model = golden_model(name, torch.float64)
    for extra, x in inputs(name).items():
        with use_scan("torch"):
            assert_golden(name, tensors(model, x.double(), name), extra)


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        pytest.param("vmunet_isic", "rect", marks=needs_golden("vmunet_isic")),
        pytest.param("vmunet_isic", "grey", marks=needs_golden("vmunet_isic")),
        pytest.param("vmunetv2", "", marks=needs_golden("vmunetv2")),
        pytest.param("seed_perfect_vmunet", "", marks=needs_golden("seed_perfect_vmunet")),
        pytest.param("vmunet_isic", "", marks=[pytest.mark.slow, needs_golden("vmunet_isic")]),
        pytest.param(
            "vmunet_synapse", "", marks=[pytest.mark.slow, needs_golden("vmunet_synapse")]
        ),
    ],
)
def test_the_reference_scan_meets_every_stored_tensor_in_float64(name, extra):
    model = golden_model(name, torch.float64)
    with use_scan("reference"):
        assert_golden(name, tensors(model, inputs(name)[extra].double(), name), extra)


@pytest.mark.parametrize("scan", FLOAT32_SCANS)
@pytest.mark.parametrize("name", [pytest.param(n, marks=needs_golden(n)) for n in WITH_NUMBERS])
def test_float32_meets_every_stored_tensor(name, scan):
    model = golden_model(name)
    for extra, x in inputs(name).items():
        with use_scan(scan):
            assert_golden(name, tensors(model, x, name), extra)


@needs_golden("vmunetv2")
def test_every_fixture_of_these_networks_is_tested():
    names = {*golden_names("vmunet"), *golden_names("seed")}
    with_numbers = {
        *golden_names("vmunet", with_numbers=True),
        *golden_names("seed", with_numbers=True),
    }

    assert names == set(BUILDERS)
    assert with_numbers == set(WITH_NUMBERS)
