"""Temperature: the one number that makes a network's probabilities as sure as they are right.

Networks that learnt from few slices are surer than they are right. Dividing all logits by one
temperature changes no prediction and mends most of that (Guo et al. 2017). It is fitted on slices
that the network did not learn from; where there are none, probabilities stay as they are and are
called uncalibrated.

Symbols: m pixels, n classes with the background.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_activeft.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

HIGHEST = 20.0
"""Temperatures lie between this and one over it: beyond, there were too few mistakes to fit by."""
PIXELS_A_SLICE = 4096
"""Drawn from each slice: neighbouring pixels tell the same."""


@dataclass(frozen=True)
class Calibration:
    """What a fit found.

    Attributes
    ----------
    temperature
        That logits are to be divided by.
    before, after
        Negative log-likelihood of a pixel in nats, without and with it.
    slices, pixels
        It was fitted on.
    """

    temperature: float
    before: float
    after: float
    slices: int
    pixels: int


def fit_temperature(logits: Tensor, targets: Tensor) -> Calibration:
    """Return the temperature of least negative log-likelihood, by L-BFGS on its logarithm.

    Parameters
    ----------
    logits
        (m, n).
    targets
        Class indices (m,), 0 the background.
    """
    import torch
    from torch.nn.functional import cross_entropy

    logits, targets = logits.detach().double(), targets.long()
    start = torch.zeros((), dtype=torch.float64, device=logits.device, requires_grad=True)
    solver = torch.optim.LBFGS([start], lr=0.5, max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = cross_entropy(logits / start.exp(), targets)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        solver.step(loss)  # type: ignore[no-untyped-call]
    found = float(start.detach().clamp(-math.log(HIGHEST), math.log(HIGHEST)).exp())
    with torch.no_grad():
        before = float(cross_entropy(logits, targets))
        after = float(cross_entropy(logits / found, targets))
    if not after <= before:  # also where it is not finite
        found, after = 1.0, before
    return Calibration(found, before, after, slices=1, pixels=len(targets))


def fit_over_slices(slices: Iterable[tuple[Tensor, Tensor]], *, seed: int = 0) -> Calibration:
    """Return the temperature that fits some slices, each with its logits and its truth.

    Parameters
    ----------
    slices
        Logits (n, h, w) and class indices (h, w), -1 where nobody labelled.
    seed
        Of the draw of pixels.

    Raises
    ------
    UserError
        If no pixel is labelled.
    """
    import torch

    draw = torch.Generator().manual_seed(seed)
    logits, targets = [], []
    for outputs, truth in slices:
        labelled = torch.nonzero(truth.reshape(-1).cpu() >= 0)[:, 0]
        drawn = labelled[torch.randperm(len(labelled), generator=draw)[:PIXELS_A_SLICE]]
        logits.append(outputs.flatten(1).T[drawn.to(outputs.device)].float().cpu())
        targets.append(truth.reshape(-1).cpu()[drawn])
    if not sum(len(part) for part in targets):
        raise UserError(
            "there is no labelled pixel to fit a temperature on: label slices of `val` cases, or "
            "use the probabilities as they are"
        )
    fitted = fit_temperature(torch.cat(logits), torch.cat(targets))
    return Calibration(fitted.temperature, fitted.before, fitted.after, len(targets), fitted.pixels)
