"""The selective scan as it is defined: one step after the other, the truth for every faster form.

Symbols: b batch, d channels, l steps, n states a channel, g groups of channels that share one B and
C, k = d / g channels a group, h state.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> Tensor:
    """Scan step by step; autograd differentiates it, in O(l) since the loop unbinds first.

    ``delta = softplus(delta + delta_bias)``, ``h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] u[t]``
    with ``h[-1] = 0``, ``y[t] = sum_n C[t] h[t] + D u[t]``, then ``y = y silu(z)``.

    Parameters
    ----------
    u, delta
        Input and step size, shape (b, d, l).
    A
        Shape (d, n).
    B, C
        Shape (b, g, n, l).
    D, delta_bias
        Shape (d,), or None.
    z
        Gate, shape (b, d, l), or None.
    delta_softplus
        Whether the step size passes through softplus (linear above 20).

    Returns
    -------
    y
        Shape (b, d, l).
    """
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    if delta_softplus:
        delta = functional.softplus(delta)
    per_group = u.shape[1] // B.shape[1]
    B, C = (grouped.repeat_interleave(per_group, dim=1) for grouped in (B, C))  # (b, d, n, l)
    decays = torch.exp(delta[:, :, None] * A[:, :, None])  # (b, d, n, l)
    drives = (delta * u)[:, :, None] * B
    h = torch.zeros_like(decays[..., 0])
    ys = []
    for decay, drive, c in zip(decays.unbind(3), drives.unbind(3), C.unbind(3), strict=True):
        h = decay * h + drive
        ys.append((c * h).sum(dim=2))
    y = torch.stack(ys, dim=2)
    if D is not None:
        y = y + D[:, None] * u
    return y if z is None else y * functional.silu(z)


def why_unavailable() -> str | None:
    """Return None: plain torch is always there."""
    return None
