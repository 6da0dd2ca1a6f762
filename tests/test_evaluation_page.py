"""The page of an evaluation: whole, harmless, offline, and right in a browser."""

import base64
import io
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from pagereading import in_browser, read_page, see_self_contained
from PIL import Image

from napari_activeft.reports.evaluation_page import EvaluationPage, evaluation_page
from napari_activeft.reports.evaluation_pictures import (
    CONFUSED,
    INVENTED,
    MISSED,
    Example,
    ExampleSlice,
    class_colours,
    examples_html,
)
from napari_activeft.reports.overlays import area, outline
from napari_activeft.reports.strips import Strip, spread, strip_plot
from napari_activeft.training.metric_tables import Row, summaries
from napari_activeft.training.metrics import measure
from napari_activeft.voxels import UNLABELLED

NASTY = '</script><img src="x" onerror="alert(1)">&amp;'
NAMES = {1: "RV", 2: "Myo"}


def pair(seed):
    """Return truth and prediction of a volume, (3, 60, 80)."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((3, 60, 80), np.uint8)
    truth[:, 20:40, 30:50] = 1
    truth[:, 25:35, 36:44] = 2
    prediction = np.roll(truth, rng.integers(0, 6), axis=2)
    return truth, prediction


def example(rank="Best", name="p1", spacing=(1.0, 2.0)):
    truth, prediction = pair(1)
    image = np.arange(60 * 80, dtype=np.uint32).reshape(60, 80).astype(np.uint8)
    slices = [ExampleSlice(at, image, truth[at], prediction[at], 0.5) for at in (0, 2)]
    return Example(rank, name, 0.5, spacing, slices)


@pytest.fixture(scope="module")
def about():
    """An evaluation of 12 volumes."""
    rows = [
        Row(f"p{at}", f"case {at // 2}", "test", None, measure(*pair(at), (1, 2), (5.0, 1.0, 1.0)))
        for at in range(12)
    ]
    slices = [replace(row, position=at) for row in rows for at in range(3)]
    return EvaluationPage(
        title="Hearts",
        subtitle="predictions of run 1",
        level="volumes",
        class_names=NAMES,
        rows=rows,
        summary=summaries(rows),
        slices=slices,
        slice_summary=summaries(slices),
        examples=[example(), example("Worst", "p2")],
        notes=["Read this first."],
        problems=[("p13", "it is gone: restore it")],
        command="napari-activeft evaluate",
    )


def test_the_page_is_whole_and_loads_nothing(about):
    see_self_contained(evaluation_page(about))


def test_tables_show_mean_median_interval_and_what_is_left_out(about):
    shown = " ".join(read_page(evaluation_page(about)).texts)
    dice = about.summary[1]["dice"]
    assert f"{dice.mean:.3f} median {dice.median:.3f} ({dice.low:.3f} to {dice.high:.3f})" in shown
    assert "in 11 of" not in shown

    rows = [about.rows[0], *about.rows[1:]]
    lost = {value: dict(figures) for value, figures in rows[0].figures.items()}
    lost[1]["hd95_mm"] = math.nan
    rows[0] = replace(rows[0], figures=lost)
    shown = evaluation_page(replace(about, rows=rows, summary=summaries(rows)))
    assert "in 11 of 12" in shown


def test_every_volume_is_a_dot_of_each_class_and_a_line_of_the_table(about):
    page = evaluation_page(about)
    assert page.count("<circle ") == 12 * 3
    assert all(f"<td>p{at}</td>" in page for at in range(12))
    assert page.index("<td>p11</td>") != page.index("<td>p1</td>")


def test_names_cannot_break_out_of_the_page(about):
    nasty = replace(
        about,
        title=NASTY,
        subtitle=NASTY,
        class_names={1: NASTY, 2: NASTY},
        rows=[replace(row, volume=NASTY, case=NASTY) for row in about.rows],
        examples=[replace(about.examples[0], name=NASTY, rank=NASTY)],
        notes=[NASTY],
        problems=[(NASTY, NASTY)],
        command=NASTY,
    )
    html = evaluation_page(nasty)
    see_self_contained(html)
    assert "<img" not in html.replace("\\u003cimg", "")


def test_there_is_a_page_where_no_class_occurs(about):
    empty = np.zeros((3, 9, 9), np.uint8)
    rows = [Row("p", "c", "test", None, measure(empty, empty, (1, 2), (1.0, 1.0, 1.0)))]
    html = evaluation_page(replace(about, rows=rows, summary=summaries(rows), examples=[]))
    see_self_contained(html)
    assert "there is no Dice" in html


def test_slices_alone_make_a_page_of_slices(about):
    html = evaluation_page(replace(about, level="slices", rows=about.slices))
    assert "slice by slice" in html
    assert "p3, slice 2" in html
    assert "<details>" not in html


# Pictures


def test_an_example_shows_image_truth_prediction_and_what_is_wrong():
    html = examples_html([example()], NAMES)
    page = read_page(html)
    captions = [each for each in page.texts if not each.startswith(("slice", "Best"))]

    assert captions == ["image", "truth", "prediction", "wrong pixels"] * 2
    assert html.count("<image ") == 2  # once a slice, used again three times
    assert html.count("<use ") == 6
    colours = class_colours([1, 2])
    assert all(f'stroke="{colour}"' in html for colour in colours.values())


def test_pictures_are_cut_around_the_classes_and_keep_their_proportions():
    html = examples_html([example(spacing=(1.0, 2.0))], NAMES)
    (address, *_) = re.findall(r'href="data:image/png;base64,([^"]+)"', html)
    shown = Image.open(io.BytesIO(base64.b64decode(address)))

    assert shown.height == 40  # of 60: 20 of the classes, at least 40
    assert 40 <= shown.width < 60  # of 80
    assert f'viewBox="0 0 {2 * shown.width} {shown.height}"' in html
    image = example().slices[0].image
    cut = np.asarray(shown)
    top, left = (60 - 40) // 2, int(np.flatnonzero(image[10] == cut[0, 0])[0])
    np.testing.assert_array_equal(cut, image[top : top + 40, left : left + shown.width])


def test_wrong_pixels_are_told_apart_and_unlabelled_ones_are_none():
    truth, prediction = np.zeros((2, 50, 50), np.uint16)
    truth[10:12, 10] = 1  # missed: 2
    prediction[20:23, 20] = 1  # invented: 3
    truth[30:34, 30], prediction[30:34, 30] = 1, 2  # another class: 4
    truth[40:45, 40], prediction[40:45, 40] = UNLABELLED, 1
    one = ExampleSlice(0, None, truth, prediction, 0.1)
    wrong = examples_html([Example("Best", "p", 0.1, (1.0, 1.0), [one])], NAMES).split("<svg")[-1]

    for colour, count in ((MISSED, 2), (INVENTED, 3), (CONFUSED, 4)):
        (path,) = re.findall(rf'<path d="([^"]+)" fill="{colour}"/>', wrong)
        assert path.count("v1") == count
    assert wrong.count("<path") == 4  # the fourth covers what is unlabelled


def test_areas_and_outlines_follow_the_pixels(rng):
    mask = rng.random((13, 17)) < 0.4
    drawn = np.zeros_like(mask)
    for start, y, stop in re.findall(r"M(\d+) (\d+)H(\d+)v1", area(mask)):
        drawn[int(y), int(start) : int(stop)] = True
    np.testing.assert_array_equal(drawn, mask)

    length = sum(int(b) - int(a) for a, b in re.findall(r"M(\d+) \d+H(\d+)", outline(mask)))
    length += sum(int(b) - int(a) for a, b in re.findall(r"M\d+ (\d+)V(\d+)", outline(mask)))
    framed = np.pad(mask, 1)
    edges = (framed[1:] != framed[:-1]).sum() + (framed[:, 1:] != framed[:, :-1]).sum()
    assert length == edges
    assert area(np.zeros((3, 3), bool)) == outline(np.zeros((3, 3), bool)) == ""


# The plot


def test_dots_of_near_values_stand_beside_each_other(rng):
    heights = rng.normal(150, 12, size=40).tolist()
    shifts = spread(heights, 4.0, 70.0)
    places = np.array([shifts, heights]).T
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + 99 * np.eye(40)
    assert apart.min() > 1.8 * 4.0
    assert np.abs(shifts).max() <= 70.0


def test_a_crowd_of_equal_values_stays_in_its_column():
    shifts = spread([10.0] * 500, 4.0, 50.0)
    assert max(map(abs, shifts)) <= 50.0
    assert len(set(shifts)) > 5


def test_one_value_makes_a_plot_without_an_interval():
    plot = strip_plot([Strip("RV", [(0.8, 0)], 0.8, math.nan, math.nan)], label="Dice")
    assert plot.count("<circle") == 1
    assert "<rect" not in plot


def test_the_page_opens_offline_and_names_the_dots(about, tmp_path):
    document, picture = in_browser(evaluation_page(about), tmp_path)
    assert 'data-ready="yes"' in document
    shown = np.asarray(Image.open(picture).convert("RGB"))
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 50
