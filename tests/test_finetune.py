"""A run: learns, stops, goes on, and leaves whole files whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from finetunemaking import CLASSES, VIEW, drawn_slices, quick, spec_of  # noqa: E402
from napari_activeft.models.checkpoint_files import load_checkpoint  # noqa: E402

from napari_activeft.errors import Cancelled, UserError  # noqa: E402
from napari_activeft.training import loop as loops  # noqa: E402
from napari_activeft.training import run_files, whole_files  # noqa: E402
from napari_activeft.training.finetune import finetune  # noqa: E402
from napari_activeft.training.measuring import pooled_dice  # noqa: E402
from napari_activeft.training.network_spec import ClassName, NetworkSpec  # noqa: E402
from napari_activeft.training.networks import build_network  # noqa: E402
from napari_activeft.training.run_files import SavedNetwork, read_curve  # noqa: E402

CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch
torch.set_num_threads(1)
from finetunemaking import drawn_slices, quick, spec_of
from napari_activeft.training.finetune import finetune
finetune(drawn_slices(4), drawn_slices(2, seed=9, split="val"), spec_of("vm_unet_conv_nano"),
         quick(network="vm_unet_conv_nano", steps=400, check_every=4, checkpoint_every=0.0),
         Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def slices():
    return drawn_slices(4)


@pytest.fixture(scope="module")
def watched():
    return drawn_slices(2, seed=9, split="val")


def losses(folder):
    return [row["loss"] for row in read_curve(folder)]


def weights(folder, which="best"):
    return load_checkpoint(folder / f"{which}.safetensors")


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def stop_after(steps):
    def stop(progress):
        if progress.step == steps:
            raise Cancelled

    return stop


def test_a_network_learns_what_it_is_shown(slices, watched, tmp_path):
    settings = quick(network="basic_unet", steps=40, check_every=20, lr=3e-3, ema=0.9)

    trained = finetune(slices, watched, spec_of("basic_unet"), settings, tmp_path)

    assert trained.score > 0.9
    assert losses(tmp_path)[-1] < losses(tmp_path)[0] / 2
    saved = SavedNetwork.read(tmp_path)
    assert (saved.monitor, saved.score, saved.classes) == ("val", trained.score, CLASSES)
    logits = saved.build()(torch.from_numpy(watched.examples[0].image[None]))
    truth = torch.from_numpy(watched.examples[0].target)
    assert (logits.argmax(1)[0] == truth).float().mean() > 0.95


def test_the_same_seed_gives_the_same_weights_and_another_one_others(slices, watched, tmp_path):
    spec = spec_of("vm_unet_conv_nano")  # its drop path draws
    for name, seed, workers in (("a", 3, 0), ("b", 3, 2), ("c", 4, 1)):
        settings = quick(network="vm_unet_conv_nano", seed=seed, workers=workers, steps=3)
        finetune(slices, watched, spec, settings, tmp_path / name)

    assert losses(tmp_path / "a") == losses(tmp_path / "b") != losses(tmp_path / "c")
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_the_generator_of_the_caller_is_left_as_it_was(slices, tmp_path):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    finetune(slices, None, spec_of("vm_unet_nano"), quick(steps=1), tmp_path)

    assert torch.equal(before, torch.random.get_rng_state())


def test_a_killed_run_goes_on_to_the_same_curve_bit_for_bit(slices, watched, tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(killed), str(Path(__file__).parent)], env=environment
    )
    until = time.monotonic() + 60
    while len(losses(killed)) < 3 and time.monotonic() < until and child.poll() is None:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    at = torch.load(killed / "resume.pt", weights_only=True)["course"]["step"]
    # The rest of a shorter run: the steps before do not know how many there will be but for lr.
    settings = quick(network="vm_unet_conv_nano", steps=400, check_every=4, checkpoint_every=0.0)
    spec = spec_of("vm_unet_conv_nano")

    for folder, resume in ((killed, True), (whole, False)):
        with pytest.raises(Cancelled):
            finetune(
                slices,
                watched,
                spec,
                settings,
                folder,
                resume=resume,
                on_progress=stop_after(at + 5),
            )

    assert losses(killed) == losses(whole)
    assert len(losses(whole)) == at + 5
    assert same(weights(killed), weights(whole))
    assert same(weights(killed, "last"), weights(whole, "last"))


def test_a_stopped_run_goes_on_to_the_same_weights(slices, watched, tmp_path):
    settings, spec = quick(ema=0.9), spec_of("vm_unet_v2_nano")
    settings = settings.model_copy(update={"network": "vm_unet_v2_nano"})
    finetune(slices, watched, spec, settings, tmp_path / "whole")
    with pytest.raises(Cancelled):
        finetune(slices, watched, spec, settings, tmp_path / "two", on_progress=stop_after(2))
    finetune(slices, watched, spec, settings, tmp_path / "two", resume=True)

    assert losses(tmp_path / "two") == losses(tmp_path / "whole")
    assert same(weights(tmp_path / "two"), weights(tmp_path / "whole"))
    assert not (tmp_path / "two" / "resume.pt").exists()


def test_a_run_stopped_in_a_measurement_makes_up_for_it(slices, watched, tmp_path, monkeypatch):
    settings, spec = quick(check_every=2), spec_of("vm_unet_nano")
    finetune(slices, watched, spec, settings, tmp_path / "whole")
    measured = []

    def stopped(*arguments):
        measured.append(arguments)
        if len(measured) == 2:
            raise Cancelled
        return pooled_dice(*arguments)

    monkeypatch.setattr("napari_activeft.training.finetune.pooled_dice", stopped)
    with pytest.raises(Cancelled):
        finetune(slices, watched, spec, settings, tmp_path / "two")
    finetune(slices, watched, spec, settings, tmp_path / "two", resume=True)

    dice = [
        [row.get("val_dice") for row in read_curve(tmp_path / name)] for name in ("two", "whole")
    ]
    assert dice[0] == dice[1]
    assert [value is not None for value in dice[0]] == [False, True] * 3
    assert same(weights(tmp_path / "two"), weights(tmp_path / "whole"))


@pytest.mark.parametrize("kept", [True, False])
def test_a_run_that_diverges_keeps_what_was_kept_before(slices, tmp_path, monkeypatch, kept):
    settings = quick(network="vm_unet_v2_nano", steps=6, checkpoint_every=0.0 if kept else 1e9)
    spec = spec_of("vm_unet_v2_nano")
    normal, calls = loops.Loop._gradient, []

    def diverging(self, images, targets, part):
        figures = normal(self, images, targets, part)  # its batch norms have seen the batch
        calls.append(part)
        return [float("nan")] * 3 if len(calls) == 3 else figures

    with monkeypatch.context() as patched:
        patched.setattr(loops.Loop, "_gradient", diverging)
        with pytest.raises(UserError, match="the loss of step 3 is nan") as refusal:
            finetune(slices, None, spec, settings, tmp_path / "run")

    assert "the weights of step 2 are kept" in str(refusal.value)
    with pytest.raises(Cancelled):
        finetune(slices, None, spec, settings, tmp_path / "two", on_progress=stop_after(2))
    assert same(weights(tmp_path / "run", "last"), weights(tmp_path / "two", "last"))
    assert losses(tmp_path / "run") == losses(tmp_path / "two")


def test_what_is_frozen_for_its_small_gradient_is_kept_as_the_others_were_taught_beside_it(
    slices, tmp_path
):
    settings = quick(
        learns="freeze_low_gradient", probe_steps=2, freeze_below=1.0, steps=4, ema=0.9
    )

    def look(progress):
        if progress.step == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        finetune(slices, None, spec_of("vm_unet_nano"), settings, tmp_path, on_progress=look)
    state = torch.load(tmp_path / "resume.pt", weights_only=True)
    seen = {name: state["network"][name] for name in state["frozen"]}
    finetune(slices, None, spec_of("vm_unet_nano"), settings, tmp_path, resume=True)

    ended = weights(tmp_path, "best")
    assert seen
    assert all(torch.equal(ended[name], weight) for name, weight in seen.items())


def test_ctrl_c_waits_for_the_step_and_keeps_it(slices, tmp_path):
    def interrupt(progress):
        if progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Cancelled):
        finetune(slices, None, spec_of("vm_unet_nano"), quick(), tmp_path, on_progress=interrupt)

    assert len(losses(tmp_path)) in (2, 3)
    assert (tmp_path / "resume.pt").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lr": 0.5}, "another lr"),
        ({"network": "vm_unet_conv_nano"}, "another network"),
    ],
)
def test_a_run_is_not_resumed_as_another_one(slices, tmp_path, change, words):
    with pytest.raises(Cancelled):
        finetune(
            slices, None, spec_of("vm_unet_nano"), quick(), tmp_path, on_progress=stop_after(1)
        )
    settings = quick(**change)

    with pytest.raises(UserError, match=words):
        finetune(slices, None, spec_of(settings.network), settings, tmp_path, resume=True)


def test_a_run_is_not_resumed_on_other_labels(slices, tmp_path):
    with pytest.raises(Cancelled):
        finetune(
            slices, None, spec_of("vm_unet_nano"), quick(), tmp_path, on_progress=stop_after(1)
        )

    with pytest.raises(UserError, match="labels have changed"):
        finetune(drawn_slices(5), None, spec_of("vm_unet_nano"), quick(), tmp_path, resume=True)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_weights(
    slices, tmp_path, monkeypatch
):
    real = loops.SegmentationLoss.__call__

    def third_is_nan(self, logits, target, totals):
        share = real(self, logits, target, totals)
        calls.append(1)
        if len(calls) == 3:
            return type(share)(share.loss * float("nan"), share.ce, share.dice)
        return share

    calls = []
    monkeypatch.setattr(loops.SegmentationLoss, "__call__", third_is_nan)

    with pytest.raises(UserError, match="step 3 is nan"):
        finetune(slices, None, spec_of("vm_unet_nano"), quick(), tmp_path)

    assert len(losses(tmp_path)) == 2
    assert all(bool(torch.isfinite(one).all()) for one in weights(tmp_path, "last").values())


def test_a_full_disk_leaves_the_checkpoint_before(slices, watched, tmp_path, monkeypatch):
    with pytest.raises(Cancelled):
        finetune(
            slices, watched, spec_of("vm_unet_nano"), quick(), tmp_path, on_progress=stop_after(3)
        )
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole_files.os, "fsync", full)
    with pytest.raises(UserError, match=r"No space left.*the one before it stays.*train --resume"):
        finetune(slices, watched, spec_of("vm_unet_nano"), quick(), tmp_path, resume=True)
    monkeypatch.undo()

    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    finetune(slices, watched, spec_of("vm_unet_nano"), quick(), tmp_path, resume=True)
    assert len(losses(tmp_path)) == 6


def test_a_full_disk_tells_others_than_training_nothing_of_resuming(tmp_path, monkeypatch):
    SavedNetwork(spec_of("vm_unet_nano"), tmp_path).write()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole_files.os, "fsync", full)
    with pytest.raises(UserError, match=r"make room on the disk and run the command again$"):
        run_files.set_temperature(tmp_path, 1.5)
    assert SavedNetwork.read(tmp_path).temperature is None


def test_a_batch_that_memory_does_not_hold_is_halved_and_teaches_the_same(
    slices, tmp_path, monkeypatch
):
    settings = quick(steps=2, batch=4, dice_over="slice")
    finetune(slices, None, spec_of("vm_unet_nano"), settings, tmp_path / "whole")
    real, said = loops.DeepForward.forward, []

    def small_memory(self, x):
        if len(x) > 1 and self.training:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, x)

    monkeypatch.setattr(loops.DeepForward, "forward", small_memory)
    trained = finetune(
        slices, None, spec_of("vm_unet_nano"), settings, tmp_path / "halved", on_log=said.append
    )

    assert trained.part == 1
    assert any("parts of 2" in one for one in said)
    assert any("parts of 1" in one for one in said)
    assert losses(tmp_path / "halved") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)


def test_accumulated_batches_teach_what_one_large_batch_does(slices, tmp_path):
    for name, batch, accumulate in (("one", 4, 1), ("two", 2, 2)):
        settings = quick(steps=2, batch=batch, accumulate=accumulate, dice_over="slice")
        finetune(slices, None, spec_of("vm_unet_nano"), settings, tmp_path / name)

    assert losses(tmp_path / "one") == pytest.approx(losses(tmp_path / "two"), rel=1e-4)


def test_a_run_that_gets_no_better_stops(slices, watched, tmp_path):
    settings = quick(steps=30, check_every=1, patience=2, lr=1e-12, ema=0.0)

    trained = finetune(slices, watched, spec_of("vm_unet_nano"), settings, tmp_path)

    assert trained.stopped_early
    assert trained.steps - trained.best_step == 2


@pytest.mark.parametrize(("what", "stops"), [("go-on", False), ("stop", True)])
def test_a_class_that_was_never_labelled_is_named(tmp_path, what, stops):
    said: list[str] = []
    settings = quick(steps=1, missing_class=what)
    run = {"on_log": said.append}
    only_discs = drawn_slices(3, bar=False)
    if stops:
        with pytest.raises(UserError, match="no pixel of bar is labelled"):
            finetune(only_discs, None, spec_of("vm_unet_nano"), settings, tmp_path, **run)
        return
    finetune(only_discs, None, spec_of("vm_unet_nano"), settings, tmp_path, **run)

    assert any("no pixel of bar is labelled" in one for one in said)
    assert SavedNetwork.read(tmp_path).build().classes == 3


def test_weights_of_another_network_are_refused_in_one_sentence(slices, tmp_path):
    finetune(slices, None, spec_of("vm_unet_nano"), quick(steps=1), tmp_path)
    saved = SavedNetwork.read(tmp_path)
    other = NetworkSpec("vm_unet_conv_nano", 1, CLASSES, VIEW)
    fewer = NetworkSpec("vm_unet_nano", 1, (ClassName(1, "one"),), VIEW)
    for spec in (other, fewer):
        network = build_network(spec.network, spec.channels, spec.outputs, seed=0)
        with pytest.raises(UserError, match="holds the weights of another network"):
            run_files.put_weights(network, saved.weights(), "FILE", spec)


def test_replaced_weights_are_noticed(slices, tmp_path):
    finetune(slices, None, spec_of("vm_unet_nano"), quick(steps=2), tmp_path / "a")
    finetune(slices, None, spec_of("vm_unet_nano"), quick(steps=1), tmp_path / "b")
    (tmp_path / "b" / "best.safetensors").replace(tmp_path / "a" / "best.safetensors")

    with pytest.raises(UserError, match="replaced or changed"):
        SavedNetwork.read(tmp_path / "a").build()


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "holds no network"), ("{}", "is damaged"), ('{"format": 99}', "has format 99")],
)
def test_a_folder_without_a_readable_network_is_refused(tmp_path, content, words):
    if content is not None:
        (tmp_path / "network.json").write_text(content)

    with pytest.raises(UserError, match=words):
        SavedNetwork.read(tmp_path)
