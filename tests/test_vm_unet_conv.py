"""The study's network: what the notebook did, and what is mended."""

import pytest
import torch
from napari_activeft.models.registry import build_model
from napari_activeft.models.vm_unet_conv import vm_unet_conv
from torch import nn


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("as_published", [False, True])
def test_only_the_published_form_has_biases_that_the_official_weights_lack(as_published):
    with torch.device("meta"):
        model = vm_unet_conv(as_published=as_published)
        official = build_model("vmamba_small_s2l15").state_dict()

    inside = {key for key in model.encoder.state_dict() if not key.startswith("outnorm")}
    extra = inside - {*official}

    assert len(extra) == (21 if as_published else 0)
    assert all(key.endswith("op.conv2d.bias") for key in extra)
    assert {*official} - inside == {f"classifier.{part}.{kind}"
                                    for part in ("norm", "head")
                                    for kind in ("weight", "bias")}  # fmt: skip


@torch.no_grad()
def test_the_decoder_concatenates_what_comes_up_before_the_skip():
    model, x = build_model("vm_unet_conv_nano", seed=0).eval(), images(1, 3, 64, 96)
    skips = [made.permute(0, 3, 1, 2) for made in model.encoder(x)]

    y = skips[3]
    for i, skip in zip((4, 3, 2), skips[2::-1], strict=True):
        up, conv = model.get_submodule(f"up{i}"), model.get_submodule(f"conv{i}")
        y = conv(torch.cat([up(y), skip], dim=1))
    y = model.final(model.conv1(model.up1(y)))

    assert y.shape == (1, 4, 32, 48)
    resized = nn.functional.interpolate(y, (64, 96), mode="bilinear", align_corners=False)
    torch.testing.assert_close(model(x), resized)


@torch.no_grad()
def test_one_class_stays_a_logit_in_the_published_form():
    torch.manual_seed(0)
    model, x = vm_unet_conv(classes=1, as_published=True).eval(), images(1, 3, 32, 32)

    assert torch.equal(model(x), model.forward_deep(x)[0])


@torch.no_grad()
def test_the_pooled_vector_is_the_mean_of_the_normed_last_map_for_any_size_and_for_grey():
    model, x = build_model("vm_unet_conv_nano", seed=0).eval(), images(2, 1, 50, 33)

    pooled = model.pooled(x)

    last = model.encoder(x.repeat(1, 3, 1, 1))[-1]
    assert pooled.shape == (2, 192)
    torch.testing.assert_close(pooled, last.flatten(1, 2).mean(1))
