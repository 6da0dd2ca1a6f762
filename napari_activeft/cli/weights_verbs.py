"""weights list, fetch, import, verify: what networks learnt, in the user's own cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_activeft.cli.app import JsonOption, report

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As `weights list` shows it.")]


def list_(as_json: JsonOption = False) -> None:
    """Show which weights there are, and which are on this computer."""
    from napari_activeft import encoder_sources, kept_weights
    from napari_activeft.results import WeightsResult

    report(WeightsResult(kept_weights.weights_folder(), encoder_sources.listed_weights()), as_json)


def fetch(
    name: NameArgument,
    url: Annotated[
        str | None, typer.Option(help="Take them from there, not from the official address.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Download an encoder's weights; run again, it goes on where it stopped."""
    from napari_activeft import terminal, weights

    with terminal.progress(f"fetching {name}", in_bytes=True) as on_progress:
        result = weights.fetch(name, on_progress, url)
    report(result, as_json)


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An official file, or one like it.")],
    name: Annotated[
        str | None, typer.Option(help="The encoder it should fit; told by the file otherwise.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put them in the place of other weights kept for it.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Take in a file of weights that is on this computer."""
    from napari_activeft import weights

    report(weights.import_file(file, name, replace=replace), as_json)


def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="All that are here otherwise.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check that weights are still those that were kept; exit with 1 if some are not."""
    from napari_activeft import weights
    from napari_activeft.results import VerifyResult

    result = VerifyResult(weights.verify(name))
    report(result, as_json)
    if not all(one.sound for one in result.weights):
        raise typer.Exit(1)
