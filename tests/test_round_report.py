"""A round's report: what a solver fell short of, later rounds, and what was stopped."""

import re
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from projectmaking import add, take_next, write_volume

from napari_activeft import choosing, terminal, workflow
from napari_activeft.errors import Cancelled, UserError
from napari_activeft.interrupts import without_interrupts
from napari_activeft.round_report import (
    RoundPicture,
    measured,
    set_against_fresh,
    solver_notes,
    write_page,
)
from napari_activeft.selection import Caps, select
from napari_activeft.selection.coverage import CoverageMeter
from napari_activeft.selection.coverage_curve import prefix_curve
from napari_activeft.settings import (
    Budget,
    EmbedSettings,
    ImportSettings,
    SelectSettings,
    SubmitSettings,
)
from napari_activeft.vectors import load_vectors


@pytest.fixture
def embedded(project):
    workflow.embed(project, EmbedSettings())
    return project


def chosen(project, count, **options):
    return workflow.select(project, SelectSettings(budget=Budget(count=count), **options))


def asked_before(project, skipped=0):
    """Select two slices of each volume and skip some of them; return the rows of the latter."""
    round_ = chosen(project, 6, selector="fixed_interval")
    assert round_.rw1 is None
    ids = [query.slice_id for query in project.store.queries()][:skipped]
    for _ in range(skipped):
        ticket = take_next(project, project.folder / "out", another=True).ticket
        workflow.submit(project, SubmitSettings(ticket=ticket, skip="blurred"))
    return [at for at, row in enumerate(project.store.pool_slices()) if row.slice_id in ids]


def test_the_second_round_is_set_against_a_fresh_selection_of_all(embedded):
    first = chosen(embedded, 2)
    second = chosen(embedded, 3)

    stored = embedded.store.rounds()[1].report
    assert first.against_fresh is None
    assert not any("afresh" in note or "fresh" in note for note in first.notes)
    assert second.against_fresh == stored["against_fresh"] > 0
    (note,) = (note for note in second.notes if "All 5 slices asked so far stand" in note)
    page = second.page.read_text(encoding="utf-8")
    assert f"<p>{note}</p>" in page  # a plain sentence, no warning
    assert "The 2 slices asked before count in every line." in page
    assert "slices to annotate in this round" in page
    assert "kmeans" in page


@pytest.mark.parametrize(
    ("w1", "said"),
    [
        (1.007, "All 2 slices asked so far stand 0.7 % farther from the pool (W1) than 2 chosen"),
        (0.95, "stand 5.0 % nearer to the pool (W1) than 2 chosen afresh would."),
        (1.0001, "stand as near to the pool (W1) as 2 chosen afresh would."),
    ],
)
def test_the_distance_to_a_fresh_selection_is_said_in_per_cent(w1, said):
    vectors = np.random.default_rng(0).normal(size=(9, 3))
    meter = CoverageMeter(vectors, draws=2)
    fresh = np.array([0, 1])
    figures = replace(meter.figures(fresh), w1=w1 * meter.w1(fresh))
    shown = RoundPicture(meter, figures, prefix_curve(meter, {"mine": [0]}, draws=1))

    (remark,) = set_against_fresh(shown, fresh, "").remarks

    assert said in remark


def test_a_large_pool_is_not_chosen_from_anew_and_that_is_said(embedded, monkeypatch):
    chosen(embedded, 2)
    monkeypatch.setattr(choosing, "MODEST", 10)

    result = chosen(embedded, 2)

    assert result.against_fresh is None
    (note,) = (note for note in result.notes if "No fresh selection of 4 slices" in note)
    assert "12 slices times 4 picks are more than 10, which takes too long" in note


def test_caps_that_a_fresh_selection_cannot_meet_are_named(embedded):
    chosen(embedded, 2, selector="fixed_interval", gap=1)
    workflow.import_labels(embedded, ImportSettings())  # all slices: more than the cap allows
    write_volume(embedded.folder.parent / "more" / "late.nii.gz", seed=99)
    add(embedded, embedded.folder.parent / "more")
    workflow.embed(embedded, EmbedSettings())

    result = chosen(embedded, 1, per_volume=3)

    (note,) = (note for note in result.notes if "No fresh selection of 13 slices" in note)
    assert "caps of 3 slices per volume leave at most 12 of 16 free slices, 1 too few." in note
    assert "too long" not in note


def test_a_later_round_is_set_against_random_slices_beside_the_labelled_ones(embedded):
    first = chosen(embedded, 4)
    second = chosen(embedded, 3)

    assert first.rw1_beside is None
    reports = [one.report["coverage"] for one in embedded.store.rounds()]
    assert "rw1_beside" not in reports[0]
    pool = embedded.store.pool_slices()
    meter = CoverageMeter(load_vectors(embedded, pool)[1])
    ids = [query.slice_id for query in embedded.store.queries()]
    rows = [[row.slice_id for row in pool].index(one) for one in ids]
    draws = []
    for at in range(10):
        others = [row for row in meter.drawn(len(pool), at) if row not in rows[:4]]
        draws.append(meter.w1([*rows[:4], *others[:3]]))
    assert second.rw1_beside == reports[1]["rw1_beside"]
    assert second.rw1_beside == pytest.approx(meter.w1(rows) / np.mean(draws))
    page = second.page.read_text(encoding="utf-8")
    assert "slices asked before kept" in page
    assert "slices asked before kept" not in first.page.read_text(encoding="utf-8")
    assert "than with 3 random slices beside the 4 asked before" in page


def test_baselines_obey_what_the_selection_obeys(embedded, monkeypatch):
    seen = {}

    def measure(pool, vectors, rankings, labelled, *rest):
        seen.update(rankings)
        return measured(pool, vectors, rankings, labelled, *rest)

    skipped = asked_before(embedded, skipped=3)
    monkeypatch.setattr(choosing, "measured", measure)
    result = chosen(embedded, 3, per_volume=3, gap=1)

    assert set(seen) == {"this selection", "stratified_random", "fixed_interval", "kmeans"}
    volumes = [row.volume_id for row in embedded.store.pool_slices()]
    ids = [query.slice_id for query in embedded.store.queries() if query.state != "skipped"][:3]
    had = [row.volume_id for row in embedded.store.pool_slices() if row.slice_id in ids]
    for rows in seen.values():
        assert not set(rows.tolist()) & set(skipped)
        assert max(Counter([*had, *(volumes[row] for row in rows)]).values()) <= 3
    assert result.selected == 3


def test_baselines_weigh_empty_slices_as_the_selection_does(embedded, monkeypatch):
    asked = []

    def spy(*arguments, **options):
        asked.append((options["selector"], options["weights"].tolist(), options["on_progress"]))
        return select(*arguments, **options)

    def on_progress(done, total):
        pass

    monkeypatch.setattr(choosing, "choose", spy)
    settings = SelectSettings(budget=Budget(count=2), emptiness=0.9)
    workflow.select(embedded, settings, on_progress)

    names, weights, heard = zip(*asked, strict=True)
    assert names == ("activeft", "stratified_random", "fixed_interval", "kmeans")
    assert weights[0] == weights[1] == weights[2] == weights[3]
    assert set(heard) == {on_progress}


def test_a_baseline_that_cannot_choose_is_left_out_and_named(embedded, monkeypatch):
    def refuse(*arguments, **options):
        if options["selector"] == "kmeans":
            raise UserError("no memory: take less")
        return select(*arguments, **options)

    monkeypatch.setattr(choosing, "choose", refuse)

    result = chosen(embedded, 2)

    assert "The baseline kmeans is left out: no memory." in result.notes
    assert "kmeans is left out" in result.page.read_text(encoding="utf-8")


def test_work_can_be_stopped_before_the_fresh_selection_is_measured(monkeypatch):
    meter = CoverageMeter(np.eye(3), draws=2)
    curve = prefix_curve(meter, {"mine": [0]}, draws=1)

    def stop(done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        set_against_fresh(RoundPicture(meter, meter.figures([0]), curve), np.array([1]), "", stop)


def test_ctrl_c_after_the_round_is_stored_does_not_keep_its_page_from_being_written(
    embedded, monkeypatch
):
    def interrupted(*arguments):
        assert len(embedded.store.rounds()) == 1
        signal.raise_signal(signal.SIGINT)
        return write_page(*arguments)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(choosing, "write_page", interrupted)

    assert chosen(embedded, 2).page.exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_of_the_main_thread_there_is_nothing_to_hold_back():
    def hold():
        with without_interrupts():
            return signal.getsignal(signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(hold).result() is signal.getsignal(signal.SIGINT)


def test_what_is_stopped_after_the_round_is_queued_does_not_deny_it(
    command_line, images, monkeypatch
):
    command_line.bare("init", command_line.project)
    command_line("add", images)

    @contextmanager
    def progress(what):
        yield lambda done, total: None
        raise KeyboardInterrupt

    monkeypatch.setattr(terminal, "progress", progress)
    result = command_line("select", "--selector", "random", "--budget", "2")

    assert "round 1: queued 2 slices" in result.stdout
    assert result.stderr == ""


def test_a_run_that_is_stopped_while_measuring_leaves_no_round(embedded, monkeypatch):
    def stop(*_):
        raise Cancelled

    monkeypatch.setattr(choosing, "measured", stop)
    with pytest.raises(Cancelled):
        chosen(embedded, 2)
    assert embedded.store.rounds() == []


def test_a_page_that_cannot_be_made_leaves_no_round(embedded, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(choosing, "rendered", fail)
    with pytest.raises(MemoryError):
        chosen(embedded, 2)
    assert embedded.store.rounds() == []


def test_each_stage_that_fell_short_is_named():
    centres = {"entropic": {"converged": False, "marginal_error": 0.03}, "converged": True}

    usual = SelectSettings()
    (note,) = solver_notes(centres, usual)

    assert re.search(r"entropic stage.*marginal error 3.0e-02.*exact plan", note)
    assert "masses" in solver_notes({"plan": {"kind": "lists", "marginal_error": 1e-3}}, usual)[0]
    assert "limit of walks" in solver_notes({"search_finished": False}, usual)[0]
    assert solver_notes({"converged": True, "marginal_error": 1e-9}, usual) == []


def test_who_asks_for_no_walks_is_not_told_of_their_limit(embedded):
    asked = chosen(embedded, 3, activeft={"walks": 0})

    assert embedded.store.rounds()[0].report["search_finished"] is False
    assert not any("walks" in note or "tolerance" in note for note in asked.notes)


def test_ctrl_c_says_that_no_round_was_queued(command_line, images, monkeypatch):
    command_line.bare("init", command_line.project)
    command_line("add", images)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "select", stop)
    assert "no round was queued" in command_line("select", code=1).stderr


@pytest.mark.parametrize("budget", [2.5, True])
def test_a_budget_that_is_no_whole_number_is_refused(budget):
    with pytest.raises(UserError, match="whole number"):
        select(None, budget, keys=["a", "b", "c"], selector="random")


def test_caps_that_leave_nothing_do_not_advise_a_budget_of_none():
    with pytest.raises(UserError) as refusal:
        select(
            None,
            1,
            keys=["a", "b"],
            labelled=[0],
            groups=np.zeros(2, int).tolist(),
            caps=Caps(per_volume=1),
            selector="random",
        )
    assert "1 slice per volume" in str(refusal.value)
    assert "lower the budget" not in str(refusal.value)
