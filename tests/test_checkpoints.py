"""Files of weights in the formats that people have, made here; and what is said of bad ones."""

from __future__ import annotations

import pytest
import torch
from napari_activeft.models.backbone import adapt_stem
from napari_activeft.models.checkpoints import (
    CheckpointError,
    MisfitError,
    feature_hash,
    load_checkpoint,
    load_into,
    recognise,
    save_safetensors,
    weight_hash,
)
from napari_activeft.models.published import published
from napari_activeft.models.registry import build_model
from napari_activeft.models.vmamba import CARDS, Size, VMambaV0, build_vmamba_v0
from napari_activeft.models.weight_names import to_current_names, to_first_names
from torch import Tensor

NANO = "vmamba_nano"
SMALL_V0 = Size((1, 1, 1, 1), 8, 0.0)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return build_model(NANO, seed=7).state_dict()


def fresh():
    return build_model(NANO, seed=8)


def assert_same(model, state) -> None:
    held = model.state_dict()
    assert held.keys() == state.keys()
    assert all(torch.equal(held[key], state[key]) for key in state)


def wrapped(how: str, state: dict[str, Tensor]) -> object:
    other = {key: torch.zeros_like(weight) for key, weight in state.items()}
    return {
        "bare": state,
        "model": {"model": state},
        "state_dict": {"meta": {"epoch": 3}, "state_dict": state},
        "network_weights": {"network_weights": state, "optimizer_state": {"lr": 1.0}},
        "model_state_dict": {"model_state_dict": state, "epoch": 3},
        "the averaged weights win": {"model": other, "model_ema": state, "epoch": 3},
        "an averaging that was off": {"model": state, "model_ema": None},
        "wrapped twice": {"model": {"state_dict": state}},
        "parallel": {"model": {f"module.{key}": weight for key, weight in state.items()}},
        "compiled": {f"_orig_mod.{key}": weight for key, weight in state.items()},
        "4-D matrices": {
            key: weight[:, :, None, None] if key.endswith(("proj.weight", "fc1.weight")) else weight
            for key, weight in state.items()
        },
        "half precision": {key: weight.half() for key, weight in state.items()},
    }[how]


@pytest.mark.parametrize(
    "how",
    [
        "bare",
        "model",
        "state_dict",
        "network_weights",
        "model_state_dict",
        "the averaged weights win",
        "an averaging that was off",
        "wrapped twice",
        "parallel",
        "compiled",
        "4-D matrices",
    ],
)
def test_every_wrapping_of_a_file_is_read(how, state, tmp_path):
    torch.save(wrapped(how, state), tmp_path / "file.pth")
    model = fresh()

    loaded = load_into(model, tmp_path / "file.pth", NANO)

    assert_same(model, state)
    assert loaded.taken == len(state)
    assert loaded.fresh == loaded.left_out == ()
    assert not loaded.stem_adapted


def test_half_precision_is_widened(state, tmp_path):
    torch.save(wrapped("half precision", state), tmp_path / "file.pth")
    model = fresh()

    load_into(model, tmp_path / "file.pth", NANO)

    assert_same(model, {key: weight.half().float() for key, weight in state.items()})


def test_the_format_before_zip_is_read(state, tmp_path):
    torch.save({"model": state}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    model = fresh()

    load_into(model, tmp_path / "old.pth", NANO)

    assert_same(model, state)


def test_safetensors_come_back_as_they_were(state, tmp_path):
    save_safetensors(state, tmp_path / "kept.safetensors", {"name": NANO})

    back = load_checkpoint(tmp_path / "kept.safetensors")

    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)
    assert [file.name for file in tmp_path.iterdir()] == ["kept.safetensors"]


def test_a_file_that_cannot_be_written_leaves_nothing_behind(state, tmp_path):
    (tmp_path / "taken").mkdir()

    with pytest.raises(CheckpointError, match="cannot be written"):
        save_safetensors(state, tmp_path / "taken")

    assert [file.name for file in tmp_path.iterdir()] == ["taken"]


def test_weights_mapped_from_one_file_can_be_kept(state, tmp_path):
    torch.save({"model": state}, tmp_path / "file.pth")

    save_safetensors(load_checkpoint(tmp_path / "file.pth"), tmp_path / "kept.safetensors")

    assert weight_hash(load_checkpoint(tmp_path / "kept.safetensors")) == weight_hash(state)


def test_the_hash_of_weights_sees_numbers_names_and_types_but_not_their_order(state):
    known = weight_hash(state)
    key = "layers.0.blocks.0.op.Ds"

    assert weight_hash(dict(reversed(state.items()))) == known
    assert weight_hash(state | {key: state[key] + 1e-6}) != known
    assert weight_hash(state | {key: state[key].double()}) != known
    assert weight_hash(state | {key: state[key][None]}) != known
    assert weight_hash({f"{name}x": weight for name, weight in state.items()}) != known
    assert weight_hash({"n": torch.tensor(3), "b": torch.ones(2, dtype=torch.bfloat16)})


def test_the_hash_of_features_is_the_same_whatever_the_head(state):
    other = state | {"classifier.head.weight": torch.zeros(4, 192)}

    assert feature_hash(other) == feature_hash(state) != weight_hash(state)
    assert feature_hash({k: v for k, v in state.items() if "head." not in k}) == feature_hash(state)
    assert feature_hash(state | {"classifier.norm.bias": torch.ones(192)}) != feature_hash(state)


def test_a_kept_file_can_be_read_by_whom_the_umask_lets(state, tmp_path):
    (tmp_path / "any").touch()

    save_safetensors(state, tmp_path / "kept.safetensors")

    assert (tmp_path / "kept.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode


# -- segmentation files --------------------------------------------------------------------------


@pytest.fixture
def segmentation(state) -> dict[str, Tensor]:
    """The backbone of a segmentation network, as the authors' training saves it."""
    body = {key: weight for key, weight in state.items() if not key.startswith("classifier.")}
    widths = [24, 48, 96, 192]
    norms = {f"outnorm{i}.weight": torch.full((c,), i + 2.0) for i, c in enumerate(widths)}
    norms |= {f"outnorm{i}.bias": torch.full((c,), i + 0.5) for i, c in enumerate(widths)}
    return body | norms


def test_a_segmentation_file_fills_the_encoder_and_says_what_it_lacks(
    segmentation, state, tmp_path
):
    content = {f"backbone.{key}": weight for key, weight in segmentation.items()}
    content["decode_head.conv_seg.weight"] = torch.zeros(4, 512, 1, 1)
    torch.save({"meta": {}, "state_dict": content}, tmp_path / "upernet.pth")
    model = fresh()
    head = model.classifier.head.weight.clone()

    loaded = load_into(model, tmp_path / "upernet.pth", NANO)

    assert loaded.fresh == ("classifier.head.weight", "classifier.head.bias")
    assert len(loaded.left_out) == 8
    assert torch.equal(model.classifier.head.weight, head)
    # The norm of the last stage's map is the one that the pooled vector needs.
    assert torch.equal(model.classifier.norm.weight, segmentation["outnorm3.weight"])
    assert torch.equal(model.classifier.norm.bias, segmentation["outnorm3.bias"])
    assert torch.equal(model.layers[3].blocks[0].op.A_logs, state["layers.3.blocks.0.op.A_logs"])


@pytest.mark.parametrize("given", [["outnorm0.weight"], ["outnorm3.weight"]], ids=str)
def test_half_an_output_norm_is_a_missing_weight(given, segmentation):
    body = {key: weight for key, weight in segmentation.items() if "outnorm" not in key}

    with pytest.raises(MisfitError, match=r"missing .*bias"):
        load_into(fresh(), body | {key: segmentation[key] for key in given}, NANO)


def test_an_output_norm_of_a_stage_that_does_not_exist_is_unexpected(segmentation):
    odd = {"outnorm7.weight": torch.zeros(3), "outnorm7.bias": torch.zeros(3)}

    with pytest.raises(MisfitError, match=r"2 weights are unexpected \(outnorm7.weight"):
        load_into(fresh(), segmentation | odd, NANO)


def test_a_backbone_without_the_norm_of_its_last_stage_is_refused(segmentation):
    short = {key: weight for key, weight in segmentation.items() if "outnorm3" not in key}

    with pytest.raises(MisfitError, match=r"2 weights are missing \(classifier.norm.weight"):
        load_into(fresh(), short, NANO)


def test_a_classification_file_fills_a_backbone_with_output_norms(state):
    model = fresh()
    del model.classifier
    for i, c in enumerate([24, 48, 96, 192]):
        model.add_module(f"outnorm{i}", torch.nn.LayerNorm(c))
    offered = state | {"classifier.norm.bias": torch.full((192,), 3.0)}

    loaded = load_into(model, offered, NANO)

    assert loaded.fresh == tuple(
        f"outnorm{i}.{leaf}" for i in range(3) for leaf in ("weight", "bias")
    )
    assert set(loaded.left_out) == {key for key in state if key.startswith("classifier.")}
    assert torch.equal(model.outnorm3.bias, offered["classifier.norm.bias"])


def test_a_backbone_whose_stages_lack_a_weight_is_refused(segmentation):
    del segmentation["layers.2.blocks.1.norm2.bias"]

    with pytest.raises(MisfitError, match=r"1 weight is missing \(layers.2.blocks.1.norm2"):
        load_into(fresh(), segmentation, NANO)


# -- the first generation ------------------------------------------------------------------------


def v0(seed: int) -> VMambaV0:
    torch.manual_seed(seed)
    return build_vmamba_v0(SMALL_V0)


def test_a_first_generation_file_with_todays_names_fits():
    first = v0(1).state_dict()
    renamed = to_current_names(first)
    model = v0(2)

    load_into(model, renamed, "vmamba_v0_tiny")

    assert_same(model, first)
    assert {"patch_embed.0.weight", "layers.0.blocks.0.op.Ds", "classifier.norm.bias"} <= set(
        renamed
    )
    assert "layers.0.downsample.norm.weight" in renamed


def test_both_sets_of_names_lead_to_each_other_for_every_first_generation_key():
    wanted = published()["vmamba_v0_small"]
    names = dict.fromkeys(wanted.shapes, torch.zeros(0))

    current = to_current_names(names)

    assert len(current) == len(names)
    assert list(to_first_names(current)) == list(names)
    for old, new in wanted.renames.items():  # as the fixture lists them
        old, new = (name.replace(".i.", ".2.").replace(".j.", ".11.") for name in (old, new))
        moved = [key.replace(old, new, 1) for key in names if key.startswith(f"{old}.")]
        assert moved
        assert set(moved) <= set(current)


def test_second_generation_names_are_left_alone(state):
    model = fresh()

    load_into(model, state, NANO)

    assert_same(model, state)


# -- which variant a file fits -------------------------------------------------------------------


def empty_state(name: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        return build_model(name).state_dict()


@pytest.mark.parametrize("name", [card.name for card in CARDS])
def test_every_encoder_is_recognised_by_names_and_shapes(name):
    state = empty_state(name)

    assert recognise(state) == name
    assert recognise({k: v for k, v in state.items() if "head." not in k}) == name
    widened = {
        k: v[..., None, None] if k.endswith("in_proj.weight") else v for k, v in state.items()
    }
    assert recognise(widened) == name
    if name.startswith("vmamba_v0"):
        assert recognise(to_current_names(state)) == name


def test_a_file_of_another_tiny_names_the_variant_it_fits():
    other = {k: torch.zeros(v.shape) for k, v in empty_state("vmamba_tiny_s2l5").items()}
    with torch.device("meta"):
        model = build_model("vmamba_tiny_s1l8")

    with pytest.raises(MisfitError, match="these are the weights of vmamba_tiny_s2l5: build that"):
        load_into(model, other, "vmamba_tiny_s1l8")


def test_a_first_generation_file_names_its_variant_when_the_second_is_asked():
    other = {k: torch.zeros(v.shape) for k, v in empty_state("vmamba_v0_tiny").items()}

    with pytest.raises(MisfitError, match="these are the weights of vmamba_v0_tiny"):
        load_into(fresh(), to_current_names(other), NANO)


def test_a_missing_an_unexpected_and_a_misshapen_weight_are_all_named(state):
    bad = dict(state)
    del bad["classifier.norm.bias"]
    bad["classifier.extra"] = torch.zeros(1)
    bad["layers.0.blocks.0.op.Ds"] = torch.zeros(7)
    model = fresh()
    before = {key: weight.clone() for key, weight in model.state_dict().items()}

    with pytest.raises(MisfitError) as refusal:
        load_into(model, bad, NANO)

    told = str(refusal.value)
    assert "1 weight is missing (classifier.norm.bias)" in told
    assert "1 weight is unexpected (classifier.extra)" in told
    assert "layers.0.blocks.0.op.Ds is (7,) where (96,) is needed" in told
    assert "nearest is vmamba_nano" in told
    assert "\n" not in told
    assert_same(model, before)


def test_a_head_for_other_classes_is_refused_and_not_dropped(state):
    model = build_model(NANO, classes=5, seed=0)

    with pytest.raises(MisfitError, match="stem and stages are those of vmamba_nano: build"):
        load_into(model, state, NANO)


@pytest.mark.parametrize("channels", [1, 2, 4, 16])
def test_the_stem_of_a_file_is_turned_to_the_models_channels(channels, state):
    model = build_model(NANO, channels=channels, seed=0)

    loaded = load_into(model, state, NANO)

    assert loaded.stem_adapted
    key = "patch_embed.0.weight"
    assert torch.equal(model.patch_embed[0].weight, adapt_stem(state[key], channels))
    grey = torch.randn(1, 1, 37, 50)
    rgb = fresh()
    load_into(rgb, state, NANO)
    with torch.inference_mode():
        wanted = rgb.eval()(grey.expand(-1, 3, -1, -1))
        got = model.eval()(grey.expand(-1, channels, -1, -1))
    assert torch.allclose(got, wanted, atol=1e-5)
