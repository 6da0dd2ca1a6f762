"""What a run is measured by never knows the answer: no proposal, no case that taught its start."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from finetunemaking import CLASSES, SIDE, VIEW, drawn_slices, drawn_volumes, quick, spec_of  # noqa: E402
from projectmaking import assert_sentence  # noqa: E402

from napari_activeft.errors import Cancelled, UserError  # noqa: E402
from napari_activeft.prediction.predictor import Member, Predictor  # noqa: E402
from napari_activeft.training import finetune as finetuning  # noqa: E402
from napari_activeft.training import fitting, measuring  # noqa: E402
from napari_activeft.training.dataset import SliceDataset  # noqa: E402
from napari_activeft.training.finetune import finetune  # noqa: E402
from napari_activeft.training.fitting import fit  # noqa: E402
from napari_activeft.training.launching import launch  # noqa: E402
from napari_activeft.training.networks import build_network  # noqa: E402
from napari_activeft.training.planning import plan_monitoring  # noqa: E402
from napari_activeft.training.run_files import RESUME, SavedNetwork, read_curve  # noqa: E402
from napari_activeft.training.starting import starter  # noqa: E402

NANO = spec_of("vm_unet_nano")
FOLDS = quick(steps=4, check_every=2)


def partly_proposed(cases, by_people):
    """Return slices of which those of all cases but some were proposed by a network."""
    volumes = [
        one if at in by_people else dataclasses.replace(one, by_network=frozenset(one.masks))
        for at, one in enumerate(drawn_volumes(cases))
    ]
    return SliceDataset(volumes, VIEW, [one.value for one in CLASSES], training=True)


def stop_at(count):
    """Return an `on_progress` that stops at so many calls."""
    seen = []

    def stop(progress):
        seen.append(progress)
        if len(seen) == count:
            raise Cancelled

    return stop


def started_from(number, folder):
    return starter(quick(start=f"run:{number}"), NANO, lambda _: folder)


# Proposals


def test_only_cases_that_people_labelled_are_held_back():
    slices = partly_proposed(10, by_people={2, 5})

    for seed in range(5):
        plan = plan_monitoring(slices, None, quick(seed=seed))
        assert plan.monitor == "folds"
        assert plan.held == {slices.cases[2], slices.cases[5]}


def test_a_network_is_not_measured_against_proposals_of_the_cases_held_back():
    volumes = [
        dataclasses.replace(one, by_network=frozenset({0})) for one in drawn_volumes(2, slices=3)
    ]
    slices = SliceDataset(volumes, VIEW, [3, 7], training=True)

    watched = slices.subset([slices.cases[0]], by_people=True)

    assert [one.position for one in watched.examples] == [1, 2]
    assert len(slices.subset([slices.cases[0]])) == 3


def test_what_measures_and_calibrates_a_run_was_labelled_by_people(tmp_path, monkeypatch):
    volumes = [
        dataclasses.replace(one, by_network=frozenset({0, 2})) for one in drawn_volumes(4, slices=3)
    ]
    asked = []

    def noting(kind, normal):
        def note(network, dataset, *rest):
            asked.append((kind, [one.by_people for one in dataset.examples]))
            return normal(network, dataset, *rest)

        return note

    for module, name in ((finetuning, "pooled_dice"), (fitting, "temperature_of")):
        monkeypatch.setattr(module, name, noting(name, getattr(module, name)))
    fit(SliceDataset(volumes, VIEW, [3, 7], training=True), None, NANO, FOLDS, tmp_path)

    assert {kind for kind, _ in asked} == {"pooled_dice", "temperature_of"}
    assert all(by_people == [True] for _, by_people in asked)


def test_where_all_masks_are_proposals_nothing_is_measured_and_that_is_said():
    slices = partly_proposed(5, by_people=set())

    plan = plan_monitoring(slices, None, quick())

    assert plan.monitor == "none"
    assert "proposals of networks, which are no truth" in plan.sentence
    with pytest.raises(UserError, match="monitor=folds was asked, but all accepted") as refusal:
        plan_monitoring(slices, None, quick(monitor="folds"))
    assert_sentence(str(refusal.value))


# The run before


@pytest.mark.parametrize(
    ("taught", "words"),
    [("every", "run:1 have learnt from every case that"), (None, "nobody knows which cases")],
)
def test_a_start_that_knows_the_answers_leaves_a_run_unwatched(taught, words):
    slices = drawn_slices(5)
    known = slices.cases if taught == "every" else None

    plan = plan_monitoring(slices, None, quick(start="run:1"), known)

    assert (plan.monitor, plan.held) == ("none", frozenset())
    assert words in plan.sentence


def test_cases_that_are_new_since_the_start_are_held_back():
    slices = drawn_slices(10)

    plan = plan_monitoring(slices, None, quick(start="run:1"), slices.cases[:8])

    assert plan.held == set(slices.cases[8:])


def test_the_next_round_is_measured_by_a_network_that_its_cases_never_taught(tmp_path):
    slices = drawn_slices(4)
    first = fit(slices, None, NANO, FOLDS, tmp_path / "1")
    said: list[str] = []
    still = FOLDS.model_copy(update={"lr": 1e-12, "start": "run:1"})
    second = fit(
        slices,
        None,
        NANO,
        still,
        tmp_path / "2",
        start=started_from(1, tmp_path / "1"),
        on_log=said.append,
    )

    held = set(slices.cases) - set(SavedNetwork.read(tmp_path / "1" / "fold").cases)
    assert len(held) == 1
    assert held.isdisjoint(SavedNetwork.read(tmp_path / "2" / "fold").cases)
    assert second.score == pytest.approx(first.score, abs=1e-6)  # it learnt nothing more
    assert any("before it learnt from the cases it held back" in one for one in said)
    assert "starts from run 1" in said
    assert set(SavedNetwork.read(tmp_path / "2").cases) == set(slices.cases)


def test_what_taught_a_run_is_handed_on(tmp_path):
    finetune(drawn_slices(2, seed=4), None, NANO, quick(steps=1), tmp_path / "1")
    first = started_from(1, tmp_path / "1")
    second = drawn_slices(2, seed=5)

    finetune(
        second, None, NANO, quick(steps=1), tmp_path / "2", start=first.put, taught=first.cases
    )

    assert started_from(2, tmp_path / "2").cases == {*first.cases, *second.cases}
    assert len(first.cases) == 2


def test_a_run_of_an_older_program_says_nothing_of_its_cases(tmp_path):
    finetune(drawn_slices(2), None, NANO, quick(steps=1), tmp_path)
    path = tmp_path / "network.json"
    path.write_text(path.read_text().replace('"cases": [', '"of_old": ['))

    assert started_from(1, tmp_path).cases is None


# Going on


def test_a_run_stopped_in_its_fold_goes_on_by_it_though_val_was_labelled_since(tmp_path):
    slices, whole = drawn_slices(4), tmp_path / "whole"
    fit(slices, None, NANO, FOLDS, whole)
    with pytest.raises(Cancelled):
        fit(slices, None, NANO, FOLDS, tmp_path / "two", on_progress=stop_at(3))
    assert (tmp_path / "two" / "fold" / RESUME).is_file()

    val = drawn_slices(2, split="val")
    fitted = fit(slices, val, NANO, FOLDS, tmp_path / "two", resume=True)

    assert fitted.monitor == "folds"
    hashes = {SavedNetwork.read(tmp_path / name).weight_hash for name in ("two", "whole")}
    assert len(hashes) == 1


@pytest.mark.parametrize("changed", ["training", "val"])
def test_a_run_does_not_go_on_with_labels_that_changed(tmp_path, changed):
    slices, val = drawn_slices(4), drawn_slices(2, split="val")
    with pytest.raises(Cancelled):
        fit(slices, val, NANO, FOLDS, tmp_path, on_progress=stop_at(3))
    if changed == "training":
        slices = drawn_slices(5)
    else:
        val = drawn_slices(3, split="val")

    with pytest.raises(UserError, match="the labels have changed since"):
        fit(slices, val, NANO, FOLDS, tmp_path, resume=True)


def test_a_run_that_kept_nothing_is_planned_anew(tmp_path):
    settings = FOLDS.model_copy(update={"checkpoint_every": 1e9})
    with pytest.raises(RuntimeError):
        fit(drawn_slices(4), None, NANO, settings, tmp_path, on_progress=broken)
    assert (tmp_path / "fold").is_dir()

    fitted = fit(
        drawn_slices(5), drawn_slices(2, split="val"), NANO, settings, tmp_path, resume=True
    )

    assert (fitted.monitor, fitted.trained.steps) == ("val", 4)
    assert not (tmp_path / "fold").exists()
    assert started_from(1, tmp_path).before_refit is None


def test_a_run_that_an_older_program_left_is_not_gone_on_with_by_guess(tmp_path):
    with pytest.raises(Cancelled):
        fit(drawn_slices(4), None, NANO, FOLDS, tmp_path, on_progress=stop_at(3))
    (tmp_path / "plan.json").unlink()

    with pytest.raises(UserError, match="as an older program left it") as refusal:
        fit(drawn_slices(4), None, NANO, FOLDS, tmp_path, resume=True)
    assert_sentence(str(refusal.value))


def test_a_run_does_not_go_on_where_people_took_over_what_a_network_had_labelled(tmp_path):
    volumes = drawn_volumes(4, slices=3)
    proposed = [dataclasses.replace(one, by_network=frozenset({1})) for one in volumes]
    before, after = (
        SliceDataset(these, VIEW, [3, 7], training=True) for these in (proposed, volumes)
    )
    with pytest.raises(Cancelled):
        fit(before, None, NANO, FOLDS, tmp_path, on_progress=stop_at(3))

    with pytest.raises(UserError, match="the labels have changed since"):
        fit(after, None, NANO, FOLDS, tmp_path, resume=True)


def test_a_run_goes_on_though_the_run_it_started_from_is_gone(tmp_path):
    finetune(drawn_slices(2, seed=4), None, NANO, quick(steps=1), tmp_path / "1")
    start, slices = started_from(1, tmp_path / "1"), drawn_slices(2)
    with pytest.raises(Cancelled):
        fit(slices, None, NANO, quick(), tmp_path / "2", start=start, on_progress=stop_at(2))
    shutil.rmtree(tmp_path / "1")

    gone = started_from(1, tmp_path / "1")
    fit(slices, None, NANO, quick(), tmp_path / "2", start=gone, resume=True)

    assert gone.cases is None
    assert set(SavedNetwork.read(tmp_path / "2").cases) == {*start.cases, *slices.cases}


def broken(_):
    raise RuntimeError


def test_a_run_without_a_network_yet_says_how_to_go_on(tmp_path):
    with pytest.raises(Cancelled):
        fit(drawn_slices(4), None, NANO, FOLDS, tmp_path, on_progress=stop_at(1))

    with pytest.raises(UserError, match="kept no network yet, it was stopped before") as refusal:
        SavedNetwork.read(tmp_path)
    assert_sentence(str(refusal.value))


# What is measured


def test_a_stop_while_the_best_weights_are_written_loses_neither_them_nor_their_score(
    tmp_path, monkeypatch
):
    slices, val = drawn_slices(3), drawn_slices(2, split="val")
    spec = spec_of("basic_unet")
    settings = quick(network="basic_unet", steps=9, check_every=3, ema=0.0, lr=3e-3)
    finetune(slices, val, spec, settings, tmp_path / "whole")
    written, normal = [], finetuning.write_weights

    def stopped(folder, which, state):
        written.append(which)
        if which == "best" and written.count("best") == 2:
            raise Cancelled  # as SIGTERM does in a job
        normal(folder, which, state)

    with monkeypatch.context() as patched:
        patched.setattr(finetuning, "write_weights", stopped)
        with pytest.raises(Cancelled):
            finetune(slices, val, spec, settings, tmp_path / "two")
    assert written.count("best") == 2  # the first was kept
    finetune(slices, val, spec, settings, tmp_path / "two", resume=True)

    one, two = (SavedNetwork.read(tmp_path / name) for name in ("whole", "two"))
    assert (one.weight_hash, one.score, one.steps) == (two.weight_hash, two.score, two.steps)
    dice = [[row.get("val_dice") for row in read_curve(x.folder)] for x in (one, two)]
    assert dice[0] == dice[1]
    assert len(dice[1]) == settings.steps


def test_slices_that_memory_does_not_hold_together_are_measured_one_by_one(monkeypatch):
    slices = drawn_slices(5)
    network = build_network("vm_unet_nano", 1, 3, seed=0).eval()
    fabric = launch(quick())
    at_ease = measuring.pooled_dice(network, slices, 3, fabric, 8)
    normal, sizes = measuring.over_slices, []

    def short(net, x, size, **how):
        sizes.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return normal(net, x, size, **how)

    monkeypatch.setattr(measuring, "over_slices", short)
    assert measuring.pooled_dice(network, slices, 3, fabric, 8).mean == pytest.approx(at_ease.mean)
    assert sizes == [8, 4, 2, 2, 2, 2, 2]  # what fits is tried at once from then on

    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(measuring, "over_slices", full)
    with pytest.raises(UserError, match="does not hold one slice to be measured") as refusal:
        measuring.pooled_dice(network, slices, 3, fabric, 8)
    assert_sentence(str(refusal.value))


def test_a_run_is_measured_as_its_network_will_predict(rng):
    view = dataclasses.replace(VIEW, size=(SIDE // 2, SIDE // 2))  # so slices go in by windows
    slices = SliceDataset(drawn_volumes(2), view, [3, 7], training=True)
    network = build_network("vm_unet_nano", 1, 3, seed=3).eval()
    predictor = Predictor([Member(network, view)], [3, 7], device="cpu", precision="float32")

    score = measuring.pooled_dice(network, slices, 3, launch(quick()), 4)

    both = sizes = 0
    for volume in drawn_volumes(2):
        made = predictor.volume(volume.read, volume.depth, volume.shape, volume.spacing)
        for predicted in made:
            mine, truth = predicted.labels == 3, volume.masks[predicted.position] == 3
            both += int((mine & truth).sum())
            sizes += int(mine.sum() + truth.sum())
    assert score.per_class[0] == pytest.approx(2 * both / sizes, abs=1e-9)
    assert np.isfinite(score.mean)


def test_only_the_best_weights_are_called_calibrated(tmp_path):
    fit(drawn_slices(3), drawn_slices(2, split="val"), NANO, FOLDS, tmp_path)

    assert SavedNetwork.read(tmp_path).temperature is not None
    assert SavedNetwork.read(tmp_path, "last").temperature is None
