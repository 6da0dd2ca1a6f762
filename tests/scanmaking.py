"""Arguments for selective scans, and the scan as a naive loop over numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
OPTIONAL = ("D", "z", "delta_bias")


def arguments(
    b=2, d=4, steps=7, n=3, g=2, without=(), dtype=torch.float64, seed=0, spread=1.0
) -> dict[str, Tensor]:
    """Draw the tensors of a scan; `spread` is the scale of the step size."""
    rng = np.random.default_rng(seed)
    shapes = {"u": (b, d, steps), "delta": (b, d, steps), "A": (d, n), "B": (b, g, n, steps)}
    shapes |= {"C": (b, g, n, steps), "D": (d,), "z": (b, d, steps), "delta_bias": (d,)}
    drawn = {name: rng.normal(size=shape) for name, shape in shapes.items() if name not in without}
    drawn["A"] = -np.exp(drawn["A"])
    drawn["delta"] *= spread
    return {name: torch.from_numpy(values).to(dtype) for name, values in drawn.items()}


def naive(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=True):
    """One number at a time, in float64."""
    u, delta, A, B, C = (t.double().numpy() for t in (u, delta, A, B, C))
    y = np.zeros_like(u)
    batch, channels, steps = u.shape
    for i, c in np.ndindex(batch, channels):
        group = c // (channels // B.shape[1])
        for s in range(A.shape[1]):
            h = 0.0
            for t in range(steps):
                step = delta[i, c, t] + (0.0 if delta_bias is None else float(delta_bias[c]))
                if delta_softplus and step <= 20:
                    step = np.log1p(np.exp(step))
                h = np.exp(step * A[c, s]) * h + step * B[i, group, s, t] * u[i, c, t]
                y[i, c, t] += C[i, group, s, t] * h
    if D is not None:
        y += D.double().numpy()[:, None] * u
    if z is not None:
        gate = z.double().numpy()
        y *= gate / (1 + np.exp(-gate))
    return torch.from_numpy(y)
