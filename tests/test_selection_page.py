"""The report of a selection as a page: whole, harmless, offline, and right in a browser."""

import base64
import io
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from pagereading import browser, in_browser, read_page, see_self_contained
from PIL import Image

from napari_activeft.reports.plots import nice_ticks
from napari_activeft.reports.png import data_address, png
from napari_activeft.reports.projection import flattened
from napari_activeft.reports.selection_page import SelectionPage, selection_page
from napari_activeft.selection.coverage import CoverageMeter
from napari_activeft.selection.coverage_curve import prefix_curve

NASTY = '</script><img src="x" onerror="alert(1)">&amp;'


@pytest.fixture(scope="module")
def about() -> SelectionPage:
    """A pool of 120 slices of 12 cases, 30 picks."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(120, 6)).astype("float32")
    cases = [f"case {row // 10}" for row in range(120)]
    meter = CoverageMeter(vectors, cases=cases, groups=[row // 10 for row in range(120)], draws=4)
    picks = rng.permutation(120)[:30]
    rankings = {"activeft": picks, "stratified_random": np.arange(0, 120, 4)}
    return SelectionPage(
        title="Hearts",
        subtitle="Round 1: 30 of 120 slices by activeft",
        names=[f"{case}, slice {row % 10}" for row, case in enumerate(cases)],
        cases=cases,
        picks=picks,
        vectors=vectors,
        labelled=[int(row) for row in range(120) if row not in picks][:3],
        figures=meter.figures(picks),
        curve=prefix_curve(meter, rankings, draws=4),
        thumbnail=lambda row: np.full((20, 30), row % 256, dtype=np.uint8),
        settings={"budget": 30},
        hashes={"features": "0123abcd"},
        seed=7,
        flatten="pca",
    )


def test_the_page_is_whole_and_loads_nothing(about):
    see_self_contained(selection_page(about))


def test_each_slice_is_on_the_map_and_the_first_24_picks_lead_to_their_pictures(about):
    html = selection_page(about)
    page = read_page(html)

    chart = html.split('class="scroll map"')[1].split("</svg>")[0]
    assert len(re.findall(r'data-t="', chart)) == 120
    assert chart.count('class="pick"') == 30
    assert chart.count('class="had"') == 3
    for rank in range(1, 25):
        assert {f"#pick-{rank}", f"#dot-{rank}"} <= set(page.addresses)
    assert "#pick-25" not in page.addresses
    assert page.tags.count("img") == 24


def test_pictures_stand_in_rank_order(about):
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]+)"', selection_page(about))

    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(p))))[0, 0] for p in pictures]
    assert shown == about.picks[:24].tolist()


def test_names_cannot_break_out_of_the_page(about):
    html = selection_page(
        replace(
            about,
            title=NASTY,
            subtitle=NASTY,
            names=[NASTY] * 120,
            cases=[NASTY] * 120,
            settings={NASTY: NASTY},
            notes=[NASTY],
        )
    )

    page = read_page(html)
    assert page.tags.count("img") == 24
    assert NASTY in page.texts
    assert html.count("</script>") == 2


def test_figures_settings_seed_and_hashes_can_be_read(about):
    texts = read_page(selection_page(about)).texts

    for expected in (f"{about.figures.rw1:.3f}", f"{about.figures.cases} of 12", "0123abcd", "7"):
        assert expected in texts
    assert "Picks per case" in texts


@pytest.mark.parametrize("count", [1, 2])
def test_a_pool_of_very_few_slices_has_a_page(count):
    vectors = np.eye(3, dtype="float32")[:count]
    meter = CoverageMeter(vectors, draws=2)
    page = SelectionPage(
        "t",
        "s",
        names=["a", "b"][:count],
        cases=["c", "c"][:count],
        picks=[0],
        vectors=vectors,
        figures=meter.figures([0]),
        curve=prefix_curve(meter, {"mine": [0]}, draws=2),
    )

    html = selection_page(page)

    see_self_contained(html)
    assert "no picture" in html
    assert "there is no curve to draw" in html


def test_a_selection_without_features_says_what_is_missing():
    html = selection_page(SelectionPage("t", "s", names=["a", "b"], cases=[1, 2], picks=[1]))

    see_self_contained(html)
    assert html.count('class="empty"') == 3


def test_a_folder_that_all_cases_share_is_not_repeated():
    names = ["images/scan_1", "images/scan_2"]
    page = selection_page(SelectionPage("t", "s", names, names, [0, 1]))

    assert ">scan_1<" in page
    assert 'title="images/scan_1"' in page


def test_a_selection_of_nothing_says_so():
    html = selection_page(SelectionPage("t", "s", names=["a"], cases=[1], picks=[]))

    see_self_contained(html)
    assert "Nothing was chosen." in html


def test_a_large_pool_shows_all_picks_and_says_how_many_slices_it_shows(about):
    n = 7000
    vectors = np.random.default_rng(1).normal(size=(n, 3)).astype("float32")
    page = replace(
        about, names=["x"] * n, cases=[1] * n, vectors=vectors, picks=[6999, 3], labelled=[]
    )

    html = selection_page(page)

    assert html.count('<circle class="pick" cx') == 2
    assert re.search(r"a random part, 500[0-2] of 7000 slices", html)
    assert len(html) < 700_000


def test_names_and_vectors_of_different_pools_are_refused(about):
    with pytest.raises(ValueError, match="give one of each per row"):
        selection_page(replace(about, names=["a"]))


def test_the_page_runs_without_an_error_in_a_browser(about, tmp_path):
    browser()
    document, picture = in_browser(selection_page(about), tmp_path)

    assert 'data-ready="yes"' in document
    with Image.open(picture) as opened:
        assert opened.size == (1200, 900)
        pixels = np.asarray(opened.convert("RGB")).reshape(-1, 3)
    picks = (np.abs(pixels.astype(int) - (0, 114, 178)).sum(axis=1) < 12).sum()
    assert picks > 30 * 50, "the picks are not to be seen"


def test_pointing_at_a_slice_shows_its_name(about, tmp_path):
    browser()
    probe = """<script>
    const dot=document.querySelector('[data-t="7"]');
    dot.dispatchEvent(new PointerEvent('pointermove',{bubbles:true,clientX:9,clientY:9}));
    document.documentElement.dataset.said=tip.style.display+' '+tip.textContent;
    </script></body>"""
    names = [f"{NASTY} {row}" for row in range(120)]
    html = selection_page(replace(about, names=names)).replace("</body>", probe)

    document, _ = in_browser(html, tmp_path)

    said = re.search(r'data-said="([^"]*)"', document)[1]
    assert unescape(said) == f"block {NASTY} 7"


def test_a_phone_shows_the_page_without_sideways_scrolling(about, tmp_path):
    browser()
    probe = (
        "<script>document.documentElement.dataset.wide=document.body.scrollWidth</script></body>"
    )
    html = selection_page(about).replace("</body>", probe)

    document, _ = in_browser(html, tmp_path, width=500, height=900)

    assert int(re.search(r'data-wide="(\d+)"', document)[1]) <= 500


def test_an_error_in_the_script_of_a_page_is_noticed(tmp_path):
    browser()
    with pytest.raises(AssertionError, match="is not defined"):
        in_browser("<!DOCTYPE html><script>nothing_here()</script>", tmp_path)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_a_png_is_what_pillow_reads_back(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(pixels)))), pixels)


def test_a_large_picture_is_averaged_to_a_small_one():
    pixels = np.zeros((400, 200, 3), dtype=np.uint8)
    pixels[::2] = 200
    address = data_address(pixels, largest=100)

    small = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))
    assert small.shape == (100, 50, 3)
    assert (small == 100).all()


@pytest.mark.parametrize(
    "picture", [np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros((0, 2), np.uint8)]
)
def test_what_is_no_picture_is_refused(picture):
    with pytest.raises(ValueError, match="give uint8"):
        png(picture)


@pytest.mark.parametrize("shape", [(40, 6), (5, 30), (1, 4), (3, 1)])
def test_the_map_is_the_projection_on_the_two_widest_directions(shape):
    rows = np.random.default_rng(2).normal(size=shape) * np.arange(1, shape[1] + 1)
    method, points = flattened(rows.astype("float32"), method="pca")

    values = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)[:2]
    expected = np.zeros(2)
    expected[: len(values)] = values
    assert method == "PCA"
    assert points.shape == (shape[0], 2)
    assert np.linalg.norm(points, axis=0) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.61, 1.43, [0.6, 0.8, 1.0, 1.2, 1.4, 1.6]), (0, 10, [0, 2, 4, 6, 8, 10])],
)
def test_ticks_are_round_and_enclose_the_values(low, high, ticks):
    assert nice_ticks(low, high) == ticks


def test_a_line_of_equal_values_has_ticks_too():
    assert len(nice_ticks(1.0, 1.0)) >= 2
