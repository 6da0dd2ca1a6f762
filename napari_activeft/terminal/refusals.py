"""What an exception means to a user."""

from __future__ import annotations

from pydantic import ValidationError

from napari_activeft.annotation_db import StoreError
from napari_activeft.errors import STOPPED, Cancelled, UserError


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
    where = [part for part in fault["loc"] if isinstance(part, str)]  # not the place in a list
    message = fault["msg"].removeprefix("Value error, ")
    if not where:
        return message
    # What lies deeper is not an option of its own.
    option = f"--{where[0].replace('_', '-')}" if len(where) == 1 else f"--set {where[-1]}"
    return f"{option}: {message}, {fault['input']!r} was given"
