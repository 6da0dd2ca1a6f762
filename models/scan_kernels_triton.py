"""The selective scan as two Triton kernels, forward and backward.

A program serves one batch item and a block of channels of one group. It walks over tiles of steps;
inside a tile the recurrence of each state is one associative scan along the steps, which
neighbouring threads hold, so that every load and store is a run of memory. From tile to tile the
states stay in registers. `selective_scan_triton` chooses the sizes and launches the kernels.

Symbols: b batch, d channels, l steps, n states a channel, g groups of channels that share one B and
C, k = d / g channels a group, h state, e gradient of h. What belongs to a tile is (channels,
steps), what is carried is (channels, states), `columns` is n rounded up to a power of two. A length
comes as `runs` of `run` steps, so that the compiler sees where four numbers are one load. Pointers
and tensors have no types: Triton reads the file, mypy does not understand it.
"""
# mypy: disallow-untyped-decorators=False, disallow-untyped-defs=False
# mypy: disallow-incomplete-defs=False, disallow-untyped-calls=False
# ruff: noqa: ANN001, ANN201, ANN202

import triton
import triton.language as tl

LINEAR_ABOVE = tl.constexpr(20.0)  # softplus, as in torch


@triton.jit
def scan_forward(
    u, delta, A, B, C, D, z, bias, y, states, runs, k, g, run: tl.constexpr, n: tl.constexpr,
    columns: tl.constexpr, channels_a_block: tl.constexpr, tile: tl.constexpr,
    softplus: tl.constexpr,
):  # fmt: skip
    """Write y (b, d, l) and the states before each tile (b, d, tiles, n) unless states is None."""
    length = runs * run
    _slot, shared, channels, rows, in_group = _place(k, g, channels_a_block)
    skip, shift = _per_channel(D, channels, in_group), _per_channel(bias, channels, in_group)
    column, offsets = tl.arange(0, columns)[None, :], tl.arange(0, tile)[None, :]
    carried = tl.zeros((channels_a_block, columns), tl.float32)
    for start in range(0, length, tile):
        t = start + offsets
        valid, at = in_group & (t < length), rows * length + t
        if states is not None:
            kept = (rows * tl.cdiv(length, tile) + start // tile) * n + column
            tl.store(states + kept, carried, mask=in_group & (column < n))
        x = tl.load(u + at, mask=valid, other=0.0)
        step = _step_sizes(_raw_steps(delta, shift, at, valid), valid, softplus)
        out = skip * x
        for state in range(n):
            exponent = tl.load(A + channels * n + state, mask=in_group, other=0.0)
            b, c = _weights(B, C, (shared * n + state) * length, t, length)
            weight, here = tl.exp(step * exponent), column == state
            entering = tl.where(offsets == 0, weight * _column(carried, here), 0.0)
            _reach, h = tl.associative_scan((weight, step * x * b + entering), 1, _join)
            out += h * c
            carried = tl.where(here, _column(h, offsets == tile - 1), carried)
        if z is not None:
            gate = tl.load(z + at, mask=valid, other=0.0)
            out *= gate * tl.sigmoid(gate)
        tl.store(y + at, out, mask=valid)


@triton.jit
def scan_backward(
    dy, u, delta, A, B, C, D, z, bias, states, du, d_delta, dA, dB, dC, dD, dz, d_bias, runs, k, g,
    run: tl.constexpr, n: tl.constexpr, columns: tl.constexpr, channels_a_block: tl.constexpr,
    tile: tl.constexpr, softplus: tl.constexpr,
):  # fmt: skip
    """Write the gradients, the last tile first.

    Those of u, delta and z are (b, d, l); sums over the steps are left per item, dA (b, d, n), dD
    and d_bias (b, d), and those of B and C per block of channels, (b, g, blocks, n, l).
    """
    length = runs * run
    slot, shared, channels, rows, in_group = _place(k, g, channels_a_block)
    skip, shift = _per_channel(D, channels, in_group), _per_channel(bias, channels, in_group)
    column, offsets = tl.arange(0, columns)[None, :], tl.arange(0, tile)[None, :]
    tiles = tl.cdiv(length, tile)
    after = tl.zeros((channels_a_block, columns), tl.float32)  # e of the first step after the tile
    A_grad = tl.zeros((channels_a_block, columns), tl.float32)
    D_grad = tl.zeros((channels_a_block, 1), tl.float32)
    bias_grad = tl.zeros((channels_a_block, 1), tl.float32)
    for done in range(tiles):
        number = tiles - 1 - done
        t = number * tile + offsets
        valid, at = in_group & (t < length), rows * length + t
        x = tl.load(u + at, mask=valid, other=0.0)
        raw = _raw_steps(delta, shift, at, valid)
        y_grad, gate_slope = _gated(tl.load(dy + at, mask=valid, other=0.0), z, at, valid)
        kept = (rows * tiles + number) * n + column
        before = tl.load(states + kept, mask=in_group & (column < n), other=0.0)
        out, drive_grad, step_grad, A_grad, after = _states_backward(
            A + channels * n, B, C, dB, dC, delta, shift, x, raw, y_grad, before, after, A_grad,
            slot * n, shared * n, rows, in_group, t, column, offsets, length, n, tile, softplus,
        )  # fmt: skip
        step_grad += drive_grad * x
        drive_grad *= _step_sizes(raw, valid, softplus)
        if softplus:
            step_grad *= tl.where(raw > LINEAR_ABOVE, 1.0, tl.sigmoid(raw))
        tl.store(du + at, drive_grad + y_grad * skip, mask=valid)
        tl.store(d_delta + at, step_grad, mask=valid)
        if z is not None:
            tl.store(dz + at, gate_slope * (out + skip * x), mask=valid)
        D_grad += _sum_steps(y_grad * x)
        bias_grad += _sum_steps(tl.where(valid, step_grad, 0.0))
    tl.store(dA + rows * n + column, A_grad, mask=in_group & (column < n))
    tl.store(dD + rows, D_grad, mask=in_group)
    tl.store(d_bias + rows, bias_grad, mask=in_group)


@triton.jit
def _states_backward(
    A, B, C, dB, dC, delta, shift, x, raw, y_grad, before, after, A_grad, slot, shared, rows,
    in_group, t, column, offsets, length, n: tl.constexpr, tile: tl.constexpr,
    softplus: tl.constexpr,
):  # fmt: skip
    """Run all states over a tile, forwards from `before` and backwards from `after`.

    With ``e[t] = C[t] dy[t] + decay[t+1] e[t+1]`` (the gradient of h[t]): ``dC = h dy``,
    ``dB = e delta u``, ``d(delta u) = sum_n B e`` and ``d(delta A) = e decay h[t-1]``.

    Returns
    -------
    out, drive_grad, step_grad
        ``sum_n C h``, the gradient of delta u, and that of delta by way of the decay.
    A_grad, after
        The gradient of A with what the tile adds, and e of the tile's first step.
    """
    step = _step_sizes(raw, in_group & (t < length), softplus)
    later = in_group & (t + 1 < length)
    next_step = _step_sizes(_raw_steps(delta, shift, rows * length + t + 1, later), later, softplus)
    drive = step * x
    out, drive_grad, step_grad = tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x)
    for state in range(n):
        exponent = tl.load(A + state, mask=in_group, other=0.0)
        b, c = _weights(B, C, (shared + state) * length, t, length)
        weight, here = tl.exp(step * exponent), column == state
        entering = tl.where(offsets == 0, weight * _column(before, here), 0.0)
        _reach, h, past = tl.associative_scan(
            (weight, drive * b + entering, entering), 1, _join_with_past
        )
        weight = tl.exp(next_step * exponent)
        entering = tl.where(offsets == tile - 1, weight * _column(after, here), 0.0)
        _reach, e = tl.associative_scan((weight, y_grad * c + entering), 1, _join, reverse=True)
        point = (slot + state) * length + t
        tl.store(dB + point, tl.sum(e * drive, axis=0, keep_dims=True), mask=t < length)
        tl.store(dC + point, tl.sum(h * y_grad, axis=0, keep_dims=True), mask=t < length)
        out += h * c
        drive_grad += e * b
        exponent_grad = e * past  # of delta A
        step_grad += exponent_grad * exponent
        A_grad += tl.where(here, _sum_steps(exponent_grad * step), 0.0)
        after = tl.where(here, _column(e, offsets == 0), after)
    return out, drive_grad, step_grad, A_grad, after


@triton.jit
def _join(weight, value, next_weight, next_value):
    """Put the map ``h -> weight h + value`` before the map of the next steps."""
    return weight * next_weight, next_weight * value + next_value


@triton.jit
def _join_with_past(weight, value, past, next_weight, next_value, next_past):
    """Join as `_join`; past is ``decay[t] h[t-1]``, the part of a state that is not of its step.

    It is carried along because ``h[t]`` less the rest would cancel.
    """
    carried = next_weight * value
    return weight * next_weight, carried + next_value, carried + next_past


@triton.jit
def _place(k, g, channels_a_block: tl.constexpr):
    """Tell which part of the work the program does.

    Returns
    -------
    slot, shared
        Number of the block among all (b, g, blocks), and of its group among all (b, g).
    channels, rows
        The block's channels among d, and among those of all items, b d; shape (channels, 1).
    in_group
        Whether the channel is one of the group, (channels, 1).
    """
    blocks = tl.cdiv(k, channels_a_block)
    slot = tl.program_id(0).to(tl.int64)
    shared = slot // blocks
    within = (slot % blocks) * channels_a_block + tl.arange(0, channels_a_block)[:, None]
    channels = (shared % g) * k + within
    rows = (shared // g) * (g * k) + channels
    return slot, shared, channels, rows, within < k


@triton.jit
def _per_channel(parameter, channels, in_group):
    """Load a parameter of the channels, (channels, 1), zero where there is none."""
    values = tl.zeros(channels.shape, tl.float32)
    if parameter is not None:
        values = tl.load(parameter + channels, mask=in_group, other=0.0)
    return values


@triton.jit
def _weights(B, C, row, t, length):
    """Load B and C of one state, (1, steps)."""
    b = tl.load(B + row + t, mask=t < length, other=0.0)
    return b, tl.load(C + row + t, mask=t < length, other=0.0)


@triton.jit
def _raw_steps(delta, shift, at, valid):
    """Load step sizes before softplus; shift (channels, 1) is added."""
    return tl.load(delta + at, mask=valid, other=0.0) + shift


@triton.jit
def _step_sizes(raw, valid, softplus: tl.constexpr):
    """Return the step sizes, zero (a step that changes no state) outside the tensor."""
    steps = _softplus(raw) if softplus else raw
    return tl.where(valid, steps, 0.0)


@triton.jit
def _softplus(x):
    """Return ``max(x, 0) + log1p(exp(-|x|))``; log1p by the series of ``2 atanh(y / (2 + y))``.

    A logarithm of ``1 + y`` would lose the digits of a small y, and step sizes are small.
    """
    y = tl.exp(-tl.abs(x))
    s = y / (2.0 + y)  # at most 1/3: the first term left out, s^17 / 17, is below float32's digits
    q = s * s
    tail = 1 / 9 + q * (1 / 11 + q * (1 / 13 + q * (1 / 15)))
    series = 1.0 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * tail)))
    return tl.where(x > LINEAR_ABOVE, x, tl.maximum(x, 0.0) + 2.0 * s * series)


@triton.jit
def _gated(y_grad, z, at, valid):
    """Return the gradient of y before its gate, and that of z by y before its gate (or 0)."""
    slope = tl.zeros_like(y_grad)
    if z is not None:
        gate = tl.load(z + at, mask=valid, other=0.0)
        share = tl.sigmoid(gate)
        slope = y_grad * share * (1.0 + gate * (1.0 - share))
        y_grad *= gate * share
    return y_grad, slope


@triton.jit
def _column(x, chosen):
    """Take the column of x (channels, m) where chosen (1, m) is true, as (channels, 1)."""
    return tl.sum(tl.where(chosen, x, 0.0), axis=1, keep_dims=True)


@triton.jit
def _sum_steps(x):
    """Sum x (channels, steps) over the steps, (channels, 1)."""
    return tl.sum(x, axis=1, keep_dims=True)
