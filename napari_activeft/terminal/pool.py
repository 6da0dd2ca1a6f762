"""What `init`, `add`, `classes` and `embed` print."""

from __future__ import annotations

from rich.markup import escape

from napari_activeft.results import AddResult, ClassesResult, EmbedResult, InitResult
from napari_activeft.screen import list_problems, new_table, out, quoted, tables
from napari_activeft.terminal.showing import show
from napari_activeft.wording import counted


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
    if result.label_like:
        named = escape(", ".join(result.label_like[:2]))
        out.print(
            f"  {counted(len(result.label_like), 'of them is', 'of them are')} called like label "
            f"maps ({named}): if they are, make a new project and add with --labels, for example "
            "--labels 'labels/*.nii.gz'"
        )
    if result.nothing:
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
    if result.why:
        out.print(escape(result.why))
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
