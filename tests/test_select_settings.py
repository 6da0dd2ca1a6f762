"""The settings of `select`: what is refused, and how they look as a command line."""

import re
import shlex
import sys
from types import SimpleNamespace

import pytest

from napari_activeft import choosing, extras, workflow
from napari_activeft.cli import round_verbs
from napari_activeft.errors import UserError
from napari_activeft.reports import projection
from napari_activeft.select_arguments import as_command
from napari_activeft.settings import (
    Budget,
    EmbedSettings,
    SelectSettings,
)


@pytest.fixture
def embedded(project):
    workflow.embed(project, EmbedSettings(encoder="pixels_pca"))
    return project


def chosen(project, count, **options):
    return workflow.select(project, SelectSettings(budget=Budget(count=count), **options))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": -1}, "greater than or equal to 0"),
        ({"selector": "random", "activeft": {"lam": 1}}, "does not read them"),
        ({"activeft": {"uncertainty": 0.5}}, "no run to take it from: name one with --uncertainty"),
        ({"activeft": {"cost_weight": 0.5}}, "have no costs"),
        ({"uncertainty": 1, "selector": "random"}, "the selector random, which does not read it"),
        ({"uncertainty": 0}, "greater than or equal to 1"),
        ({"uncertainty": "run-none"}, "write a number, such as 1 or run-001"),
    ],
)
def test_settings_that_cannot_act_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        SelectSettings.model_validate(options)


def test_a_map_by_umap_is_refused_before_anything_is_chosen(embedded, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    monkeypatch.setattr(choosing, "choose", None)

    with pytest.raises(UserError, match="pip install umap-learn, or leave --map-by out"):
        chosen(embedded, 2, map_by="umap")
    assert embedded.store.rounds() == []


def test_a_map_by_umap_is_drawn_where_it_is_installed(embedded, monkeypatch):
    class UMAP:
        def __init__(self, **options):
            pass

        def fit_transform(self, rows):
            return rows[:, :2]

    monkeypatch.setattr(extras, "find_spec", lambda name: True)
    monkeypatch.setattr(projection, "_UMAP_LEAST_ROWS", 12)
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=UMAP))

    page = chosen(embedded, 2, map_by="umap").page.read_text(encoding="utf-8")

    assert "(UMAP of its features)" in page


@pytest.mark.parametrize(
    ("options", "command"),
    [
        ({}, "--budget 0.05 --selector activeft --encoder hog"),
        (
            {
                "budget": Budget(count=32),
                "per_volume": 2,
                "seed": 3,
                "activeft": {"cover_cases": False, "rho": 2.5},
            },
            "--budget 32 --selector activeft --encoder hog --seed 3 --per-volume 2 "
            "--set rho=2.5 --set cover_cases=false",
        ),
        ({"selector": "kmeans", "gap": 2}, "--budget 0.05 --selector kmeans --encoder hog --gap 2"),
        (
            {"uncertainty": "run-012", "activeft": {"uncertainty": 0.5}},
            "--budget 0.05 --selector activeft --encoder hog --uncertainty 12 "
            "--set uncertainty=0.5",
        ),
        ({"map_by": "umap"}, "--budget 0.05 --selector activeft --encoder hog --map-by umap"),
    ],
)
def test_the_command_that_is_shown_gives_the_same_settings(
    command_line, monkeypatch, options, command
):
    settings = SelectSettings.model_validate({**options, "encoder": "hog"})
    shown = as_command(settings, "hog")
    asked = []
    command_line.bare("init", command_line.project)
    monkeypatch.setattr(workflow, "select", lambda project, given, _: asked.append(given))
    monkeypatch.setattr(round_verbs, "report", lambda *_: None)

    command_line(*shlex.split(shown)[1:])

    words = shown.removeprefix("napari-activeft select ").split(" --")
    assert sorted(words) == sorted(command.split(" --"))
    assert asked == [settings]


def test_the_page_shows_the_command_and_folds_every_setting_away(embedded):
    page = chosen(embedded, 2, gap=2).page.read_text(encoding="utf-8")

    assert "select --budget 2 --selector activeft --encoder pixels_pca --gap 2</code>" in page
    folded = page.split("<summary>Every setting, defaults included</summary>")[1]
    assert "--set lam" in folded
    assert "--emptiness" in folded
    assert "budget count" not in page


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nope", "no encoder is called 'nope': this project was embedded by pixels_pca; name one"),
        ("pixel_pca", "(did you mean pixels_pca?)"),
        ("hog", "not embedded yet by hog: run `napari-activeft embed --encoder hog`, or choose"),
    ],
)
def test_an_encoder_without_vectors_is_answered_by_what_there_is(embedded, name, said):
    with pytest.raises(UserError, match=re.escape(said)) as refusal:
        chosen(embedded, 2, encoder=name)
    assert "embed --encoder nope" not in str(refusal.value)


def test_an_unknown_encoder_of_a_project_without_vectors_is_answered_by_the_known_ones(project):
    with pytest.raises(UserError, match=r"is called 'nope'.*for one of pixels_pca, hog, vmamba"):
        chosen(project, 2, encoder="nope")


def test_a_setting_out_of_range_is_named_as_it_was_typed(command_line):
    result = command_line.bare("select", "--set", "nearest=2", code=2)

    assert "--set nearest: " in result.stderr
    assert "'2' was given" in result.stderr


def test_a_setting_of_no_such_name_is_answered_with_the_names(command_line):
    result = command_line.bare("select", "--set", "foo=1", code=2)

    assert "foo" in result.stderr
    assert "lam" in result.stderr
