"""Weights by name are checked as files are; heads and stems may differ where that is harmless."""

from __future__ import annotations

import pytest
import torch
from napari_activeft.models.checkpoints import CheckpointError, MisfitError, feature_hash, load_into
from napari_activeft.models.registry import build_model
from torch import Tensor

NANO = "vmamba_nano"


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return build_model(NANO, seed=7).state_dict()


def fresh():
    return build_model(NANO, seed=8)


def assert_same(model, state) -> None:
    held = model.state_dict()
    assert held.keys() == state.keys()
    assert all(torch.equal(held[key], state[key]) for key in state)


# -- weights by name, not in a file ----------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state},
        lambda state: {"epoch": 3, "model": {"state_dict": state}},
        lambda state: {f"module.{key}": weight for key, weight in state.items()},
    ],
    ids=["model", "wrapped twice", "parallel"],
)
def test_a_mapping_is_unwrapped_as_a_file_is(wrap, state):
    model = fresh()

    load_into(model, wrap(state), NANO)

    assert_same(model, state)


def test_numbers_of_a_mapping_that_are_not_finite_are_refused(state):
    bad = state | {"classifier.norm.bias": torch.full((192,), float("inf"))}

    with pytest.raises(CheckpointError, match="the set of weights holds numbers that are not fin"):
        load_into(fresh(), bad, NANO)


@pytest.mark.parametrize("content", [{}, {"model": 3}, {"model": {"a": "b"}}, [1]], ids=str)
def test_a_mapping_without_weights_is_one_sentence(content):
    with pytest.raises(CheckpointError, match="the set of weights holds"):
        load_into(fresh(), content, NANO)


def test_whole_numbers_in_place_of_fractions_are_refused(state):
    quantised = {key: (100 * weight).to(torch.int8) for key, weight in state.items()}

    with pytest.raises(MisfitError, match=r"112 weights are of another kind .* quantised weights"):
        load_into(fresh(), {k: v for k, v in quantised.items() if "head." not in k}
                  | {k: v for k, v in state.items() if "head." in k}, NANO)  # fmt: skip


# -- heads and stems -------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [4, None], ids=["other classes", "none"])
def test_any_head_may_be_left_out_where_that_is_asked(classes, state):
    other = build_model(NANO, classes=classes, seed=9).state_dict()
    if classes is None:
        other = {key: weight for key, weight in other.items() if "head." not in key}
    model = fresh()
    head = model.classifier.head.weight.clone()

    loaded = load_into(model, other, NANO, any_head=True)

    heads = ("classifier.head.weight", "classifier.head.bias")
    assert loaded.fresh == heads
    assert loaded.left_out == (heads if classes else ())
    assert torch.equal(model.classifier.head.weight, head)
    assert feature_hash(model.state_dict()) == feature_hash(other)
    with pytest.raises(MisfitError):
        load_into(fresh(), other, NANO)


def test_a_head_that_fits_is_taken_where_any_may_be_left_out(state):
    model = fresh()

    assert load_into(model, state, NANO, any_head=True).left_out == ()

    assert_same(model, state)


def test_a_norm_is_no_head_and_must_be_there(state):
    bare = {key: weight for key, weight in state.items() if not key.startswith("classifier.")}

    with pytest.raises(MisfitError, match=r"2 weights are missing \(classifier.norm.weight"):
        load_into(fresh(), bare, NANO, any_head=True)


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_a_stem_that_was_trained_on_grey_sees_the_mean_of_the_channels(channels):
    grey = build_model(NANO, channels=1, seed=7).eval()
    model = build_model(NANO, channels=channels, seed=8)

    assert load_into(model, grey.state_dict(), NANO).stem_adapted

    image = torch.randn(1, channels, 37, 50)
    with torch.inference_mode():
        wanted = grey(image.mean(dim=1, keepdim=True))
        assert torch.allclose(model.eval()(image), wanted, atol=1e-5)


def test_a_stem_of_other_channels_says_what_to_do():
    four = build_model(NANO, channels=4, seed=7).state_dict()

    with pytest.raises(MisfitError, match=r"trained on images of 4 channels .* give images of 4"):
        load_into(fresh(), four, NANO)
