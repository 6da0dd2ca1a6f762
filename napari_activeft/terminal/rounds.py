"""What `select`, `compare`, `next`, `submit` and `import-labels` print."""

from __future__ import annotations

from rich.markup import escape

from napari_activeft.comparison_tables import Comparison
from napari_activeft.results import ImportResult, NextResult, SelectResult, SubmitResult
from napari_activeft.screen import list_problems, new_table, out, tables
from napari_activeft.terminal.showing import show
from napari_activeft.wording import counted


@show.register
def _(result: SelectResult) -> None:
    share = result.selected / result.pool_slices
    out.print(
        f"round {result.round}: queued {counted(result.selected, 'slice')} ({share:.1%} of "
        f"{result.pool_slices}) from {counted(result.volumes, 'volume')} of "
        f"{counted(result.cases, 'case')}, by {result.selector}, seed {result.seed}"
    )
    if result.encoder:
        untrained = ", a network with random weights" if result.random_weights else ""
        out.print(f"  by the vectors of {escape(result.encoder)}{untrained}")
    if result.rw1 is not None:
        out.print(
            f"  all slices asked so far stand for the pool {_against_random(result.rw1)} "
            f"(W1 {result.rw1:.3f} of random)"
        )
    if result.rw1_beside is not None:
        out.print(
            "  beside the slices asked before, this round's stand for it "
            f"{_against_random(result.rw1_beside)} (W1 {result.rw1_beside:.3f} of that)"
        )
    for note in result.notes:
        out.print(f"  note: {escape(note)}")
    out.print(f"  report: {escape(str(result.page))}")
    out.print("next: `napari-activeft next --annotator NAME --out FOLDER` hands them out")


@show.register
def _(result: Comparison) -> None:
    table = new_table("vectors", "budget", "selector", "W1 of random", f"over {result.reference}")
    for row in result.standings:
        known = row.excess == row.excess and row.selector != result.reference
        excess = f"{row.excess:+.1%}" if known else ""
        if known and row.low == row.low:
            excess += f" ({row.low:+.1%} to {row.high:+.1%})"
        table.add_row(
            escape(row.features),
            str(row.budget),
            row.selector,
            f"{row.means['rw1']:.3f}",
            excess,
        )
    tables.print(table)
    out.print(
        "lower is better; 1.0 is as good as a random draw; in brackets 95 % intervals over the "
        "seeds, from 5 seeds on"
    )
    if result.reused:
        out.print(f"{result.reused} of {len(result.cells)} cells reused from earlier runs")
    out.print(f"report: {escape(str(result.page))}")


@show.register
def _(result: NextResult) -> None:
    list_problems(result.problems, "query")
    if result.query is None:
        if result.problems:
            out.print(
                "no query was handed out: `napari-activeft doctor` says how to mend the images"
            )
        else:
            out.print("no query is free: select more slices, or wait for those being labelled")
        return
    out.print(
        f"query {result.query}: slice {result.position} of {escape(str(result.volume))}\n"
        f"  picture  {escape(str(result.image))}\n"
        f"  ticket   {escape(str(result.ticket))}\n"
        f"  yours until {result.expires_at:%Y-%m-%d %H:%M} UTC, still free: {result.waiting}"
    )


@show.register
def _(result: SubmitResult) -> None:
    if result.revision is None:
        out.print(f"query {result.query} was {result.answer}, still free: {result.waiting}")
        return
    held = ", ".join(f"{escape(name)} {count} px" for name, count in result.pixels.items())
    out.print(
        f"query {result.query} answered ({held or 'empty slice'}), stored as revision "
        f"{result.revision}, still free: {result.waiting}"
    )


@show.register
def _(result: ImportResult) -> None:
    out.print(
        f"imported {counted(result.stored, 'mask')} from {counted(result.label_maps, 'label map')}"
    )
    if result.kept:
        out.print(f"{counted(result.kept, 'slice')} kept an accepted mask")
    if result.leased:
        out.print(f"{counted(result.leased, 'slice')} left to whoever is labelling them")
    if result.without_label_map:
        out.print(f"{counted(result.without_label_map, 'volume')} without a label map")
    list_problems(result.problems)


def _against_random(rw1: float) -> str:
    if round(rw1, 2) == 1:
        return "as well as a random draw"
    return f"{abs(1 - rw1):.0%} {'better' if rw1 < 1 else 'worse'} than a random draw"
