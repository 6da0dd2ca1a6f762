"""What `train` hands back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrainResult:
    """A network that was trained.

    Attributes
    ----------
    run
        Its number.
    folder
        Of its files.
    network, learns
        Which it is, and what of it learnt.
    slices, cases
        It learnt from.
    steps
        After which its weights were kept.
    monitor
        What it was watched by: val, folds or none.
    score
        Mean foreground Dice there; None without.
    temperature
        By which its probabilities are calibrated; None without a monitor.
    seconds, seconds_per_step
        Spent on training; of a step with all that goes with it.
    learnt, weights
        Numbers that learnt in the end, and that the network holds.
    device, precision
        With which it was computed.
    notes
        What the log says, sentences.
    page
        The report with the loss curve and the gradients of each layer; None where it could not be
        written, which the last of ``notes`` tells.
    """

    run: int
    folder: Path
    network: str
    learns: str
    slices: int
    cases: int
    steps: int
    monitor: str
    score: float | None
    temperature: float | None
    seconds: float
    seconds_per_step: float
    learnt: int
    weights: int
    device: str
    precision: str
    notes: tuple[str, ...]
    page: Path | None
