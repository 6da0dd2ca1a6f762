"""The one function that prints a result; each kind of result is registered beside its verb."""

from __future__ import annotations

from functools import singledispatch


@singledispatch
def show(result: object) -> None:
    """Print a verb's result for people."""
    raise TypeError(f"{type(result).__name__} cannot be shown")
