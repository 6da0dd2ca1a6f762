"""Which verbs may run as a job, and how their settings become JSON and come back."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_type_hints

from napari_activeft import workflow
from napari_activeft.errors import UserError
from napari_activeft.settings import Settings

_TAKES: Final = ["project", "settings", "on_progress"]


@dataclass(frozen=True)
class Step:
    """A verb as a job runs it.

    Attributes
    ----------
    verb
        As the command line writes it.
    function
        Of `workflow`; takes a project, settings and ``on_progress``.
    settings
        The class of its settings.
    """

    verb: str
    function: Callable[..., object]
    settings: type[Settings]

    def read(self, written: dict[str, Any]) -> Settings:
        """Return settings from what `as_json` made of them."""
        return self.settings.model_validate(written)


def step_of(verb: str) -> Step:
    """Return the step of a verb: every function of `workflow` that can tell its progress.

    Raises
    ------
    UserError
        If there is no such verb.
    """
    steps = {name.replace("_", "-"): function for name, function in _functions().items()}
    if verb not in steps:
        raise UserError(f"{verb!r} cannot run as a job: choose one of {', '.join(steps)}")
    settings = get_type_hints(steps[verb])["settings"]
    return Step(verb, steps[verb], settings)


def _functions() -> dict[str, Callable[..., object]]:
    return {
        name: function
        for name, function in vars(workflow).items()
        if inspect.isfunction(function)
        and not name.startswith("_")
        and function.__module__ == workflow.__name__
        and list(inspect.signature(function).parameters) == _TAKES
    }


def as_json(settings: Settings) -> dict[str, Any]:
    """Return settings as JSON holds them; a path becomes absolute, for a job runs elsewhere."""
    written = settings.model_dump(mode="json")
    return {name: _absolute(getattr(settings, name), value) for name, value in written.items()}


def _absolute(value: object, written: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, (tuple, list)):
        return [_absolute(one, text) for one, text in zip(value, written, strict=True)]
    return written
