"""VM-UNetV2: attention, infusion, deep supervision for any number of classes and any shape."""

import pytest
import torch
import torch.nn.functional as F
from napari_activeft.models.cbam import ChannelAttention, SpatialAttention
from napari_activeft.models.gated_encoder import GatedEncoder
from napari_activeft.models.sdi import SDI, resize_to
from napari_activeft.models.vm_unet_v2 import VMUNetV2, enlarge, vm_unet_v2

WIDTHS = (16, 32, 64, 128)


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def small(classes=1, depths=(1, 1, 1, 1), **options):
    torch.manual_seed(0)
    encoder = GatedEncoder(3, WIDTHS, depths, state=2)
    return VMUNetV2(encoder, WIDTHS, 3, classes, mid_channels=8, **options).eval()


@torch.no_grad()
def test_channel_attention_sums_before_the_sigmoid():
    layer, x = ChannelAttention(32), images(2, 32, 5, 3)
    fc1, fc2 = layer.fc1.weight[..., 0, 0], layer.fc2.weight[..., 0, 0]

    mean, peak = (
        torch.relu(pooled @ fc1.T) @ fc2.T for pooled in (x.mean((2, 3)), x.flatten(2).max(2)[0])
    )

    torch.testing.assert_close(layer(x)[..., 0, 0], torch.sigmoid(mean + peak))


@torch.no_grad()
def test_spatial_attention_sees_the_mean_then_the_maximum_of_the_channels():
    layer, x = SpatialAttention(), images(2, 6, 5, 3)
    both = torch.stack([x.mean(1), x.max(1)[0]], dim=1)

    expected = torch.sigmoid(F.conv2d(both, layer.conv1.weight, padding=3))

    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(("h", "w"), [(8, 8), (8, 16), (16, 8)])
def test_maps_of_any_shape_come_to_the_anchors_size(h, w):
    anchor = images(1, 2, h, w)
    larger, smaller = images(1, 2, 2 * h, 2 * w), images(1, 2, h // 4, w // 4)

    assert resize_to(anchor, anchor) is anchor
    torch.testing.assert_close(resize_to(larger, anchor), F.avg_pool2d(larger, 2))
    up = resize_to(smaller, anchor)
    assert up.shape == anchor.shape
    assert torch.equal(up[..., 0, 0], smaller[..., 0, 0])
    torch.testing.assert_close(up[..., -1, -1], smaller[..., -1, -1])


@torch.no_grad()
def test_infusion_multiplies_every_map_with_every_other():
    layer, x = SDI(3, scales=2), images(2, 3, 8, 4)
    small_one = images(2, 3, 4, 2)

    fused = layer([x, small_one], anchor=x)

    up = F.interpolate(small_one, (8, 4), mode="bilinear", align_corners=True)
    torch.testing.assert_close(fused, layer.convs[0](x) * layer.convs[1](up))


@torch.no_grad()
def test_deep_supervision_of_many_classes_treats_every_class_as_the_published_one():
    x, many = images(1, 3, 64, 32), small(classes=3)
    alone = small(classes=1)

    for i, logits in enumerate(many(x).unbind(1)):
        state = many.state_dict()
        for key in state:
            if key.startswith("seg_outs."):
                state[key] = state[key][i : i + 1]
        alone.load_state_dict(state, strict=True)
        torch.testing.assert_close(alone(x)[:, 0], logits)


@torch.no_grad()
def test_the_first_map_joins_the_two_finest_logits_and_the_others_stand_alone():
    model, x = small(), images(1, 3, 64, 32)
    outputs = {}
    for j, layer in model.seg_outs.items():
        layer.register_forward_hook(lambda _m, _i, out, j=j: outputs.update({j: enlarge(out)}))

    full, *sides = model.forward_deep(x)

    torch.testing.assert_close(full, outputs["3"] + model.deconv6(outputs["2"]))
    for side, j in zip(sides, "210", strict=True):
        assert torch.equal(side, outputs[j])


@torch.no_grad()
def test_without_deep_supervision_only_the_finest_logits_count():
    model, x = small(classes=2, deep_supervision=False), images(1, 3, 32, 32)
    before = model(x)

    for j in "012":
        torch.nn.init.normal_(model.seg_outs[j].weight)
    torch.nn.init.normal_(model.deconv6.weight)

    (only,) = model.forward_deep(x)
    assert torch.equal(only, before)


@torch.no_grad()
@pytest.mark.parametrize("deep", [True, False])
def test_the_published_form_gives_the_probability_of_the_one_class(deep):
    x = images(1, 3, 32, 32)

    ours, published = (small(deep_supervision=deep, as_published=flag) for flag in (False, True))

    assert torch.equal(published(x), ours(x).sigmoid())


def test_the_published_form_knows_deep_supervision_for_one_class_only():
    with pytest.raises(ValueError, match="2 classes, but the published form has it for one"):
        vm_unet_v2(classes=2, as_published=True)


@pytest.mark.parametrize("deep", [True, False])
def test_unused_weights_are_stated_can_be_left_out_and_change_nothing(deep):
    full = small(deep_supervision=deep)
    lean = small(deep_supervision=deep, keep_unused=False, depths=(1, 1, 1))
    unused = {key for key in full.state_dict() if full.is_unused(key)}

    assert {*full.state_dict()} - unused == {*lean.state_dict()}
    assert all(any(key.startswith(head) for key in unused) for head in full.unused_parameters)
    lean.load_state_dict({key: w for key, w in full.state_dict().items() if key not in unused})
    with torch.no_grad():
        assert torch.equal(full(images(1, 3, 32, 64)), lean(images(1, 3, 32, 64)))
