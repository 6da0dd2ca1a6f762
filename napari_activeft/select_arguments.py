"""What `SelectSettings` mean: to `selection.select`, and as what a user types."""

from __future__ import annotations

import shlex
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from napari_activeft.selection.candidates import Caps
from napari_activeft.settings import ActiveFTSettings, SelectSettings


class SelectArguments(TypedDict):
    """Arguments of `selection.select` that settings decide."""

    selector: str
    seed: int
    weights: NDArray[np.float64] | None
    caps: Caps
    device: str
    options: ActiveFTSettings


def select_arguments(
    settings: SelectSettings, emptiness: NDArray[np.float64] | None
) -> SelectArguments:
    """Return what settings say to `selection.select`.

    Parameters
    ----------
    emptiness
        (n,), 0 to 1, of the pool's rows; None where it is not known: all rows count the same.
    """
    return {
        "selector": settings.selector,
        "seed": settings.seed,
        # Less for a slice that shows little, never nothing.
        "weights": None if emptiness is None else 1.0 - settings.emptiness * emptiness,
        "caps": Caps(settings.per_case, settings.per_volume, settings.gap),
        "device": settings.device,
        "options": settings.activeft,
    }


def as_command(settings: SelectSettings, encoder: str | None) -> str:
    """Return the command line that chooses under these settings; defaults are left out.

    Parameters
    ----------
    encoder
        Whose vectors were used, which may be another one's by the next time; None where none were.
    """
    usual = as_options(SelectSettings(selector=settings.selector), None)
    always = ("--budget", "--selector")
    words = ["napari-activeft", "select"]
    for name, value in as_options(settings, encoder).items():
        if name in always or value != usual.get(name):
            option, equals, setting = name.partition(" ")
            words += [option, f"{setting}={value}" if equals else value]
    return shlex.join(words)


def as_options(settings: SelectSettings, encoder: str | None) -> dict[str, str]:
    """Return every setting under the name that a user types; those that are not given are left out.

    Settings of a selector are named ``--set NAME``, and left out for every other selector.
    """
    budget = settings.budget
    options: dict[str, Any] = {
        "--budget": budget.count if budget.share is None else budget.share,
        "--selector": settings.selector,
        "--encoder": encoder or settings.encoder,
    }
    for name in type(settings).model_fields:
        if name not in {"budget", "selector", "encoder", "activeft"}:
            options[f"--{name.replace('_', '-')}"] = getattr(settings, name)
    if settings.selector == "activeft":
        for name, value in settings.activeft.model_dump().items():
            options[f"--set {name}"] = value
    return {name: _typed(value) for name, value in options.items() if value is not None}


def _typed(value: Any) -> str:  # noqa: ANN401
    return str(value).lower() if isinstance(value, bool) else str(value)
