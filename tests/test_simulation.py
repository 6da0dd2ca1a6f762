"""simulate: labels that are there act as the annotator, and cells survive whatever happens."""

from __future__ import annotations

import io
import math
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("torch")

from filelock import FileLock
from pagereading import read_page, see_self_contained
from PIL import Image
from projectmaking import assert_sentence, make_project, read_json
from pydantic import ValidationError
from simulationmaking import (
    DEPTH,
    POOL,
    STEPS,
    TEST,
    asked,
    copied,
    read_csv,
    recipe,
    write_images,
)

from napari_activeft import workflow
from napari_activeft.errors import Cancelled, UserError
from napari_activeft.reports.pen import Canvas
from napari_activeft.settings import Budget, SimulateSettings, TrainSettings
from napari_activeft.simulation import running
from napari_activeft.simulation.chain import NETWORKS
from napari_activeft.simulation.curves import interval
from napari_activeft.simulation.material import Material
from napari_activeft.simulation.plan import recipe_hash
from napari_activeft.simulation.study import rows_to_test, steps_of
from napari_activeft.training.metrics import measure


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory, images):
    """A project that no test changes: 12 cases, some of them kept as test."""
    folder = tmp_path_factory.mktemp("shared") / "project"
    with make_project(folder, images, labels="*_gt.nii.gz", test_share=0.5) as made:
        yield made


@pytest.fixture(scope="module")
def made(shared, tmp_path_factory):
    """A simulation of two selectors and the ceiling, which tests read and copy."""
    return workflow.simulate(shared, asked(tmp_path_factory.mktemp("made")))


# What is made


def test_every_selector_budget_and_seed_is_a_cell_and_the_ceiling_is_trained_once(made):
    cells = read_csv(made.folder / "cells.csv")

    assert Counter((one["selector"], one["slices"]) for one in cells) == {
        ("random", "4"): 2,
        ("stratified_random", "4"): 2,
        ("all", str(DEPTH * POOL)): 2,
    }
    assert {one["steps"] for one in cells} == {str(STEPS)}
    assert (made.cells, made.total, made.reused) == (6, 6, 0)
    assert {one["start"] for one in cells} == {"random weights"}


def test_nothing_is_stored_in_the_project(made, shared):
    assert made.cells
    assert not shared.store.rounds()
    assert not shared.store.queries()
    assert not shared.store.accepted()
    assert not shared.store.runs()


def test_networks_learn_from_picks_of_the_pool_and_are_measured_on_other_cases(made, shared):
    split = {volume.name: volume.split for volume in shared.store.volumes()}
    picks, cases = read_csv(made.folder / "picks.csv"), read_csv(made.folder / "cases.csv")

    assert {split[one["volume"]] for one in picks} == {"pool"}
    assert {one["volume"] for one in cases} == {v for v, where in split.items() if where == "test"}
    of_cell = Counter(one["cell"] for one in picks)
    assert all(
        of_cell[one["cell"]] == int(one["slices"]) for one in read_csv(made.folder / "cells.csv")
    )


@pytest.mark.parametrize("largest", [False, True])
def test_the_dice_of_a_cell_is_that_of_its_network_on_whole_volumes(shared, tmp_path, largest):
    from napari_activeft.prediction.predictor import Predictor
    from napari_activeft.prediction.stacking import stacked
    from napari_activeft.training.run_files import SavedNetwork

    settings = asked(
        tmp_path,
        selectors=("random",),
        budgets=(Budget(count=6),),
        seeds=1,
        largest=largest,
        keep=True,
    )
    result = workflow.simulate(shared, settings)

    (folder,) = (tmp_path / NETWORKS).iterdir()
    predictor = Predictor.load(
        SavedNetwork.read(folder), device="cpu", precision="float32", tta="none"
    )
    material = Material(shared, settings)
    predicted = {
        one.volume.name: stacked(predictor, one.stack, lambda _: None).labels
        for one in material.divisions[0].tested
    }
    cleaned = {name: _largest_components(labels) for name, labels in predicted.items()}
    assert any((cleaned[name] != predicted[name]).any() for name in predicted)
    wanted = [
        measure(
            material.whole_truth(one.volume),
            (cleaned if largest else predicted)[one.volume.name],
            (1, 2),
            (5.0, 1.0, 1.0),
        )
        for one in material.divisions[0].tested
    ]
    (point,) = result.points
    assert point["dice"] == pytest.approx(np.mean([one[0]["dice"] for one in wanted]))
    assert point["dice_1_bright"] == pytest.approx(np.mean([one[1]["dice"] for one in wanted]))
    assert len(wanted) == TEST


def _largest_components(labels):
    """Return the largest component of each class, by scipy."""
    from scipy import ndimage

    kept = np.zeros_like(labels)
    for value in (1, 2):
        components, count = ndimage.label(labels == value, np.ones((3, 3, 3)))
        if count:
            sizes = np.bincount(components.ravel())[1:]
            kept[components == 1 + np.argmax(sizes)] = value
    return kept


def test_curves_and_pages_hold_every_point_with_its_interval(made):
    told = read_json(made.folder / "summary.json")
    html = made.page.read_text(encoding="utf-8")
    lines = read_csv(made.folder / "curves.csv")

    see_self_contained(html)
    assert "<svg" in html
    assert [one["selector"] for one in lines] == ["random", "stratified_random", "all"]
    for line, point in zip(lines, made.points, strict=True):
        assert float(line["dice"]) == point["dice"]
        assert point["dice_low"] <= point["dice"] <= point["dice_high"]
        assert any(f"{point['dice']:.3f}" in text for text in read_page(html).texts)
    assert told["points"] == made.points
    (difference,) = made.differences
    assert difference["excess"] == pytest.approx(made.points[1]["dice"] - made.points[0]["dice"])
    assert difference["pairs"] == 2 * TEST


def test_the_learning_curve_is_a_png_that_shows_both_selectors(made):
    (path,) = made.pictures
    picture = np.asarray(Image.open(io.BytesIO(path.read_bytes())))

    assert picture.shape[2] == 3
    for ink in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
        assert (picture == ink).all(2).sum() > 100


# What goes on


def test_cells_that_are_there_are_taken_and_only_new_ones_are_made(made, shared, tmp_path):
    folder = copied(made, tmp_path)
    before = (folder / "cells.csv").read_bytes()
    again = workflow.simulate(shared, asked(folder))
    assert (again.cells, again.reused) == (6, 6)
    assert (folder / "cells.csv").read_bytes() == before
    assert again.points == made.points

    fewer = asked(folder, selectors=("random",), budgets=(Budget(count=4), Budget(count=3)))
    more = workflow.simulate(shared, fewer)
    assert (more.cells, more.reused) == (4, 2)
    assert (folder / "cells.csv").read_bytes().startswith(before)


def test_a_count_that_is_a_share_made_before_stands_beside_what_is_new(made, shared, tmp_path):
    folder = copied(made, tmp_path)
    pool, first = POOL * DEPTH, asked(folder).budgets[0]
    share = Budget(share=first.slices(pool, pool) / pool)

    result = workflow.simulate(shared, asked(folder, budgets=(share,), seeds=3))

    assert (result.cells, result.reused) == (6, 4)
    told = [(one["selector"], one["budget"], one["seeds"]) for one in result.points]
    assert told == [("random", "16.6667%", 3), ("stratified_random", "16.6667%", 3)]
    assert [one["selector"] for one in result.differences] == ["stratified_random"]


def test_cells_of_other_code_are_made_again_unless_they_are_trusted(
    made, shared, tmp_path, monkeypatch
):
    folder = copied(made, tmp_path)
    quick = {"selectors": ("random",), "budgets": (Budget(count=4),), "seeds": 1}
    monkeypatch.setattr("napari_activeft.simulation.plan.code_hash", lambda: "another")

    trusted = workflow.simulate(shared, asked(folder, trust=True))
    assert trusted.reused == 6
    assert any("trusted" in note for note in trusted.notes)
    again = workflow.simulate(shared, asked(folder, **quick))
    assert again.reused == 0
    assert len(read_csv(folder / "cells.csv")) == 7


def test_another_recipe_makes_other_cells_and_what_only_computes_faster_does_not(tmp_path):
    usual = recipe_hash(asked(tmp_path))

    assert recipe_hash(asked(tmp_path, train=recipe(threads=2, workers=1))) == usual
    for other in (
        {"train": recipe(lr=0.01)},
        {"train": recipe(steps=4)},
        {"emptiness": 0.1},
        {"tta": "flips"},
        {"largest": True},
        {"folds": 3},
    ):
        assert recipe_hash(asked(tmp_path, **other)) != usual


def test_a_line_that_a_killed_process_left_is_made_again_to_the_same_figures(
    made, shared, tmp_path
):
    folder = copied(made, tmp_path)
    whole = (folder / "cells.csv").read_bytes()
    (folder / "cells.csv").write_bytes(whole[:-40])

    again = workflow.simulate(shared, asked(folder))

    assert again.reused == 5
    assert [one["dice"] for one in again.points] == [one["dice"] for one in made.points]
    assert len(read_csv(folder / "cells.csv")) == 6


def test_a_stopped_training_goes_on_where_it_was_and_comes_to_the_same(made, shared, tmp_path):
    def stop(done, total):
        if 60 <= done % 100 < 70:  # the second of three steps
            raise Cancelled

    settings = asked(tmp_path, selectors=("random",), budgets=(Budget(count=4),), seeds=1)
    with pytest.raises(Cancelled):
        workflow.simulate(shared, settings, stop)
    (folder,) = (tmp_path / NETWORKS).iterdir()
    assert not (tmp_path / "cells.csv").exists()

    workflow.simulate(shared, settings)
    first = read_csv(made.folder / "cells.csv")[0]
    (cell,) = read_csv(tmp_path / "cells.csv")
    assert (cell["selector"], cell["seed"], cell["dice"]) == ("random", "0", first["dice"])
    assert not folder.exists()


def test_a_chain_at_which_another_process_is_comes_when_that_is_done(shared, tmp_path):
    settings = asked(tmp_path, budgets=(Budget(count=4),), seeds=1)
    material = Material(shared, settings)
    plan = running.chains(material, settings)
    under = running.conditions(material, settings)
    (tmp_path / ".chains").mkdir()
    held = FileLock(tmp_path / ".chains" / f"{under.plan_of(plan[0], 1)}.lock")
    held.acquire()

    def let_go(done, total):
        if done >= 100:
            held.release()

    result = workflow.simulate(shared, settings, let_go)
    assert [one["selector"] for one in read_csv(tmp_path / "cells.csv")] == [
        "stratified_random",
        "random",
    ]
    assert result.cells == 2


def test_progress_rises_to_the_end(shared, made, tmp_path):
    seen = []
    settings = asked(copied(made, tmp_path), seeds=3, budgets=(Budget(count=4),))
    workflow.simulate(shared, settings, lambda done, total: seen.append((done, total)))

    assert seen == sorted(seen)
    assert seen[-1] == (600, 600)
    assert any(400 < done < 500 for done, _ in seen)


def test_a_chain_that_fails_stops_no_other(shared, tmp_path, monkeypatch):
    from napari_activeft.simulation import chain

    def choose(material, asked_chain, *rest, **more):
        if asked_chain.selector == "random":
            raise UserError("this choice cannot be made: take another")
        return [0, 5, 9, 13]

    monkeypatch.setattr(chain, "choose_rows", choose)
    result = workflow.simulate(shared, asked(tmp_path, budgets=(Budget(count=4),), seeds=1))

    assert result.cells == 1
    (problem,) = result.problems
    assert "random" in problem.path
    assert "cannot be made" in result.page.read_text(encoding="utf-8")
    with pytest.raises(UserError, match="cannot be made"):
        workflow.simulate(
            shared,
            asked(tmp_path / "none", selectors=("random",), budgets=(Budget(count=4),), seeds=1),
        )


# Folds, rounds, the older study


def test_folds_measure_each_case_of_the_pool_once_and_never_one_that_taught(shared, tmp_path):
    settings = asked(tmp_path, selectors=("random",), budgets=(Budget(count=4),), seeds=1, folds=3)
    result = workflow.simulate(shared, settings)
    pool = {volume.name for volume in shared.store.volumes() if volume.split == "pool"}
    measured = [one for one in read_csv(tmp_path / "cases.csv") if one["class"] == "0"]
    picks = read_csv(tmp_path / "picks.csv")

    assert Counter(one["volume"] for one in measured) == dict.fromkeys(pool, 1)
    for cell in {one["cell"] for one in measured}:
        learnt = {one["volume"] for one in picks if one["cell"] == cell}
        assert not learnt & {one["volume"] for one in measured if one["cell"] == cell}
    (point,) = result.points
    assert (point["cells"], point["cases"]) == (3, len(pool))
    alone = Material(shared, settings.model_copy(update={"fold": 1}))
    assert [one.fold for one in alone.divisions] == [1]


def test_later_rounds_extend_the_first_by_what_its_network_is_least_sure_of(shared, tmp_path):
    settings = asked(
        tmp_path,
        selectors=("entropy", "random"),
        budgets=(Budget(count=5),),
        rounds=2,
        seeds=1,
    )
    result = workflow.simulate(shared, settings)
    cells = {(one["selector"], one["round"]): one for one in read_csv(tmp_path / "cells.csv")}
    picks = {
        key: [one["key"] for one in read_csv(tmp_path / "picks.csv") if one["cell"] == cell["cell"]]
        for key, cell in cells.items()
    }
    first, second = picks["entropy", "1"], picks["entropy", "2"]
    keys = [row.key for row in Material(shared, settings).pool]
    (file,) = (tmp_path / "scores").iterdir()
    scores = dict(zip(keys, np.load(file), strict=True))

    assert (len(first), len(second)) == (2, 5)
    assert second[:2] == first
    free = sorted((key for key in keys if key not in first), key=lambda key: -scores[key])
    assert set(second[2:]) == set(free[:3])
    assert [point["slices"] for point in result.points] == [2, 5, 2, 5]


def test_a_later_round_that_is_missing_is_made_from_what_the_first_left(shared, tmp_path):
    settings = asked(
        tmp_path, selectors=("entropy",), reference="entropy", budgets=(Budget(count=5),), rounds=2
    )
    settings = settings.model_copy(update={"seeds": 1})
    whole = workflow.simulate(shared, settings)
    lines = (tmp_path / "cells.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "cells.csv").write_text("".join(lines[:-1]), encoding="utf-8")

    again = workflow.simulate(shared, settings)

    assert again.reused == 1
    assert [one["dice"] for one in again.points] == [one["dice"] for one in whole.points]


def test_the_study_tests_slices_of_patients_that_taught_and_names_what_differs(shared, tmp_path):
    settings = asked(
        tmp_path,
        recipe="study",
        train=recipe("study"),
        selectors=("random",),
        budgets=(Budget(share=0.5),),
        seeds=1,
        epochs=1,
    )
    result = workflow.simulate(shared, settings)
    (cell,) = read_csv(tmp_path / "cells.csv")
    measured = [one for one in read_csv(tmp_path / "cases.csv") if one["class"] == "0"]
    picks = {(one["volume"], one["position"]) for one in read_csv(tmp_path / "picks.csv")}
    html = result.page.read_text(encoding="utf-8")

    assert not {(one["volume"], one["slice"]) for one in measured} & picks
    assert str(DEPTH - 1) not in {position for _, position in picks}
    assert len(measured) == round(0.1 * 3 * POOL)
    assert int(cell["steps"]) == steps_of(len(picks), 1, 2)
    assert all(one["dice"] for one in measured)
    assert any("leaks patients" in sentence for sentence in result.differs)
    assert any(f"{POOL} cases" in sentence for sentence in result.differs)
    assert read_json(tmp_path / "summary.json")["differs_from_the_study"] == list(result.differs)
    texts = read_page(html).texts
    assert {"0.7515", "0.7314"} <= set(texts)
    assert set(result.differs) <= set(texts)


def test_the_study_draws_a_tenth_of_the_slices_by_seed():
    assert len(rows_to_test(185, 0)) == 19
    assert rows_to_test(185, 0) == rows_to_test(185, 0) != rows_to_test(185, 1)
    assert steps_of(368, 4, 2) == 736


# Intervals


def test_an_interval_draws_cases_and_seeds(rng):
    cases = rng.normal(0.8, 0.05, 12)
    spread = rng.normal(0, 0.05, 4)

    def values(seeds):
        return {(s, f"c{c}", f"v{c}", None): cases[c] + spread[s] for s in seeds for c in range(12)}

    one, four = interval(values([0])), interval(values(range(4)))

    assert one.mean == pytest.approx(cases.mean() + spread[0])
    drawn = np.random.default_rng(3).choice(cases, (4000, 12)).mean(1) + spread[0]
    assert (one.low, one.high) == pytest.approx(np.percentile(drawn, (2.5, 97.5)), abs=0.005)
    assert four.high - four.low > one.high - one.low
    few = interval({(0, f"c{c}", "v", None): 0.5 for c in range(4)})
    assert few.mean == 0.5
    assert math.isnan(few.low)
    assert math.isnan(interval({}).mean)


def test_a_case_counts_by_its_volumes():
    values = {(0, "a", "ed", None): 0.2, (0, "a", "es", None): 0.4, (0, "b", "ed", None): 0.9}

    assert interval(values).mean == pytest.approx(0.5)


def test_letters_are_drawn_where_they_are_asked():
    picture = np.asarray(Image.open(io.BytesIO(Canvas(60, 20).words(10, 2, "|é", (0, 0, 0)).png())))

    assert (picture[2:18, 10:22] == 0).any()
    assert (picture[:, :10] == 255).all()
    assert (picture[2:18, 22:34] == 0).any()  # the second letter as a question mark


# What is refused


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"selectors": ("best",)}, "'best' is not known"),
        ({"selectors": ("bald", "random")}, "several networks"),
        ({"selectors": ("entropy", "random")}, "--rounds 2"),
        ({"reference": "kmeans"}, "not among the selectors"),
        ({"selectors": ("kmeans", "random")}, "napari-activeft embed"),
        ({"networks": ("unet_of_dreams",)}, "no network is called"),
        ({"budgets": (Budget(count=400),)}, f"only {DEPTH * POOL} slices"),
        ({"budgets": (Budget(count=2),), "rounds": 3}, "each needs a slice"),
        ({"folds": 9}, f"9 folds were asked of {POOL} cases"),
        ({"test_split": "val"}, "no volume of the split val"),
    ],
)
def test_what_cannot_be_tried_is_refused(shared, tmp_path, changes, sentence):
    with pytest.raises(UserError, match=sentence) as refusal:
        workflow.simulate(shared, asked(tmp_path / "out", **changes))

    assert_sentence(str(refusal.value))
    assert not (tmp_path / "out" / "cells.csv").exists()


def test_a_pool_without_label_maps_is_refused(images, tmp_path):
    with (
        make_project(tmp_path / "p", images, ignore=("*_gt.nii.gz",)) as project,
        pytest.raises(UserError, match="--labels") as refusal,
    ):
        workflow.simulate(project, asked(tmp_path / "out"))
    assert_sentence(str(refusal.value))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train": TrainSettings(monitor="folds")}, "equal steps"),
        ({"train": TrainSettings(monitor="none", seed=3)}, "told by --seeds"),
        ({"train": TrainSettings(monitor="none", start="run:1")}, "may have learnt"),
        ({"fold": 1}, "give --folds N"),
        ({"folds": 3, "fold": 3}, "give --folds N"),
        ({"folds": 3, "test_split": "val"}, "give one of them"),
        ({"folds": 3, "recipe": "study"}, "leave --folds out"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, sentence):
    with pytest.raises(ValidationError, match=sentence):
        SimulateSettings(**changes)


# The command line


def test_the_command_line_takes_the_training_as_train_does(images, tmp_path, command_line):
    make_project(tmp_path / "project", images, labels="*_gt.nii.gz", test_share=0.5).close()
    train = [
        text
        for name, value in recipe().model_dump().items()
        if value != TrainSettings().model_dump()[name] and name != "monitor"
        for text in ("--set", f"{name}={value}")
    ]
    ask = ("simulate", "--selectors", "random", "--reference", "random", "--budgets", "3")
    shown = command_line(*ask, "--seeds", "1", *train, "--networks", "vm_unet_nano")
    told = command_line.json(*ask, "--seeds", "1", *train)

    assert "1 training of 1 measured" in shown.stdout
    assert "now vm_unet_nano, random, 3 slices, seed 0" in shown.stderr
    assert (told["cells"], told["reused"]) == (1, 1)
    assert told["points"][0]["slices"] == 3
    refusal = command_line(*ask, "--set", "monitor=folds", code=2)
    assert "equal steps" in refusal.stderr
