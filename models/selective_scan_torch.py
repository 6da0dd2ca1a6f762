"""The selective scan in plain torch, on any device: two levels of chunks, hand-written backward.

Time is cut into blocks that stay in the cache; only the state before every 32nd step outlives its
block, and the backward pass recomputes the rest from it. Where one step holds too few numbers to
keep the device busy, the chunks of 32 steps inside a block run side by side and are joined after.
Only decays ``exp(delta A)`` are multiplied, never divided by: nothing overflows however long it is.

Symbols: b batch, d channels, l steps, n states a channel, g groups of channels that share one B and
C, k = d / g channels a group, t steps of a block, h state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .scan_backends import Gradients

STRIDE = 32  # steps between kept states, and steps of a chunk
BLOCK_NUMBERS = {"cpu": 1 << 17}  # numbers of one (t, b, g, n, k) tensor, to fit a cache
BLOCK_NUMBERS_ELSEWHERE = 1 << 24
WIDE_STEP = {"cpu": 1 << 10}  # numbers a step from which chunks side by side bring nothing
WIDE_STEP_ELSEWHERE = 1 << 18


class Workspace:
    """Memory that every block uses again: fresh pages cost more than what is computed in them.

    Parameters
    ----------
    like
        Tensor whose number type and device the memory has.
    """

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._kept: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Return a tensor of any content; it lives until the name is taken again."""
        numbers = math.prod(shape)
        if name not in self._kept or len(self._kept[name]) < numbers:
            self._kept[name] = self._like.new_empty(numbers)
        return self._kept[name][:numbers].view(shape)


class Inputs(NamedTuple):
    """The arguments of a scan, channels split in groups."""

    u: Tensor  # (b, g, k, l)
    delta: Tensor  # (b, g, k, l)
    A: Tensor  # (g, n, k)
    B: Tensor  # (b, g, n, l)
    C: Tensor  # (b, g, n, l)
    D: Tensor | None  # (g, k)
    z: Tensor | None  # (b, g, k, l)
    bias: Tensor | None  # (g, k)
    softplus: bool
    work: Workspace


class Block(NamedTuple):
    """What the steps of one block compute, time first."""

    u: Tensor  # (t, b, g, k)
    raw: Tensor  # (t, b, g, k), step size before softplus
    delta: Tensor  # (t, b, g, k)
    drive: Tensor  # (t, b, g, k), delta u
    B: Tensor  # (t, b, g, n)
    C: Tensor  # (t, b, g, n)
    decay: Tensor  # (t + 1, b, g, n, k), the last is free for the first decay of the next block
    h: Tensor  # (t + 1, b, g, n, k), the first is the state before the block


def why_unavailable() -> str | None:
    """Return None: plain torch is always there."""
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
    """Scan block by block; arguments as in `selective_scan`, B and C (b, g, n, l).

    u, delta, z and what belongs to them may be (b, g, k, l) as well, k innermost in memory.

    Returns
    -------
    y
        Shape (b, d, l).
    states
        State before every 32nd step, shape (ceil(l / 32), b, g, n, k); none without `keep_states`.
    """
    inputs = _split_groups(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    y = torch.empty_like(inputs.u)
    h = u.new_zeros(len(u), *inputs.A.shape)
    states = u.new_empty(-(-u.shape[-1] // STRIDE) if keep_states else 0, *h.shape)
    for span in _spans(inputs):
        block = _run_block(inputs, span, h)
        if keep_states:
            states[span.start // STRIDE : -(-span.stop // STRIDE)] = block.h[:-1:STRIDE]
        h = block.h[-1]
        out = _skip(inputs, block, _mix(block.C, block.h[1:]))
        if inputs.z is not None:
            out *= functional.silu(_time_first(inputs, "z", inputs.z, span))
        _store(inputs, y, span, out)
    return y.view(u.shape), states


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
    """Return the gradients of the first eight arguments of `forward`, last block first.

    With ``e[t] = C[t] dy[t] + decay[t+1] e[t+1]`` (the gradient of h[t]):
    ``dC = h dy``, ``dB = e delta u``, ``d(delta u) = sum_n B e`` and
    ``d(delta A) = e h[t-1] decay``.
    """
    inputs = _split_groups(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    states = states.view(-1, len(u), *inputs.A.shape)
    grads = {name: torch.empty_like(x) for name, x in _tensors(inputs).items()}
    for name in {"A", "D", "bias"} & set(grads):  # sums over the blocks
        grads[name].zero_()
    dy = dy.reshape(inputs.u.shape)
    e = u.new_zeros(len(u), *inputs.A.shape)
    next_decay = torch.ones_like(e)
    for span in reversed(list(_spans(inputs))):
        block = _run_block(inputs, span, states[span.start // STRIDE])
        block.decay[-1] = next_decay
        e = _block_backward(inputs, grads, block, span, _time_first(inputs, "dy", dy, span), e)
        next_decay = block.decay[0].clone()
    du, d_delta, dA, dB, dC = (grads[name] for name in ("u", "delta", "A", "B", "C"))
    dD, dz, d_bias = (grads.get(name) for name in ("D", "z", "bias"))
    return (
        du.view(u.shape),
        d_delta.view(u.shape),
        dA.transpose(1, 2).reshape(A.shape),
        dB,
        dC,
        None if dD is None else dD.flatten(),
        None if dz is None else dz.view(u.shape),
        None if d_bias is None else d_bias.flatten(),
    )


def _block_backward(
    inputs: Inputs, grads: dict[str, Tensor], block: Block, span: slice, dy: Tensor, e_next: Tensor
) -> Tensor:
    """Add the gradients of one block to `grads`; return e of its first step."""
    work, shape = inputs.work, block.h[1:].shape
    if inputs.z is not None:
        dy = _gate_backward(inputs, grads, block, span, dy)
    _store(inputs, grads["C"], span, _dot(work, block.h[1:], dy))
    e = torch.mul(block.C.unsqueeze(-1), dy.unsqueeze(-2), out=work.take("e", *shape))
    _recur(block.decay[1:], e, e_next, reverse=True)
    _store(inputs, grads["B"], span, _dot(work, e, block.drive))
    d_drive = _mix(block.B, e)
    first = e[0].clone()
    d_exponent = e.mul_(block.h[:-1]).mul_(block.decay[:-1])  # of delta A
    product = work.take("product", *shape)
    grads["A"] += torch.mul(d_exponent, block.delta.unsqueeze(-2), out=product).sum(dim=(0, 1))
    d_delta = _sum_states(d_exponent.mul_(inputs.A)).addcmul_(d_drive, block.u)
    if inputs.softplus:
        d_delta = torch.ops.aten.softplus_backward(d_delta, block.raw, 1, 20)
    _store(inputs, grads["delta"], span, d_delta)
    if inputs.bias is not None:
        grads["bias"] += d_delta.sum(dim=(0, 1))
    du = d_drive.mul_(block.delta)
    if inputs.D is not None:
        du.addcmul_(dy, inputs.D.expand_as(dy))
        grads["D"] += block.u.mul_(dy).sum(dim=(0, 1))  # the last use of the block's u
    _store(inputs, grads["u"], span, du)
    return first


def _gate_backward(
    inputs: Inputs, grads: dict[str, Tensor], block: Block, span: slice, dy: Tensor
) -> Tensor:
    """Set the gradient of z and return that of the output before the gate ``y silu(z)``."""
    if inputs.z is None:
        return dy
    z = _time_first(inputs, "z", inputs.z, span)
    y = _skip(inputs, block, _mix(block.C, block.h[1:]))
    gate = torch.sigmoid(z)
    _store(inputs, grads["z"], span, dy * y * gate * (1 + z * (1 - gate)))
    return dy * (z * gate)


def _run_block(inputs: Inputs, span: slice, before: Tensor) -> Block:
    """Compute the states of one block from the state before it, (b, g, n, k)."""
    u = _time_first(inputs, "u", inputs.u, span)
    raw = _time_first(inputs, "delta", inputs.delta, span)
    b = _time_first(inputs, "B", inputs.B, span)
    c = _time_first(inputs, "C", inputs.C, span)
    if inputs.bias is not None:
        raw += inputs.bias
    delta = functional.softplus(raw) if inputs.softplus else raw
    drive = torch.mul(delta, u, out=inputs.work.take("drive", *u.shape))
    h = inputs.work.take("h", len(u) + 1, *before.shape)
    h[0] = before
    decay = inputs.work.take("decay", *h.shape)
    torch.mul(delta.unsqueeze(-2), inputs.A, out=decay[:-1])
    decay[:-1].exp_()
    torch.mul(drive.unsqueeze(-2), b.unsqueeze(-1), out=h[1:])
    _recur(decay[:-1], h[1:], h[0], reverse=False)
    return Block(u, raw, delta, drive, b, c, decay, h)


def _recur(weights: Tensor, values: Tensor, start: Tensor, *, reverse: bool) -> None:
    """Add ``weights[t] values[t-1]`` to ``values[t]``, step after step, in place.

    Parameters
    ----------
    weights, values
        Shape (t, b, g, n, k).
    start
        The value before the first step, shape (b, g, n, k).
    reverse
        Whether time runs backwards: ``values[t] += weights[t] values[t+1]``.
    """
    order = -1 if reverse else 1
    first = values[-1 if reverse else 0]
    torch.addcmul(first, weights[-1 if reverse else 0], start, out=first)
    steps = len(values)
    if steps <= STRIDE or steps % STRIDE or _is_wide(first):
        _sweep(weights.unbind(0)[::order], values.unbind(0)[::order])
        return
    chunked = (-1, STRIDE, *first.shape)
    values, reach = values.view(chunked), weights.reshape(chunked).clone()
    columns, reaches = values.unbind(1)[::order], reach.unbind(1)[::order]
    _sweep(reaches, columns)  # every chunk as if the value before it were zero
    for before, now in pairwise(reaches):
        now.mul_(before)
    _sweep(reaches[-1].unbind(0)[::order], columns[-1].unbind(0)[::order])  # the chunks' ends
    if reverse:
        rest, ends, weight = values[:-1, 1:], values[1:, :1], reach[:-1, 1:]
    else:
        rest, ends, weight = values[1:, :-1], values[:-1, -1:], reach[1:, :-1]
    torch.addcmul(rest, weight, ends, out=rest)


def _sweep(weights: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for weight, before, now in zip(weights[1:], values, values[1:], strict=False):
        torch.addcmul(now, weight, before, out=now)


def _is_wide(step: Tensor) -> bool:
    return step.numel() >= WIDE_STEP.get(step.device.type, WIDE_STEP_ELSEWHERE)


def _spans(inputs: Inputs) -> Iterator[slice]:
    """Cut time into blocks of whole chunks; the steps left over are a block of their own."""
    length = inputs.u.shape[-1]
    numbers = BLOCK_NUMBERS.get(inputs.u.device.type, BLOCK_NUMBERS_ELSEWHERE)
    width = max(1, inputs.u.shape[0] * inputs.A.numel())
    steps = STRIDE * max(1, numbers // (width * STRIDE))
    whole = length - length % STRIDE
    for start in range(0, whole, steps):
        yield slice(start, min(start + steps, whole))
    if whole < length:
        yield slice(whole, length)


def _split_groups(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> Inputs:
    groups = B.shape[1]
    per_group = u.shape[1] // groups if u.dim() == 3 else u.shape[2]
    split = (u.shape[0], groups, per_group, u.shape[-1])
    return Inputs(
        u.reshape(split),
        delta.reshape(split),
        A.view(groups, per_group, -1).transpose(1, 2).contiguous(),
        B,
        C,
        None if D is None else D.view(groups, per_group),
        None if z is None else z.reshape(split),
        None if delta_bias is None else delta_bias.view(groups, per_group),
        delta_softplus,
        Workspace(u),
    )


def _tensors(inputs: Inputs) -> dict[str, Tensor]:
    return {name: x for name, x in inputs._asdict().items() if isinstance(x, Tensor)}


def _time_first(inputs: Inputs, name: str, x: Tensor, span: slice) -> Tensor:
    """Copy the steps of a span of x (b, g, c, l) to (t, b, g, c).

    Cut out first, transposed as a matrix then: torch does that several times faster than at once.
    """
    b, g, c, _ = x.shape
    steps = span.stop - span.start
    if x.stride(2) == 1:
        return inputs.work.take(name, steps, b, g, c).copy_(x[..., span].permute(3, 0, 1, 2))
    part = inputs.work.take("part", b, g, c, steps)
    part.copy_(x[..., span])
    block = inputs.work.take(name, steps, b, g, c)
    block.view(steps, -1).copy_(part.view(-1, steps).t())
    return block


def _store(inputs: Inputs, out: Tensor, span: slice, block: Tensor) -> None:
    """Put a block (t, b, g, c) into out (b, g, c, l)."""
    if out.stride(2) == 1:
        out[..., span] = block.permute(1, 2, 3, 0)
        return
    part = inputs.work.take("part", *block.shape[1:], len(block))
    part.view(-1, len(block)).copy_(block.reshape(len(block), -1).t())
    out[..., span] = part


def _skip(inputs: Inputs, block: Block, y: Tensor) -> Tensor:
    """Add ``D u`` to y (t, b, g, k)."""
    return y if inputs.D is None else y.addcmul_(block.u, inputs.D.expand_as(y))


def _mix(weights: Tensor, x: Tensor) -> Tensor:
    """Sum over the states: weights (t, b, g, n), x (t, b, g, n, k) to (t, b, g, k)."""
    if weights.shape[-1] == 1:
        return weights * x.squeeze(-2)
    return torch.matmul(weights.unsqueeze(-2), x).squeeze(-2)


def _dot(work: Workspace, x: Tensor, y: Tensor) -> Tensor:
    """Sum over the channels of a group: x (t, b, g, n, k), y (t, b, g, k) to (t, b, g, n)."""
    return torch.mul(x, y.unsqueeze(-2), out=work.take("product", *x.shape)).sum(dim=-1)


def _sum_states(x: Tensor) -> Tensor:
    """Sum x (t, b, g, n, k) over its states; it may share memory with x."""
    return x.squeeze(-2) if x.shape[-2] == 1 else x.sum(dim=-2)
