"""The report of a selection as a page: what was chosen, and how well it stands for the pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.reports.plots import Band, Line, MapPoint, line_plot, map_plot
from napari_activeft.reports.png import data_address
from napari_activeft.reports.projection import flattened
from napari_activeft.reports.selection_figures import SO_FAR, figures_card
from napari_activeft.reports.shell import (
    PALETTE,
    card,
    empty,
    key_table,
    page,
    text,
)
from napari_activeft.selection.coverage import CoverageFigures
from napari_activeft.selection.coverage_curve import PrefixCurve

THUMBNAILS = 24
_MAP_ROWS = 5000
_BARS = 60

_STYLE = """
.pick{fill:var(--accent);stroke:var(--card);stroke-width:1.6}
.rank{fill:#fff!important;font-size:10px!important;font-weight:650;pointer-events:none}
a:hover .pick,a:focus .pick,a:target .pick{fill:var(--warm)}
@media(prefers-color-scheme:dark){.rank{fill:#10151c!important}}
.map{margin:0 -6px}
@media(max-width:820px){.map svg{min-width:680px}}
.had{fill:var(--warm);stroke:var(--card);stroke-width:1.2}
.thumbs{display:grid;grid-template-columns:repeat(auto-fill,minmax(116px,1fr));gap:14px;
margin:14px 0 0;padding:0;list-style:none}
.thumbs figure{margin:0}
.thumbs a{display:block;position:relative;color:inherit;text-decoration:none;border-radius:8px;
overflow:hidden;background:#000;aspect-ratio:1;outline-offset:2px}
.thumbs img{width:100%;height:100%;object-fit:contain;display:block}
.thumbs b{position:absolute;left:6px;top:6px;background:var(--accent);color:#fff;border-radius:20px;
font-size:12px;line-height:20px;min-width:20px;text-align:center;padding:0 5px}
@media(prefers-color-scheme:dark){.thumbs b{color:#10151c}}
.thumbs figcaption{font-size:12px;line-height:1.35;margin-top:5px;overflow-wrap:anywhere}
.thumbs li:target a{outline:3px solid var(--warm)}
.none{display:grid;place-items:center;height:100%;color:#9aa6b5;font-size:12px}
.bars{columns:3 260px;column-gap:32px;margin-top:12px;font-size:13px}
.bars div{break-inside:avoid;display:grid;grid-template-columns:minmax(0,11em) 1fr 2em;gap:8px;
align-items:center;line-height:1.75}
.bars span{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.bars i{background:var(--accent);height:9px;border-radius:2px;min-width:1px}
.bars b{font-weight:600;font-variant-numeric:tabular-nums}
pre{background:var(--page);border:1px solid var(--line);border-radius:8px;padding:10px 12px;
margin:0 0 12px;white-space:pre-wrap;overflow-wrap:anywhere}
summary{cursor:pointer;margin:12px 0 4px;color:var(--soft);font-size:14px}
"""


@dataclass(frozen=True)
class SelectionPage:
    """What the page of a selection shows; n rows of the pool, k picks.

    Attributes
    ----------
    title, subtitle
        Such as the project's name and "round 2: 40 of 812 slices by activeft".
    names
        n texts: what people call each slice.
    cases
        n cases.
    picks
        k rows, ranked.
    vectors
        (n, d); None where the selector used none.
    labelled
        Rows that had a label or an open query before.
    figures, curve
        Coverage of the picks and of their prefixes; None where there are no vectors.
    thumbnail
        A row to its picture, uint8 (h, w) or (h, w, 3); None where it cannot be shown.
    rw1_beside
        W1 of labelled slices and picks over that of labelled slices and random draws; None where
        nothing was labelled.
    command
        What to type to choose so again.
    settings, report, hashes
        Names and values for the reader who repeats the selection: every setting as it is typed,
        what the selector reported, and what tells pool and vectors.
    seed
        Of the map.
    notes
        Warnings to read first, such as a solver that did not converge.
    remarks
        Plain sentences, such as the comparison with a fresh selection.
    flatten
        How the map is made: pca, umap or auto.
    """

    title: str
    subtitle: str
    names: Sequence[str]
    cases: Sequence[Any]
    picks: Sequence[int] | NDArray[np.int64]
    vectors: NDArray[np.float32] | None = None
    labelled: Sequence[int] = ()
    figures: CoverageFigures | None = None
    rw1_beside: float | None = None
    curve: PrefixCurve | None = None
    thumbnail: Callable[[int], NDArray[np.uint8] | None] | None = None
    command: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    hashes: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    notes: Sequence[str] = ()
    remarks: Sequence[str] = ()
    flatten: str = "auto"


def selection_page(about: SelectionPage) -> str:
    """Return the page: HTML that shows everything offline, in any browser, on any screen.

    Raises
    ------
    ValueError
        If names, cases and vectors are not of one length.
    """
    lengths = {len(about.names), len(about.cases)}
    lengths |= set() if about.vectors is None else {len(about.vectors)}
    if len(lengths) > 1:
        raise ValueError(
            f"{len(about.names)} names, {len(about.cases)} cases and vectors of other lengths "
            f"{sorted(lengths)} were given: give one of each per row"
        )
    drawn, shown_map = _map(about)
    body = "".join(
        (
            *(f'<p class="note">{text(note)}</p>' for note in about.notes),
            _tiles(about),
            *(f"<p>{text(remark)}</p>" for remark in about.remarks),
            shown_map,
            _thumbnails(about),
            _curves(about.curve, len(about.labelled)),
            _cases(about),
            figures_card(about.figures, about.rw1_beside, len(about.labelled)),
            _repeat(about),
        )
    )
    names = [about.names[row] for row in drawn]
    return page(about.title, about.subtitle, body, names=names, style=_STYLE)


def _tiles(about: SelectionPage) -> str:
    cases, f = {about.cases[row] for row in about.picks}, about.figures
    had, now = len(about.labelled), len(about.picks)
    tiles = [
        (
            str(now),
            f"slices to annotate{' in this round' if had else ''}, of {len(about.names)} in the "
            "pool",
        ),
        (f"{len(cases)} of {len(set(about.cases))}", "cases hold at least one of them"),
    ]
    if f is not None:
        drawn = f"{f.picks} random slices: all {f.picks} asked so far" if had else "random draws"
        tiles.append(_against(f.rw1, f"than {drawn}"))
        if about.rw1_beside is not None:
            what = f"than with {now} random slices beside the {had} asked before: this round's part"
            tiles.append(_against(about.rw1_beside, what))
        whose = f": {SO_FAR}" if had else ""
        tiles.append((str(f.most_in_volume), "slices at most in one volume" + whose))
    inside = "".join(
        f'<div class="card"><strong>{text(big)}</strong><span>{text(small)}</span></div>'
        for big, small in tiles
    )
    return f'<div class="tiles">{inside}</div>'


def _against(ratio: float, what: str) -> tuple[str, str]:
    side = "closer to" if ratio <= 1 else "farther from"
    return f"{100 * abs(1 - ratio):.0f} %", f"{side} the pool {what}"


def _map(about: SelectionPage) -> tuple[list[int], str]:
    """Return the rows on the map, in the order of their texts, and the map."""
    heading = "The pool as a map"
    if about.vectors is None or not len(about.vectors):
        return [], card(
            heading, empty("No features were used for this selection: there is no map.")
        )
    rank = {int(row): at + 1 for at, row in enumerate(about.picks)}
    had = set(about.labelled)
    rows = _shown_rows(len(about.names), [*rank, *had])
    method, places = flattened(_unit(about.vectors[rows]), about.seed, about.flatten)
    points = [
        MapPoint(float(x), float(y), at, rank.get(row, 0), row in had)
        for at, (row, (x, y)) in enumerate(zip(rows, places, strict=True))
    ]
    lead = (
        f"Each dot is a slice; slices that look alike to the encoder lie near each other ({method} "
        "of its features). Point at one to read its name; the numbered picks lead to their picture."
    )
    if len(rows) < len(about.names):
        lead += f" Shown: the picks and a random part, {len(rows)} of {len(about.names)} slices."
    legend = (
        '<div class="legend"><span><svg viewBox="0 0 22 12"><circle cx="11" cy="6" r="5.5" '
        'class="pick"/></svg>chosen now</span><span><svg viewBox="0 0 22 12"><circle cx="11" '
        'cy="6" r="3.2" fill="var(--dot)"/></svg>other slices of the pool</span>'
    )
    if had:
        legend += (
            '<span><svg viewBox="0 0 22 12"><rect x="6" y="1" width="10" height="10" class="had" '
            'transform="rotate(45 11 6)"/></svg>labelled or asked before</span>'
        )
    linked = min(THUMBNAILS, len(about.picks))
    return rows, card(
        heading, f'{legend}</div><div class="scroll map">{map_plot(points, linked)}</div>', lead
    )


def _shown_rows(count: int, always: Sequence[int]) -> list[int]:
    if count <= _MAP_ROWS:
        return list(range(count))
    drawn = np.random.default_rng(0).choice(count, _MAP_ROWS, replace=False)
    return sorted({*(int(row) for row in drawn), *(int(row) for row in always)})


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return scaled


def _thumbnails(about: SelectionPage) -> str:
    first = [int(row) for row in about.picks[:THUMBNAILS]]
    heading = "The first picks" if len(about.picks) > len(first) else "The picks"
    if not first:
        return card(heading, empty("Nothing was chosen."))
    linked = about.vectors is not None
    shared = _shared_folder([about.names[row] for row in first])
    items = []
    for at, row in enumerate(first, start=1):
        picture = about.thumbnail(row) if about.thumbnail else None
        shown = (
            '<span class="none">no picture</span>'
            if picture is None
            else f'<img src="{data_address(picture)}" alt="{text(about.names[row])}">'
        )
        where = f' href="#dot-{at}"' if linked else ""
        items.append(
            f'<li id="pick-{at}"><figure><a{where}>{shown}<b>{at}</b></a>'
            f"<figcaption>{_breakable(about.names[row][shared:])}</figcaption></figure></li>"
        )
    lead = (
        f"In the order in which they are worth annotating: {len(first)} of {len(about.picks)}. "
        "Whoever stops early has still labelled a good selection."
    )
    return card(heading, f'<ol class="thumbs">{"".join(items)}</ol>', lead)


def _curves(curve: PrefixCurve | None, labelled: int) -> str:
    if curve is None or len(curve.sizes) < 2:
        why = "With one pick, or without features, there is no curve to draw."
        return card("Coverage, pick by pick", empty(why))
    n = curve.measured_rows
    sampled = f" At the most picks measured on {n} slices drawn at random." if curve.sampled else ""
    beside = f" The {labelled} slices asked before count in every line." if labelled else ""
    halves = (
        (
            "Distance to the nearest pick",
            "How far a slice of the pool is from the nearest of the first picks, on average.",
            curve.nearest,
            curve.random_nearest,
        ),
        (
            "Distance between pool and picks",
            "How far the whole pool is from the picks if each pick stands for an equal part (W1)."
            + sampled,
            curve.w1,
            curve.random_w1,
        ),
    )
    cards = []
    for heading, lead, values, random in halves:
        lines = [
            Line(
                name,
                line,
                PALETTE[at % len(PALETTE)] if at else "var(--accent)",
                3 if not at else 1.8,
            )
            for at, (name, line) in enumerate(values.items())
        ]
        lines.append(Line("random, mean", tuple(random[0]), "var(--soft)", 1.6, "5 4"))
        band = Band(f"random, {curve.draws} draws", tuple(random[1]), tuple(random[2]))
        drawing = line_plot(curve.sizes, lines, x_label="first picks", y_label=heading, band=band)
        cards.append(card(heading, drawing, f"{lead}{beside} Lower is better."))
    return f'<div class="two">{"".join(cards)}</div>'


def _breakable(name: str) -> str:
    """Return a name as HTML that may be broken after each "_" and "/"."""
    return text(name).replace("_", "_<wbr>").replace("/", "/<wbr>")


def _cases(about: SelectionPage) -> str:
    counts = Counter(about.cases[row] for row in about.picks)
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))
    most = max(counts.values(), default=1)
    shared = _shared_folder([str(case) for case in counts])
    bars = "".join(
        f'<div><span title="{text(case)}">{text(str(case)[shared:])}</span>'
        f'<i style="width:{100 * count / most:.0f}%"></i><b>{count}</b></div>'
        for case, count in ranked[:_BARS]
    )
    without = len(set(about.cases)) - len(counts)
    now = " of this round" if len(about.labelled) else ""
    lead = f"{len(counts)} cases hold picks{now}, {without} hold none."
    if len(ranked) > _BARS:
        lead += f" Shown: the {_BARS} with the most."
    return card("Picks per case", f'<div class="bars">{bars}</div>', lead)


def _shared_folder(names: Sequence[str]) -> int:
    """Return how many letters of a folder all names begin with: they tell nothing apart."""
    folders = {name.rpartition("/")[0] for name in names}
    return len(folders.pop()) + 1 if len(folders) == 1 and "" not in folders else 0


def _repeat(about: SelectionPage) -> str:
    """Return what to type, what tells pool and vectors, and every other value folded away."""
    folded = "".join(
        f"<details><summary>{text(summary)}</summary>{key_table(pairs)}</details>"
        for summary, pairs in (
            ("Every setting, defaults included", list(about.settings.items())),
            (
                "What the selector reported",
                [(str(name).replace("_", " "), _short(v)) for name, v in about.report.items()],
            ),
        )
        if pairs
    )
    typed = f"<pre><code>{text(about.command)}</code></pre>" if about.command else ""
    lead = "This chooses the same slices again, as long as pool, vectors and labels are the same."
    hashes = key_table((str(name), value) for name, value in about.hashes.items())
    return card("To repeat it", typed + hashes + folded, lead if typed else "")


def _short(value: Any) -> Any:  # noqa: ANN401
    """Return a number with as many digits as tell something; anything else as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else value
