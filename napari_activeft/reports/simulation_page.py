"""The page of a simulation: learning curves, tables, and what may be concluded from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_activeft.reports.learning_curves import as_svg, charts
from napari_activeft.reports.shell import card, empty, key_table, number, page, table, text

if TYPE_CHECKING:
    from napari_activeft.simulation.curves import Curves, Difference, Interval, Point

_STYLE = """
.plot{max-width:820px;margin-bottom:14px}
li{margin:0 0 8px;max-width:75ch}
"""


@dataclass(frozen=True)
class SimulationPage:
    """What the page shows.

    Attributes
    ----------
    class_names
        By class value.
    reference
        The selector that the others are set against.
    cells, total
        Trainings that are measured, and that were planned.
    recipe
        How all networks were trained and measured, names and values.
    differs
        What stands between these figures and the older study's; empty for our own recipe.
    reported
        What the study reported, and its Dice.
    problems
        What could not be made, and why.
    """

    title: str
    curves: Curves
    class_names: Mapping[int, str]
    reference: str
    cells: int
    total: int
    recipe: Sequence[tuple[str, str]]
    differs: Sequence[str] = ()
    reported: Sequence[tuple[str, float]] = ()
    notes: Sequence[str] = ()
    problems: Sequence[tuple[str, str]] = ()


def simulation_page(made: SimulationPage) -> str:
    """Return the page of a simulation as self-contained HTML."""
    body = _lead(made) + _notes(made)
    if made.curves.points:
        body += _study(made)
        body += "".join(
            card(one.heading, f'<div class="plot">{as_svg(one)}</div>')
            for one in charts(made.curves)
        )
        body += _points(made) + _differences(made) + _costs(made)
    else:
        body += card("No figures yet", empty("No training is measured yet."))
    body += card("How it was done", key_table(made.recipe))
    subtitle = f"learning curves, {made.cells} of {made.total} trainings measured"
    return page(made.title, subtitle, body, style=_STYLE)


def _lead(made: SimulationPage) -> str:
    measured = (
        "Each figure is a Dice of single slices, a class that is in neither truth nor prediction "
        "being 0"
        if made.differs
        else "Each figure is a Dice of whole volumes of cases that the network never saw"
    )
    return card(
        "How to read this",
        "<p>Labels that were there already acted as the annotator: each selector chose slices, a "
        f"network learnt from their labels alone, and others were predicted. {measured}, the mean "
        "over classes, volumes and seeds. In brackets and as vertical lines: 95 % intervals of a "
        "bootstrap that draws cases and seeds, where there are at least 5 cases. With few seeds "
        "they are rather too narrow. Intervals that overlap say little about a difference: those "
        "are given below, paired by case and seed.</p>",
    )


def _notes(made: SimulationPage) -> str:
    if not (made.notes or made.problems):
        return ""
    lines = "".join(f'<p class="note">{text(note)}</p>' for note in made.notes)
    lines += "".join(
        f'<p class="note"><b>{text(what)}</b>: {text(why)}</p>' for what, why in made.problems
    )
    return card("What to know", lines)


def _study(made: SimulationPage) -> str:
    """Show the older study's figures, and everything that keeps them from being compared."""
    if not made.differs:
        return ""
    rows = [
        (f"the study, {text(what)}", number(dice, 4), "as it reported it")
        for what, dice in made.reported
    ]
    rows += [
        (
            f"here, {text(one.selector)}, {one.slices:.0f} slices",
            number(one.dice.mean, 4),
            f"by its protocol as far as it is known, {one.seeds} seeds",
        )
        for one in made.curves.points
    ]
    listed = "".join(f"<li>{text(one)}</li>" for one in made.differs)
    return card(
        "Beside the older study",
        table(("", "Dice", ""), rows, (1,)) + f"<h3>What differs</h3><ul>{listed}</ul>",
        "These are not figures of the same thing. What is known to differ is listed; what the "
        "study did not tell may differ too.",
    )


def _points(made: SimulationPage) -> str:
    classes = list(made.class_names)
    best = _best(made.curves.points)
    rows = []
    for one in made.curves.points:
        dice = _told(one.dice)
        rows.append(
            [
                *_about(one),
                f"<b>{dice}</b>" if one in best else dice,
                *(_told(one.by_class[value]) for value in classes),
                number(one.hd95_mm, 1),
                str(one.seeds),
            ]
        )
    names = [made.class_names[value] for value in classes]
    head = ("network", "selector", "slices", "Dice", *names, "HD95 mm", "seeds")
    return card("Dice", table(head, rows, range(2, len(head))), "Bold: the highest of its budget.")


def _best(points: Sequence[Point]) -> list[Point]:
    """Return the highest of each budget and round, the ceiling apart."""
    groups: dict[tuple[str, int, int, bool], list[Point]] = {}
    for one in points:
        if one.dice.mean == one.dice.mean:
            groups.setdefault((one.budget, one.rounds, one.round, one.is_ceiling), []).append(one)
    return [max(group, key=lambda one: one.dice.mean) for group in groups.values()]


def _about(one: Point) -> list[str]:
    slices = f"{one.slices:.0f}"
    if one.rounds > 1:
        slices += f" (round {one.round} of {one.rounds})"
    return [text(one.network), text(one.selector), slices]


def _told(of: Interval, digits: int = 3, sign: str = "") -> str:
    """Return a mean with its interval as HTML."""
    if of.mean != of.mean:
        return "–"
    mean = f"{of.mean:{sign}.{digits}f}"
    if of.low != of.low:
        return mean
    return (
        f'{mean} <small class="soft">({of.low:{sign}.{digits}f} to {of.high:{sign}.{digits}f})'
        "</small>"
    )


def _differences(made: SimulationPage) -> str:
    body = ""
    for kind, heading in (("selector", "selectors"), ("network", "networks")):
        found = [one for one in made.curves.differences if one.kind == kind]
        if found:
            body += f"<h3>Between {heading}</h3>" + _difference_table(found)
    if not body:
        body = empty("Only one selector and one network were tried: nothing to set it against.")
    return card(
        "Differences",
        body,
        "Dice of the first less that of the second, paired by volume and seed: above 0 where the "
        "first is better. Where the interval holds 0, these trainings do not tell them apart.",
    )


def _difference_table(found: Sequence[Difference]) -> str:
    rows = []
    for one in found:
        told = f"{one.network}, {one.selector}"
        when = one.budget if one.rounds == 1 else f"{one.budget}, round {one.round}"
        rows.append(
            [
                text(told),
                text(one.against),
                text(when),
                _told(one.excess, sign="+"),
                _verdict(one),
                str(one.pairs),
            ]
        )
    return table(("first", "second", "budget", "difference", "", "pairs"), rows, (3, 5))


def _verdict(one: Difference) -> str:
    low, high = one.excess.low, one.excess.high
    if low != low:
        return "too few cases for an interval"
    if low > 0:
        return "better"
    return "worse" if high < 0 else "not told apart"


def _costs(made: SimulationPage) -> str:
    rows = [
        [
            *_about(one),
            f"{one.labelled_cases:.1f}",
            f"{one.steps:.0f}",
            f"{one.train_seconds:.0f}",
            f"{1000 * one.step_seconds:.0f}",
            f"{1000 * one.slice_seconds:.0f}",
            f"{one.peak_mib:.0f}",
        ]
        for one in made.curves.points
    ]
    head = (
        *("network", "selector", "slices", "cases labelled", "steps", "train s", "ms a step"),
        *("ms a predicted slice", "peak MiB"),
    )
    return card(
        "What it cost",
        table(head, rows, range(2, len(head))),
        "Means over the trainings; the memory is the most that the process held in any.",
    )
