"""What of a network learns, what a run is watched by, and where its weights come from."""

from __future__ import annotations

import json
import sys

import pytest

torch = pytest.importorskip("torch")

from finetunemaking import CLASSES, VIEW, drawn_slices, quick, spec_of  # noqa: E402
from napari_activeft.models.checkpoint_files import load_checkpoint, save_safetensors  # noqa: E402
from napari_activeft.models.registry import build_model  # noqa: E402

from napari_activeft.errors import UserError  # noqa: E402
from napari_activeft.training.finetune import finetune  # noqa: E402
from napari_activeft.training.fitting import fit  # noqa: E402
from napari_activeft.training.launching import launch  # noqa: E402
from napari_activeft.training.learning import (  # noqa: E402
    GradientProbe,
    LayerGradient,
    Learning,
    choose_frozen,
    encoder_parameters,
)
from napari_activeft.training.network_spec import ClassName, NetworkSpec  # noqa: E402
from napari_activeft.training.networks import NETWORKS, build_network  # noqa: E402
from napari_activeft.training.planning import Seen, held_back, plan_monitoring  # noqa: E402
from napari_activeft.training.run_files import SavedNetwork  # noqa: E402
from napari_activeft.training.starting import starter  # noqa: E402

SMALL = ("vm_unet_nano", "vm_unet_v2_nano", "vm_unet_conv_nano", "basic_unet", "dynunet")


def start_of(network):
    return build_network(network, 1, 3, seed=0).state_dict()


def kept(folder):
    return load_checkpoint(folder / "last.safetensors")


@pytest.mark.parametrize("name", SMALL)
def test_a_frozen_encoder_stays_as_it_was_and_the_rest_learns(name, tmp_path):
    settings = quick(network=name, learns="decoder", steps=2, ema=0.0, lr=1e-2)
    before = start_of(name)
    encoder = encoder_parameters(build_network(name, 1, 3, seed=0))

    finetune(drawn_slices(2), None, spec_of(name), settings, tmp_path)

    after = kept(tmp_path)
    assert encoder
    assert {key for key in encoder if not torch.equal(before[key], after[key])} == set()
    others = {key for key, _ in build_network(name, 1, 3, seed=0).named_parameters()} - encoder
    moved = {key for key in others if not torch.equal(before[key], after[key])}
    assert len(moved) > 0.8 * len(others)


def test_a_frozen_encoder_is_in_eval_mode(tmp_path):
    learning = Learning(build_network("vm_unet_conv_nano", 1, 3, seed=0), quick(learns="decoder"))
    learning.train()

    still = [part for child in learning.network.encoder.children() for part in child.modules()]
    assert not any(part.training for part in still)
    assert learning.network.conv1.training


@pytest.mark.parametrize("name", SMALL)
def test_every_network_keeps_the_contract_of_its_outputs(name):
    network = build_network(name, 2, 3, seed=0).eval()
    x = torch.zeros(1, 2, 70, 64)
    with torch.no_grad():
        deep = network.forward_deep(x)

    assert network(x).shape == (1, 3, 70, 64)
    assert [tuple(one.shape[2:]) for one in deep] == [
        (-(-70 // 2**i), 64 // 2**i) for i in range(len(deep))
    ]
    assert (len(deep) > 1) == network.deep_supervision


def test_a_network_that_does_not_exist_is_answered_with_near_names():
    with pytest.raises(UserError, match="vm_unet_nano"):
        build_network("vmunet_nano", 1, 3)
    assert set(SMALL) < set(NETWORKS)


def test_low_rank_additions_learn_and_are_merged_into_plain_weights(tmp_path):
    pytest.importorskip("peft")
    name = "vm_unet_conv_nano"
    settings = quick(network=name, learns="lora", steps=3, ema=0.0, lr=1e-2, lora_rank=2)
    trained = finetune(drawn_slices(2), None, spec_of(name), settings, tmp_path)

    before, after = start_of(name), kept(tmp_path)
    encoder = encoder_parameters(build_network(name, 1, 3, seed=0))
    moved = {key for key in encoder if not torch.equal(before[key], after[key])}
    assert before.keys() == after.keys()
    projections = {"in_proj.weight", "out_proj.weight", "fc1.weight", "fc2.weight"}
    assert moved == {key for key in encoder if ".".join(key.split(".")[-2:]) in projections}
    one = next(key for key in moved if "in_proj" in key)
    assert torch.linalg.matrix_rank(after[one] - before[one], atol=1e-6) <= 2
    assert trained.learnt < trained.weights
    SavedNetwork.read(tmp_path).build()


def test_merged_weights_compute_what_the_additions_did():
    pytest.importorskip("peft")
    network = build_network("vm_unet_conv_nano", 1, 3, seed=0)
    learning = Learning(network, quick(learns="lora"))
    for key, one in network.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(one, std=0.05)
    plain = build_network("vm_unet_conv_nano", 1, 3, seed=1)
    plain.load_state_dict(learning.plain_state())
    x = torch.randn(1, 1, 64, 64)

    with torch.no_grad():
        torch.testing.assert_close(plain.eval()(x), network.eval()(x), atol=1e-4, rtol=1e-4)


def test_without_peft_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)

    with pytest.raises(UserError, match=r"napari-activeft\[lora\]"):
        Learning(build_network("vm_unet_nano", 1, 3, seed=0), quick(learns="lora"))


def test_additions_to_a_network_without_projections_are_refused():
    pytest.importorskip("peft")
    with pytest.raises(UserError, match="has no projections"):
        Learning(build_network("basic_unet", 1, 3, seed=0), quick(learns="lora"))


def test_what_hardly_moves_is_frozen_and_reported(tmp_path):
    settings = quick(
        network="vm_unet_conv_nano",
        learns="freeze_low_gradient",
        steps=4,
        probe_steps=2,
        freeze_below=1.0,
        ema=0.0,
    )
    said: list[str] = []
    trained = finetune(
        drawn_slices(2), None, spec_of("vm_unet_conv_nano"), settings, tmp_path, on_log=said.append
    )

    layers = [LayerGradient(**one) for one in json.loads((tmp_path / "gradients.json").read_text())]
    frozen = [one for one in layers if one.frozen]
    assert 0 < len(frozen) <= len(layers) // 2
    assert max(one.ratio for one in frozen) <= min(o.ratio for o in layers if not o.frozen)
    assert trained.learnt == trained.weights - sum(one.weights for one in frozen)
    assert any("frozen for their small gradients" in one for one in said)


def test_no_more_weights_are_frozen_than_allowed():
    layers = [LayerGradient(str(at), 10, 1.0, ratio) for at, ratio in enumerate((9, 1, 2, 8, 7))]

    found = choose_frozen(layers, below=1.0, at_most=0.2)

    assert [one.name for one in found if one.frozen] == ["1"]
    assert [one.name for one in choose_frozen(layers, below=1.0, at_most=1.0) if one.frozen] == [
        "1",
        "2",
    ]


@pytest.mark.parametrize("scale", [1.0, 65536.0])
def test_the_probe_sees_gradients_as_they_are_and_leaves_out_those_that_overflow(scale):
    learning = Learning(build_network("vm_unet_nano", 1, 3, seed=0), quick())
    probe = GradientProbe(learning, 2)
    for factor in (1.0, float("inf"), 3.0):
        for one in learning.parameters():
            one.grad = torch.full_like(one, factor * scale)
        probe.watch(scale)

    assert probe.over
    name, first = next(iter(learning.network.named_parameters()))
    layers = {one.name: one for one in probe.layers()}
    assert layers[name].gradient == pytest.approx(2.0 * first.numel() ** 0.5)


def test_the_probe_is_told_by_what_the_loss_was_multiplied(tmp_path, monkeypatch):
    class Scaler:
        def get_scale(self):
            return 1024.0

    told = []
    monkeypatch.setattr(GradientProbe, "watch", lambda self, scale=1.0: told.append(scale))
    fabric = launch(quick())
    finetune(drawn_slices(2), None, spec_of("vm_unet_nano"), quick(steps=1), tmp_path / "1")
    fabric._precision.scaler = Scaler()
    finetune(
        drawn_slices(2), None, spec_of("vm_unet_nano"), quick(steps=1), tmp_path, fabric=fabric
    )

    assert told == [1.0, 1024.0]


# Watching


def test_val_cases_watch_where_they_are_labelled():
    plan = plan_monitoring(drawn_slices(4), drawn_slices(1, split="val"), quick())

    assert (plan.monitor, plan.held) == ("val", frozenset())


def test_else_a_fifth_of_the_cases_is_held_back_whole():
    slices = drawn_slices(10)
    plan = plan_monitoring(slices, None, quick())

    assert plan.monitor == "folds"
    assert len(plan.held) == 2
    assert plan.held < set(slices.cases)


@pytest.mark.parametrize("cases", [1, 2])
def test_fewer_than_three_cases_are_not_watched_and_that_is_said(cases):
    plan = plan_monitoring(drawn_slices(cases), None, quick(steps=77))

    assert plan.monitor == "none"
    assert f"{cases}, fewer than 3" in plan.sentence
    assert "all 77 steps" in plan.sentence


@pytest.mark.parametrize(
    ("asked", "words"), [("val", "no slice of a val"), ("folds", "2 labelled")]
)
def test_what_cannot_be_watched_as_asked_is_refused(asked, words):
    with pytest.raises(UserError, match=words):
        plan_monitoring(drawn_slices(2), None, quick(monitor=asked))


def test_both_sides_of_a_fold_show_every_class_where_that_can_be():
    cases = {f"case{at}": Seen(3, frozenset([1])) for at in range(12)}
    cases["case3"] = cases["case7"] = Seen(3, frozenset([1, 2]))

    for seed in range(5):
        held = held_back(cases, 0.2, seed)
        assert len(held & {"case3", "case7"}) == 1
        assert len(held) == 2


def test_after_a_fold_all_slices_teach_for_the_steps_that_were_best(tmp_path):
    said: list[str] = []
    settings = quick(steps=4, check_every=2)
    fitted = fit(
        drawn_slices(4), None, spec_of("vm_unet_nano"), settings, tmp_path, on_log=said.append
    )

    fold, whole = SavedNetwork.read(tmp_path / "fold"), SavedNetwork.read(tmp_path)
    assert fitted.monitor == whole.monitor == "folds"
    assert fitted.trained.steps == fold.steps == whole.steps
    assert fitted.score == fold.score == whole.score
    assert whole.temperature is not None
    assert whole.seconds > fold.seconds
    assert any("slices of 4 cases" in one for one in said)
    assert any("now as many on all labelled slices" in one for one in said)


def test_a_run_stopped_after_its_fold_goes_on_from_there(tmp_path):
    class Stop(Exception):
        pass

    def stop_in_the_second(progress):
        seen.append(progress.step)
        if seen.count(1) == 2:
            raise Stop

    seen: list[int] = []
    settings, slices = quick(steps=4, check_every=2), drawn_slices(4)
    with pytest.raises(Stop):
        fit(
            slices,
            None,
            spec_of("vm_unet_nano"),
            settings,
            tmp_path / "two",
            on_progress=stop_in_the_second,
        )
    steps: list[int] = []
    fit(
        slices,
        None,
        spec_of("vm_unet_nano"),
        settings,
        tmp_path / "two",
        resume=True,
        on_progress=lambda progress: steps.append(progress.step),
    )
    whole = fit(slices, None, spec_of("vm_unet_nano"), settings, tmp_path / "one")

    assert len(steps) <= whole.trained.steps
    one, two = kept(tmp_path / "one"), kept(tmp_path / "two")
    assert all(torch.equal(one[key], two[key]) for key in one)


# Starting


def test_a_run_starts_from_the_run_before(tmp_path):
    finetune(drawn_slices(2), None, spec_of("vm_unet_nano"), quick(steps=2), tmp_path)
    settings = quick(start="run:4")
    network = build_network("vm_unet_nano", 1, 3, seed=1)

    said = starter(settings, spec_of("vm_unet_nano"), {4: tmp_path}.__getitem__).put(network)

    assert "run 4" in said
    before = load_checkpoint(tmp_path / "best.safetensors")
    assert all(torch.equal(before[key], one) for key, one in network.state_dict().items())


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (NetworkSpec("vm_unet_nano", 1, (ClassName(3, "disc"),), VIEW), "learnt the classes"),
        (NetworkSpec("vm_unet_nano", 3, CLASSES, VIEW), "1 input channels"),
        (NetworkSpec("vm_unet_conv_nano", 1, CLASSES, VIEW), "trained vm_unet_nano"),
    ],
)
def test_a_run_of_another_class_table_or_network_does_not_start_one(tmp_path, spec, words):
    finetune(drawn_slices(2), None, spec_of("vm_unet_nano"), quick(steps=1), tmp_path)
    network = build_network(spec.network, spec.channels, spec.outputs, seed=1)

    with pytest.raises(UserError, match=words):
        starter(quick(start="run:1"), spec, lambda number: tmp_path).put(network)


def test_an_encoder_starts_a_network_by_file_and_by_what_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_ACTIVEFT_WEIGHTS", str(tmp_path))
    network = build_network("vm_unet_conv_nano", 1, 3, seed=1)
    spec = spec_of("vm_unet_conv_nano")
    auto = starter(quick(start="auto"), spec, lambda number: tmp_path)
    assert "random" in auto.put(network)
    encoder = build_model("vmamba_nano", channels=3, seed=5).state_dict()
    save_safetensors(encoder, tmp_path / "vmamba_nano.safetensors")

    assert "kept weights vmamba_nano" in auto.put(network)
    key = "layers.0.blocks.0.op.in_proj.weight"
    assert torch.equal(network.encoder.state_dict()[key], encoder[key])
    by_file = starter(
        quick(start=f"encoder:{tmp_path / 'vmamba_nano.safetensors'}"), spec, lambda n: tmp_path
    )
    assert "weights of the encoder" in by_file.put(build_network("vm_unet_conv_nano", 1, 3, seed=1))
    with pytest.raises(UserError, match="has another encoder"):
        by_file.put(build_network("basic_unet", 1, 3, seed=1))
    with pytest.raises(UserError, match="cannot start from"):
        by_file.put(build_network("vm_unet_nano", 1, 3, seed=1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start": "run:x"}, "run:NUMBER"),
        ({"start": "other"}, "write random"),
        ({"learns": "scratch", "start": "run:1"}, "learns=full"),
        ({"dice_weight": 0.0, "ce_weight": 0.0}, "nothing is learnt"),
        ({"size": 100}, "multiple of 32"),
        ({"pixel_mm": -1.0}, "above 0"),
        ({"devices": 3, "batch": 8}, "take a multiple"),
        ({"betas": (0.9, 1.0)}, "below 1"),
        ({"class_weights": (-1.0, 1.0)}, "negative"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        quick(**change)
