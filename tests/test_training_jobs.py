"""Training as a job: started from the command line, killed, and gone on with where it was."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("torch")

from jobmaking import wait_until
from projectmaking import assert_sentence

from napari_activeft import job_processes, jobs, workflow
from napari_activeft.errors import UserError
from napari_activeft.job_steps import as_json, going_on
from napari_activeft.settings import ImportSettings, TrainSettings
from napari_activeft.trained_runs import run_folder
from napari_activeft.training.run_files import RESUME, read_curve

QUICK = ("--network", "vm_unet_nano", "--batch", "2", "--device", "cpu", "--set", "workers=0")
SETTINGS = TrainSettings(network="vm_unet_nano", steps=40, batch=2, device="cpu", monitor="none")


@pytest.fixture(autouse=True)
def _own_caches(monkeypatch, tmp_path):
    # The lock of this machine is another one here: a real job may be running.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NAPARI_ACTIVEFT_WEIGHTS", str(tmp_path / "weights"))


@pytest.fixture
def labelled(project):
    """A project of three cases, all slices labelled."""
    workflow.import_labels(project, ImportSettings())
    return project


@pytest.fixture
def not_started(monkeypatch):
    """Jobs are entered into the store, and no process is started for them."""
    monkeypatch.setattr(job_processes, "start", lambda *_: 0)


def began(project, job_id, settings, state="running"):
    """Let a job compute and begin a run, as `train` does."""
    project.store.begin_job(job_id, 1)
    told = {**settings.absolute().model_dump(mode="json"), "spec": {}}
    run = project.store.add_run("run", told, "ann").run_id
    if state != "running":
        project.store.end_run(run, state)
    return run


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_killed_training_goes_on_with_its_run_when_the_job_is_resumed(labelled, command_line):
    quick = (*QUICK, "--steps", "20", "--set", "monitor=none", "--set", "checkpoint_every=0")
    job_id = command_line.json("train", *quick, "--background")["job"]
    kept = run_folder(labelled, 1) / RESUME
    os.kill(wait_until(labelled, job_id, lambda _: kept.is_file()).worker_pid, signal.SIGKILL)
    killed = jobs.wait(labelled, job_id)
    assert (killed.state, labelled.store.run(1).state) == ("failed", "running")
    done = len(read_curve(run_folder(labelled, 1)))

    again = command_line.json("jobs", "resume", job_id)["job"]
    job = jobs.wait(labelled, again)

    assert (job.state, job.settings["resume"], job.settings["run"]) == ("done", True, 1)
    (run,) = labelled.store.runs()
    assert (run.state, run.metrics["steps"]) == ("done", 20)
    assert len(read_curve(run_folder(labelled, 1))) == 20 > done
    log = (run_folder(labelled, 1) / "log.txt").read_text(encoding="utf-8")
    assert "goes on after step " in log
    log_of_the_job = jobs.log_path(labelled, job).read_text(encoding="utf-8")
    assert "goes on after step " in log_of_the_job
    assert ", loss " in log_of_the_job


def test_a_training_that_was_killed_before_its_run_began_starts_afresh(project, not_started):
    job_id = jobs.start_job(project, "train", SETTINGS)
    other = project.store.add_run("by hand", {**SETTINGS.model_dump(mode="json")}, "ann")
    project.store.begin_job(job_id, 1)
    project.store.end_job(job_id, "failed", "killed: no luck")

    again = jobs.resume_job(project, job_id)

    assert other.state == "running"
    assert project.store.job(again).settings == as_json(SETTINGS)


def test_the_run_of_a_job_is_told_from_runs_of_other_settings(project, not_started):
    job_id = jobs.start_job(project, "train", SETTINGS)
    project.store.begin_job(job_id, 1)
    began(project, job_id, SETTINGS.model_copy(update={"lr": 0.5}))
    mine = began(project, job_id, SETTINGS)
    began(project, job_id, SETTINGS)

    assert going_on(project, project.store.job(job_id), SETTINGS).run == mine
    resuming = SETTINGS.model_copy(update={"resume": True})
    assert going_on(project, project.store.job(job_id), resuming) is resuming


def test_a_job_that_had_finished_its_run_leaves_nothing_to_resume(project, not_started):
    job_id = jobs.start_job(project, "train", SETTINGS)
    began(project, job_id, SETTINGS, "done")
    project.store.end_job(job_id, "failed", "killed: no luck")

    with pytest.raises(UserError, match="had finished run 1") as refusal:
        jobs.resume_job(project, job_id)
    assert_sentence(str(refusal.value))


def test_a_file_to_start_from_is_found_from_elsewhere_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.pth").touch()

    told = as_json(TrainSettings(start="encoder:mine.pth"))["start"]

    assert told == f"encoder:{tmp_path / 'mine.pth'}"
    for start in ("encoder:vmamba_nano", "encoder:/somewhere/else.pth", "run:3", "auto"):
        assert as_json(TrainSettings(start=start))["start"] == start


@pytest.mark.parametrize(
    ("words", "held"),
    [
        (("train", "--steps", "7"), {"steps": 7}),
        (("train", "--resume", "--run", "run-002"), {"resume": True, "run": 2}),
        (("predict", "--run", "run-002", "--run", "3"), {"runs": [2, 3]}),
        (("evaluate", "--run", "run-002"), {"run": 2}),
    ],
)
def test_verbs_that_learn_and_predict_run_in_the_background(
    project, command_line, not_started, words, held
):
    told = command_line.json(*words, "--background")

    assert (told["verb"], told["state"]) == (words[0], "queued")
    settings = project.store.job(told["job"]).settings
    assert {name: settings[name] for name in held} == held
