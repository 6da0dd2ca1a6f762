"""What figures of many volumes come to, and the files that hold them."""

import csv
import io
import json
import math

import numpy as np
import pytest
from scipy.stats import bootstrap

from napari_activeft.training.metric_tables import (
    Resampling,
    Row,
    as_csv,
    as_json,
    summaries,
    summarised,
)
from napari_activeft.training.metrics import METRICS, TOGETHER, measure

NAN = math.nan


def rows(count=6):
    rng = np.random.default_rng(0)
    made = []
    for at in range(count):
        truth, prediction = rng.integers(0, 3, (2, 2, 8, 8)).astype(np.uint8)
        figures = measure(truth, prediction, (1, 2), (5.0, 1.0, 1.0))
        made.append(Row(f"v{at}", f"case {at}", "test", None, figures))
    return made


def test_values_that_are_not_defined_are_left_out_and_counted():
    made = summarised([0.5, NAN, 0.7, 0.9], ["a", "b", "c", "c"])

    assert (made.rows, made.cases, made.left_out) == (3, 2, 1)
    assert made.mean == pytest.approx(0.7)
    assert made.median == pytest.approx(0.7)


def test_nothing_defined_comes_to_nothing():
    made = summarised([NAN, NAN], ["a", "b"])
    assert (made.rows, made.cases, made.left_out) == (0, 0, 2)
    assert all(math.isnan(each) for each in (made.mean, made.median, made.low, made.high))


def test_few_cases_have_no_interval_however_many_volumes():
    values = np.linspace(0.5, 0.9, 40).tolist()
    few = summarised(values, [f"case {at % 4}" for at in range(40)])
    enough = summarised(values, [f"case {at % 5}" for at in range(40)])

    assert math.isnan(few.low)
    assert enough.low < enough.mean < enough.high


def test_the_interval_is_that_of_scipy_where_each_case_has_one_volume():
    values = np.random.default_rng(3).beta(8, 2, size=20)
    wanted = bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(0)
    ).confidence_interval
    made = summarised(values.tolist(), [str(at) for at in range(20)])

    assert made.low == pytest.approx(wanted.low, abs=0.003)
    assert made.high == pytest.approx(wanted.high, abs=0.003)


def test_volumes_of_one_case_are_drawn_together():
    """Copies of a volume are no new patients: they make the interval no narrower."""
    values = np.random.default_rng(3).beta(8, 2, size=10)
    once = summarised(values.tolist(), [str(at) for at in range(10)])
    copies = summarised(np.tile(values, 8).tolist(), [str(at % 10) for at in range(80)])
    strangers = summarised(np.tile(values, 8).tolist(), [str(at) for at in range(80)])

    assert (copies.low, copies.high) == pytest.approx((once.low, once.high))
    assert strangers.high - strangers.low < 0.6 * (once.high - once.low)


def test_the_same_seed_draws_the_same_interval():
    values, cases = np.random.default_rng(1).random(12).tolist(), list("abcdefghijkl")
    assert summarised(values, cases, Resampling(4)) == summarised(values, cases, Resampling(4))
    assert summarised(values, cases, Resampling(4)) != summarised(values, cases, Resampling(5))


def test_every_figure_of_every_class_is_summed_up():
    made = summaries(rows())
    assert list(made) == [TOGETHER, 1, 2]
    assert all(list(of_class) == list(METRICS) for of_class in made.values())
    assert made[1]["dice"].mean == pytest.approx(np.mean([r.figures[1]["dice"] for r in rows()]))


def test_long_form_reads_back_to_the_same_numbers():
    table = list(csv.DictReader(io.StringIO(as_csv(rows(2), {1: "a, b", 2: "c"}))))

    assert len(table) == 2 * 3 * len(METRICS)
    told = {(r["volume"], r["class"], r["metric"]): r["value"] for r in table}
    for row in rows(2):
        for value, of_class in row.figures.items():
            for metric, number in of_class.items():
                written = told[row.volume, "all" if value == TOGETHER else str(value), metric]
                assert (written == "") if math.isnan(number) else float(written) == number
    assert {r["class_name"] for r in table} == {"all classes", "a, b", "c"}


def test_slices_are_told_with_their_position():
    of_slice = [Row("v", "case", "val", 7, rows(1)[0].figures)]
    (first, *_) = csv.DictReader(io.StringIO(as_csv(of_slice, {1: "a", 2: "b"})))
    assert (first["volume"], first["slice"], first["split"]) == ("v", "7", "val")


def test_json_has_null_where_nothing_is_defined():
    told = as_json(summaries(rows(3)), {1: "a", 2: "b"})
    text = json.dumps(told, allow_nan=False)

    assert json.loads(text)["1"]["dice"]["low"] is None
    assert told["all"]["dice"]["rows"] == 3
    assert told["2"]["name"] == "b"


def test_no_rows_come_to_no_table():
    assert summaries([]) == {}
