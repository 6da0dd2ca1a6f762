"""The 2-D core of VMamba in plain torch, channels innermost all along.

Symbols: b batch, h w map height and width, l = h w steps, d channels, n states, r rank of the step
size's projection, the four directions as in ``ss2d``.
A map lies channels last, so that putting it in order copies whole rows; the scan of
``selective_scan_torch`` takes its steps from there without a transpose.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from . import selective_scan_torch

DIRECTIONS = 4


def ss2d_torch(
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
) -> Tensor:
    """Map x (b, h, w, d) to y (b, h, w, d); the parameters are those of `ss2d`."""
    state = torch.float64 if x.dtype == torch.float64 else torch.float32
    b, h, w, d = x.shape
    states, rank = A_logs.shape[1], dt_projs_weight.shape[2]
    projected = x.reshape(-1, d) @ x_proj_weight.to(x.dtype).flatten(0, 1).t()
    maps = projected.view(b, h, w, DIRECTIONS, rank + 2 * states).permute(0, 3, 1, 2, 4)
    rows = _in_order(*maps.unbind(1))  # (b, 4, l, r + 2 n)
    low, B, C = torch.split_with_sizes(rows, [rank, states, states], dim=3)
    delta = torch.matmul(low, dt_projs_weight.to(x.dtype).transpose(1, 2))
    A = -torch.exp(A_logs.to(state))
    tensors = (_in_order(x, x, x, x), delta, A, B, C, Ds, dt_projs_bias.flatten())
    given = [one.to(state).contiguous() for one in tensors]
    keep = torch.is_grad_enabled() and any(one.requires_grad for one in given)
    with torch.autocast(x.device.type, enabled=False):  # the states stay in float32
        y: Tensor = core_forward(*given, keep)[0]
    return _merge(y, h, w).to(x.dtype)


def _in_order(*maps: Tensor) -> Tensor:
    """Lay a map (b, h, w, c) a direction out in the order of that direction: (b, 4, l, c)."""
    by_row, by_column, by_row_back, by_column_back = (
        (one.transpose(1, 2) if i % 2 else one).flatten(1, 2) for i, one in enumerate(maps)
    )
    return torch.stack([by_row, by_column, by_row_back.flip(1), by_column_back.flip(1)], dim=1)


def _merge(y: Tensor, h: int, w: int) -> Tensor:
    """Bring sequences (b, 4, l, d) back to the map and sum them: (b, h, w, d)."""
    b = y.shape[0]  # len() would fix it in an exported graph
    rows, columns = (y[:, :2] + y[:, 2:].flip(2)).unbind(1)
    by_column = columns.reshape(b, w, h, -1).transpose(1, 2)
    return rows.reshape(b, h, w, -1) + by_column


def _as_scanned(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, None, Tensor, bool]:
    """Return the arguments of a scan as views with the steps last, and no gate."""
    B, C = (one.transpose(2, 3).contiguous() for one in (B, C))  # (b, 4, n, l)
    return u.transpose(2, 3), delta.transpose(2, 3), A, B, C, D, None, bias, True


@torch.library.custom_op("napari_activeft::ss2d_torch", mutates_args=())
def core_forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    bias: Tensor,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """Scan u, delta (b, 4, l, d) with B, C (b, 4, l, n); return y and, with `keep`, states."""
    given = _as_scanned(u, delta, A, B, C, D, bias)
    y, states = selective_scan_torch.forward(*given, keep_states=keep)
    return y.transpose(2, 3), states.flatten()


@torch.library.custom_op("napari_activeft::ss2d_torch_backward", mutates_args=())
def core_backward(
    dy: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    bias: Tensor,
    states: Tensor,
) -> list[Tensor]:
    """Return the gradients of the first seven arguments of `core_forward`."""
    given = _as_scanned(u, delta, A, B, C, D, bias)
    found = selective_scan_torch.backward(dy.contiguous().transpose(2, 3), *given, states)
    du, ddelta, dA, dB, dC, dD, _, dbias = found
    lying = [one.transpose(2, 3).contiguous() for one in (du, ddelta, dB, dC)]
    if dD is None or dbias is None:
        raise RuntimeError("a core has D and a bias: report this")
    return [lying[0], lying[1], dA, lying[2], lying[3], dD, dbias]


@core_forward.register_fake
def _(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    bias: Tensor,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    kept = -(-u.shape[2] // selective_scan_torch.STRIDE) * u.shape[0] * A.numel() if keep else 0
    return u.new_empty(u.shape), u.new_empty(kept)


@core_backward.register_fake
def _(
    dy: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    bias: Tensor,
    states: Tensor,
) -> list[Tensor]:
    return [one.new_empty(one.shape) for one in (u, delta, A, B, C, D, bias)]


class _Context(Protocol):
    """What autograd carries from the forward to the backward pass."""

    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep tensors for the backward pass."""


def _keep(ctx: _Context, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:-1], output[1])


def _differentiate(ctx: _Context, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    with torch.autocast(dy.device.type, enabled=False):
        return *core_backward(dy, *ctx.saved_tensors), None


core_forward.register_autograd(_differentiate, setup_context=_keep)
