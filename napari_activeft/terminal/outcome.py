"""What `export`, `info`, `doctor` and the verbs of `weights` print."""

from __future__ import annotations

from rich.markup import escape

from napari_activeft.annotation_db import UNFINISHED, Fault
from napari_activeft.encoder_sources import WITH_THE_PROGRAM
from napari_activeft.kept_weights import KeptWeights
from napari_activeft.results import (
    DoctorResult,
    ExportResult,
    InfoResult,
    VerifyResult,
    WeightsResult,
)
from napari_activeft.screen import list_problems, new_table, out, tables
from napari_activeft.terminal.showing import show
from napari_activeft.wording import counted


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
    _show_runs(result)
    for job in result.jobs:
        if job.state in UNFINISHED:
            far = f", {job.done} of {job.total}" if job.total else ""
            out.print(f"job {job.job}: {job.verb}, {job.state}{far}")


def _show_runs(result: InfoResult) -> None:
    """Name the newest run, and how many came before it."""
    if not result.runs:
        return
    run, before = result.runs[0], len(result.runs) - 1
    learnt = f" from {counted(run['slices'], 'slice')}" if run["slices"] else ""
    where = {"val": "val cases", "folds": "labelled cases held back"}.get(run["monitor"])
    scored = run["score"] is not None
    score = f", mean Dice {run['score']:.4f} on {where}" if scored else ""
    earlier = f" ({before} before it)" if before else ""
    out.print(f"run {run['run']}: {run['network']}{learnt}, {run['state']}{score}{earlier}")


@show.register
def _(result: WeightsResult) -> None:
    table = new_table("encoder", "here", "parameters", "ImageNet top-1", "official file")
    for entry in result.weights:
        millions = f"{entry.parameters / 1e6:.0f} M" if entry.parameters else ""
        here = "yes" if entry.present else "no"
        accuracy = f"{entry.top1:.1f} %" if entry.top1 else ""
        ours = WITH_THE_PROGRAM if entry.source == WITH_THE_PROGRAM else "none"
        table.add_row(entry.name, here, millions, accuracy, entry.file or ours)
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
