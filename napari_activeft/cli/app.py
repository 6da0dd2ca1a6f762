"""What every verb shares: registration, errors as one line, the project, the output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_activeft import __version__
from napari_activeft.errors import STOPPED
from napari_activeft.settings import Settings

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


def default(settings: type[Settings], name: str) -> Any:  # noqa: ANN401
    """Return a default from where all defaults live."""
    return settings.model_fields[name].default


def group(name: str, what: str) -> typer.Typer:
    """Add a group of verbs to the program."""
    added = typer.Typer(name=name, help=what, no_args_is_help=True, pretty_exceptions_enable=False)
    app.add_typer(added)
    return added


def register(group: typer.Typer, function: Callable[..., None]) -> None:
    """Make a function a command of a group; its errors become one line and an exit code."""

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

    group.command(function.__name__.strip("_").replace("_", "-"))(guarded)


@contextmanager
def opened_project(folder: Path | None) -> Iterator[Project]:
    """Open the project that was named or is found, and pass on what its store warns of."""
    from napari_activeft import terminal
    from napari_activeft.project import Project, find_project

    with Project.open(find_project(folder)) as project:
        for warning in project.store.warnings:
            terminal.warn(warning)
        yield project


def report(result: object, as_json: bool) -> None:
    """Print what a verb handed back, for people or as JSON."""
    from napari_activeft import terminal
    from napari_activeft.results import to_json

    if as_json:
        # Straight to the stream: a console would wrap long lines and colour words.
        sys.stdout.write(to_json(result) + "\n")
    else:
        terminal.show(result)


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
