"""A strip plot as SVG: every value as a dot, beside its mean and the interval of that.

Symbols: x y in the units of the drawing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from napari_activeft.reports.plots import nice_ticks
from napari_activeft.reports.shell import text

_HEIGHT, _LEFT, _TOP, _BOTTOM = 340, 46, 12, 296
_LEAST_WIDTH, _MOST_WIDTH = 110, 220


@dataclass(frozen=True)
class Strip:
    """One column.

    Attributes
    ----------
    values
        Each with the index of the text to show at the pointer.
    mean, low, high
        NaN where there are none.
    """

    name: str
    values: Sequence[tuple[float, int]]
    mean: float
    low: float
    high: float


def strip_plot(strips: Sequence[Strip], *, label: str) -> str:
    """Return a plot with one column a strip; at least one value must be there."""
    every = [value for strip in strips for value, _ in strip.values]
    ticks = nice_ticks(min(every), max(every))
    wide = min(max(760 / len(strips), _LEAST_WIDTH), _MOST_WIDTH)
    width = _LEFT + wide * len(strips)
    most = max(len(strip.values) for strip in strips)
    radius = 4.2 if most <= 60 else 3.0 if most <= 300 else 2.0

    def down(value: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * (value - ticks[0]) / (ticks[-1] - ticks[0])

    parts = [
        f'<line x1="{_LEFT}" x2="{width:.0f}" y1="{down(tick):.1f}" y2="{down(tick):.1f}" '
        f'stroke="var(--line)"/><text x="{_LEFT - 8}" y="{down(tick) + 4:.1f}" '
        f'text-anchor="end">{tick:g}</text>'
        for tick in ticks
    ]
    for at, strip in enumerate(strips):
        middle = _LEFT + (at + 0.5) * wide
        parts.append(
            f'<text x="{middle:.1f}" y="{_BOTTOM + 22}" text-anchor="middle">{text(strip.name)}'
            "</text>"
        )
        heights = [down(value) for value, _ in strip.values]
        shifts = spread(heights, radius, 0.36 * wide)
        parts += [
            f'<circle cx="{middle + shift:.1f}" cy="{y:.1f}" r="{radius}" fill="var(--accent)" '
            f'fill-opacity=".55" data-t="{name}"/>'
            for (_, name), y, shift in zip(strip.values, heights, shifts, strict=True)
        ]
        parts.append(_mean_mark(strip, middle, 0.42 * wide, down))
    return (
        f'<svg viewBox="0 0 {width:.0f} {_HEIGHT}" role="img" aria-label="{text(label)}" '
        f'style="max-width:{width:.0f}px">{"".join(parts)}</svg>'
    )


def spread(heights: Sequence[float], radius: float, most: float) -> list[float]:
    """Return how far each dot is moved aside so that dots cover each other little.

    Parameters
    ----------
    heights
        Of the dots' middles.
    most
        How far at most, either way; where that does not suffice they cover each other.
    """
    shifts = [0.0] * len(heights)
    placed: list[tuple[float, float]] = []
    steps = [0.0]
    for step in range(1, math.floor(most / (2 * radius)) + 1):
        steps += [2 * radius * step, -2 * radius * step]
    for at in sorted(range(len(heights)), key=lambda at: heights[at]):
        near = [(x, y) for x, y in placed[-4 * len(steps) :] if heights[at] - y < 2 * radius]
        free = (
            step
            for step in steps
            if all((step - x) ** 2 + (heights[at] - y) ** 2 >= 3.6 * radius**2 for x, y in near)
        )
        # Where all places are taken, the ones in turn: a pile in the middle would hide the rest.
        shifts[at] = next(free, steps[at % len(steps)])
        placed.append((shifts[at], heights[at]))
    return shifts


def _mean_mark(strip: Strip, middle: float, half: float, down: Callable[[float], float]) -> str:
    if math.isnan(strip.mean):
        return ""
    y = down(strip.mean)
    mark = ""
    if not math.isnan(strip.low):
        top, bottom = down(strip.high), down(strip.low)
        mark = (
            f'<rect x="{middle - half:.1f}" width="{2 * half:.1f}" y="{top:.1f}" '
            f'height="{max(bottom - top, 1):.1f}" fill="var(--warm)" opacity=".16"/>'
        )
    return mark + (
        f'<line x1="{middle - half:.1f}" x2="{middle + half:.1f}" y1="{y:.1f}" y2="{y:.1f}" '
        f'stroke="var(--warm)" stroke-width="2.4"/><text x="{middle + half:.1f}" y="{y - 6:.1f}" '
        f'text-anchor="end" style="fill:var(--warm);font-weight:650">{strip.mean:.3f}</text>'
    )
