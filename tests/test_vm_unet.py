"""VM-UNet and what the segmentation networks are made of."""

import pytest
import torch
from napari_activeft.models.patch_expand import PatchExpand
from napari_activeft.models.registry import build_model
from napari_activeft.models.segmenter import pad_to_stride
from napari_activeft.models.vm_unet import vm_unet
from torch import nn

SMALL = {"widths": (16, 32, 64, 128), "state": 2}


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def small(**options):
    torch.manual_seed(0)
    return vm_unet(**SMALL, **options).eval()


@pytest.mark.parametrize("factor", [2, 4])
def test_patch_expanding_spreads_a_pixels_channels_row_by_row_over_its_block(factor):
    layer = PatchExpand(6, 3, factor)
    layer.norm = nn.Identity()
    x = images(2, 4, 5, 6)

    y = layer(x)

    assert y.shape == (2, 4 * factor, 5 * factor, 3)
    spread = layer.expand(x)
    for i, j in [(0, 0), (0, 1), (1, 0), (factor - 1, factor - 1)]:
        first = 3 * (factor * i + j)
        assert torch.equal(y[:, i::factor, j::factor], spread[..., first : first + 3])


def test_padding_repeats_the_last_row_and_column_and_leaves_a_size_that_fits():
    x = images(1, 2, 33, 64)

    padded = pad_to_stride(x)

    assert padded.shape == (1, 2, 64, 64)
    assert torch.equal(padded[:, :, :33], x)
    assert torch.equal(padded[:, :, 33:], x[:, :, -1:].expand(-1, -1, 31, -1))
    assert pad_to_stride(padded) is padded


@torch.no_grad()
def test_the_published_form_gives_probabilities_for_one_class_and_logits_for_more():
    x = images(1, 3, 64, 32)
    for classes in (1, 3):
        ours, published = small(classes=classes), small(classes=classes, as_published=True)

        (logits,) = published.forward_deep(x)

        assert torch.equal(ours(x), logits)
        assert torch.equal(published(x), logits.sigmoid() if classes == 1 else logits)


@torch.no_grad()
def test_skips_are_the_inputs_of_stages_and_the_first_one_is_not_used():
    unet, x = small().vmunet, images(1, 3, 64, 64)
    stem, *skips = unet.stage_inputs(x)

    deepest, _ = unet.layers[3](skips[2])
    y = unet.layers_up[0](deepest)
    for layer, skip in zip(unet.layers_up[1:], (skips[2], skips[1], skips[0]), strict=True):
        y = layer.blocks(layer.upsample(y + skip))

    assert stem.shape == (1, 16, 16, 16)
    assert torch.equal(unet.final_conv(unet.final_up(y).permute(0, 3, 1, 2)), unet(x))


def test_drop_path_rises_through_the_encoder_and_falls_through_the_decoder():
    unet = small(drop_path=0.3).vmunet
    down = [block.drop_path.rate for stage in unet.layers for block in stage.blocks]
    up = [block.drop_path.rate for stage in unet.layers_up for block in stage.blocks]

    assert down == pytest.approx([0.3 * i / 7 for i in range(8)])
    assert up == pytest.approx([0.3 * i / 6 for i in range(7)][::-1])


@pytest.mark.parametrize("name", ["vm_unet", "vm_unet_v2", "vm_unet_conv"])
def test_our_sizes_hold_about_one_and_five_million_parameters(name):
    for size, millions in (("nano", 1), ("micro", 5)):
        with torch.device("meta"):
            model = build_model(f"{name}_{size}")

        count = sum(parameter.numel() for parameter in model.parameters())
        assert 0.8 * millions < count / 1e6 < 1.2 * millions
        assert not model.unused_parameters


def test_the_network_on_vmamba_s_holds_56_million_parameters():
    with torch.device("meta"):
        model = build_model("vm_unet_s1")

    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6) == 56


@pytest.mark.parametrize("name", ["vm_unet_nano", "vm_unet_v2_nano", "vm_unet_conv_nano"])
@torch.no_grad()
def test_the_networks_can_be_exported(name):
    model, x = build_model(name, classes=2, seed=0).eval(), images(1, 3, 40, 64)

    exported = torch.export.export(model, (x,)).module()

    torch.testing.assert_close(exported(x), model(x))
