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
from napari_activeft.reports.shell import (
    PALETTE,
    card,
    empty,
    key_table,
    number,
    page,
    share,
    table,
    text,
)
from napari_activeft.selection.coverage import CoverageFigures
from napari_activeft.selection.coverage_curve import PrefixCurve

THUMBNAILS = 24
_MAP_ROWS = 5000
_BARS = 60
_SO_FAR = "this round and all slices asked before"

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
    settings, hashes
        Names and values for the reader who repeats the selection.
    seed
        Of the selection.
    notes
        Sentences to read first, such as a solver that did not converge.
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
    curve: PrefixCurve | None = None
    thumbnail: Callable[[int], NDArray[np.uint8] | None] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    hashes: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    notes: Sequence[str] = ()
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
            shown_map,
            _thumbnails(about),
            _curves(about.curve, len(about.labelled)),
            _cases(about),
            _figures(about.figures, len(about.labelled)),
            _settings(about),
        )
    )
    names = [about.names[row] for row in drawn]
    return page(about.title, about.subtitle, body, names=names, style=_STYLE)


def _tiles(about: SelectionPage) -> str:
    cases = {about.cases[row] for row in about.picks}
    now = " in this round" if len(about.labelled) else ""
    tiles = [
        (f"{len(about.picks)}", f"slices to annotate{now}, of {len(about.names)} in the pool"),
        (f"{len(cases)} of {len(set(about.cases))}", "cases hold at least one of them"),
    ]
    if about.figures is not None:
        better = 1 - about.figures.rw1
        word = (
            "closer to the pool than random draws" if better >= 0 else "farther than random draws"
        )
        whose = f": {_SO_FAR}" if len(about.labelled) else ""
        tiles.append((f"{100 * abs(better):.0f} %", word + whose))
        tiles.append((str(about.figures.most_in_volume), "slices at most in one volume" + whose))
    inside = "".join(
        f'<div class="card"><strong>{text(big)}</strong><span>{text(small)}</span></div>'
        for big, small in tiles
    )
    return f'<div class="tiles">{inside}</div>'


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
    lead = f"{len(counts)} cases hold picks, {without} hold none."
    if len(ranked) > _BARS:
        lead += f" Shown: the {_BARS} with the most."
    return card("Picks per case", f'<div class="bars">{bars}</div>', lead)


def _shared_folder(names: Sequence[str]) -> int:
    """Return how many letters of a folder all names begin with: they tell nothing apart."""
    folders = {name.rpartition("/")[0] for name in names}
    return len(folders.pop()) + 1 if len(folders) == 1 and "" not in folders else 0


def _figures(figures: CoverageFigures | None, labelled: int) -> str:
    heading = "The figures"
    if figures is None:
        return card(heading, empty("Without features, coverage of the pool is not measured."))
    sampled = (
        f" W1 was measured on {figures.measured_rows} of {figures.pool} slices, drawn at random."
    )
    lead = "Measured on the encoder's features; no label was looked at."
    if labelled:
        lead += f" Of {figures.picks} slices: {_SO_FAR}."
    return card(
        heading,
        table(
            ("Figure", "Value", "What it says"),
            [
                (text(name), value, f'<span class="soft">{text(why)}</span>')
                for name, value, why in (*_closeness(figures), *_spread(figures))
                if value != number(None)  # such as cases outside of the pool, where there are none
            ],
            numbers=(1,),
        ),
        lead + (sampled if figures.measured_rows < figures.pool else ""),
    )


def _closeness(f: CoverageFigures) -> list[tuple[str, str, str]]:
    """Return name, value and meaning of the figures that measure distances."""
    return [
        (
            "Distance to the pool against random (rW1)",
            number(f.rw1),
            f"How far the pool is from the picks, divided by the same for {f.draws} random draws: "
            "1 is as good as random, lower is better.",
        ),
        (
            "The same for cases outside of the pool",
            number(f.rw1_out),
            "Whether the picks also stand for patients who could not be chosen; lower is better.",
        ),
        (
            "Mean distance to the nearest pick",
            number(f.nearest_mean),
            "0 is a slice that looks the same to the encoder, 1.41 one that has nothing in common.",
        ),
        (
            "95 % of slices are within",
            number(f.radius_95),
            "Only one slice in twenty is farther than this from every pick.",
        ),
        ("The worst slice is at", number(f.radius_max), "The slice least like any pick."),
        (
            "Energy distance",
            number(f.energy, 4),
            "How differently pool and picks are spread; 0 is the same.",
        ),
    ]


def _spread(f: CoverageFigures) -> list[tuple[str, str, str]]:
    """Return name, value and meaning of the figures that count."""
    return [
        (
            "Cases with a pick",
            f"{f.cases} of {f.pool_cases}",
            "Patients of whom at least one slice will be annotated.",
        ),
        ("Volumes with a pick", f"{f.volumes} of {f.pool_volumes}", "The same, counted by volume."),
        ("Most picks in one volume", str(f.most_in_volume), "A high number means repeated work."),
        (
            "Neighbouring picks",
            share(f.adjacent_share),
            "Of picks that follow each other in a volume, the share that touch: they look alike.",
        ),
        ("Nearly empty picks", share(f.empty_share), "Slices that show little or nothing."),
    ]


def _settings(about: SelectionPage) -> str:
    pairs = [("seed", about.seed), *about.settings.items(), *about.hashes.items()]
    pairs = [(str(name).replace("_", " "), _short(value)) for name, value in pairs]
    return card("To repeat it", key_table(pairs), "Settings, seed and hashes of this selection.")


def _short(value: Any) -> Any:  # noqa: ANN401
    """Return a number with as many digits as tell something; anything else as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else value
