"""The command line: reads arguments, calls `workflow`, prints. The same verbs, the same order.

Exit codes: 0 done, 1 something the user can mend (one line, no traceback), 2 wrong usage.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from napari_activeft import __version__
from napari_activeft.errors import STOPPED, UserError
from napari_activeft.settings import (
    AddSettings,
    Budget,
    DoctorSettings,
    ExportSettings,
    ImportSettings,
    InitSettings,
    NextSettings,
    SelectSettings,
    Settings,
    SubmitSettings,
)

if TYPE_CHECKING:
    from napari_activeft.project import Project

# Everything that is slow to load is imported by the verb that needs it: --help must be quick.

app = typer.Typer(
    name="napari-activeft",
    help="Choose the few slices worth annotating, have them labelled, keep every mask safe.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Verb = TypeVar("Verb", bound=Callable[..., None])

ProjectOption = Annotated[
    Path | None,
    typer.Option(
        "--project",
        "-p",
        help="The project's folder; else $NAPARI_ACTIVEFT_PROJECT, else the nearest parent "
        "folder that is one.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A letter that the terminal does not know must not undo what was done.
            stream.reconfigure(errors="backslashreplace")
    app()


def _default(settings: type[Settings], name: str) -> Any:  # noqa: ANN401
    """Return a default from where all defaults live."""
    return settings.model_fields[name].default


def _verb(function: Verb) -> Verb:
    """Register a verb whose errors become one line and an exit code."""

    @wraps(function)
    def guarded(**arguments: Any) -> None:  # noqa: ANN401
        try:
            function(**arguments)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except KeyboardInterrupt as stop:
            # Nothing is imported here: what was being loaded is half there.
            typer.echo(f"error: {STOPPED}", err=True)
            raise typer.Exit(1) from stop
        except Exception as refusal:
            if os.environ.get("NAPARI_ACTIVEFT_DEBUG"):
                raise
            from napari_activeft import terminal

            code, sentence = terminal.explain(refusal)
            terminal.fail(sentence)
            raise typer.Exit(code) from refusal

    app.command(function.__name__.rstrip("_").replace("_", "-"))(guarded)
    return function


@contextmanager
def _opened(folder: Path | None) -> Iterator[Project]:
    from napari_activeft import terminal
    from napari_activeft.project import Project, find_project

    with Project.open(find_project(folder)) as project:
        for warning in project.store.warnings:
            terminal.warn(warning)
        yield project


def _report(result: object, as_json: bool) -> None:
    from napari_activeft import terminal
    from napari_activeft.results import to_json

    if as_json:
        # Straight to the stream: a console would wrap long lines and colour words.
        sys.stdout.write(to_json(result) + "\n")
    else:
        terminal.show(result)


def _parsed_budget(text: str) -> Budget:
    try:
        return Budget.parse(text)
    except UserError as refusal:
        raise typer.BadParameter(str(refusal)) from refusal


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"napari-activeft {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print version."),
    ] = False,
) -> None:
    del version


@_verb
def init(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The new project's folder.")
    ] = None,
    name: Annotated[
        str, typer.Option(help="Name of the project; the folder's name if empty.")
    ] = _default(InitSettings, "name"),
    plane: Annotated[
        str, typer.Option(help="Slice along auto (the coarsest spacing), z, y or x.")
    ] = _default(InitSettings, "plane"),
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a project in DIR."""
    from napari_activeft import workflow

    target = folder or project
    if target is None:
        raise typer.BadParameter("name the new project's folder: napari-activeft init DIR")
    settings = InitSettings.model_validate({"name": name, "plane": plane})
    _report(workflow.init(target, settings), as_json)


@_verb
def add(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder, or one image file.")],
    labels: Annotated[
        str | None,
        typer.Option(metavar="GLOB", help="Files that are label maps, e.g. '*_gt.nii.gz'."),
    ] = _default(AddSettings, "labels"),
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Files to pass over; repeatable.")
    ] = None,
    case: Annotated[
        str,
        typer.Option(
            metavar="PATTERN",
            help="What tells cases apart: auto, folder, file, FILE.csv:COLUMN, or a regular "
            "expression with one group such as '(patient\\d+)'.",
        ),
    ] = _default(AddSettings, "case"),
    split: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV", help="Table with the columns case and split (pool, val, test)."
        ),
    ] = _default(AddSettings, "split"),
    val_share: Annotated[
        float, typer.Option(help="Share of new cases drawn for validation.")
    ] = _default(AddSettings, "val_share"),
    test_share: Annotated[
        float, typer.Option(help="Share of new cases drawn for testing.")
    ] = _default(AddSettings, "test_share"),
    split_seed: Annotated[int, typer.Option(help="Seed of these draws.")] = _default(
        AddSettings, "split_seed"
    ),
    channels: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="One channel of multi-channel volumes, e.g. '*_t1.nii.gz'; repeat per channel.",
        ),
    ] = None,
    stack: Annotated[
        bool, typer.Option("--stack", help="Each folder of pictures is one volume.")
    ] = _default(AddSettings, "stack"),
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a file was passed over.")
    ] = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the volumes at PATH into the pool; run again, it takes what is new."""
    settings = AddSettings(
        labels=labels,
        ignore=tuple(ignore or ()),
        channels=tuple(channels or ()),
        stack=stack,
        case=case,
        split=split,
        val_share=val_share,
        test_share=test_share,
        split_seed=split_seed,
    )
    from napari_activeft import terminal, workflow

    with _opened(project) as opened, terminal.progress("reading volumes") as on_progress:
        result = workflow.add(opened, path, settings, on_progress)
    _report(result, as_json)
    if strict and result.problems:
        raise typer.Exit(1)


@_verb
def classes(
    written: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VALUE=]NAME[:#RRGGBB]...",
            help="Classes to add or change.",
            show_default=False,
        ),
    ] = None,
    remove: Annotated[
        list[int] | None, typer.Option(metavar="VALUE", help="Class to remove; repeatable.")
    ] = None,
    from_labels: Annotated[
        bool, typer.Option("--from-labels", help="Add a class for each value of the label maps.")
    ] = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the classes, or change them."""
    from napari_activeft import terminal, workflow

    with _opened(project) as opened, terminal.progress("reading label maps") as on_progress:
        result = workflow.classes(
            opened,
            written or (),
            remove=remove or (),
            from_labels=from_labels,
            on_progress=on_progress,
        )
    _report(result, as_json)


@_verb
def select(
    budget: Annotated[
        str,
        typer.Option(help="Share of all pool slices (0.05 or 5%), or a count of slices (32)."),
    ] = str(_default(SelectSettings, "budget").share),
    selector: Annotated[
        str, typer.Option(help="random, stratified_random or fixed_interval.")
    ] = _default(SelectSettings, "selector"),
    seed: Annotated[int, typer.Option(help="Of the draws.")] = _default(SelectSettings, "seed"),
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose the slices to label next and queue them."""
    settings = SelectSettings(budget=_parsed_budget(budget), selector=selector, seed=seed)
    from napari_activeft import workflow

    with _opened(project) as opened:
        _report(workflow.select(opened, settings), as_json)


@_verb
def next_(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where picture and ticket go.")],
    annotator: Annotated[
        str,
        typer.Option(
            envvar="NAPARI_ACTIVEFT_ANNOTATOR", metavar="NAME", help="Who will label the slice."
        ),
    ],
    another: Annotated[
        bool, typer.Option("--another", help="One more, beside the one already held.")
    ] = _default(NextSettings, "another"),
    minutes: Annotated[
        float, typer.Option(help="Until the query goes back into the queue.")
    ] = _default(NextSettings, "minutes"),
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lease the next query and write its picture and ticket."""
    settings = NextSettings(annotator=annotator, out=out, another=another, minutes=minutes)
    from napari_activeft import workflow

    with _opened(project) as opened:
        result = workflow.next_query(opened, settings)
    _report(result, as_json)
    if result.query is None and result.problems:
        raise typer.Exit(1)


@_verb
def submit(
    ticket: Annotated[Path, typer.Option(metavar="JSON", help="The ticket that `next` wrote.")],
    mask: Annotated[
        Path | None,
        typer.Argument(
            metavar="MASK", help="Class ids in the size of the picture.", show_default=False
        ),
    ] = None,
    empty: Annotated[
        bool, typer.Option("--empty", help="The slice holds nothing of any class.")
    ] = _default(SubmitSettings, "empty"),
    skip: Annotated[
        str | None, typer.Option(metavar="REASON", help="The slice is not to be labelled.")
    ] = _default(SubmitSettings, "skip"),
    hand_back: Annotated[
        bool, typer.Option("--hand-back", help="Somebody else shall label it.")
    ] = _default(SubmitSettings, "hand_back"),
    on_top: Annotated[
        bool,
        typer.Option("--on-top", help="Store the mask even if the slice got another meanwhile."),
    ] = _default(SubmitSettings, "on_top"),
    seconds: Annotated[float | None, typer.Option(help="Time on task without pauses.")] = _default(
        SubmitSettings, "seconds"
    ),
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a query with a mask, or say why there is none."""
    settings = SubmitSettings(
        ticket=ticket,
        mask=mask,
        empty=empty,
        skip=skip,
        hand_back=hand_back,
        on_top=on_top,
        seconds=seconds,
    )
    from napari_activeft import workflow

    with _opened(project) as opened:
        _report(workflow.submit(opened, settings), as_json)


@_verb
def import_labels(
    only_queried: Annotated[
        bool, typer.Option("--only-queried", help="Only slices that were selected.")
    ] = _default(ImportSettings, "only_queried"),
    author: Annotated[str, typer.Option(help="Whose masks they are.")] = _default(
        ImportSettings, "author"
    ),
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a label map was passed over.")
    ] = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn label maps that `add --labels` found into accepted masks."""
    settings = ImportSettings(only_queried=only_queried, author=author)
    from napari_activeft import terminal, workflow

    with _opened(project) as opened, terminal.progress("importing label maps") as on_progress:
        result = workflow.import_labels(opened, settings, on_progress)
    _report(result, as_json)
    if strict and result.problems:
        raise typer.Exit(1)


@_verb
def export(
    format: Annotated[  # noqa: A002 - the word on the command line
        str, typer.Option(help="nifti, nnunet, coco or bids.")
    ] = _default(ExportSettings, "format"),
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="exports/FORMAT in the project if not given."),
    ] = _default(ExportSettings, "out"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export.")
    ] = _default(ExportSettings, "overwrite"),
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the accepted masks as a data set of another tool."""
    settings = ExportSettings.model_validate({"format": format, "out": out, "overwrite": overwrite})
    from napari_activeft import terminal, workflow

    with _opened(project) as opened, terminal.progress("exporting") as on_progress:
        result = workflow.export(opened, settings, on_progress)
    _report(result, as_json)


@_verb
def info(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Say what the project holds, and what this program is."""
    from napari_activeft import workflow
    from napari_activeft.project import NoProjectError

    try:
        with _opened(project) as opened:
            result = workflow.info(opened)
    except NoProjectError:
        result = workflow.info(None)
    _report(result, as_json)


@_verb
def doctor(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The project.", show_default=False)
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Compare sizes of images, not their content.")
    ] = _default(DoctorSettings, "quick"),
    mend: Annotated[
        bool, typer.Option("--mend", help="Put queries that nobody holds back into the queue.")
    ] = _default(DoctorSettings, "mend"),
    backup: Annotated[
        bool, typer.Option("--backup", help="Also copy the database into backups/.")
    ] = _default(DoctorSettings, "backup"),
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check database, masks and images; exit with 1 if something is wrong."""
    settings = DoctorSettings(quick=quick, mend=mend, backup=backup)
    from napari_activeft import terminal, workflow

    with (
        _opened(folder or project) as opened,
        terminal.progress("examining") as on_progress,
    ):
        result = workflow.doctor(opened, settings, on_progress)
    _report(result, as_json)
    if result.faults:
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
