"""Line plots and maps as SVG, in the colours of the page around them.

Symbols: x y in the units of the data; left, right, top, bottom in those of the drawing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_activeft.reports.shell import text

_WIDTH, _HEIGHT = 560, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 550, 10, 286


@dataclass(frozen=True)
class Line:
    """One line of a plot: its name, values over the shared x, and how it is drawn."""

    name: str
    values: Sequence[float]
    colour: str
    width: float = 1.8
    dash: str = ""


@dataclass(frozen=True)
class Band:
    """A filled range between two lines of values."""

    name: str
    low: Sequence[float]
    high: Sequence[float]


def line_plot(
    x: Sequence[float],
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    band: Band | None = None,
) -> str:
    """Return a legend and a plot with a logarithmic x axis.

    Parameters
    ----------
    x
        Rising values above 0, shared by all lines.
    """
    every = [v for line in lines for v in line.values if math.isfinite(v)]
    every += [*band.low, *band.high] if band else []
    ticks = nice_ticks(min(every), max(every))
    low, high = ticks[0], ticks[-1]
    span = math.log(x[-1] / x[0]) or 1.0

    def at(value: float, over: float) -> str:
        across = _LEFT + (_RIGHT - _LEFT) * (math.log(over / x[0]) / span if x[-1] > x[0] else 0.5)
        return f"{across:.1f},{_BOTTOM - (_BOTTOM - _TOP) * (value - low) / (high - low):.1f}"

    def path(values: Sequence[float], over: Sequence[float]) -> str:
        return " ".join(at(v, o) for v, o in zip(values, over, strict=True) if math.isfinite(v))

    parts = [_grid(ticks, low, high), _x_axis(x, span)]
    if band:
        around = path([*band.low, *band.high[::-1]], [*x, *list(x)[::-1]])
        parts.append(f'<polygon points="{around}" fill="var(--band)" opacity=".2"/>')
    for line in lines[::-1]:
        dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
        parts.append(
            f'<polyline points="{path(line.values, x)}" fill="none" stroke="{line.colour}" '
            f'stroke-width="{line.width}"{dash} stroke-linejoin="round" stroke-linecap="round"/>'
        )
        if len(x) <= 12:
            parts += [
                f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="{line.width + 0.8:.1f}" '
                f'fill="{line.colour}"/>'
                for p in path(line.values, x).split()
            ]
    parts.append(
        f'<text x="{(_LEFT + _RIGHT) / 2}" y="324" text-anchor="middle">{text(x_label)}</text>'
    )
    drawing = (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{text(y_label)}">'
        f"{''.join(parts)}</svg>"
    )
    return _legend(lines, band) + drawing


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round values that enclose low and high, at least two."""
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    rough = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * min((m for m in (1, 2, 2.5, 5, 10) if m * unit >= rough * 0.999), default=10)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def _grid(ticks: Sequence[float], low: float, high: float) -> str:
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    digits += (ticks[1] - ticks[0]) * 10**digits % 1 > 1e-6
    parts = []
    for tick in ticks:
        y = _BOTTOM - (_BOTTOM - _TOP) * (tick - low) / (high - low)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.{digits}f}</text>'
        )
    return "".join(parts)


def _x_axis(x: Sequence[float], span: float) -> str:
    parts, last = [], -1e9
    for at, value in enumerate(x):
        across = _LEFT + (_RIGHT - _LEFT) * (math.log(value / x[0]) / span if len(x) > 1 else 0.5)
        end = at == len(x) - 1
        if across - last < 30 or (not end and _RIGHT - across < 30):
            continue
        last = across
        parts.append(
            f'<text x="{across:.1f}" y="{_BOTTOM + 18}" text-anchor="middle">{value:g}</text>'
        )
    return "".join(parts)


def _legend(lines: Sequence[Line], band: Band | None) -> str:
    entries = []
    for line in lines:
        dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
        entries.append(
            f'<span><svg viewBox="0 0 22 12" aria-hidden="true"><line x1="1" x2="21" y1="6" y2="6" '
            f'stroke="{line.colour}" stroke-width="{max(line.width, 2)}"{dash}/></svg>'
            f"{text(line.name)}</span>"
        )
    if band:
        entries.append(
            '<span><svg viewBox="0 0 22 12" aria-hidden="true"><rect width="22" height="12" '
            f'fill="var(--band)" opacity=".25"/></svg>{text(band.name)}</span>'
        )
    return f'<div class="legend">{"".join(entries)}</div>'


@dataclass(frozen=True)
class MapPoint:
    """One slice on a map.

    Attributes
    ----------
    x, y
        Its place.
    name
        Index of the text to show at the pointer.
    rank
        From 1 for a pick, 0 for any other slice.
    labelled
        It had a label before this selection.
    """

    x: float
    y: float
    name: int
    rank: int = 0
    labelled: bool = False


def map_plot(points: Sequence[MapPoint], linked: int) -> str:
    """Return a map; picks up to rank ``linked`` bear their rank and lead to ``#pick-RANK``."""
    width, height, edge = 1100, 560, 18
    places = np.array([(point.x, point.y) for point in points])
    x = _scaled(places[:, 0], edge, width - edge)
    y = _scaled(-places[:, 1], edge, height - edge)
    radius = 3.2 if len(points) < 1500 else 2.3
    layers: tuple[list[str], list[str], list[str]] = ([], [], [])
    for point, cx, cy in zip(points, x, y, strict=True):
        where, what = f'cx="{cx:.0f}" cy="{cy:.0f}"', f'data-t="{point.name}"'
        if point.rank:
            layers[2].append(_pick(point, cx, cy, linked))
        elif point.labelled:
            box = f'x="{cx - 5:.0f}" y="{cy - 5:.0f}" width="10" height="10"'
            turn = f'transform="rotate(45 {cx:.0f} {cy:.0f})"'
            layers[1].append(f'<rect class="had" {box} {turn} {what}/>')
        else:
            layers[0].append(f'<circle {where} r="{radius}" {what}/>')
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Map of the pool">'
        f'<g fill="var(--dot)">{"".join(layers[0])}</g>'
        f"{''.join(layers[1])}{''.join(layers[2][::-1])}</svg>"
    )


def _pick(point: MapPoint, cx: float, cy: float, linked: int) -> str:
    near = point.rank <= linked
    mark = f'<circle class="pick" cx="{cx:.0f}" cy="{cy:.0f}" r="{10 if near else 5.5}" '
    mark += f'data-t="{point.name}"/>'
    if not near:
        return mark
    return (
        f'<a href="#pick-{point.rank}" id="dot-{point.rank}">{mark}<text class="rank" '
        f'x="{cx:.0f}" y="{cy + 4:.0f}" text-anchor="middle">{point.rank}</text></a>'
    )


def _scaled(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Spread values over a range; a few far-off ones do not squeeze the rest."""
    least, most = (
        np.quantile(values, (0.002, 0.998))
        if len(values) > 500
        else (
            values.min(),
            values.max(),
        )
    )
    if most - least < 1e-12:
        return np.full(len(values), (low + high) / 2)
    spread: NDArray[np.float64] = low + (high - low) * np.clip(
        (values - least) / (most - least), 0, 1
    )
    return spread
