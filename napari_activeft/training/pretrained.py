"""Where a pre-training stands, and what it came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_activeft.embedding.quality import Quality


@dataclass
class State:
    """Where a run is.

    Attributes
    ----------
    steps, step
        To be taken, and taken.
    rows
        Of the curve.
    seconds
        That it took.
    sound
        Whether weights were kept that tell slices apart.
    before, after
        What the vectors were worth at the start, and when last looked at.
    """

    steps: int
    step: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    sound: bool = False
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


@dataclass(frozen=True)
class Pretrained:
    """An encoder that was adapted.

    Attributes
    ----------
    folder
        Of its files.
    weight_hash
        Of what it learnt.
    steps, seconds
        That were taken.
    before, after
        What its vectors were worth on the slices, at the start and in the end.
    notes
        What the log says.
    """

    folder: Path
    weight_hash: str
    steps: int
    seconds: float
    before: Quality
    after: Quality
    notes: tuple[str, ...]
