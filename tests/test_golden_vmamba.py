"""VMamba against the numbers of its authors' code, see ../shared/golden/README.md."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch
from goldenweights import (
    GOLDEN,
    assert_golden,
    facts,
    fill,
    golden_input,
    golden_names,
    golden_state,
    golden_weight,
    shapes,
)
from napari_activeft.models.published import published
from napari_activeft.models.registry import build_model
from napari_activeft.models.scan_backends import available_scans
from napari_activeft.models.vmamba import SIZES, SIZES_V0
from torch import Tensor, nn

SCRIPT = Path(__file__).parents[1] / "scripts" / "copy_published_facts.py"
NAMES = golden_names("vmamba_")
MEASURED = golden_names("vmamba_", with_numbers=True)
WITHOUT_NUMBERS = sorted(set(NAMES) - set(MEASURED))
PATHS = {
    "reference in float64": ("reference", torch.float64),
    "torch in float64": ("torch", torch.float64),
    "torch in float32": ("torch", torch.float32),
    "c in float32": ("c", torch.float32),
}

pytestmark = pytest.mark.skipif(not NAMES, reason="../shared/golden is missing")


def bare(name: str, scan: str | None = None) -> nn.Module:
    """Build without memory; `fill` brings the weights."""
    with torch.device("meta"):
        return build_model(name, scan=scan)


@pytest.fixture(scope="module", params=MEASURED or ["none"])
def fixture(request) -> tuple[str, dict[str, Tensor]]:
    """Each fixture with its weights, drawn once for all its tests."""
    return request.param, golden_state(shapes(request.param))


def traced(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Run a model and return the tensors that fixtures name, channels first."""
    got: dict[str, Tensor] = {}
    first = model.layers[0].blocks[0]
    parts = {
        "patch_embed": model.patch_embed,
        "stage0_block0_op": getattr(first, "op", None) or first.self_attention,
        "final_norm": model.classifier.norm if hasattr(model, "classifier") else model.norm,
    } | {f"stage{i}_down": model.layers[i].downsample for i in range(3)}
    hooks = [
        part.register_forward_hook(
            lambda _, __, made, name=name: got.update({name: made.permute(0, 3, 1, 2)})
        )
        for name, part in parts.items()
    ]
    with torch.inference_mode():
        features = model.forward_features(x)
        head = model.classifier.head if hasattr(model, "classifier") else model.head
        got |= {f"stage{i}_blocks": made for i, made in enumerate(features.maps)}
        got |= {"pooled": features.pooled, "output": head(features.pooled)}
    for hook in hooks:
        hook.remove()
    return got


def assert_all_inputs(name: str, model: nn.Module, dtype: torch.dtype) -> None:
    described = facts(name)
    assert_golden(name, traced(model, golden_input(described["input"]["shape"]).to(dtype)))
    for extra, more in described.get("extra_inputs", {}).items():
        assert_golden(name, traced(model, golden_input(more["shape"]).to(dtype)), extra)


@pytest.mark.parametrize(("scan", "dtype"), PATHS.values(), ids=PATHS)
def test_the_numbers_of_the_published_code_are_met(fixture, scan, dtype):
    if available_scans()[scan] is not None:
        pytest.skip(f"the scan {scan} is not available here: {available_scans()[scan]}")
    name, state = fixture
    model = bare(name, scan)
    fill(model, state, dtype)

    assert_all_inputs(name, model, dtype)


def test_forward_gives_the_output_that_the_features_lead_to(fixture):
    name, state = fixture
    model = bare(name)
    fill(model, state)
    x = golden_input([1, 3, 64, 64])

    with torch.inference_mode():
        assert torch.equal(model(x), traced(model, x)["output"])


@pytest.mark.parametrize("name", NAMES)
def test_names_shapes_and_number_of_weights_are_those_published(name):
    model = bare(name)

    assert {key: tuple(w.shape) for key, w in model.state_dict().items()} == shapes(name)
    assert sum(p.numel() for p in model.parameters()) == facts(name)["n_parameters"]


@pytest.mark.parametrize("name", WITHOUT_NUMBERS)
def test_models_without_stored_numbers_run_on_the_golden_weights(name):
    model = bare(name)
    fill(model, golden_state(shapes(name)))

    with torch.inference_mode():
        logits = model(golden_input([1, 3, 64, 96]))

    assert logits.shape == (1, 1000)
    assert bool(logits.isfinite().all())
    assert 0.1 < float(logits.std()) < 2  # the rule keeps every stage near one


@pytest.mark.parametrize("name", NAMES)
def test_the_weight_rule_gives_the_probed_values(name):
    for key, values in facts(name)["weight_probes_first4"].items():
        drawn = golden_weight(key, shapes(name)[key]).flatten()[: len(values)]
        assert torch.allclose(drawn, torch.tensor(values), rtol=1e-6, atol=1e-9), key


def test_the_packaged_facts_are_what_the_script_copies(tmp_path, monkeypatch):
    script = runpy.run_path(str(SCRIPT))
    monkeypatch.setitem(script["main"].__globals__, "TARGET", tmp_path / "published.json")
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(GOLDEN)])

    script["main"]()

    packaged = (SCRIPT.parents[1] / "models" / "published.json").read_bytes()
    assert (tmp_path / "published.json").read_bytes() == packaged


@pytest.mark.parametrize("name", [name for name in published() if name != "vmamba_v0_base"])
def test_the_packaged_facts_are_those_of_the_fixture(name):
    packaged, fixture = published()[name], facts(name)

    assert packaged.shapes == shapes(name)
    assert packaged.parameters == fixture["n_parameters"]
    assert packaged.config == fixture["config"]
    if name in NAMES:
        assert packaged.file.file == fixture["checkpoint"]["file"]
        assert packaged.file.url == fixture["checkpoint"]["url"]
        assert packaged.file.wrapper == fixture["checkpoint"]["wrapper_key"]
        assert packaged.file.top1 == fixture["checkpoint"]["imagenet1k_top1"]
    else:
        assert packaged.file is None


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_those_of_the_published_configuration(name):
    config = facts(name)["config"]
    size = (SIZES | SIZES_V0)[name]

    assert list(size.depths) == config["depths"]
    assert [size.width * 2**i for i in range(4)] == config["dims"]
    assert size.ratio == config["ssm_ratio"]
    assert size.drop_path == config["drop_path_rate"]
