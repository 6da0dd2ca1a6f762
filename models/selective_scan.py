"""The selective scan: one signature, whichever implementation serves it.

Symbols: b batch, d channels, l steps, n states a channel (1 to 64), g groups of channels that share
one B and C (g divides d), h state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from .scan_backends import available_scans, choose_scan, use_scan
from .scan_ops import scan_forward
from .selective_scan_reference import scan as scan_step_by_step

__all__ = ["available_scans", "selective_scan", "use_scan"]

MAX_STATES = 64
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    delta_softplus: bool = True,
    backend: str | None = None,
) -> Tensor:
    """Run the recurrence of a selective state space along the last axis.

    ``delta = softplus(delta + delta_bias)``, ``h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] u[t]``
    with ``h[-1] = 0``, ``y[t] = sum_n C[t] h[t] + D u[t]``, then ``y = y silu(z)``. The state is
    float32 for inputs up to float32 and float64 for float64.

    Every scan has gradients; gradients of gradients only ``reference`` has, the others have no
    formula for them and torch says so.

    Parameters
    ----------
    u, delta
        Input and step size, shape (b, d, l).
    A
        Exponents of the decay, at most 0 in a network, shape (d, n).
    B, C
        Input and output weights of the states, shape (b, g, n, l), or (b, n, l) for one group.
    D
        Weight of the input in the output, shape (d,).
    z
        Gate, shape (b, d, l).
    delta_bias
        Added to the step size before softplus, shape (d,).
    delta_softplus
        Whether the step size passes through softplus (linear above 20).
    backend
        Name of the scan to use, see `available_scans`; None leaves the choice to `use_scan`, then
        to the environment variable ``NAPARI_ACTIVEFT_SCAN``, then to the device.

    Returns
    -------
    y
        Shape (b, d, l), of u's number type.
    """
    B, C = (x.unsqueeze(1) if x.dim() == 3 else x for x in (B, C))
    tensors = {
        "u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z, "delta_bias": delta_bias
    }  # fmt: skip
    _check(tensors)
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    scan = choose_scan(backend, u.device, dtype)
    if u.numel() == 0:
        return nothing(u, tensors.values())
    u32, delta, A, B, C = (x.to(dtype) for x in (u, delta, A, B, C))
    D, z, delta_bias = (None if x is None else x.to(dtype) for x in (D, z, delta_bias))
    if scan == "reference":  # torch's own operations: autograd and torch.export know them
        y = scan_step_by_step(u32, delta, A, B, C, D, z, delta_bias, delta_softplus)
    else:
        given = (u32, delta, A, B, C, D, z, delta_bias)
        differentiated = (one is not None and one.requires_grad for one in given)
        keep = torch.is_grad_enabled() and any(differentiated)
        y, _ = scan_forward(*given, delta_softplus, scan, keep)
    return y.to(u.dtype)


def nothing(u: Tensor, tensors: Iterable[Tensor | None]) -> Tensor:
    """Return an empty tensor like u, through which gradients of zero reach all the tensors."""
    return u + sum(one.sum() for one in tensors if one is not None)


def _check(tensors: dict[str, Tensor | None]) -> None:
    """Refuse shapes, number types and devices that do not fit, in one sentence."""
    u, A, B = tensors["u"], tensors["A"], tensors["B"]
    if u is None or A is None or B is None or u.dim() != 3:
        found = None if u is None else tuple(u.shape)
        raise ValueError(f"u has the shape {found}, but a scan needs (batch, channels, steps)")
    batch, channels, steps = u.shape
    states = A.shape[1] if A.dim() == 2 else 0
    if not 1 <= states <= MAX_STATES:
        raise ValueError(
            f"A has the shape {tuple(A.shape)}, but a scan of {channels} channels needs "
            f"({channels}, n) with 1 to {MAX_STATES} states n"
        )
    groups = B.shape[1] if B.dim() == 4 else 1
    if groups < 1 or channels % groups:
        raise ValueError(
            f"B has {groups} groups, but they share {channels} channels: take a number of groups "
            "that divides the channels"
        )
    grouped, mapped = (batch, groups, states, steps), (batch, channels, steps)
    needed = {"delta": mapped, "A": (channels, states), "B": grouped, "C": grouped}
    needed |= {"D": (channels,), "z": mapped, "delta_bias": (channels,)}
    for name, shape in needed.items():
        tensor = tensors[name]
        if tensor is not None and tensor.shape != shape:
            raise ValueError(
                f"{name} has the shape {tuple(tensor.shape)}, but u {mapped} with {states} states "
                f"and {groups} groups needs {shape}"
            )
    check_kind(tensors)


def check_kind(tensors: Mapping[str, Tensor | None]) -> None:
    """Refuse number types and devices that no scan takes or that differ from those of the first."""
    leader, first = next(iter(tensors.items()))
    if first is None:
        return
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if tensor.dtype not in DTYPES:
            raise TypeError(
                f"{name} is {tensor.dtype}, but a scan takes float16, bfloat16, float32 or float64"
            )
        if (tensor.dtype == torch.float64) != (first.dtype == torch.float64):
            raise TypeError(
                f"{name} is {tensor.dtype} beside {leader} of {first.dtype}: make all tensors "
                "float64 or none"
            )
        if tensor.device != first.device:
            raise ValueError(
                f"{name} is on {tensor.device} and {leader} on {first.device}: move them to one "
                "device"
            )
