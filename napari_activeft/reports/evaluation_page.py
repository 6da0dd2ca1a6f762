"""The page of an evaluation: how good predictions are, in tables, a plot, and pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from napari_activeft.reports.evaluation_pictures import STYLE as PICTURES
from napari_activeft.reports.evaluation_pictures import Example, examples_html, legend
from napari_activeft.reports.shell import card, empty, number, page, table, text
from napari_activeft.reports.strips import Strip, strip_plot
from napari_activeft.training.metric_tables import LEAST_CASES, Row, Summaries, Summary
from napari_activeft.training.metrics import METRICS, TOGETHER

_TABLES = (
    ("dice", "hd95_mm", "assd_mm", "volume_error_ml", "volume_error_percent"),
    ("iou", "sensitivity", "specificity", "accuracy", "ssim"),
)
_ROWS = 200

_STYLE = (
    PICTURES
    + """
.scroll+.scroll{margin-top:22px}
.scroll table{min-width:640px}
td.n small{display:block;line-height:1.4}
details{margin-top:12px}
summary{cursor:pointer;color:var(--soft);font-size:14px}
@media(max-width:820px){.scroll>svg{min-width:560px}}
pre{background:var(--page);border:1px solid var(--line);border-radius:8px;padding:10px 12px;
margin:0 0 14px;white-space:pre-wrap;overflow-wrap:anywhere}
dl{margin:0;max-width:75ch;font-size:14px}
dt{font-weight:600}
dd{margin:0 0 8px}
"""
)
_ALL = "all classes"


@dataclass(frozen=True)
class EvaluationPage:
    """What the page of an evaluation shows.

    Attributes
    ----------
    level
        What ``rows`` and ``summary`` are of: volumes, or slices.
    class_names
        By class value.
    slices, slice_summary
        Every slice that was measured, and what these come to.
    examples
        The best first.
    notes
        What to know before the figures.
    problems
        Names of volumes that could not be measured, and why.
    absent_as_zero
        Whether a class in neither truth nor prediction has Dice 0.
    command
        What to type to measure so again.
    """

    title: str
    subtitle: str
    level: str
    class_names: Mapping[int, str]
    rows: Sequence[Row]
    summary: Summaries
    slices: Sequence[Row]
    slice_summary: Summaries
    examples: Sequence[Example]
    notes: Sequence[str] = ()
    problems: Sequence[tuple[str, str]] = ()
    absent_as_zero: bool = False
    command: str = ""


def evaluation_page(about: EvaluationPage) -> str:
    """Return the page: HTML that shows everything offline."""
    texts, plot = _plot(about)
    body = "".join(
        (
            *(f'<p class="note">{text(note)}</p>' for note in about.notes),
            _tiles(about),
            _main(about),
            plot,
            _pictures(about),
            _each(about),
            _slices(about),
            _problems(about),
            _meaning(about),
        )
    )
    return page(about.title, about.subtitle, body, names=texts, style=_STYLE)


def _name(about: EvaluationPage, value: int) -> str:
    return _ALL if value == TOGETHER else about.class_names[value]


def _tiles(about: EvaluationPage) -> str:
    together = about.summary[TOGETHER]
    dice, far = together["dice"], together["hd95_mm"]
    cases = len({row.case for row in about.rows})
    tiles = [
        (number(dice.mean), f"mean Dice over classes and {about.level}{_interval(dice, 3)}"),
        (f"{number(far.mean, 1)} mm", f"mean HD95{_interval(far, 1)}"),
        (str(cases), f"{'case' if cases == 1 else 'cases'}, {len(about.rows)} {about.level}"),
        (str(len(about.slices)), "slices with truth"),
    ]
    inside = "".join(
        f'<div class="card"><strong>{text(big)}</strong><span>{text(small)}</span></div>'
        for big, small in tiles
    )
    return f'<div class="tiles">{inside}</div>'


def _interval(summary: Summary, digits: int) -> str:
    if math.isnan(summary.low):
        return ""
    return f", 95 % interval {summary.low:.{digits}f} to {summary.high:.{digits}f}"


def _main(about: EvaluationPage) -> str:
    lead = (
        f"Each value is the mean over the {about.level}; below it the median and, in brackets, the "
        "95 % interval of the mean by a bootstrap over cases, where there are at least "
        f"{LEAST_CASES}. {_ALL.capitalize()}: the mean of the classes in each of them."
    )
    one = about.level.removesuffix("s")
    heading = f"Per class, {one} by {one}"
    return card(heading, _both_tables(about, about.summary), lead)


def _both_tables(about: EvaluationPage, made: Summaries) -> str:
    return "".join(_summary_table(about, made, names) for names in _TABLES)


def _summary_table(about: EvaluationPage, made: Summaries, names: Sequence[str]) -> str:
    head = ["", *(_heading(name) for name in names)]
    lines = []
    for value in (*about.class_names, TOGETHER):
        if value in made:
            cells = (_cell(made[value][name], METRICS[name].digits) for name in names)
            lines.append([f"<b>{text(_name(about, value))}</b>", *cells])
    return table(head, lines, range(1, len(head)))


def _heading(name: str) -> str:
    about = METRICS[name]
    return f"{about.heading} ({about.unit})" if about.unit else about.heading


def _cell(summary: Summary, digits: int) -> str:
    small = []
    if summary.rows:
        small.append(f"median {number(summary.median, digits)}")
    if not math.isnan(summary.low):
        small.append(f"({number(summary.low, digits)} to {number(summary.high, digits)})")
    if summary.left_out:
        small.append(f"in {summary.rows} of {summary.rows + summary.left_out}")
    below = "".join(f'<small class="soft">{text(line)}</small>' for line in small)
    return f"{number(summary.mean, digits)}{below}"


def _plot(about: EvaluationPage) -> tuple[list[str], str]:
    """Return the texts at the pointer, and the plot."""
    texts: list[str] = []
    strips = []
    for value in (*about.class_names, TOGETHER):
        points = []
        for row in about.rows:
            dice = row.figures[value]["dice"]
            if not math.isnan(dice):
                points.append((dice, len(texts)))
                texts.append(f"{_row_name(row)}: {_name(about, value)} {dice:.3f}")
        summary = about.summary[value]["dice"]
        strips.append(Strip(_name(about, value), points, summary.mean, summary.low, summary.high))
    heading = f"Dice of each {about.level.removesuffix('s')}"
    if not any(strip.values for strip in strips):
        return [], card(heading, empty("No class is in truth or prediction: there is no Dice."))
    lead = (
        f"Each dot is one of the {about.level}: point at it to read its name. The line is the "
        "mean, the band its 95 % interval."
    )
    plot = strip_plot(strips, label=heading)
    return texts, card(heading, f'<div class="scroll">{plot}</div>', lead)


def _row_name(row: Row) -> str:
    return row.volume if row.position is None else f"{row.volume}, slice {row.position}"


def _pictures(about: EvaluationPage) -> str:
    heading = "The best, the median and the worst"
    if not about.examples:
        return card(heading, empty("No volume has a Dice, so none is the best."))
    lead = (
        "Of each volume the slice with the most wrong pixels and others spread over those that "
        "hold a class, cut to what surrounds the classes."
    )
    pictures = legend(about.class_names) + examples_html(about.examples, about.class_names)
    return card(heading, pictures, lead)


def _each(about: EvaluationPage) -> str:
    """Return a table of all rows, the worst first."""
    order = sorted(about.rows, key=lambda row: _defined(row.figures[TOGETHER]["dice"]))
    values = list(about.class_names)
    head = ["", "case", "Dice", *(about.class_names[value] for value in values)]
    head += ["HD95 (mm)", "Volume error (ml)"]
    lines = []
    for row in order[:_ROWS]:
        together = row.figures[TOGETHER]
        dice = [number(row.figures[value]["dice"]) for value in values]
        rest = [number(together["hd95_mm"], 2), number(together["volume_error_ml"], 2)]
        name, case = text(_row_name(row)), text(row.case)
        lines.append([name, case, number(together["dice"]), *dice, *rest])
    lead = "By mean Dice, the worst first; HD95 and volume error are means over the classes."
    if len(order) > _ROWS:
        lead += f" Shown: {_ROWS} of {len(order)}; metrics.csv and slices.csv hold all."
    one = about.level.removesuffix("s")
    return card(f"Each {one}", table(head, lines, range(2, len(head))), lead)


def _defined(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _slices(about: EvaluationPage) -> str:
    if about.level == "slices":
        return ""
    lead = (
        "The same figures of single slices, distances in the plane. A class that a slice holds in "
        "neither truth nor prediction "
        + ("has Dice 0 here." if about.absent_as_zero else "is left out.")
    )
    return card(
        "Per class, slice by slice",
        "<details><summary>Show the tables</summary>"
        f"{_both_tables(about, about.slice_summary)}</details>",
        lead,
    )


def _problems(about: EvaluationPage) -> str:
    if not about.problems:
        return ""
    lines = [(text(name), text(sentence)) for name, sentence in about.problems]
    return card("Not measured", table(("volume", "why"), lines))


def _meaning(about: EvaluationPage) -> str:
    entries = "".join(f"<dt>{text(name)}</dt><dd>{text(what)}</dd>" for name, what in _WORDS)
    typed = f"<pre><code>{text(about.command)}</code></pre>" if about.command else ""
    lead = "Beside this page: metrics.csv (volumes), slices.csv and summary.json."
    return card("What the figures mean, and how to repeat them", f"{typed}<dl>{entries}</dl>", lead)


_WORDS = (
    (
        "Dice, IoU",
        "Overlap of predicted and true pixels of a class: 0 none, 1 perfect. A class in only one "
        "of both has 0; a class in neither is left out, unless a note above says otherwise.",
    ),
    (
        "HD95, surface distance",
        "How far one outline is from the other: the 95th percentile, the larger of both ways, and "
        "the mean. Where a class is in only one of both there is no distance: it is left out, and "
        "“in 18 of 20” says so.",
    ),
    (
        "Volume error",
        "Predicted less true volume: above 0 where too much is predicted, below where too little.",
    ),
    (
        "Sensitivity, specificity, pixel accuracy",
        "The part of the class that was found; the part of the rest that was left alone; the part "
        "of all pixels that are right. Background is most of a picture, so the last two are high "
        "whatever the prediction is worth.",
    ),
    (
        "SSIM of masks",
        "Structural similarity of predicted and true mask as pictures of 0 and 1 (windows of 7 x 7 "
        "pixels), over the slices that hold the class. It is no similarity of grey values.",
    ),
    (
        "Pixels without a label",
        "They count neither for nor against. Of slices that have such, only what counts pixels is "
        "measured.",
    ),
)
