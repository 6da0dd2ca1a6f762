"""The fast scans as one operation of torch, so that autograd and torch.export know it.

The operation carries the name of its scan as a string: which one serves a call is decided before.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from .scan_backends import load_scan


@torch.library.custom_op("napari_activeft::selective_scan", mutates_args=())
def scan_forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    backend: str,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """Return y (b, d, l) and, with `keep`, what the backward pass needs, flat."""
    tensors = _contiguous(u, delta, A, B, C, D, z, delta_bias)
    y, states = load_scan(backend).forward(*tensors, delta_softplus, keep_states=keep)
    return y, states.flatten()


@torch.library.custom_op("napari_activeft::selective_scan_backward", mutates_args=())
def scan_backward(
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
    backend: str,
) -> list[Tensor]:
    """Return the gradients of the eight tensors, an empty one where the tensor is None."""
    tensors = _contiguous(u, delta, A, B, C, D, z, delta_bias)
    gradients = load_scan(backend).backward(dy.contiguous(), *tensors, delta_softplus, states)
    return [dy.new_empty(0) if one is None else one for one in gradients]


def _contiguous(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *optional: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    D, z, delta_bias = (None if one is None else one.contiguous() for one in optional)
    u, delta, A, B, C = (one.contiguous() for one in (u, delta, A, B, C))
    return u, delta, A, B, C, D, z, delta_bias


@scan_forward.register_fake
def _(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    backend: str,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    kept = torch.library.get_ctx().new_dynamic_size() if keep else 0  # every scan has its own size
    return u.new_empty(u.shape), u.new_empty(kept)


@scan_backward.register_fake
def _(
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
    backend: str,
) -> list[Tensor]:
    tensors = (u, delta, A, B, C, D, z, delta_bias)
    return [dy.new_empty(0 if one is None else one.shape) for one in tensors]


class _Context(Protocol):
    """What autograd carries from the forward to the backward pass."""

    saved_tensors: tuple[Tensor, ...]
    delta_softplus: bool
    backend: str

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for the backward pass."""


def _keep(ctx: _Context, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.delta_softplus, ctx.backend, _keep_states = inputs
    ctx.save_for_backward(*tensors, output[1])


def _differentiate(ctx: _Context, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, states = ctx.saved_tensors
    gradients = scan_backward(dy, *tensors, ctx.delta_softplus, states, ctx.backend)
    found = [None if t is None else g for t, g in zip(tensors, gradients, strict=True)]
    return *found, None, None, None


scan_forward.register_autograd(_differentiate, setup_context=_keep)
