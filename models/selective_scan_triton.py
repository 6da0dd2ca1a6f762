"""The fused GPU kernel of the selective scan, written in Triton: no nvcc, no build at install.

Symbols: b batch, d channels, l steps, n states, g groups of channels that share B and C, k = d / g.
Contiguous float32 tensors on one CUDA (or ROCm) device; with ``TRITON_INTERPRET=1`` in the
environment before Triton's first import, Triton's interpreter runs CPU tensors instead, slowly.
The kernels are in ``scan_kernels_triton``; only the states before every tile of at most
`LONGEST_TILE` steps are kept, and no atomic addition makes a result depend on the order of threads.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .scan_backends import Gradients

LONGEST_TILE = 128  # steps: a warp then holds a whole run of steps, and scans by shuffles alone
SHORTEST_TILE = 16
MANY_STATES = 4  # from here on half the steps and twice the channels: fewer partial sums for B, C
TILE_NUMBERS = 1024  # channels x steps of a tile, 4 a thread: what the registers bear
WARPS = 8


def why_unavailable() -> str | None:
    """Say in one line why the kernel cannot be used, or return None where it can.

    On a GPU the first call launches a tiny scan: Triton needs a C compiler when it runs.
    """
    if not _is_installed():
        return "the package triton is not installed: install it (PyTorch for CUDA brings it)"
    if is_interpreted():
        return None
    if not torch.cuda.is_available():
        return (
            "it needs a CUDA device, and there is none (TRITON_INTERPRET=1 in the environment "
            "runs it on the CPU, for tests)"
        )
    return _why_no_launch()


def is_interpreted() -> bool:
    """Tell whether Triton's interpreter runs the kernels, on CPU tensors.

    Triton decides it once, when it is imported.
    """
    asked = os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")
    if not asked or not _is_installed():
        return False
    compiled = importlib.import_module("triton.runtime").JITFunction
    return not isinstance(_kernels().scan_forward, compiled)


@functools.cache
def _is_installed() -> bool:
    return importlib.util.find_spec("triton") is not None


@functools.cache
def _why_no_launch() -> str | None:
    """Launch the smallest scan, in a thread: a trace that goes on in this one must not see it."""

    def launch() -> None:
        one = torch.ones(1, 1, 1, device="cuda")
        forward(one, one, one[0], one[None], one[None], None, None, None, True)
        torch.cuda.synchronize()

    try:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(launch).result()
    except Exception as error:  # whatever a compiler, a driver or a version throws
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return (
            f"its first launch failed ({lines[0]}): Triton needs a C compiler and Python's headers"
        )
    return None


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
        States before every tile, (b, d, tiles, n); empty without `keep_states`.
    """
    sizes = _sizes(u, A, B)
    y = torch.empty_like(u)
    tiles = -(-u.shape[2] // sizes["tile"]) if keep_states else 0
    states = u.new_empty(*u.shape[:2], tiles, A.shape[1])
    kept = states if keep_states else None
    tensors = (u, delta, A, B, C, D, z, delta_bias, y, kept)
    _launch("scan_forward", u, tensors, sizes, delta_softplus)
    return y, states


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
    sizes = _sizes(u, A, B)
    b, d, length = u.shape
    g, n = B.shape[1:3]
    blocks = -(-sizes["k"] // sizes["channels_a_block"])
    du, d_delta = torch.empty_like(u), torch.empty_like(delta)
    dA, dD, d_bias = u.new_empty(b, d, n), u.new_empty(b, d), u.new_empty(b, d)
    dB, dC = (u.new_empty(b, g, blocks, n, length) for _ in range(2))
    dz = None if z is None else torch.empty_like(z)
    given = (dy, u, delta, A, B, C, D, z, delta_bias, states)
    found = (du, d_delta, dA, dB, dC, dD, dz, d_bias)
    _launch("scan_backward", u, (*given, *found), sizes, delta_softplus)
    return (
        du,
        d_delta,
        dA.sum(0),
        dB.sum(2),
        dC.sum(2),
        None if D is None else dD.sum(0),
        dz,
        None if delta_bias is None else d_bias.sum(0),
    )


def _sizes(u: Tensor, A: Tensor, B: Tensor) -> dict[str, int]:
    """Choose how a scan is cut; the backward pass finds the states where the forward left them."""
    length, n, k = u.shape[2], A.shape[1], u.shape[1] // B.shape[1]
    longest = LONGEST_TILE if n < MANY_STATES else LONGEST_TILE // 2
    tile = max(SHORTEST_TILE, min(longest, _power_of_two(length)))
    channels = min(TILE_NUMBERS // tile, _power_of_two(k))
    run = math.gcd(length, 4)
    sizes = {"runs": length // run, "run": run, "k": k, "g": B.shape[1], "n": n}
    return sizes | {"columns": _power_of_two(n), "channels_a_block": channels, "tile": tile}


def _power_of_two(number: int) -> int:
    """Round up to a power of two."""
    return 1 << (number - 1).bit_length()


def _launch(
    name: str,
    u: Tensor,
    tensors: tuple[Tensor | None, ...],
    sizes: dict[str, int],
    softplus: bool,
) -> None:
    """Run a kernel, one program for each block of channels of each group and item."""
    blocks = -(-sizes["k"] // sizes["channels_a_block"])
    grid = (len(u) * sizes["g"] * blocks,)
    device: AbstractContextManager[Any] = nullcontext()
    if u.is_cuda:
        device = torch.cuda.device(u.device)
    with device:
        kernel = getattr(_kernels(), name)[grid]
        kernel(*tensors, **sizes, softplus=softplus, num_warps=WARPS, enable_fp_fusion=True)


def _kernels() -> ModuleType:
    """Import the kernels, which only imports where Triton is installed."""
    return importlib.import_module(f"{__package__}.scan_kernels_triton")
