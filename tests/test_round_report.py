"""A round's report: what a solver fell short of, later rounds, and what is refused."""

import re

import numpy as np
import pytest

from napari_activeft import choosing, workflow
from napari_activeft.errors import Cancelled
from napari_activeft.round_report import solver_notes
from napari_activeft.settings import Budget, EmbedSettings, SelectSettings


@pytest.fixture
def embedded(project):
    workflow.embed(project, EmbedSettings())
    return project


def chosen(project, count, **options):
    return workflow.select(project, SelectSettings(budget=Budget(count=count), **options))


def test_the_second_round_is_set_against_a_fresh_selection_of_all(embedded):
    first = chosen(embedded, 2)
    second = chosen(embedded, 3)

    stored = embedded.store.rounds()[1].report
    assert first.against_fresh is None
    assert second.against_fresh == stored["against_fresh"] > 0
    page = second.page.read_text(encoding="utf-8")
    assert f"{second.against_fresh:.3f} times as far from the pool" in page
    assert "The 2 slices asked before count in every line." in page
    assert "slices to annotate in this round" in page
    assert "kmeans" in page


def test_a_large_pool_is_not_chosen_from_anew_and_that_is_said(embedded, monkeypatch):
    chosen(embedded, 2)
    monkeypatch.setattr(choosing, "MODEST", 10)

    result = chosen(embedded, 2)

    assert result.against_fresh is None
    assert any("No fresh selection of 4 slices" in note for note in result.notes)


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

    (note,) = solver_notes(centres)

    assert re.search(r"entropic stage.*marginal error 3.0e-02.*exact plan", note)
    assert "masses" in solver_notes({"plan": {"kind": "lists", "marginal_error": 1e-3}})[0]
    assert "limit of walks" in solver_notes({"search_finished": False})[0]
    assert solver_notes({"converged": True, "marginal_error": 1e-9}) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": -1}, "greater than or equal to 0"),
        ({"selector": "random", "activeft": {"lam": 1}}, "does not read them"),
        ({"activeft": {"uncertainty": 0.5}}, "neither scores nor costs"),
        ({"activeft": {"cost_weight": 0.5}}, "neither scores nor costs"),
    ],
)
def test_settings_that_cannot_act_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        SelectSettings.model_validate(options)


def test_a_setting_of_no_such_name_is_answered_with_the_names(command_line):
    result = command_line.bare("select", "--set", "foo=1", code=2)

    assert "foo" in result.stderr
    assert "lam" in result.stderr


def test_ctrl_c_says_that_no_round_was_queued(command_line, images, monkeypatch):
    command_line.bare("init", command_line.project)
    command_line("add", images)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "select", stop)
    assert "no round was queued" in command_line("select", code=1).stderr


@pytest.mark.parametrize("budget", [2.5, True])
def test_a_budget_that_is_no_whole_number_is_refused(budget):
    from napari_activeft.errors import UserError
    from napari_activeft.selection import select

    with pytest.raises(UserError, match="whole number"):
        select(None, budget, keys=["a", "b", "c"], selector="random")


def test_caps_that_leave_nothing_do_not_advise_a_budget_of_none():
    from napari_activeft.errors import UserError
    from napari_activeft.selection import Caps, select

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
