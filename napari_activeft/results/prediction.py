"""What `predict` hands back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_activeft.errors import Problem


@dataclass(frozen=True)
class PredictResult:
    """Volumes that were predicted.

    Attributes
    ----------
    runs
        Numbers of the runs that predicted together; the masks are the first one's.
    volumes, slices
        How many of each were predicted.
    proposed
        Masks that were stored as proposals.
    seconds
        Spent on predicting, reading included.
    device, precision
        With which it was computed.
    temperature
        That the logits of each network were divided by; None where it was not calibrated.
    uncertainty
        Mean uncertainty of the slices, 0 to 1.
    table
        The file that holds each slice's uncertainty.
    nifti
        The folder of label maps; None where none was asked for.
    notes
        What else there is to know.
    problems
        Volumes that could not be predicted.
    """

    runs: tuple[int, ...]
    volumes: int
    slices: int
    proposed: int
    seconds: float
    device: str
    precision: str
    temperature: tuple[float | None, ...]
    uncertainty: float | None
    table: Path
    nifti: Path | None
    notes: tuple[str, ...]
    problems: list[Problem]
