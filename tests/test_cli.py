"""The command line: exit codes, one line for what went wrong, JSON for programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from projectmaking import read_json, write_folder, write_volume
from rich.console import Console
from typer.testing import CliRunner

from napari_activeft import __version__, cli, screen, terminal
from napari_activeft.project import Project

# Needs no vectors.
SELECT = ("select", "--selector", "stratified_random")


@pytest.fixture
def cli_project(command_line, images):
    """A project made by the command line, with label maps, classes and a round of four."""
    command_line.bare("init", command_line.project)
    command_line("add", images, "--labels", "*_gt.nii.gz")
    command_line("classes", "1=bright", "corner:#00ff00")
    command_line(*SELECT, "--budget", "4", "--seed", "1")
    return command_line


def test_the_verbs_stand_in_the_order_of_the_work():
    verbs = [command.name for command in cli.app.registered_commands]
    assert verbs == [
        *("init", "add", "classes", "pretrain", "embed", "select", "compare", "next", "submit"),
        *("import-labels", "train", "predict", "accept", "reject", "approve"),
        *("evaluate", "simulate", "export", "info", "doctor"),
    ]


def test_the_whole_way_through_the_command_line(cli_project, tmp_path):
    out = tmp_path / "out"
    given = cli_project.json("next", "--annotator", "ann", "--out", out)
    cli_project("submit", "--ticket", given["ticket"], "--empty")
    assert cli_project.json("import-labels", "--only-queried")["stored"] == 3
    assert cli_project.json("export")["slices"] == 4
    assert cli_project.json("doctor")["faults"] == []


def test_every_reporting_verb_prints_json(cli_project, images, tmp_path):
    verbs = [
        ["add", images, "--labels", "*_gt.nii.gz"],
        ["classes"],
        [*SELECT, "--budget", "2"],
        ["next", "--annotator", "ann", "--out", tmp_path / "out"],
        ["submit", "--ticket", tmp_path / "out" / "query-0001.json", "--skip", "motion"],
        ["import-labels"],
        ["export", "--format", "coco"],
        ["info"],
        ["doctor", "--quick", "--backup"],
    ]
    for verb in verbs:
        assert isinstance(cli_project.json(*verb), dict)
    other = CliRunner().invoke(cli.app, ["init", str(tmp_path / "q"), "--json"])
    assert json.loads(other.stdout)["name"] == "q"


def test_json_lists_every_problem_and_people_see_twenty(command_line, tmp_path):
    images = write_folder(tmp_path / "many", patients=1, labels=False)
    for number in range(30):
        (images / f"bad{number}.nii.gz").write_bytes(b"")
    command_line.bare("init", command_line.project)

    shown = command_line("add", images)
    assert "30 files passed over" in shown.stderr
    assert "... and 10 more" in shown.stderr
    assert len(command_line.json("add", images)["problems"]) == 30


def test_what_people_read_names_what_was_done(cli_project, images, tmp_path):
    assert "3 volumes known already" in cli_project("add", images, "--ignore", "*_gt*").stdout
    assert "corner" in cli_project("classes").stdout
    assert "round 2: queued 1 slice" in cli_project(*SELECT, "--budget", "1").stdout
    out = cli_project("next", "--annotator", "ann", "--out", tmp_path / "out").stdout
    assert "query-0001.png" in out
    ticket = tmp_path / "out" / "query-0001.json"
    assert "answered (empty slice)" in cli_project("submit", "--ticket", ticket, "--empty").stdout
    assert "imported 11 masks from 3 label maps" in cli_project("import-labels").stdout
    assert "exported 12 slices" in cli_project("export").stdout
    assert "12 slices with an accepted mask" in cli_project("info").stdout
    assert "all is well" in cli_project("doctor").stdout
    nothing = cli_project("next", "--annotator", "ann", "--out", tmp_path / "out").stdout
    assert "no query is free" in nothing


def test_info_names_the_newest_run_and_the_jobs_under_way(project, command_line):
    store = project.store
    told = {"network": "vm_unet_nano"}
    measured = {"monitor": "folds", "score": 0.75, "slices": 4}
    for _ in range(2):
        store.end_run(store.add_run("run", told, "ann").run_id, "done", metrics=measured)
    jobs = [store.add_job(verb, {}, "ann").job_id for verb in ("embed", "train")]
    store.end_job(jobs[0], "done")
    store.job_progress(jobs[1], 3, 9)

    shown = command_line("info").stdout
    assert (
        "run 2: vm_unet_nano from 4 slices, done, mean Dice 0.7500 on labelled cases held back "
        "(1 before it)"
    ) in shown
    assert "job 2: train, queued, 3 of 9" in shown
    assert "job 1" not in shown
    info = command_line.json("info")
    assert [(run["run"], run["score"]) for run in info["runs"]] == [(2, 0.75), (1, 0.75)]
    assert [(job["job"], job["state"]) for job in info["jobs"]] == [(2, "queued"), (1, "done")]


def test_names_are_shown_as_they_are_and_not_as_markup(command_line, tmp_path):
    folder = tmp_path / "[red] :heart: [/]"
    write_volume(folder / "a [bold].nii.gz")
    (folder / "b :smile: [x].nii.gz").write_bytes(b"")
    command_line.bare("init", command_line.project, "--name", "[blink] :heart:")
    command_line("classes", "1=[i] tooth")

    shown = command_line("add", folder)

    assert "b :smile: [x].nii.gz" in shown.stderr
    info = command_line("info").stdout
    assert "[blink] :heart:" in info
    assert "[i] tooth" in info


# Which project


def test_a_project_is_found_from_inside(cli_project, monkeypatch):
    (cli_project.project / "a").mkdir()
    monkeypatch.chdir(cli_project.project / "a")
    result = cli_project.bare(*SELECT, "--budget", "0.05")
    assert "queued 1 slice" in result.stdout


def test_a_project_is_found_by_the_environment(cli_project, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAPARI_ACTIVEFT_PROJECT", str(cli_project.project))
    assert json.loads(cli_project.bare("info", "--json").stdout)["name"] == "project"


def test_the_annotator_may_come_from_the_environment(cli_project, monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_ACTIVEFT_ANNOTATOR", "Åsa")
    given = cli_project.json("next", "--out", tmp_path / "out")
    assert read_json(Path(given["ticket"]))["annotator"] == "Åsa"


def test_init_and_doctor_take_the_folder_as_argument(command_line):
    command_line.bare("init", command_line.project)
    assert "all is well" in command_line.bare("doctor", command_line.project).stdout
    command_line("doctor")


def test_info_works_outside_of_a_project(command_line, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shown = json.loads(command_line.bare("info", "--json").stdout)
    assert shown["folder"] is None
    assert shown["program"]["napari-activeft"] == __version__
    assert "no project here" in command_line.bare("info").stdout
    assert command_line.refusal("info")


# Exit code 1: something that can be mended, in one line


def test_refusals_are_one_line_on_standard_error(cli_project, images, tmp_path, monkeypatch):
    missing = tmp_path / "gone"
    (tmp_path / "t.json").write_text("{}")
    refused = [
        (["add", missing], "there is nothing at"),
        (["add", images, "--labels", "*_seg.nii.gz"], "no file in"),
        (["add", images, "--case", "(a)(b)"], "has 2 groups"),
        (["add", images, "--split", missing], "cannot be read"),
        (["classes", "0=background"], "choose 1 to 65534"),
        (["classes", "--remove", "9"], "none of that value"),
        (["select", "--budget", "9"], "only 8 slices"),
        (["select", "--budget", "0.001"], "rounds to no slice"),
        (["select", "--selector", "best"], "not known"),
        (["select", "--budget", "2"], "run `napari-activeft embed`"),
        (["select", "--budget", "2", "--selector", "entropy"], "needs the uncertainty"),
        (["submit", "--ticket", missing, "--empty"], "cannot be read"),
        (["submit", "--ticket", tmp_path / "t.json", "--empty"], "is no ticket"),
        (["export"], "accepted mask"),
        (["init"], "is a project already"),
    ]
    for verb, said in refused:
        line = cli_project.refusal(*verb)
        assert said in line, verb
        assert "should not happen" not in line
    monkeypatch.chdir(tmp_path)
    result = cli_project.bare("select", code=1)
    assert "lies in no project" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_folder_that_is_no_project_is_refused(command_line):
    assert "is no project" in command_line.refusal("doctor")


def test_a_database_of_something_else_is_refused(command_line):
    command_line.project.mkdir()
    (command_line.project / "project.sqlite").write_bytes(b"no database" * 100)
    assert "should not happen" not in command_line.refusal("info")


def test_a_stale_submit_is_refused_and_kept(cli_project, tmp_path):
    arguments = ["next", "--annotator", "ann", "--out", tmp_path / "ann", "--minutes", "1e-7"]
    late = cli_project.json(*arguments)["ticket"]
    mine = cli_project.json("next", "--annotator", "ben", "--out", tmp_path / "ben")["ticket"]
    cli_project("submit", "--ticket", mine, "--empty")

    line = cli_project.refusal("submit", "--ticket", late, "--empty")

    assert "--on-top" in line
    with Project.open(cli_project.project) as project:
        assert project.store.mask_count() == 2
    cli_project("submit", "--ticket", late, "--empty", "--on-top")


def test_strict_exits_with_1_after_doing_all_it_could(command_line, images, tmp_path):
    (images / "bad.nii.gz").write_bytes(b"")
    command_line.bare("init", command_line.project)
    arguments = ["add", images, "--labels", "*_gt.nii.gz"]

    assert command_line.json(*arguments, "--strict", code=1)["added"] == 3
    assert command_line.json(*arguments, code=0)["known"] == 3
    # No classes yet, so no label map can be imported.
    assert command_line.json("import-labels", "--strict", code=1)["stored"] == 0
    command_line("import-labels")


def test_doctor_exits_with_1_if_something_is_wrong(cli_project, images):
    (images / "patient1" / "p1_frame1.nii.gz").unlink()
    assert "is missing" in cli_project("doctor", code=1).stdout
    assert len(cli_project.json("doctor", code=1)["faults"]) == 1


def test_what_should_not_happen_is_one_line_too(cli_project, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("napari_activeft.workflow.info", broken)
    (line,) = cli_project("info", code=1).stderr.splitlines()
    assert "should not happen (RuntimeError: two lines)" in line
    monkeypatch.setenv("NAPARI_ACTIVEFT_DEBUG", "1")
    result = CliRunner().invoke(cli.app, ["info", "--project", str(cli_project.project)])
    assert isinstance(result.exception, RuntimeError)


# Exit code 2: wrong usage


@pytest.mark.parametrize(
    "arguments",
    [
        ["unknown"],
        ["add"],
        ["add", ".", "--unknown"],
        ["select", "--budget", "abc"],
        ["select", "--budget", "1.5"],
        ["select", "--budget", "0"],
        ["select", "--budget", "-1"],
        ["select", "--seed", "x"],
        ["export", "--format", "dicom"],
        ["next", "--out", "x"],
        ["next", "--annotator", "ann"],
        ["next", "--annotator", "", "--out", "x"],
        ["next", "--annotator", "a", "--out", "x", "--minutes", "0"],
        ["submit", "mask.png"],
        ["submit", "--ticket", "t.json"],
        ["submit", "mask.png", "--ticket", "t.json", "--empty"],
        ["submit", "--ticket", "t.json", "--empty", "--seconds", "-1"],
        ["add", ".", "--val-share", "1.5"],
        ["add", ".", "--val-share", "0.7", "--test-share", "0.7"],
        ["add", ".", "--val-share", "0.1", "--split", "s.csv"],
    ],
)
def test_wrong_usage_exits_with_2(cli_project, arguments):
    result = cli_project(*arguments, code=2)
    assert result.stdout == ""
    assert result.stderr


def test_init_needs_a_folder_and_a_plane_that_exists(command_line, tmp_path):
    command_line.bare("init", code=2)
    command_line.bare("init", tmp_path / "x", "--plane", "sagittal", code=2)
    assert not (tmp_path / "x").exists()


def test_version_and_help(command_line):
    assert command_line.bare("--version").stdout == f"napari-activeft {__version__}\n"
    assert "import-labels" in command_line.bare("-h").stdout
    for command in cli.app.registered_commands:
        assert "--" in command_line.bare(command.name, "--help").stdout


# The terminal


def test_a_progress_bar_is_shown_on_a_terminal_only(monkeypatch, capsys):
    with terminal.progress("working") as on_progress:
        on_progress(1, 2)
    assert capsys.readouterr().err == ""

    class Terminal:
        def __init__(self) -> None:
            self.text = ""

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            self.text += text
            return len(text)

        def flush(self) -> None:
            pass

    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(screen, "err", Console(file=shown, force_terminal=True))
    with terminal.progress("working") as on_progress:
        on_progress(1, 2)
    assert "working" in shown.text
    assert "1/2" in shown.text


def test_long_paths_are_not_broken_over_lines(command_line, tmp_path):
    long = tmp_path / ("folder " * 30).strip()
    shown = command_line.bare("init", long).stdout
    assert str(long) in shown


def test_main_reads_the_arguments_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["napari-activeft", "--version"])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 0
    assert __version__ in capsys.readouterr().out
