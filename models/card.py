"""What the registry says of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn


@dataclass(frozen=True)
class Card:
    """One model that can be built by its name.

    Attributes
    ----------
    name
        As a user writes it.
    kind
        An ``encoder`` gives features and class logits, a ``segmenter`` a map of class logits.
    build
        Called as ``build(channels=, classes=, scan=)``: input channels, classes (None for the
        published number) and the scan to use, as in `selective_scan`.
    summary
        One line for a list of models.
    """

    name: str
    kind: Literal["encoder", "segmenter"]
    build: Callable[..., nn.Module]
    summary: str
