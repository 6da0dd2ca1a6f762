"""The page of a run: how its loss fell, what it was watched by, and which layers were pulled.

Coordinates of drawings are in units of their view box.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_activeft.reports.plots import nice_ticks
from napari_activeft.reports.shell import PALETTE, card, empty, key_table, number, page, text
from napari_activeft.training.run_files import FOLD, GRADIENTS, SavedNetwork, read_curve
from napari_activeft.training.whole_files import write_text

_WIDTH, _HEIGHT = 900, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 884, 12, 274
_MOST_POINTS = 400
_BAR, _GAP = 13, 3
_NAMES = 330  # of a bar, to its left
_FLOOR = 1e-12

Rows = Sequence[Mapping[str, float | None]]


def write_training_page(folder: Path, out: Path, notes: Sequence[str] = ()) -> None:
    """Write the page of the run in a folder.

    Parameters
    ----------
    out
        The file.
    notes
        Sentences of the log.
    """
    saved, rows = SavedNetwork.read(folder), read_curve(folder)
    fold = read_curve(folder / FOLD)
    body = card("What was trained", key_table(_facts(saved)) + listed(notes))
    called = {str(one.value): one.name for one in saved.classes}
    body += _curve_card("All labelled slices" if fold else "The run", rows, called)
    if fold:
        before = "Before: without the cases held back, to find the steps"
        body += _curve_card(before, fold, called)
    # A short second run ends before its probe does; the fold's says the same.
    gradients = [folder / GRADIENTS, folder / FOLD / GRADIENTS]
    body += _gradient_card(next((file for file in gradients if file.is_file()), gradients[0]))
    names = ", ".join(one.name for one in saved.classes)
    write_text(out, page(f"Training of {saved.spec.network}", f"{folder.name}: {names}", body))


def _facts(saved: SavedNetwork) -> list[tuple[str, str]]:
    view, settings = saved.view, saved.settings
    pixel = "as stored" if view.pixel_mm is None else f"{view.pixel_mm:g} mm"
    return [
        ("network", saved.spec.network),
        ("what learns", str(settings.get("learns", ""))),
        ("slices are seen", f"{view.size[0]} x {view.size[1]}, pixels {pixel}"),
        ("steps", str(saved.steps)),
        ("batch, learning rate", f"{settings.get('batch')}, {settings.get('lr')}"),
        ("watched by", saved.monitor),
        ("Dice there", number(saved.score)),
        ("temperature", number(saved.temperature)),
        ("seconds", f"{saved.seconds:.0f}"),
    ]


def listed(notes: Sequence[str]) -> str:
    """Return sentences as paragraphs."""
    return "".join(f"<p>{text(note)}</p>" for note in notes)


def _curve_card(heading: str, rows: Rows, called: Mapping[str, str]) -> str:
    """Draw loss and Dice over the steps; ``called`` names the classes by value."""
    if not rows:
        return card(heading, empty("No step was noted."))
    lines = [
        ("loss", points_of(rows, "loss"), PALETTE[0]),
        ("cross entropy", points_of(rows, "ce"), PALETTE[4]),
        ("1 - Dice of the batch", points_of(rows, "dice"), PALETTE[7]),
    ]
    drawn = curves(lines)
    each = sorted({name for row in rows for name in row if name.startswith("val_dice")})
    measured = [
        (_of_class(name, called), points_of(rows, name), PALETTE[at % len(PALETTE)])
        for at, name in enumerate(each)
    ]
    if any(points for _, points, _ in measured):
        drawn += curves(measured)
    smoothed = ", averaged over neighbouring steps" if len(rows) > _MOST_POINTS else ""
    return card(heading, drawn, f"Over the steps; the loss is that of each batch{smoothed}.")


def _of_class(name: str, called: Mapping[str, str]) -> str:
    value = name.removeprefix("val_dice").removeprefix("_")
    return f"Dice of {called.get(value, value)}" if value else "mean Dice of the averaged weights"


def points_of(rows: Rows, name: str) -> list[tuple[float, float]]:
    """Return the (step, value) of a column, averaged where there are too many to see."""
    found = [
        (float(row["step"] or 0), float(value))
        for row in rows
        if (value := row.get(name)) is not None and math.isfinite(value)
    ]
    each = -(-len(found) // _MOST_POINTS) if found else 1
    groups = [found[at : at + each] for at in range(0, len(found), each)]
    return [(g[-1][0], sum(value for _, value in g) / len(g)) for g in groups]


def curves(lines: Sequence[tuple[str, Sequence[tuple[float, float]], str]]) -> str:
    """Return a legend and a drawing of lines over a linear axis of steps.

    Parameters
    ----------
    lines
        Name, points (step, value) and colour of each.
    """
    every = [point for _, points, _ in lines for point in points]
    if not every:
        return empty("Nothing was measured.")
    ticks = nice_ticks(min(y for _, y in every), max(y for _, y in every))
    low, high, last = ticks[0], ticks[-1], max(x for x, _ in every) or 1.0

    def at(x: float, y: float) -> str:
        across = _LEFT + (_RIGHT - _LEFT) * x / last
        return f"{across:.1f},{_BOTTOM - (_BOTTOM - _TOP) * (y - low) / (high - low):.1f}"

    parts = [_level(tick, at(0, tick)) for tick in ticks]
    parts += [_step(tick, at(tick, low)) for tick in nice_ticks(0, last) if 0 <= tick <= last]
    for _, points, colour in reversed(lines):
        path = " ".join(at(x, y) for x, y in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8" '
            'stroke-linejoin="round"/>'
        )
    return _legend([(name, colour) for name, points, colour in lines if points]) + (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{text(lines[0][0])}">'
        f"{''.join(parts)}</svg>"
    )


def _level(tick: float, at: str) -> str:
    y = float(at.split(",")[1])
    return (
        f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>'
        f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
    )


def _step(tick: float, at: str) -> str:
    x = at.split(",")[0]
    return f'<text x="{x}" y="{_BOTTOM + 20}" text-anchor="middle">{tick:g}</text>'


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    shown = "".join(
        '<span><svg viewBox="0 0 22 12" aria-hidden="true"><line x1="1" x2="21" y1="6" y2="6" '
        f'stroke="{colour}" stroke-width="2"/></svg>{text(name)}</span>'
        for name, colour in entries
    )
    return f'<div class="legend">{shown}</div>'


def _gradient_card(path: Path) -> str:
    heading = "Which layers were pulled"
    if not path.is_file():
        return card(heading, empty("The run was over before gradients were measured."))
    layers: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    frozen = sum(layer["weights"] for layer in layers if layer["frozen"])
    every = sum(layer["weights"] for layer in layers)
    lead = (
        "Norm of the gradient over the norm of the weights, mean of the first steps; logarithmic."
    )
    if frozen:
        lead += f" Frozen then: {frozen / every:.0%} of the weights, the pale bars."
    return card(heading, gradient_bars(layers), lead)


def gradient_bars(layers: Sequence[Mapping[str, Any]]) -> str:
    """Return one bar for each parameter, in the order of the network; frozen ones are pale.

    Parameters
    ----------
    layers
        As `training.learning.LayerGradient` has them.
    """
    logs = [math.log10(max(layer["ratio"], _FLOOR)) for layer in layers]
    if not logs:
        return empty("No layer had a gradient.")
    low, high = math.floor(min(logs)), max(math.ceil(max(logs)), math.floor(min(logs)) + 1)
    height, room = len(layers) * (_BAR + _GAP) + 22, _WIDTH - _NAMES - 20
    parts = []
    for tick in range(low, high + 1):
        x = _NAMES + room * (tick - low) / (high - low)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 22}" stroke="var(--line)"/>'
            f'<text x="{x:.1f}" y="{height - 6}" text-anchor="middle">1e{tick}</text>'
        )
    for at, (layer, value) in enumerate(zip(layers, logs, strict=True)):
        y, width = at * (_BAR + _GAP), max(room * (value - low) / (high - low), 1.0)
        pale = ' opacity=".3"' if layer["frozen"] else ""
        parts.append(
            f'<text x="{_NAMES - 8}" y="{y + _BAR - 2}" text-anchor="end">{text(layer["name"])}'
            f'</text><rect x="{_NAMES}" y="{y}" width="{width:.1f}" height="{_BAR}" '
            f'fill="{PALETTE[0]}"{pale}/>'
        )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="Gradients of the layers">'
        f"{''.join(parts)}</svg>"
    )
