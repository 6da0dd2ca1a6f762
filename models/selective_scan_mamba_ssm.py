"""The compiled CUDA kernel of the package mamba_ssm (1.2 to 2.x), where that is installed.

Symbols: b batch, d channels, l steps, n states, g groups of channels that share B and C.
Contiguous float32 tensors on one CUDA device. The kernel sums the gradients of B, C and A by atomic
additions: the last digits of a gradient differ from run to run.
"""

from __future__ import annotations

import functools
import importlib
from typing import Protocol, cast

import torch
from torch import Tensor

from .scan_backends import Gradients


class Kernel(Protocol):
    """The two functions of mamba_ssm's extension; what is written out here is what we give."""

    def fwd(
        self,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        z: Tensor | None,
        delta_bias: Tensor | None,
        delta_softplus: bool,
        /,
    ) -> list[Tensor]:
        """Return y before the gate, the states (b, d, chunks, 2 n) and, with z, y."""

    def bwd(
        self,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        z: Tensor | None,
        delta_bias: Tensor | None,
        dy: Tensor,
        states: Tensor,
        before_gate: Tensor | None,
        dz: Tensor | None,
        delta_softplus: bool,
        recompute_y: bool,
        /,
    ) -> list[Tensor]:
        """Return the gradients of u, delta, A, B, C, D, delta_bias and, with z, z."""


def why_unavailable() -> str | None:
    """Say in one line why the kernel cannot be used, or return None where it can."""
    try:
        _kernel()
    except (ImportError, OSError) as error:
        return f"the package mamba_ssm is not installed, or does not fit this torch ({error})"
    if not torch.cuda.is_available():
        return "it needs a CUDA device, and there is none"
    return None


@functools.cache
def _kernel() -> Kernel:
    return cast(Kernel, importlib.import_module("selective_scan_cuda"))


def forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    *,
    keep_states: bool = True,
) -> tuple[Tensor, Tensor]:
    """Scan; u, delta, z (b, d, l), A (d, n), B, C (b, g, n, l), D, delta_bias (d) -> y (b, d, l).

    Returns
    -------
    y
        Shape (b, d, l).
    states
        The kernel's states (b, d, chunks, 2 n) and, with z, y before the gate, in one flat tensor;
        empty without `keep_states`.
    """
    before_gate, states, *gated = _kernel().fwd(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    y = gated[0] if gated else before_gate
    if not keep_states:
        return y, u.new_empty(0)
    return y, torch.cat([states.flatten(), before_gate.flatten()]) if gated else states.flatten()


def backward(
    dy: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    states: Tensor,
) -> Gradients:
    """Return the gradients of the first eight arguments of `forward`."""
    kept = states.numel() if z is None else states.numel() - u.numel()
    before_gate = None if z is None else states[kept:].view(u.shape)
    states = states[:kept].view(*u.shape[:2], -1, 2 * A.shape[1])
    du, d_delta, dA, dB, dC, dD, d_bias, *dz = _kernel().bwd(
        u, delta, A, B, C, D, z, delta_bias, dy, states, before_gate, None,
        delta_softplus, False,
    )  # fmt: skip
    return (
        du,
        d_delta,
        dA,
        dB,
        dC,
        None if D is None else dD,
        dz[0] if dz else None,
        None if delta_bias is None else d_bias,
    )
