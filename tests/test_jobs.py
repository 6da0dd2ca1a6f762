"""Steps in worker processes: done, failed, killed, cancelled, queued, resumed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from jobmaking import start_doing, wait_until
from napari_activeft.annotation_db import ProcessMark, StoreError, UnknownRecordError
from projectmaking import assert_sentence, read_json
from storemaking import HandClock, make_store

from napari_activeft import job_processes, job_task, jobs, workflow
from napari_activeft.errors import Cancelled, UserError
from napari_activeft.job_steps import as_json, step_of
from napari_activeft.project import Project
from napari_activeft.settings import (
    Budget,
    CompareSettings,
    DoctorSettings,
    EmbedSettings,
    ExportSettings,
    ImportSettings,
    SelectSettings,
)

BUSY = "on_progress(1, 3)\nwhile True:\n    sum(range(100_000))"
IDLE = "on_progress(1, 3)\nwhile True:\n    time.sleep(1)"
STUBBORN = f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{IDLE}"
POLITE = "for done in range(10_000):\n    on_progress(done, 10_000)\n    time.sleep(0.01)"
WAITS = "on_progress(0, 1)\nwhile not (project.folder / 'go').exists():\n    time.sleep(0.02)"


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    # The lock of this machine is another one here: a real job may be running.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def runs(job):
    return job.state == "running" and job.total


def is_gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_heavy_job_runs_where_the_home_may_not_be_written(project, tmp_path, monkeypatch):
    (tmp_path / "read-only").write_text("no folder can be made in here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "read-only" / "cache"))

    job = jobs.wait(project, jobs.start_job(project, "embed", EmbedSettings(encoder="hog")))

    assert job.state == "done", job.reason


# Done


def test_a_step_runs_in_a_process_of_its_own_and_keeps_its_result(project):
    job_id = jobs.start_job(project, "import-labels", ImportSettings(author="Dr. Ö"))
    told = []

    job = jobs.wait(project, job_id, lambda done, total: told.append((done, total)))

    assert (job.state, job.reason, job.done, job.total) == ("done", None, 3, 3)
    assert told[-1] == (3, 3)
    assert len(project.store.accepted()) == 12
    shown = jobs.describe(project, job, lines=2)
    assert read_json(shown.result)["stored"] == 12
    assert shown.log == project.folder / "jobs" / "job-001.log"
    assert shown.tail[-1].endswith("done")
    assert job.worker_pid not in (job.pid, os.getpid())
    assert project.store.revisions(project.store.accepted()[0].slice_id)[0].author == "Dr. Ö"


def test_what_computes_gives_way_to_the_viewer_and_what_keeps_watch_does_not(project, monkeypatch):
    job_id = start_doing(project, IDLE, monkeypatch)
    job = wait_until(project, job_id, runs)
    own = psutil.Process().nice()

    assert psutil.Process(job.worker_pid).nice() != own
    assert psutil.Process(job.pid).nice() == own
    jobs.cancel(project, job_id)


def test_a_job_takes_all_cores_and_leaves_one_beside_a_viewer(project, monkeypatch):
    monkeypatch.setattr(job_processes, "start", lambda *_: 0)
    cores = job_processes.cores()
    started = [
        jobs.start_job(project, "doctor", DoctorSettings(), beside_viewer=viewer)
        for viewer in (False, True)
    ]

    threads = [project.store.job(job_id).threads for job_id in started]
    assert threads == [cores, max(1, cores - 1)]
    assert 1 <= cores <= psutil.cpu_count()


def test_progress_is_written_four_times_a_second_at_most_and_the_last_word_always(tmp_path):
    with make_store(tmp_path / "p.sqlite") as store:
        job_id = store.add_job("embed", {}, "ann").job_id
        written = []
        write = store.job_progress
        store.job_progress = lambda *args: (written.append(args), write(*args))[1]
        progress = job_task._Progress(store, job_id)
        begun = time.monotonic()
        for done in range(3000):
            progress(done, 3000)
        progress.flush()

        assert len(written) <= 2 + 4 * (time.monotonic() - begun)
        assert (store.job(job_id).done, store.job(job_id).total) == (2999, 3000)


# Failed


def test_an_unexpected_failure_is_one_line_and_its_traceback_is_in_the_log(project, monkeypatch):
    # It also says what the worker finds when it starts: threads are set before torch is loaded.
    body = """
names = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
found = " ".join(os.environ[name] for name in names)
raise RuntimeError(f"{found}\\ntorch loaded: {'torch' in sys.modules}")
"""
    job = jobs.wait(project, start_doing(project, body, monkeypatch, threads=3))

    assert job.state == "failed"
    assert job.reason == "RuntimeError: PASSIVE 3 3 torch loaded: False"
    assert "Traceback" in jobs.log_path(project, job).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (UserError("no masks: label a slice"), "no masks: label a slice"),
        (StoreError("the disk is full: free some"), "the disk is full: free some"),
        (MemoryError("12 GB"), "memory ran out (MemoryError: 12 GB): close other programs"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), "memory ran out"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
    ids=["user", "store", "memory", "memory of the GPU", "a fault of ours"],
)
def test_why_a_step_failed_is_one_line(project, monkeypatch, failure, reason):
    def doctor(
        project: Project, settings: DoctorSettings, on_progress: Callable[[int, int], None]
    ) -> None:
        raise failure

    doctor.__module__ = workflow.__name__
    monkeypatch.setattr(workflow, "doctor", doctor)

    state, said = job_task._outcome(project, project.store.add_job("doctor", {}, "ann"))

    assert (state, said.startswith(reason)) == ("failed", True), said
    assert "\n" not in said


def test_settings_of_an_older_program_that_no_longer_fit_are_named(project):
    job = project.store.add_job("doctor", {"thorough": True}, "ann")
    assert job_task._outcome(project, job)[1].startswith("the setting thorough does not fit")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_killed_worker_is_a_failed_job_that_names_the_signal(project, monkeypatch):
    started = [start_doing(project, IDLE, monkeypatch) for _ in range(2)]
    for job_id, number in zip(started, (signal.SIGKILL, signal.SIGTERM), strict=True):
        os.kill(wait_until(project, job_id, runs).worker_pid, number)

    killed, ended = (jobs.wait(project, job_id) for job_id in started)

    assert (killed.state, ended.state) == ("failed", "failed")
    assert "SIGKILL" in killed.reason
    assert "memory ran out" in killed.reason
    assert "SIGTERM" in ended.reason
    for job in (killed, ended):
        assert_sentence(job.reason)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_worker_ends_with_the_process_that_watches_it_and_whoever_polls_says_so(
    project, monkeypatch
):
    job_id = start_doing(project, STUBBORN, monkeypatch)
    job = wait_until(project, job_id, runs)

    os.kill(job.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while not is_gone(job.worker_pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)

    ended = jobs.wait(project, job_id)
    assert ended.state == "failed"
    assert f"its process {job.pid} is gone" in ended.reason
    assert "SIGKILL" in ended.reason


def test_jobs_whose_process_is_gone_fail_and_those_elsewhere_are_left(tmp_path):
    clock = HandClock()
    with make_store(tmp_path / "p.sqlite", clock=clock) as store:
        here = ProcessMark.of_this_process()
        marks = {
            "alive": here,
            "number given again": ProcessMark(here.host, here.pid, here.started - 3600),
            "no such process": ProcessMark(here.host, 2**22 + 1, here.started),
            "elsewhere": ProcessMark("another computer", here.pid, 0.0),
        }
        for mark in marks.values():
            store.claim_job(store.add_job("embed", {}, "ann").job_id, mark)
        asked = store.add_job("embed", {}, "ann").job_id
        store.claim_job(asked, marks["no such process"])
        store.ask_to_cancel(asked, "ann")
        never = store.add_job("embed", {}, "ann").job_id

        assert store.end_dead_jobs() == [2, 3, asked]
        clock.pass_minutes(2)
        assert store.end_dead_jobs() == [never]

        states = [job.state for job in store.jobs()]
        assert states == ["queued", "failed", "failed", "queued", "cancelled", "failed"]
        assert "resume 2" in store.job(2).reason
        assert "never started" in store.job(never).reason


def test_a_final_state_stays(tmp_path):
    with make_store(tmp_path / "p.sqlite") as store:
        job_id = store.add_job("embed", {}, "ann").job_id
        assert store.end_job(job_id, "done")
        assert not store.end_job(job_id, "failed", "too late")
        assert not store.begin_job(job_id, 1)
        assert not store.job_progress(job_id, 5, 6)
        with pytest.raises(StoreError, match="job 1 is done and has its process"):
            store.claim_job(job_id, ProcessMark.of_this_process())
        job = store.ask_to_cancel(job_id, "ann")
        assert (job.state, job.reason, job.done, job.cancel_asked_at) == ("done", None, 0, None)
        with pytest.raises(UnknownRecordError, match="no job 9 in this project"):
            store.job(9)


def test_a_process_that_cannot_be_started_is_a_failed_job(project, monkeypatch):
    def refuse(*_):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(job_processes, "start", refuse)
    with pytest.raises(UserError, match="could not be started") as refusal:
        jobs.start_job(project, "doctor", DoctorSettings())
    assert_sentence(str(refusal.value))
    assert [job.state for job in jobs.poll(project)] == ["failed"]


@pytest.mark.parametrize(
    ("code", "says"),
    [(-11, "SIGSEGV"), (-9, "memory ran out"), (3, "exit code 3"), (-77, "signal 77")],
)
def test_how_a_worker_ended_is_said_in_words(code, says):
    assert says in job_processes.reason_of_exit(code)
    assert_sentence(job_processes.reason_of_exit(code))


# Cancelled


def test_a_job_is_cancelled_within_two_seconds_whatever_it_computes(project, monkeypatch):
    started = [start_doing(project, body, monkeypatch) for body in (POLITE, BUSY, STUBBORN)]
    for job in [wait_until(project, job_id, runs) for job_id in started]:
        begun = time.monotonic()
        ended = jobs.cancel(project, job.job_id)
        assert (ended.state, ended.reason) == ("cancelled", "it was cancelled")
        while not is_gone(job.worker_pid):  # it may be on its way out
            time.sleep(0.02)
        assert time.monotonic() - begun < 2.0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGSTOP")
def test_a_job_whose_watching_process_does_not_answer_is_cancelled_too(project, monkeypatch):
    job = wait_until(project, start_doing(project, STUBBORN, monkeypatch), runs)
    os.kill(job.pid, signal.SIGSTOP)
    begun = time.monotonic()

    ended = jobs.cancel(project, job.job_id)

    assert (ended.state, time.monotonic() - begun < 2.3) == ("cancelled", True)
    assert is_gone(job.worker_pid)


def test_a_job_whose_process_is_not_there_yet_is_cancelled_at_once(project, monkeypatch):
    monkeypatch.setattr(job_processes, "start", lambda *_: 0)
    job_id = jobs.start_job(project, "doctor", DoctorSettings())

    assert jobs.cancel(project, job_id).reason == "it was cancelled before it began"
    with pytest.raises(StoreError, match="job 1 is cancelled"):
        project.store.claim_job(job_id, ProcessMark.of_this_process())


# Queued


def test_one_heavy_job_computes_at_a_time_and_the_next_one_waits_its_turn(project, monkeypatch):
    first = start_doing(project, WAITS, monkeypatch, "embed")
    wait_until(project, first, runs)
    second = start_doing(project, "on_progress(1, 1)", monkeypatch, "embed")
    third = start_doing(project, "on_progress(1, 1)", monkeypatch, "embed")

    queued = wait_until(project, third, lambda job: job.pid)
    assert (queued.state, jobs.poll_job(project, second).state) == ("queued", "queued")
    assert jobs.cancel(project, third).state == "cancelled"
    (project.folder / "go").touch()

    ended = [jobs.wait(project, job_id) for job_id in (first, second)]
    assert [job.state for job in ended] == ["done", "done"]
    assert ended[0].ended_at <= ended[1].started_at
    assert queued.worker_pid is None


# Started again


def test_a_job_that_did_not_finish_is_started_again_with_its_settings(project):
    written = as_json(DoctorSettings(quick=True))
    job_id = project.store.add_job("doctor", written, "ann", threads=1).job_id
    project.store.end_job(job_id, "failed", "no luck: try again")

    again = jobs.resume_job(project, job_id)

    job = jobs.wait(project, again)
    assert (again, job.state, job.threads, job.verb) == (job_id + 1, "done", 1, "doctor")
    assert job.settings == written
    with pytest.raises(UserError, match="is done and needs no resuming") as refusal:
        jobs.resume_job(project, again)
    assert_sentence(str(refusal.value))
    waiting = project.store.add_job("doctor", {}, "ann").job_id
    with pytest.raises(UserError, match="is queued: wait for it"):
        jobs.resume_job(project, waiting)


@pytest.mark.parametrize(
    ("verb", "settings"),
    [
        ("embed", EmbedSettings(out=Path("a.npy").absolute())),
        ("select", SelectSettings(budget=Budget.parse("12"), seed=3)),
        (
            "compare",
            CompareSettings(
                files=(Path("a.npy").absolute(),), budgets=[Budget(share=0.05), Budget(count=7)]
            ),
        ),
        ("import-labels", ImportSettings(unlabelled=4)),
        ("export", ExportSettings(out=Path("x").absolute())),
    ],
)
def test_settings_come_back_from_json_as_they_were(verb, settings):
    assert step_of(verb).read(as_json(settings)) == settings


def test_paths_in_settings_are_made_absolute():
    written = as_json(CompareSettings(files=(Path("a.npy"),), out=Path("b")))
    assert written["files"] == [str(Path("a.npy").absolute())]
    assert written["out"] == str(Path("b").absolute())


def test_a_verb_that_tells_no_progress_or_other_settings_are_refused(project):
    with pytest.raises(
        UserError, match="'init' cannot run as a job: choose one of add-all, pretrain, embed"
    ):
        jobs.start_job(project, "init", EmbedSettings())
    with pytest.raises(TypeError, match="embed takes EmbedSettings"):
        jobs.start_job(project, "embed", DoctorSettings())
    assert jobs.poll(project) == []


def test_waiting_may_be_given_up_and_the_job_goes_on(project):
    job_id = project.store.add_job("embed", {}, "ann").job_id
    project.store.claim_job(job_id, ProcessMark.of_this_process())
    project.store.job_progress(job_id, 1, 9)

    def stop(done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        jobs.wait(project, job_id, stop)
    assert jobs.poll_job(project, job_id).state == "queued"


# The command line


def test_jobs_on_the_command_line(project, command_line):
    assert "no jobs yet" in command_line("jobs", "list").stdout
    assert "no job 4 in this project" in command_line.refusal("jobs", "show", "4")

    selecting = ("select", "--selector", "stratified_random", "--budget", "4", "--background")
    text = command_line(*selecting).stdout
    assert "job 1: select, queued" in text
    assert "jobs cancel 1" in text
    assert command_line.json("jobs", "wait", "1")["state"] == "done"
    assert len(project.store.queries()) == 4
    assert command_line.json("jobs", "show", "1", "--lines", "1")["tail"][0].endswith(" done")
    assert "is done and needs no" in command_line.refusal("jobs", "resume", "1")

    failed = project.store.add_job("doctor", {}, "ann").job_id
    project.store.end_job(failed, "failed", "the disk is full: free some")
    text = command_line("jobs", "wait", failed, code=1).stdout
    assert "job 2: doctor, failed" in text
    assert "the disk is full" in text
    assert "jobs resume 2" in text
    assert command_line.json("jobs", "cancel", failed)["state"] == "failed"
    listed = command_line("jobs", "list").stdout.splitlines()
    assert [line.split()[:3] for line in listed[1:]] == [
        ["2", "doctor", "failed"],
        ["1", "select", "done"],
    ]
