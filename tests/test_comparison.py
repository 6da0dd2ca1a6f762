"""Selectors compared: resumable cells, paired intervals, tables and a page."""

import csv
import dataclasses
import json
import time

import numpy as np
import pytest
from pagereading import browser, in_browser, read_page, see_self_contained
from pydantic import ValidationError

from napari_activeft import comparison_tables
from napari_activeft.comparison import compare
from napari_activeft.comparison_pools import feature_sets
from napari_activeft.comparison_tables import (
    paired_excess,
    read_cells,
    settings_hash,
    summarise,
)
from napari_activeft.errors import UserError
from napari_activeft.feature_sets import FeatureSet
from napari_activeft.selection import Caps, select
from napari_activeft.selection.coverage import coverage
from napari_activeft.settings import CompareSettings, SelectSettings


@pytest.fixture
def pool() -> FeatureSet:
    vectors = np.random.default_rng(0).normal(size=(40, 4))
    return FeatureSet.of(
        "mine", vectors, groups=[row // 8 for row in range(40)], positions=[*range(8)] * 5
    )


def run(pool, out, selectors=("random", "stratified_random"), **other):
    asked = {"budgets": [4, "20%"], "seeds": [0, 1, 2], "draws": 3, "reference": "random"} | other
    return compare([pool], selectors, out=out, **asked)


def test_each_cell_is_the_coverage_of_what_the_selector_chose(pool, tmp_path):
    made = run(pool, tmp_path)

    assert len(made.cells) == 2 * 2 * 3
    cell = made.cells[-1]
    assert (cell.selector, cell.budget, cell.seed) == ("stratified_random", 8, 2)
    rows = select(
        None, 8, keys=pool.keys, groups=pool.groups, selector="stratified_random", seed=2
    ).rows
    about = {"groups": pool.groups, "cases": pool.cases, "positions": pool.positions}
    assert cell.figures == coverage(pool.vectors, rows, **about, draws=3)


def test_a_second_run_takes_what_is_there_and_runs_the_rest(pool, tmp_path):
    asked = []

    def first(pool, budget, seed):
        if pool.name != "warm-up":
            asked.append((budget, seed))
        return range(budget)

    whole = run(pool, tmp_path, {"random": first}, seeds=[0, 1])
    again = run(pool, tmp_path, {"random": first}, seeds=[0, 1, 2])

    assert asked == [(4, 0), (4, 1), (8, 0), (8, 1), (4, 2), (8, 2)]
    assert (whole.reused, again.reused) == (0, 4)
    assert read_cells(tmp_path / "cells.csv") == sorted(again.cells, key=lambda c: c.seed == 2)


def test_a_line_that_a_killed_run_cut_off_is_run_again(pool, tmp_path):
    whole = run(pool, tmp_path)
    path = tmp_path / "cells.csv"
    path.write_text(path.read_text()[:-30])

    again = run(pool, tmp_path)

    assert [c.figures for c in again.cells] == [c.figures for c in whole.cells]
    assert len(read_cells(path)) == 12


def test_random_draws_of_an_earlier_run_are_not_measured_again(pool, tmp_path, monkeypatch):
    run(pool, tmp_path, ["random"])
    monkeypatch.setattr("napari_activeft.selection.coverage.CoverageMeter.drawn", None)

    made = run(pool, tmp_path, ["stratified_random"], reference="stratified_random")

    assert (
        made.cells[0].figures.random_w1 == read_cells(tmp_path / "cells.csv")[0].figures.random_w1
    )


def test_other_vectors_of_the_same_name_are_run_afresh(pool, tmp_path):
    run(pool, tmp_path)
    other = FeatureSet.of("mine", pool.vectors + 1, groups=pool.groups, positions=pool.positions)

    made = run(other, tmp_path)

    assert {cell.digest for cell in made.cells} == {other.digest}
    assert len(read_cells(tmp_path / "cells.csv")) == 24


def test_an_interval_encloses_the_excess_and_is_paired():
    excess, low, high = paired_excess([(1.1 * w1, w1) for w1 in (1.0, 2.0, 3.0, 4.0, 5.0)])

    assert excess == pytest.approx(0.1)
    assert (low, high) == pytest.approx((0.1, 0.1))  # unpaired it would be wide


def test_an_interval_is_that_of_a_bootstrap_by_hand():
    pairs = [(0.9, 1.0)] * 3 + [(1.2, 1.0)] * 2

    excess, low, high = paired_excess(pairs)

    assert excess == pytest.approx(0.02)
    # All five the lower: 0.6^5 = 7.8 %. Five the higher: 1.0 %; four: 7.7 %, so 97.5 % lies there.
    assert (low, high) == pytest.approx((-0.1, 0.14))


def test_fewer_than_five_seeds_give_an_excess_and_no_interval():
    excess, low, high = paired_excess([(0.9, 1.0), (1.1, 1.0), (1.3, 1.0), (1.1, 1.0)])

    assert excess == pytest.approx(0.1)
    assert np.isnan([low, high]).all()


def test_selectors_without_draws_have_no_interval_and_the_page_names_them(pool, tmp_path):
    names = ["fixed_interval", "kcenter", "random"]

    made = run(pool, tmp_path, names, budgets=[4], seeds=range(5), reference="kcenter")

    fixed, _, drawn = made.standings
    assert np.isfinite(fixed.excess)
    assert np.isnan([fixed.low, fixed.high]).all()
    assert drawn.low < drawn.high
    page = made.page.read_text(encoding="utf-8")
    assert "the same with every seed: fixed_interval, kcenter;" in page


@pytest.mark.parametrize(
    "change",
    [{"draws": 4}, {"settings": SelectSettings(gap=2)}],
    ids=["draws", "settings"],
)
def test_cells_made_under_other_conditions_are_not_reused(pool, tmp_path, change):
    run(pool, tmp_path)

    other = run(pool, tmp_path, **change)
    again = run(pool, tmp_path, **change)

    assert (other.reused, again.reused) == (0, 12)
    assert again.cells == other.cells
    assert len(read_cells(tmp_path / "cells.csv")) == 24


def test_cells_of_other_code_are_neither_reused_nor_kept(pool, tmp_path, monkeypatch):
    run(pool, tmp_path)
    monkeypatch.setattr("napari_activeft.comparison.code_hash", lambda: "another")

    made = run(pool, tmp_path, seeds=[0])

    assert made.reused == 0
    assert read_cells(tmp_path / "cells.csv") == made.cells
    assert {cell.code for cell in made.cells} == {"another"}


def test_cells_that_are_trusted_are_reused_whichever_code_made_them(pool, tmp_path, monkeypatch):
    whole = run(pool, tmp_path)
    monkeypatch.setattr("napari_activeft.comparison.code_hash", lambda: "another")

    made = run(pool, tmp_path, seeds=[0, 1, 2, 3], trust=True)

    assert made.reused == 12
    assert read_cells(tmp_path / "cells.csv")[:12] == whole.cells


def test_the_code_has_another_hash_when_a_line_of_a_selector_changes(tmp_path, monkeypatch):
    for name in ("__init__.py", "deep/kmeans.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("k = 1\n")
    monkeypatch.setattr(comparison_tables.selection, "__file__", str(tmp_path / "__init__.py"))
    code_hash = comparison_tables.code_hash.__wrapped__

    before = code_hash()
    (tmp_path / "deep" / "kmeans.py").write_text("k = 2\n")

    assert before != code_hash()
    assert len(before) == 12


@pytest.mark.parametrize("columns", [4, 1], ids=["without settings", "without code"])
def test_an_older_table_can_be_trusted_and_added_to(pool, tmp_path, columns):
    whole = run(pool, tmp_path)
    path = tmp_path / "cells.csv"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    short = [",".join(line[:-columns]) + "\n" for line in lines]
    path.write_text("".join(short))

    again = run(pool, tmp_path, trust=True).cells
    assert [dataclasses.replace(cell, code=whole.cells[0].code) for cell in again] == whole.cells
    assert path.read_text() == "".join(short)
    more = run(pool, tmp_path, seeds=[0, 1, 2, 3], trust=True)
    assert more.reused == 12
    # A program of the older version may still run and add a line of its own.
    with path.open("a") as file:
        file.write(short[-1])
    assert read_cells(path)[-1] == again[-1]
    assert run(pool, tmp_path, settings=SelectSettings(gap=2), trust=True).reused == 0
    assert run(pool, tmp_path).reused == 0


def test_how_the_page_is_laid_out_does_not_act_on_a_cell():
    assert settings_hash(SelectSettings(map_by="umap")) == settings_hash(SelectSettings())


def test_selectors_choose_as_select_does_with_the_same_settings(pool, tmp_path):
    emptiness = np.linspace(0, 1, 40)
    pool = dataclasses.replace(pool, emptiness=emptiness)
    settings = SelectSettings(emptiness=0.9, per_volume=1)

    made = run(
        pool, tmp_path, ["maxherding"], reference="maxherding", budgets=[5], settings=settings
    )

    about = {"groups": pool.groups, "cases": pool.cases, "positions": pool.positions}
    rows = select(
        pool.vectors,
        5,
        keys=pool.keys,
        weights=1 - 0.9 * emptiness,
        caps=Caps(per_volume=1),
        selector="maxherding",
        **about,
    ).rows
    assert made.cells[0].figures == coverage(
        pool.vectors, rows, **about, emptiness=emptiness, draws=3
    )
    assert json.loads(made.cells[0].settings) == {"emptiness": 0.9, "per_volume": 1}
    assert pool.digest != dataclasses.replace(pool, emptiness=None).digest


def test_the_first_call_of_a_selector_is_not_timed(pool, tmp_path):
    names = []

    def slow_at_first(pool, budget, seed):
        names.append(pool.name)
        time.sleep(0.3 if len(names) == 1 else 0)
        return range(budget)

    made = run(pool, tmp_path, {"random": slow_at_first})

    assert names == ["warm-up"] + ["mine"] * 6
    assert max(cell.seconds for cell in made.cells) < 0.3


def test_settings_of_a_comparison_reach_the_selectors():
    asked = {"device": "cpu", "per_case": 2, "per_volume": 1, "gap": 3, "emptiness": 0.1}

    choice = CompareSettings(**asked, activeft={"lam": 0.5}).choice

    assert choice == SelectSettings(**asked, activeft={"lam": 0.5})
    assert CompareSettings().choice == SelectSettings()
    with pytest.raises(ValidationError, match="leave one of both out"):
        CompareSettings(files=["a.npy"], encoder="dino")


def test_a_selector_against_itself_has_no_excess():
    assert paired_excess([(0.0, 0.0)] * 5) == (0.0, 0.0, 0.0)
    assert paired_excess([(0.3, 0.3), (0.1, 0.1)] * 3) == (0.0, 0.0, 0.0)


def test_a_summary_without_the_reference_has_means_and_no_intervals(pool, tmp_path):
    made = run(pool, tmp_path)

    rows = summarise(made.cells, "activeft")

    assert len(rows) == 4
    assert all(np.isnan([row.excess, row.low, row.high]).all() for row in rows)
    mine = [
        cell.figures.rw1 for cell in made.cells if (cell.selector, cell.budget) == ("random", 4)
    ]
    assert rows[0].means["rw1"] == pytest.approx(np.mean(mine))
    assert np.isnan(rows[0].means["rw1_out"])


def test_tables_and_page_hold_every_selector(pool, tmp_path):
    made = run(pool, tmp_path)

    with made.summary_csv.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["selector"] for line in lines] == ["random", "stratified_random"] * 2
    assert float(lines[1]["rw1"]) == made.standings[1].means["rw1"]
    html = made.page.read_text(encoding="utf-8")
    see_self_contained(html)
    assert {"random", "stratified_random", "4 slices", "8 slices"} <= set(read_page(html).texts)


def test_names_of_pools_cannot_break_out_of_the_page(tmp_path):
    pool = FeatureSet.of("<b>&", np.random.default_rng(0).normal(size=(12, 2)))

    html = run(pool, tmp_path, budgets=[3]).page.read_text(encoding="utf-8")

    assert "<b>&" in read_page(html).texts
    assert html.count("<svg") == 0


def test_the_page_runs_without_an_error_in_a_browser(pool, tmp_path):
    browser()
    document, _ = in_browser(run(pool, tmp_path).page.read_text(encoding="utf-8"), tmp_path)

    assert 'data-ready="yes"' in document


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"selectors": ["best"]}, "the selector 'best' is not known"),
        ({"selectors": []}, "give at least one of each"),
        ({"reference": "kmeans"}, "'kmeans' is not among the selectors random, stratified"),
        ({"seeds": []}, "give at least one of each"),
        ({"budgets": [41]}, "a budget of 41 slices was given, but only 40"),
        ({"budgets": ["0.1%"]}, "rounds to no slice"),
    ],
    ids=["selector", "selectors", "reference", "seeds", "too many", "none"],
)
def test_what_cannot_be_compared_is_refused(pool, tmp_path, change, sentence):
    with pytest.raises(UserError, match=sentence):
        run(pool, tmp_path, **change)

    assert not (tmp_path / "cells.csv").exists()


def test_two_pools_of_one_name_are_refused(pool, tmp_path):
    with pytest.raises(UserError, match="rename one of them"):
        compare([pool, pool], ["random"], [4], [0], tmp_path, reference="random")


def test_a_selector_that_spends_another_budget_is_an_error(pool, tmp_path):
    with pytest.raises(ValueError, match="half chose 2 rows instead of 4"):
        run(
            pool,
            tmp_path,
            {"half": lambda pool, budget, seed: range(budget // 2)},
            reference="half",
        )


def test_a_table_of_another_version_is_not_added_to(pool, tmp_path):
    (tmp_path / "cells.csv").write_text("features,selector\na,b\n")

    with pytest.raises(UserError, match="name another folder"):
        run(pool, tmp_path)


def test_progress_counts_every_cell_and_stopping_keeps_them(pool, tmp_path):
    seen = []

    def stop(done, total):
        seen.append((done, total))
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(pool, tmp_path, on_progress=stop)

    assert seen == [(1, 12), (2, 12), (3, 12)]
    assert len(read_cells(tmp_path / "cells.csv")) == 3


def test_a_part_of_a_pool_keeps_names_and_holds_the_others_outside(pool):
    part = pool.part("some", [8, 9, 20], [0, 1])

    assert part.keys == [pool.keys[8], pool.keys[9], pool.keys[20]]
    assert part.groups == [1, 1, 2]
    assert np.array_equal(part.outside, pool.vectors[:2])
    assert part.digest != pool.digest


@pytest.mark.parametrize(
    ("value", "what"), [(0.0, "is zero"), (np.nan, "holds NaN"), (np.inf, "holds NaN or infinity")]
)
@pytest.mark.parametrize("name", ["pool.npy", "outside.npy"])
def test_vectors_of_a_file_without_direction_are_refused_by_row(tmp_path, value, what, name):
    paths = [tmp_path / "pool.npy", tmp_path / "outside.npy"]
    for path in paths:
        vectors = np.eye(4)
        vectors[2] = value if path.name == name else 1.0
        np.save(path, vectors)
    settings = CompareSettings(files=(paths[0],), outside=paths[1])
    with pytest.raises(UserError, match=f"row 2 of .*{name} {what}"):
        feature_sets(None, settings)
