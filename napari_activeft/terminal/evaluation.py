"""What `evaluate` prints."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

from napari_activeft.results import EvaluateResult
from napari_activeft.screen import list_problems, new_table, out, tables
from napari_activeft.terminal.showing import show
from napari_activeft.wording import counted

_COLUMNS = (
    ("dice", "Dice", 3),
    ("hd95_mm", "HD95 mm", 2),
    ("volume_error_ml", "volume error ml", 2),
)


@show.register
def _(result: EvaluateResult) -> None:
    whose = "the folder" if result.run is None else f"run {result.run}"
    out.print(
        f"{whose} on the split {result.split}: {counted(result.volumes, 'volume')} and "
        f"{counted(result.slices, 'slice')} of {counted(result.cases, 'case')}, mean over "
        f"{result.level}"
    )
    headings = ("class", "Dice", "median", "95 % interval", *(one[1] for one in _COLUMNS[1:]))
    table = new_table(*headings)
    for of_class in [*(v for k, v in result.summary.items() if k != "all"), result.summary["all"]]:
        dice = of_class["dice"]
        interval = f"{_text(dice['low'])} to {_text(dice['high'])}" if dice["low"] else ""
        cells = (_text(of_class[name]["mean"], digits) for name, _, digits in _COLUMNS[1:])
        table.add_row(
            escape(of_class["name"]),
            _text(dice["mean"]) + _left_out(dice),
            _text(dice["median"]),
            interval,
            *cells,
        )
    tables.print(table)
    for note in result.notes:
        out.print(f"  note: {escape(note)}")
    list_problems(result.problems, "volume")
    out.print(f"report: {escape(str(result.page))}")


def _text(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _left_out(summary: dict[str, Any]) -> str:
    """Return in how many of the rows a figure is defined, where that is not all of them."""
    if not summary["left_out"]:
        return ""
    return f" (in {summary['rows']} of {summary['rows'] + summary['left_out']})"
