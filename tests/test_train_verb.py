"""The verb `train`, from the command line: a run in the store, its folder, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from pagereading import read_page, see_self_contained  # noqa: E402
from projectmaking import assert_sentence  # noqa: E402

from napari_activeft import training_round, workflow  # noqa: E402
from napari_activeft.errors import Cancelled, UserError  # noqa: E402
from napari_activeft.project import Project  # noqa: E402
from napari_activeft.settings import (  # noqa: E402
    AcceptSettings,
    ImportSettings,
    TrainSettings,
)
from napari_activeft.trained_runs import end_dead_runs, mark_process, run_folder  # noqa: E402
from napari_activeft.training.run_files import SavedNetwork  # noqa: E402
from napari_activeft.training_data import labelled_volumes  # noqa: E402

QUICK = ("--steps", "3", "--batch", "2", "--device", "cpu", "--precision", "float32")
SETTINGS = TrainSettings(
    network="vm_unet_nano", steps=4, batch=2, device="cpu", precision="float32", monitor="none"
)


@pytest.fixture(autouse=True)
def _empty_weight_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_ACTIVEFT_WEIGHTS", str(tmp_path / "weights"))


@pytest.fixture
def labelled(project):
    """A project of three cases, all slices labelled."""
    workflow.import_labels(project, ImportSettings())
    return project


def test_a_run_is_trained_kept_and_told_of(labelled, command_line):
    told = command_line.json("train", "--network", "vm_unet_nano", *QUICK, "--set", "check-every=1")

    assert (told["run"], told["monitor"], told["slices"], told["cases"]) == (1, "folds", 12, 3)
    folder = Path(told["folder"])
    assert folder == command_line.project / "runs" / "run-001"
    saved = SavedNetwork.read(folder)
    assert [one.name for one in saved.classes] == ["bright", "corner"]
    assert saved.temperature == told["temperature"] > 0
    saved.build()
    (record,) = labelled.store.runs()
    assert (record.state, record.name) == ("done", "run-001")
    assert (labelled.folder / record.checkpoint).is_file()
    assert record.metrics["score"] == saved.score
    assert sum(record.metrics["pixels"].values()) == 12 * 9 * 11
    log = (folder / "log.txt").read_text()
    assert "12 slices of 3 cases: background" in log
    assert "starts from random weights" in log
    assert "slices, that of the network that the cases held back did not teach" in log


def test_the_report_is_a_page_that_stands_alone(labelled):
    settings = SETTINGS.model_copy(update={"learns": "freeze_low_gradient", "probe_steps": 2})
    result = workflow.train(labelled, settings)

    page = result.page.read_text()
    assert "Which layers were pulled" in page
    assert page.count("<polyline") >= 3
    layers = json.loads((result.folder / "gradients.json").read_text())
    assert page.count("<rect x=") == len(layers)
    assert read_page(page)
    see_self_contained(page)


def test_without_accepted_masks_the_way_to_them_is_told(project, command_line):
    assert "no slice of the pool has an accepted mask" in command_line.refusal("train", *QUICK)
    assert project.store.runs() == []


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (("--network", "vmunet_nano"), "no network is called", 1),
        (("--start", "run:7"), "no such run", 1),
        (("--start", "what"), "write random", 2),
        (("--device", "cuda:9"), "the device 'cuda:9' was asked", 1),
        (("--devices", "2"), "torchrun", 1),
        (("--precision", "float16"), "float16 was asked on cpu", 1),
        (("--resume",), "no run of this project was stopped", 1),
        (("--run", "run-002"), "was given without --resume", 2),
        (("--steps", "0"), "--steps", 2),
    ],
)
def test_what_cannot_be_done_is_one_sentence(labelled, command_line, arguments, words, code):
    given = dict(zip(QUICK[::2], QUICK[1::2], strict=True))
    if len(arguments) == 2:
        given[arguments[0]] = arguments[1]
        arguments = ()
    quick = [word for pair in given.items() for word in pair]
    result = command_line("train", *quick, *arguments, "--set", "monitor=none", code=code)

    assert words in result.stderr.splitlines()[-1]
    assert not [run for run in labelled.store.runs() if run.state in ("done", "running")]


def test_a_stopped_run_is_resumed_by_its_own_settings(labelled, command_line, monkeypatch):
    def stop(done, total):
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        workflow.train(labelled, SETTINGS, stop)
    assert labelled.store.run(1).state == "cancelled"
    whole = workflow.train(labelled, SETTINGS)

    told = command_line.json("train", "--resume")

    assert (told["run"], told["steps"], told["network"]) == (1, 4, "vm_unet_nano")
    hashes = [SavedNetwork.read(Path(f)).weight_hash for f in (told["folder"], whole.folder)]
    assert hashes[0] == hashes[1]
    assert labelled.store.run(1).state == "done"
    refused = command_line.refusal("train", "--resume", "--run", "run-001")
    assert "run 1 is done, so there is nothing to go on with" in refused


def test_resume_passes_over_runs_that_never_began(labelled, command_line):
    def stop(done, total):
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        workflow.train(labelled, SETTINGS, stop)
    command_line.refusal("train", *QUICK, "--start", "run:99")
    command_line.refusal("train", *QUICK, "--start", "encoder:nope")
    assert len(labelled.store.runs()) == 1  # refused before they were in the store
    labelled.store.end_run(labelled.store.add_run("x", {"spec": {}}, "ann").run_id, "failed")

    assert command_line.json("train", "--resume")["run"] == 1


def test_settings_that_a_resumed_run_does_not_read_are_named(labelled, command_line):
    def stop(done, total):
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        workflow.train(labelled, SETTINGS, stop)

    result = command_line("train", "--resume", "--steps", "77", "--lr", "0.5")

    assert "goes on by its own settings: steps, lr given now are not read" in result.stderr
    assert labelled.store.run(1).metrics["steps"] == 4


def test_a_run_whose_process_is_gone_counts_as_failed(labelled):
    run = labelled.store.add_run("killed", {"spec": {}}, "ann").run_id
    labelled.store.update_run(run, state="running")
    folder = run_folder(labelled, run)
    mark_process(folder)
    end_dead_runs(labelled)
    assert labelled.store.run(run).state == "running"

    mark = json.loads((folder / ".process.json").read_text())
    (folder / ".process.json").write_text(json.dumps(mark | {"started": 1.0}))
    workflow.info(labelled)

    record = labelled.store.run(run)
    assert record.state == "failed"
    assert f"train --resume --run {run}" in record.metrics["reason"]


def test_a_folder_that_cannot_be_written_is_one_sentence(labelled, monkeypatch):
    (labelled.folder / "runs").write_text("in the way")

    with pytest.raises(UserError, match="cannot be written") as refusal:
        workflow.train(labelled, SETTINGS)

    assert_sentence(str(refusal.value))
    assert labelled.store.run(1).state == "failed"


def test_ctrl_c_tells_how_to_go_on(labelled, command_line, monkeypatch):
    def stopped(*_):
        raise Cancelled

    monkeypatch.setattr(workflow, "train_run", stopped)

    assert "train --resume" in command_line.refusal("train", *QUICK)


def test_a_failed_run_is_noted_with_its_reason(labelled, monkeypatch):
    def fail(*_, **__):
        raise UserError("the disk is full")

    monkeypatch.setattr("napari_activeft.training.fitting.fit", fail)
    with pytest.raises(UserError):
        workflow.train(labelled, SETTINGS)

    record = labelled.store.run(1)
    assert (record.state, record.metrics["reason"]) == ("failed", "the disk is full")


def test_a_page_that_cannot_be_written_does_not_undo_a_run(labelled, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training_round, "write_training_page", fail)
    result = workflow.train(labelled, SETTINGS)

    assert labelled.store.run(1).state == "done"
    assert result.page is None
    assert "its page was not written" in result.notes[-1]
    assert "No space left" in (result.folder / "log.txt").read_text()


def test_two_programs_do_not_train_one_run(labelled):
    from filelock import FileLock

    folder = labelled.folder / "runs" / "run-001"
    folder.mkdir(parents=True)
    with FileLock(folder / training_round.LOCK), pytest.raises(UserError, match="another process"):
        workflow.train(labelled, SETTINGS)

    record = labelled.store.run(1)  # of the process that holds the lock, which goes on
    assert (record.state, record.metrics.get("reason")) == ("running", None)


def test_a_run_that_went_on_to_its_end_has_no_reason_to_have_ended(labelled, monkeypatch):
    def fail(*_, **__):
        raise UserError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("napari_activeft.training.fitting.fit", fail)
        with pytest.raises(UserError):
            workflow.train(labelled, SETTINGS)
    workflow.train(labelled, SETTINGS.model_copy(update={"resume": True}))

    assert labelled.store.run(1).state == "done"
    (told,) = workflow.info(labelled).runs
    assert told["reason"] is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"network": "basic_unet", "learns": "lora"}, "no projections"),
        ({"class_weights": (1.0, 2.0)}, "2 class weights were given for 3 outputs"),
        ({"monitor": "val"}, "no slice of a val case"),
    ],
)
def test_what_cannot_be_learnt_so_begins_no_run(labelled, change, words):
    with pytest.raises(UserError, match=words) as refusal:
        workflow.train(labelled, SETTINGS.model_copy(update=change))

    assert_sentence(str(refusal.value))
    assert labelled.store.runs() == []


def test_a_class_that_was_only_renamed_keeps_no_run_from_going_on_or_starting(labelled):
    def stop(done, total):
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        workflow.train(labelled, SETTINGS, stop)
    with Project.open(labelled.folder) as project:
        workflow.classes(project, ["1=white"])
        workflow.train(project, TrainSettings(resume=True))
        told = workflow.train(project, SETTINGS.model_copy(update={"start": "run:1"}))

    assert any("starts from run 1" in note for note in told.notes)


def test_accepted_proposals_teach_and_are_no_truth(labelled):
    store = labelled.store
    *proposed, by_people = store.volumes()
    run = store.add_run("run", {}, "ann").run_id
    for volume in proposed:
        masks = store.accepted_masks(volume.volume_id)
        wrong = {at: 1 - mask.clip(0, 1) for at, mask in masks.items()}
        store.propose_masks(
            run, {store.slice_id(volume.volume_id, at): mask for at, mask in wrong.items()}
        )
    workflow.accept(labelled, AcceptSettings(run=run, on_top=True))

    found = {one.name: one for one in labelled_volumes(labelled)}

    assert all(found[one.name].by_network == set(found[one.name].masks) for one in proposed)
    assert found[by_people.name].by_network == frozenset()
    result = workflow.train(labelled, SETTINGS.model_copy(update={"monitor": "folds"}))
    assert set(SavedNetwork.read(result.folder / "fold").cases) == {one.case for one in proposed}


def test_the_next_round_starts_from_the_run_before(labelled):
    workflow.train(labelled, SETTINGS)
    told = workflow.train(labelled, SETTINGS.model_copy(update={"start": "run:1"}))

    assert told.run == 2
    assert any("starts from run 1" in note for note in told.notes)


def test_a_run_needs_the_classes_of_the_run_it_starts_from(labelled):
    workflow.train(labelled, SETTINGS)
    with Project.open(labelled.folder) as project:
        workflow.classes(project, ["3=third"])
        with pytest.raises(UserError, match="learnt the classes 1=bright, 2=corner"):
            workflow.train(project, SETTINGS.model_copy(update={"start": "run:1"}))
