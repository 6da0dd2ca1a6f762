"""What every VMamba must do, on sizes that are quick; its numbers are in test_golden_vmamba.py."""

from __future__ import annotations

import pytest
import torch
from napari_activeft.models import scan_backends
from napari_activeft.models.backbone import adapt_stem, drop_path_rates
from napari_activeft.models.layers import DropPath, PatchMerging
from napari_activeft.models.registry import MODELS, UnknownModelError, build_model
from napari_activeft.models.scan_backends import available_scans
from napari_activeft.models.ss2d_layer import SS2D
from napari_activeft.models.vmamba import Size, build_vmamba, build_vmamba_v0
from napari_activeft.models.vss_block import GatedVSSBlock, VSSBlock
from torch import nn
from torch.export import Dim
from torch.nn import functional as F

SMALL = Size((1, 1, 2, 1), 16, 0.2, 1.0)
BUILDERS = {"second": build_vmamba, "first": build_vmamba_v0}


@pytest.fixture(params=BUILDERS)
def build(request):
    torch.manual_seed(0)
    return lambda **how: BUILDERS[request.param](SMALL, **how).eval()


@pytest.mark.parametrize("sides", [(64, 64), (37, 101), (32, 75), (224, 33)])
@pytest.mark.parametrize("channels", [1, 3, 4, 16])
def test_any_size_and_any_channels_give_logits_and_four_maps(build, sides, channels):
    model = build(channels=channels, classes=7)
    x = torch.randn(2, channels, *sides)

    with torch.inference_mode():
        features, logits = model.forward_features(x), model(x)

    assert logits.shape == (2, 7)
    assert features.pooled.shape == (2, 128)
    assert [made.shape[:2] for made in features.maps] == [(2, 16), (2, 32), (2, 64), (2, 128)]
    rounded = (
        (lambda side, step: -(-side // step))
        if hasattr(model, "classifier")
        else (lambda side, step: side // step)
    )
    for i, made in enumerate(features.maps):
        assert made.shape[2:] == tuple(rounded(side, 4 * 2**i) for side in sides)
    assert bool(logits.isfinite().all())


def test_a_single_pixel_is_enough_for_the_second_generation():
    model = build_vmamba(SMALL, classes=2).eval()

    assert model(torch.randn(1, 3, 1, 1)).shape == (1, 2)


@pytest.mark.parametrize("sides", [(1, 1), (3, 5), (31, 31), (15, 55), (40, 2)])
def test_an_image_too_small_for_the_first_generation_is_continued_at_its_edge(sides):
    model, x = build_vmamba_v0(SMALL, classes=2).eval(), torch.randn(2, 3, *sides)
    rows, columns = (torch.arange(max(side, 32)).clamp(max=side - 1) for side in sides)

    with torch.inference_mode():
        assert torch.equal(model(x), model(x[:, :, rows][..., columns]))
        assert all(min(made.shape[2:]) >= 1 for made in model.forward_features(x).maps)


def test_a_map_too_small_to_merge_is_a_sentence():
    with pytest.raises(ValueError, match="at least 2 x 2, got 1 x 6: give the network a larger"):
        PatchMerging(4)(torch.randn(1, 1, 6, 4))


def test_an_image_without_pixels_is_a_sentence(build):
    with pytest.raises(ValueError, match=r"\(1, 3, 0, 10\), but an image needs at least one pixel"):
        build()(torch.randn(1, 3, 0, 10))


def test_an_empty_batch_gives_no_logits_and_gradients_of_zero(build):
    model = build(classes=5).train()

    logits = model(torch.randn(0, 3, 64, 64))
    logits.sum().backward()

    assert logits.shape == (0, 5)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_a_batch_gives_what_single_images_give(build):
    model, x = build(classes=5), torch.randn(3, 3, 45, 70)

    with torch.inference_mode():
        together = model(x)
        single = torch.cat([model(image[None]) for image in x])

    assert torch.allclose(together, single, atol=1e-5)


def test_gradients_reach_every_parameter(build):
    model = build(classes=5).train()

    model(torch.randn(2, 3, 64, 64)).square().sum().backward()

    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert float(parameter.grad.abs().max()) > 0, name


def test_the_pooled_vector_is_the_mean_of_the_normed_last_map(build):
    model = build(classes=5)
    norm = model.classifier.norm if hasattr(model, "classifier") else model.norm
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)

    with torch.inference_mode():
        features = model.forward_features(torch.randn(2, 3, 64, 96))
        last = features.maps[-1].permute(0, 2, 3, 1)
        normed = F.layer_norm(last, last.shape[-1:], norm.weight, norm.bias, 1e-5)

    assert torch.allclose(features.pooled, normed.mean(dim=(1, 2)), atol=1e-5)


def test_maps_are_those_before_the_reduction(build):
    model, x = build(), torch.randn(1, 3, 64, 64)

    with torch.inference_mode():
        embedded = model.patch_embed(x)
        first = model.layers[0].blocks(embedded)
        maps = model.forward_features(x).maps

    assert torch.equal(maps[0], first.permute(0, 3, 1, 2))


def test_the_scan_asked_for_is_handed_to_every_layer(build):
    model = build(scan="reference")

    assert {part.scan for part in model.modules() if isinstance(part, SS2D)} == {"reference"}


def test_a_wrong_number_of_channels_is_a_sentence(build):
    with pytest.raises(ValueError, match=r"\(2, 1, 64, 64\), but it needs \(batch, 3, height"):
        build()(torch.randn(2, 1, 64, 64))


@pytest.mark.parametrize("scan", ["torch", "c"])
def test_mixed_precision_gives_nearly_what_float32_gives(build, scan):
    if available_scans()[scan] is not None:
        pytest.skip(f"the scan {scan} is not available here: {available_scans()[scan]}")
    model, x = build(scan=scan), torch.randn(2, 3, 64, 64)

    wide = model.forward_features(x).pooled
    with torch.autocast("cpu", torch.bfloat16):
        narrow = model.forward_features(x).pooled.float()
        narrow.square().sum().backward()

    assert float((narrow - wide).detach().norm() / wide.detach().norm()) < 0.05
    grads = [p.grad for n, p in model.named_parameters() if "head" not in n]
    assert all(bool(grad.isfinite().all()) for grad in grads)


# -- by name -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "least", "most"), [("nano", 0.9e6, 1.2e6), ("micro", 4.5e6, 5.5e6)]
)
def test_our_own_sizes_have_the_parameters_they_promise(name, least, most):
    model = build_model(f"vmamba_{name}", seed=0)

    assert least < sum(p.numel() for p in model.parameters()) < most


def test_a_seed_gives_the_same_weights_and_leaves_the_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, same, other = (build_model("vmamba_nano", seed=seed) for seed in (1, 1, 2))

    assert torch.equal(torch.get_rng_state(), before)
    held, again = one.state_dict(), same.state_dict()
    assert all(torch.equal(held[key], again[key]) for key in held)
    assert not torch.equal(held["patch_embed.0.weight"], other.patch_embed[0].weight)


def test_an_unknown_name_lists_near_ones():
    with pytest.raises(UnknownModelError, match=r"is called 'vmamba_smal': take one of .*small"):
        build_model("vmamba_smal")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"channels": 0}, "0 input channels were asked of vmamba_nano, but a model takes 1 to 16"),
        ({"channels": 17}, "17 input channels"),
        ({"classes": 0}, "0 classes were asked of vmamba_nano"),
    ],
)
def test_channels_and_classes_out_of_range_are_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        build_model("vmamba_nano", **wrong)


@pytest.mark.parametrize("name", ["vm_unet_nano", "vm_unet_v2_nano", "vm_unet_conv_nano"])
def test_a_segmentation_network_takes_an_empty_batch_and_refuses_an_empty_image(name):
    model = build_model(name, classes=2, seed=0).eval()

    assert model(torch.randn(0, 3, 40, 64)).shape == (0, 2, 40, 64)
    with pytest.raises(ValueError, match="an image needs at least one pixel"):
        model(torch.randn(1, 1, 0, 64))


@pytest.mark.parametrize("name", ["vmamba_nano", "vm_unet_nano"])
def test_an_unknown_scan_is_refused_when_the_model_is_built(name):
    with pytest.raises(ValueError, match="asks for the scan 'warp': choose one of reference"):
        build_model(name, scan="warp")


def test_a_scan_that_is_not_there_may_be_named_when_a_model_is_built(monkeypatch):
    monkeypatch.setattr(scan_backends, "_why_unavailable", lambda name: "gone")

    model = build_model("vmamba_nano", scan="mamba_ssm")

    assert {part.scan for part in model.modules() if isinstance(part, SS2D)} == {"mamba_ssm"}


def test_every_card_stands_under_its_name():
    for name, card in MODELS.items():
        assert card.name == name
        assert card.kind in ("encoder", "segmenter")
        assert card.summary


# -- parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", range(1, 17))
def test_an_adapted_stem_answers_a_grey_image_as_before(channels):
    torch.manual_seed(channels)
    weight, grey = torch.randn(6, 3, 3, 3).double(), torch.randn(2, 1, 9, 9).double()

    adapted = adapt_stem(weight, channels)

    wanted = F.conv2d(grey.expand(-1, 3, -1, -1), weight)
    got = F.conv2d(grey.expand(-1, channels, -1, -1), adapted)
    assert torch.allclose(got, wanted, atol=1e-12)


def test_kernels_follow_in_turn_where_there_are_more_channels():
    weight = torch.randn(6, 3, 3, 3)

    adapted = adapt_stem(weight, 4)

    assert torch.equal(adapt_stem(weight, 3), weight)
    assert torch.equal(adapted[:, 1:3], weight[:, 1:3])
    assert torch.equal(adapted[:, 0], weight[:, 0] / 2)
    assert torch.equal(adapted[:, 3], weight[:, 0] / 2)


def test_the_four_pixels_of_a_block_are_joined_column_by_column():
    merging = PatchMerging(1)
    merging.norm, merging.reduction = nn.Identity(), nn.Identity()
    block = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 2, 2, 1)

    assert merging(block).flatten().tolist() == [1, 3, 2, 4]


@pytest.mark.parametrize(("odd", "sides"), [("crop", (2, 3)), ("pad", (3, 4))])
def test_odd_maps_are_cropped_or_padded_before_merging(odd, sides):
    merging = PatchMerging(4, odd)
    x = torch.randn(1, 5, 7, 4)

    merged = merging(x)

    assert merged.shape == (1, *sides, 8)
    assert torch.equal(merged[:, :2, :3], PatchMerging.forward(merging, x[:, :4, :6]))


def test_drop_path_leaves_out_whole_samples_and_keeps_the_mean():
    drop, x = DropPath(0.5), torch.ones(4000, 2, 2)
    torch.manual_seed(0)

    dropped = drop(x)

    assert set(dropped[:, 0, 0].tolist()) == {0.0, 2.0}
    assert torch.equal(dropped[:, 0, 0], dropped[:, 1, 1])
    assert float(dropped.mean()) == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(x), x)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_drop_path_rate_out_of_range_is_refused(rate):
    with pytest.raises(ValueError, match="take one from 0 to below 1"):
        DropPath(rate)


def test_drop_path_rates_rise_evenly_over_all_blocks():
    rates = drop_path_rates((1, 2), 0.4)

    assert rates == [[0.0], [pytest.approx(0.2), pytest.approx(0.4)]]
    assert drop_path_rates((1,), 0.3) == [[0.0]]


@pytest.mark.parametrize("block", [VSSBlock, GatedVSSBlock])
def test_a_block_whose_branches_are_dropped_hands_its_input_on(block):
    made, x = block(16, drop_path=0.999999), torch.randn(1, 5, 6, 16)

    assert torch.equal(made(x), x)
    assert not torch.equal(made.eval()(x), x)


def test_step_sizes_decays_and_skips_start_as_published():
    torch.manual_seed(0)
    layer = SS2D(64, state=4).requires_grad_(False)

    steps = F.softplus(layer.dt_projs_bias)

    assert 1e-3 <= float(steps.min()) < 2e-3
    assert 5e-2 < float(steps.max()) <= 0.1 + 1e-6
    assert layer.A_logs.exp()[5].tolist() == pytest.approx([1, 2, 3, 4])
    assert bool((layer.Ds == 1).all())
    assert float(layer.dt_projs_weight.abs().max()) <= 0.5  # rank 4
    assert float(layer.in_proj.weight.std()) == pytest.approx(0.02, rel=0.05)


def test_export_traces_an_encoder_to_one_graph():
    model = build_vmamba(SMALL, classes=3, scan="torch").eval()
    x = torch.randn(1, 3, 64, 64)

    exported = torch.export.export(model, (x,))

    assert torch.allclose(exported.module()(x), model(x), atol=1e-6)


@pytest.mark.parametrize("scan", ["torch", "c"])
@pytest.mark.parametrize("free", [{0: "b"}, {0: "b", 2: "h", 3: "w"}])
def test_one_exported_graph_takes_batches_and_images_of_any_size(scan, free):
    if available_scans()[scan] is not None:
        pytest.skip(f"the scan {scan} is not available here: {available_scans()[scan]}")
    model = build_model("vmamba_nano", classes=3, scan=scan, seed=0).eval()
    sides = {axis: Dim(name, min=1 if axis == 0 else 33) for axis, name in free.items()}

    exported = torch.export.export(model, (torch.randn(2, 3, 64, 96),), dynamic_shapes=(sides,))

    for shape in ((3, 3, 64, 96), (5, 3, 33, 161)):
        x = torch.randn([side if i in free else (2, 3, 64, 96)[i] for i, side in enumerate(shape)])
        with torch.no_grad():
            assert torch.allclose(exported.module()(x), model(x), atol=1e-5)
