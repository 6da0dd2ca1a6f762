"""The page of a comparison: every selector on every pool, against the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_activeft.reports.plots import Line, line_plot
from napari_activeft.reports.shell import PALETTE, card, empty, number, page, table, text
from napari_activeft.selection.registry import SELECTORS

if TYPE_CHECKING:
    from napari_activeft.comparison_tables import Comparison, Standing

_STYLE = """
.plot{max-width:760px;margin-bottom:14px}
details{margin-top:10px}
summary{cursor:pointer}
"""
_DASHES = ("", "6 4", "2 4")
_SECONDARY = (
    ("nearest_mean", "Mean distance to the nearest pick", 3),
    ("rw1_out", "rW1 of cases outside of the pool", 3),
    ("cases", "Cases with a pick", 1),
    ("most_in_volume", "Most picks in one volume", 1),
    ("seconds", "Seconds", 2),
)


def comparison_page(made: Comparison) -> str:
    """Return the page of a comparison as self-contained HTML."""
    pools = list(dict.fromkeys(row.features for row in made.standings))
    selectors = list(dict.fromkeys(row.selector for row in made.standings))
    body = _lead(made) + "".join(
        _pool(pool, [row for row in made.standings if row.features == pool], made.reference)
        for pool in pools
    )
    if not pools:
        body += card("No runs yet", empty("Nothing was compared."))
    subtitle = (
        f"{len(selectors)} selectors on {len(pools)} pools, {len(made.cells)} runs; against "
        f"{made.reference}"
    )
    return page("Selectors compared", subtitle, body, style=_STYLE)


def _lead(made: Comparison) -> str:
    return card(
        "How to read this",
        "<p>rW1 is how far a pool is from the picks (exact Wasserstein-1 distance between features "
        "of length 1), divided by the same for random draws of the same size: 1 is as good as "
        "random, lower is better. Each value is the mean over the seeds. In brackets: by how much "
        f"the distance exceeds that of <b>{text(made.reference)}</b>, with the 95 % interval of a "
        "bootstrap over the seeds, paired, where there are at least 5. The lowest value of a "
        f"column is set in bold.{_undrawn(made)}</p>",
    )


def _undrawn(made: Comparison) -> str:
    """Say which selectors choose the same with every seed."""
    names = dict.fromkeys(row.selector for row in made.standings)
    same = [name for name in names if name in SELECTORS and not SELECTORS[name].drawn]
    if not same:
        return ""
    return (
        f" Without draws, the same with every seed: {text(', '.join(same))}; an interval there "
        "shows only how the reference varies."
    )


def _pool(pool: str, rows: Sequence[Standing], reference: str) -> str:
    budgets = sorted({row.budget for row in rows})
    selectors = list(dict.fromkeys(row.selector for row in rows))
    selectors.sort(key=lambda name: name != reference)
    by_place = {(row.selector, row.budget): row for row in rows}
    body = ""
    if len(budgets) > 1:
        lines = [
            Line(name, values, *_look(at, name == reference))
            for at, name in enumerate(selectors)
            if (values := [_mean(by_place.get((name, b)), "rw1") for b in budgets])
        ]
        plot = line_plot(budgets, lines, x_label="slices chosen", y_label="rW1")
        body += f'<div class="plot">{plot}</div>'
    body += _table(selectors, budgets, by_place, reference)
    for metric, heading, digits in _SECONDARY:
        if any(_mean(row, metric) == _mean(row, metric) for row in rows):
            body += f"<details><summary>{text(heading)}</summary>"
            body += _plain(selectors, budgets, by_place, metric, digits) + "</details>"
    return card(pool, body)


def _look(at: int, first: bool) -> tuple[str, float, str]:
    if first:
        return "var(--accent)", 3.2, ""
    others = PALETTE[1:]
    turn = max(at - 1, 0)
    return others[turn % len(others)], 1.6, _DASHES[turn // len(others) % len(_DASHES)]


def _mean(row: Standing | None, metric: str) -> float:
    return float("nan") if row is None else row.means[metric]


def _table(
    selectors: Sequence[str],
    budgets: Sequence[int],
    rows: dict[tuple[str, int], Standing],
    reference: str,
) -> str:
    lowest = {b: min(row.means["rw1"] for (_, k), row in rows.items() if k == b) for b in budgets}
    lines = []
    for name in selectors:
        cells = [text(name)]
        for budget in budgets:
            row = rows.get((name, budget))
            value = number(_mean(row, "rw1"))
            if row is not None and row.means["rw1"] == lowest[budget]:
                value = f"<b>{value}</b>"
            if row is not None and name != reference and row.excess == row.excess:
                excess = f"{100 * row.excess:+.1f} %"
                if row.low == row.low:
                    excess += f" ({100 * row.low:+.1f} to {100 * row.high:+.1f})"
                value += f'<br><small class="soft">{excess}</small>'
            cells.append(value)
        lines.append(cells)
    return table(("rW1", *(f"{b} slices" for b in budgets)), lines, range(1, len(budgets) + 1))


def _plain(
    selectors: Sequence[str],
    budgets: Sequence[int],
    rows: dict[tuple[str, int], Standing],
    metric: str,
    digits: int,
) -> str:
    lines = [
        [text(name), *(number(_mean(rows.get((name, b)), metric), digits) for b in budgets)]
        for name in selectors
    ]
    return table(("", *(f"{b} slices" for b in budgets)), lines, range(1, len(budgets) + 1))
