"""export, info, doctor: what comes out, what is there, whether all is well."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_activeft.cli.app import JsonOption, ProjectOption, default, opened_project, report
from napari_activeft.settings import DoctorSettings, ExportSettings


def export(
    format: Annotated[  # noqa: A002 - the word on the command line
        str, typer.Option(help="nifti, nnunet, coco or bids.")
    ] = default(ExportSettings, "format"),
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="exports/FORMAT in the project if not given."),
    ] = default(ExportSettings, "out"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export.")
    ] = default(ExportSettings, "overwrite"),
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the accepted masks as a data set of another tool."""
    settings = ExportSettings.model_validate({"format": format, "out": out, "overwrite": overwrite})
    from napari_activeft import terminal, workflow

    with opened_project(project) as opened, terminal.progress("exporting") as on_progress:
        result = workflow.export(opened, settings, on_progress)
    report(result, as_json)


def info(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Say what the project holds, and what this program is."""
    from napari_activeft import workflow
    from napari_activeft.project import NoProjectError

    try:
        with opened_project(project) as opened:
            result = workflow.info(opened)
    except NoProjectError:
        result = workflow.info(None)
    report(result, as_json)


def doctor(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The project.", show_default=False)
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Compare sizes of images, not their content.")
    ] = default(DoctorSettings, "quick"),
    mend: Annotated[
        bool, typer.Option("--mend", help="Put queries that nobody holds back into the queue.")
    ] = default(DoctorSettings, "mend"),
    backup: Annotated[
        bool, typer.Option("--backup", help="Also copy the database into backups/.")
    ] = default(DoctorSettings, "backup"),
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check database, masks and images; exit with 1 if something is wrong."""
    settings = DoctorSettings(quick=quick, mend=mend, backup=backup)
    from napari_activeft import terminal, workflow

    with (
        opened_project(folder or project) as opened,
        terminal.progress("examining") as on_progress,
    ):
        result = workflow.doctor(opened, settings, on_progress)
    report(result, as_json)
    if result.faults:
        raise typer.Exit(1)
