"""How results, progress and problems look on a terminal. Texts only: no verb is called here."""

from __future__ import annotations

from functools import singledispatch

from pydantic import ValidationError
from rich.markup import escape

from napari_activeft.annotation_db import Fault, StoreError
from napari_activeft.comparison_tables import Comparison
from napari_activeft.errors import STOPPED, Cancelled, UserError
from napari_activeft.kept_weights import KeptWeights
from napari_activeft.results import (
    AddResult,
    ClassesResult,
    DoctorResult,
    EmbedResult,
    ExportResult,
    ImportResult,
    InfoResult,
    InitResult,
    NextResult,
    SelectResult,
    SubmitResult,
    VerifyResult,
    WeightsResult,
)
from napari_activeft.screen import (
    counted,
    fail,
    list_problems,
    new_table,
    out,
    progress,
    quoted,
    tables,
    warn,
)

__all__ = ["explain", "fail", "list_problems", "progress", "show", "warn"]


def explain(refusal: BaseException) -> tuple[int, str]:
    """Return the exit code and the one line that an exception means to a user."""
    if isinstance(refusal, Cancelled):
        return 1, STOPPED
    if isinstance(refusal, ValidationError):
        return 2, _first_fault(refusal)
    if isinstance(refusal, (UserError, StoreError)):
        return 1, " ".join(str(refusal).split())
    return 1, " ".join(
        f"this should not happen ({type(refusal).__name__}: {refusal}): please report it, with "
        "what NAPARI_ACTIVEFT_DEBUG=1 prints".split()
    )


def _first_fault(refusal: ValidationError) -> str:
    fault = refusal.errors()[0]
    name = "-".join(str(part) for part in fault["loc"]).replace("_", "-")
    message = fault["msg"].removeprefix("Value error, ")
    return f"--{name}: {message}, {fault['input']!r} was given" if name else message


@singledispatch
def show(result: object) -> None:
    """Print a verb's result for people."""
    raise TypeError(f"{type(result).__name__} cannot be shown")


@show.register
def _(result: InitResult) -> None:
    out.print(f"made the project [bold]{escape(result.name)}[/] in {escape(str(result.folder))}")
    out.print(f"next: cd {quoted(str(result.folder))} && napari-activeft add FOLDER_OF_IMAGES")


@show.register
def _(result: AddResult) -> None:
    out.print(
        f"added {counted(result.added, 'volume')} with {counted(result.slices, 'slice')}"
        f" of {counted(sum(result.cases.values()), 'new case')} ({escape(result.case_rule)})"
    )
    if result.largest_case_volumes > 1:
        out.print(
            f"  the largest case is {escape(str(result.largest_case))} with "
            f"{result.largest_case_volumes} volumes: if that is not one patient, make a new "
            "project and add with another --case"
        )
    for split, count in result.cases.items():
        if split != "pool":
            out.print(f"  {counted(count, 'case')} kept aside as {split}")
    if result.known:
        out.print(f"{counted(result.known, 'volume')} known already")
    if result.moved:
        out.print(f"{counted(result.moved, 'volume')} found again at another place")
    if result.label_maps:
        out.print(f"{counted(result.label_maps, 'label map')} found")
    if not (result.added or result.known or result.moved):
        out.print(
            "no image was taken: NIfTI, DICOM, NRRD, MHA, PNG, JPEG and TIFF files are read"
            f" ({counted(result.other_files, 'other file')} passed over)"
        )
    list_problems(result.problems)


@show.register
def _(result: ClassesResult) -> None:
    if not result.classes:
        out.print("no classes yet: add some, for example `napari-activeft classes RV Myo LV`")
        return
    table = new_table("value", "class", "colour")
    table.add_row("0", "background", "")
    for record in result.classes:
        swatch = f"[{record.colour}]██[/] {record.colour}"
        table.add_row(str(record.value), escape(record.name), swatch)
    tables.print(table)


@show.register
def _(result: EmbedResult) -> None:
    trained = ", random weights: they say little about what is in a slice"
    out.print(
        f"{counted(result.embedded, 'slice')} of {result.pool_slices} embedded by "
        f"{escape(result.encoder)}, {result.size} numbers each"
        f"{trained if result.random_weights else ''}"
    )
    if result.computed:
        scan = f", scan {result.scan}" if result.scan else ""
        out.print(
            f"  {result.computed} of them now, in {result.seconds:.1f} s "
            f"({result.computed / result.seconds:.1f} a second, {result.device}, "
            f"{result.precision}{scan})"
        )
    if result.out:
        out.print(f"  written to {escape(str(result.out))}")
    list_problems(result.problems, "volume")


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


@show.register
def _(result: ExportResult) -> None:
    out.print(
        f"exported {counted(result.slices, 'slice')} of {counted(result.volumes, 'volume')} as "
        f"{result.format} to {escape(str(result.folder))} ({counted(result.files, 'file')})"
    )
    for note in result.notes:
        out.print(f"note: {escape(note)}")


@show.register
def _(result: InfoResult) -> None:
    if result.folder is None:
        out.print("no project here: make one with `napari-activeft init DIR`")
    else:
        out.print(f"[bold]{escape(str(result.name))}[/] in {escape(str(result.folder))}")
        _show_contents(result)
    table = new_table("program", "version")
    for part, version in result.program.items():
        table.add_row(part, escape(version))
    tables.print(table)
    if result.scans:
        out.print("selective scan:")
    for name, state in result.scans.items():
        out.print(f"  {name:10} {escape(state)}")


def _show_contents(result: InfoResult) -> None:
    contents = new_table("split", "cases", "volumes", "slices")
    for split in ("pool", "val", "test"):
        numbers = [result.contents[f"{split} {what}"] for what in ("cases", "volumes", "slices")]
        if any(numbers) or split == "pool":
            contents.add_row(split, *(str(number) for number in numbers))
    tables.print(contents)
    names = ", ".join(f"{c.value} {escape(c.name)}" for c in result.classes) or "none yet"
    out.print(f"classes: {names}")
    if result.rounds:
        order = ("open", "leased", "submitted", "skipped", "approved", "rejected")
        states = [s for s in order if any(s in row["states"] for row in result.rounds)]
        rounds = new_table("round", "selector", "seed", *states)
        for row in result.rounds:
            counts = (str(row["states"].get(state, 0)) for state in states)
            rounds.add_row(str(row["round"]), row["selector"], str(row["seed"]), *counts)
        tables.print(rounds)
    for made in result.embeddings:
        untrained = ", random weights" if made["random_weights"] else ""
        out.print(
            f"embedded by {escape(made['encoder'])} at {made['side']} x {made['side']}{untrained}: "
            f"{counted(made['slices'], 'slice')}, {made['size']} numbers each, last used "
            f"{made['used_at'][:16].replace('T', ' ')} UTC"
        )
    list_problems(result.problems, "embedding")
    out.print(f"{counted(result.accepted, 'slice')} with an accepted mask")
    for person in result.annotators:
        seconds = round(person["seconds"])
        time = f", {seconds // 60} min {seconds % 60} s on task" if seconds else ""
        out.print(f"  {escape(person['author'])}: {counted(person['masks'], 'mask')}{time}")


@show.register
def _(result: WeightsResult) -> None:
    table = new_table("encoder", "here", "parameters", "ImageNet top-1", "official file")
    for entry in result.weights:
        millions = f"{entry.parameters / 1e6:.0f} M" if entry.parameters else ""
        here = "yes" if entry.present else "no"
        accuracy = f"{entry.top1:.1f} %" if entry.top1 else ""
        table.add_row(entry.name, here, millions, accuracy, entry.file or "none")
    tables.print(table)
    out.print(f"kept in {escape(str(result.folder))}")


@show.register
def _(result: KeptWeights) -> None:
    here = "were here already" if result.already_there else "are here now"
    out.print(
        f"the weights of {result.name} {here}: {escape(str(result.path))}, SHA-256 {result.sha256}"
    )
    for note in result.notes:
        out.print(escape(note))
    out.print(f"next: `napari-activeft embed --encoder {result.name}`")


@show.register
def _(result: VerifyResult) -> None:
    if not result.weights:
        out.print("no weights are here yet: `napari-activeft weights list` shows what there is")
    for one in result.weights:
        out.print(f"{one.name}: " + ("sound" if one.sound else f"[red]{escape(one.sentence)}[/]"))


@show.register
def _(result: DoctorResult) -> None:
    if result.backup:
        out.print(f"copied the database to {escape(str(result.backup))}")
    if result.mended:
        out.print(f"put {counted(result.mended, 'query')} back into the queue")
    out.print(
        f"looked at the database, {counted(result.masks, 'mask')} and "
        f"{counted(result.images, 'image')}: "
        + (f"[red]{counted(len(result.faults), 'fault')}[/]" if result.faults else "all is well")
    )
    for fault in result.faults:
        out.print(_fault_line(fault))


def _fault_line(fault: Fault) -> str:
    return f"  {escape(fault.subject)}\n    {escape(fault.sentence)}"


def _against_random(rw1: float) -> str:
    if round(rw1, 2) == 1:
        return "as well as a random draw"
    return f"{abs(1 - rw1):.0%} {'better' if rw1 < 1 else 'worse'} than a random draw"
