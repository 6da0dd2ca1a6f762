"""Learning curves with intervals, the same drawing as SVG in a page and as a PNG file.

Symbols: x slices labelled, on a logarithmic axis, y Dice; across down in units of the drawing.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_activeft.reports.pen import Canvas, colour, width_of
from napari_activeft.reports.plots import nice_ticks
from napari_activeft.reports.shell import PALETTE, text

if TYPE_CHECKING:
    from napari_activeft.simulation.curves import Curves, Point

_WIDTH, _HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 622, 14, 350
_APART = 7.0  # of intervals that would hide each other
_TICK_ROOM = 34.0
_PNG_SCALE = 1.6
_LEGEND_LINE = 26
_SOFT, _GRID, _INK = colour("#5b6675"), colour("#dfe3e8"), colour("#1c2430")


@dataclass(frozen=True)
class Series:
    """One curve: points (x, y, low, high) by rising x; low and high NaN where there is none."""

    name: str
    points: tuple[tuple[float, float, float, float], ...]
    colour: str
    width: float = 1.8


@dataclass(frozen=True)
class Chart:
    """Curves over one axis.

    Attributes
    ----------
    ceiling
        Dice with every slice labelled; None where that was not tried.
    """

    file_name: str
    heading: str
    series: tuple[Series, ...]
    ceiling: float | None = None

    @property
    def frame(self) -> tuple[float, float, list[float]]:
        """Smallest and largest x, and the ticks of y."""
        every = [point for one in self.series for point in one.points]
        heights = [v for _, *values in every for v in values if math.isfinite(v)]
        heights += [] if self.ceiling is None else [self.ceiling]
        xs = [x for x, *_ in every]
        return min(xs), max(xs), nice_ticks(min(heights), max(heights))


def charts(curves: Curves) -> list[Chart]:
    """Return one chart for each network with its selectors, and for each selector with networks."""
    points = [one for one in curves.points if math.isfinite(one.dice.mean)]
    networks = list(dict.fromkeys(one.network for one in points))
    selectors = list(dict.fromkeys(one.selector for one in points if not one.is_ceiling))
    made = []
    for network in networks:
        own = [one for one in points if one.network == network]
        groups = {name: [one for one in own if one.selector == name] for name in selectors}
        ceiling = next((one.dice.mean for one in own if one.is_ceiling), None)
        made.append(_chart(f"curve-{network}", f"{network}: selectors", groups, ceiling))
    for selector in selectors if len(networks) > 1 else ():
        own = [one for one in points if one.selector == selector]
        groups = {name: [one for one in own if one.network == name] for name in networks}
        made.append(_chart(f"networks-{selector}", f"{selector}: networks", groups, None))
    return [one for one in made if one.series]


def _chart(
    file_name: str, heading: str, groups: dict[str, list[Point]], ceiling: float | None
) -> Chart:
    series: list[Series] = []
    for at, (name, own) in enumerate(groups.items()):
        by_rounds = {one.rounds for one in own}
        for rounds in sorted(by_rounds):
            mine = sorted((one for one in own if one.rounds == rounds), key=lambda one: one.slices)
            told = name if len(by_rounds) == 1 else f"{name}, {rounds} rounds"
            places = tuple((p.slices, p.dice.mean, p.dice.low, p.dice.high) for p in mine)
            series.append(Series(told, places, PALETTE[at % len(PALETTE)], 1.8 if series else 3.0))
    return Chart(file_name, heading, tuple(one for one in series if one.points), ceiling)


class _Place:
    """Where values lie in a drawing."""

    def __init__(self, chart: Chart) -> None:
        self.first, self.last, self.ticks = chart.frame
        self.count = len(chart.series)

    def across(self, x: float, at: int) -> float:
        """Return where x lies for the series number ``at``, a little apart from the others."""
        room = _RIGHT - _LEFT - 2 * _APART * self.count
        span = math.log(self.last / self.first)
        share = math.log(x / self.first) / span if span else 0.5
        aside = (at - (self.count - 1) / 2) * _APART
        return _LEFT + _APART * self.count + room * share + aside

    def down(self, y: float) -> float:
        """Return where y lies."""
        low, high = self.ticks[0], self.ticks[-1]
        return _BOTTOM - (_BOTTOM - _TOP) * (y - low) / (high - low)

    def xs(self, chart: Chart) -> list[float]:
        """Return the x that are told on the axis, not too close to each other."""
        told: list[float] = []
        for x in sorted({x for one in chart.series for x, *_ in one.points}):
            if not told or self.across(x, 0) - self.across(told[-1], 0) > _TICK_ROOM:
                told.append(x)
        return told

    def middle(self, x: float) -> float:
        """Return where x lies on the axis."""
        return (self.across(x, 0) + self.across(x, self.count - 1)) / 2


def as_svg(chart: Chart) -> str:
    """Return a legend and a drawing for a page."""
    place = _Place(chart)
    parts = []
    for tick in place.ticks:
        y = place.down(tick)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    parts += [
        f'<text x="{place.middle(x):.1f}" y="{_BOTTOM + 20}" text-anchor="middle">{x:.0f}</text>'
        for x in place.xs(chart)
    ]
    if chart.ceiling is not None:
        y = place.down(chart.ceiling)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--soft)" '
            'stroke-width="1.5" stroke-dasharray="7 5"/>'
        )
    for at, one in reversed(list(enumerate(chart.series))):
        parts.append(_svg_series(place, at, one))
    parts.append(
        f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">slices labelled'
        "</text>"
    )
    return _legend(chart) + (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Dice over slices labelled, '
        f'{text(chart.heading)}">{"".join(parts)}</svg>'
    )


def _svg_series(place: _Place, at: int, one: Series) -> str:
    where = [(place.across(x, at), place.down(y)) for x, y, *_ in one.points]
    path = " ".join(f"{across:.1f},{down:.1f}" for across, down in where)
    parts = [
        f'<polyline points="{path}" fill="none" stroke="{one.colour}" '
        f'stroke-width="{one.width}" stroke-linejoin="round"/>'
    ]
    for (across, down), (_, _, low, high) in zip(where, one.points, strict=True):
        if math.isfinite(low):
            ends = f'y1="{place.down(low):.1f}" y2="{place.down(high):.1f}"'
            parts.append(
                f'<line x1="{across:.1f}" x2="{across:.1f}" {ends} stroke="{one.colour}" '
                'stroke-width="1.4"/>'
            )
        parts.append(
            f'<circle cx="{across:.1f}" cy="{down:.1f}" r="{one.width + 1.4:.1f}" '
            f'fill="{one.colour}"/>'
        )
    return "".join(parts)


def _legend(chart: Chart) -> str:
    entries = [(one.name, one.colour, "") for one in chart.series]
    if chart.ceiling is not None:
        entries.append(("every slice labelled", "var(--soft)", ' stroke-dasharray="5 3"'))
    shown = "".join(
        '<span><svg viewBox="0 0 22 12" aria-hidden="true"><line x1="1" x2="21" y1="6" y2="6" '
        f'stroke="{ink}" stroke-width="2.4"{dash}/></svg>{text(name)}</span>'
        for name, ink, dash in entries
    )
    return f'<div class="legend">{shown}</div>'


def as_png(chart: Chart) -> bytes:
    """Return the drawing with its heading and legend as a PNG file."""
    place, scale = _Place(chart), _PNG_SCALE
    rows = _legend_rows(chart)
    above = 44 + _LEGEND_LINE * (1 + max(row for row, *_ in rows))
    canvas = Canvas(round(_WIDTH * scale), round(_HEIGHT * scale) + above)
    canvas.words(16, 12, chart.heading, _INK, size=3)
    for row, left, name, ink in rows:
        y = 48.0 + _LEGEND_LINE * row
        canvas.line(left, y + 7, left + 30, y + 7, ink, 3).words(left + 38, y, name, _INK)

    def at(across: float, down: float) -> tuple[float, float]:
        return across * scale, down * scale + above

    for tick in place.ticks:
        left, y = at(_LEFT, place.down(tick))
        canvas.line(left, y, _RIGHT * scale, y, _GRID)
        canvas.words(left - 8, y - 7, f"{tick:g}", _SOFT, anchor=1.0)
    for x in place.xs(chart):
        canvas.words(*at(place.middle(x), _BOTTOM + 8), f"{x:.0f}", _SOFT, anchor=0.5)
    if chart.ceiling is not None:
        left, y = at(_LEFT, place.down(chart.ceiling))
        canvas.dashed(left, y, _RIGHT * scale, y, _SOFT, 2)
    for number, one in reversed(list(enumerate(chart.series))):
        _png_series(canvas, place, number, one, above)
    middle = at((_LEFT + _RIGHT) / 2, _HEIGHT - 18)
    canvas.words(*middle, "slices labelled; mean Dice", _SOFT, anchor=0.5)
    return canvas.png()


def _png_series(canvas: Canvas, place: _Place, at: int, one: Series, above: int) -> None:
    scale, ink = _PNG_SCALE, colour(one.colour)
    where = [
        (place.across(x, at) * scale, place.down(y) * scale + above) for x, y, *_ in one.points
    ]
    for start, end in itertools.pairwise(where):
        canvas.line(*start, *end, ink, one.width * scale)
    for (x, y), (_, _, low, high) in zip(where, one.points, strict=True):
        if math.isfinite(low):
            ends = (place.down(low) * scale + above, place.down(high) * scale + above)
            canvas.line(x, ends[0], x, ends[1], ink, 1.4 * scale)
        canvas.dot(x, y, (one.width + 1.4) * scale, ink)


def _legend_rows(chart: Chart) -> list[tuple[int, float, str, tuple[int, int, int]]]:
    """Return row, x, name and colour of each entry, as many in a row as find room."""
    entries = [(one.name, colour(one.colour)) for one in chart.series]
    if chart.ceiling is not None:
        entries.append(("every slice labelled (dashes)", _SOFT))
    made, row, x = [], 0, 16.0
    for name, ink in entries:
        room = 38 + width_of(name) + 28
        if x > 16.0 and x + room > _WIDTH * _PNG_SCALE:
            row, x = row + 1, 16.0
        made.append((row, x, name, ink))
        x += room
    return made
