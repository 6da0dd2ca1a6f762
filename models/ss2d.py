"""The 2-D core of VMamba: one map, read along four paths, scanned and summed.

Symbols: b batch, h w map height and width, l = h w steps, d channels, n states a channel, r rank of
the step size's projection, the four directions: 0 row by row, 1 column by column, 2 and 3 the same
backwards.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from types import ModuleType
from typing import cast

import torch
from torch import Tensor

from .scan_backends import choose_scan
from .selective_scan import MAX_STATES, check_kind, nothing, selective_scan

DIRECTIONS = 4
Core = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def ss2d(
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
    *,
    backend: str | None = None,
) -> Tensor:
    """Scan a map along four directions and sum what they give.

    In every direction ``[dt, B, C] = x_proj x``, ``delta = softplus(dt_proj dt + dt_bias)``,
    ``A = -exp(A_log)``, then `selective_scan`. A projection looks at one pixel only, so the map is
    projected once, as it lies, and the four orders are taken after.
    Every scan serves: ``c`` does all of it in one fused call, ``torch`` with the channels innermost
    all along, the others are composed of torch's products and one `selective_scan` over the four
    orders. The projections are in x's number type
    (in float32 with ``c``), the states in float32, or float64 for float64. An empty map gives an
    empty map, and gradients of zero.

    Parameters
    ----------
    x
        Shape (b, h, w, d).
    x_proj_weight
        Shape (4, r + 2 n, d), rows in the order dt, B, C.
    dt_projs_weight
        Shape (4, d, r).
    dt_projs_bias
        Shape (4, d).
    A_logs, Ds
        Shape (4 d, n) and (4 d,), direction by direction.
    backend
        Name of the scan to use, as in `selective_scan`; the automatic choice knows the limits of
        the cores (``c`` takes ranks up to 256).

    Returns
    -------
    y
        Shape (b, h, w, d).
    """
    tensors = {
        "x": x,
        "x_proj_weight": x_proj_weight,
        "dt_projs_weight": dt_projs_weight,
        "dt_projs_bias": dt_projs_bias,
        "A_logs": A_logs,
        "Ds": Ds,
    }
    _check(tensors)
    states, rank = A_logs.shape[1], dt_projs_weight.shape[2]
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    scan = choose_scan(backend, x.device, dtype, rank=rank)
    if x.numel() == 0:
        return nothing(x, tensors.values())
    fused = _fused_core(scan)
    if fused is not None:
        return fused(x, x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds)
    b, h, w, d = x.shape
    projected = _project(x, x_proj_weight.to(x.dtype))
    low, B, C = torch.split_with_sizes(projected, [rank, states, states], dim=2)
    y = selective_scan(
        _sequences(x).flatten(1, 2),
        torch.matmul(dt_projs_weight.to(x.dtype), low).flatten(1, 2),
        -torch.exp(A_logs),
        B,
        C,
        Ds,
        delta_bias=dt_projs_bias.flatten(),
        backend=scan,
    )
    return _merge(y.view(b, DIRECTIONS, d, h * w), h, w)


def _fused_core(scan: str) -> Core | None:
    """Return the core that does all of it in one call, where the scan has one."""
    module = _fused_module(scan)
    return None if module is None else cast(Core, getattr(module, f"ss2d_{scan}"))


@functools.cache
def _fused_module(scan: str) -> ModuleType | None:
    """Look for the file once: a search a call takes as long as the scan of a small map."""
    name = f"{__package__}.ss2d_{scan}"
    return None if importlib.util.find_spec(name) is None else importlib.import_module(name)


def _project(x: Tensor, x_proj_weight: Tensor) -> Tensor:
    """Map x (b, h, w, d) to the sequences of dt, B and C in the four orders (b, 4, r + 2 n, l).

    What is put in order is what a projection leaves, a few channels, not the map.
    """
    b, h, w, _ = x.shape
    flat = torch.matmul(x_proj_weight.flatten(0, 1), x.flatten(1, 2).transpose(1, 2))
    maps = flat.view(b, DIRECTIONS, -1, h, w)
    by_row, by_column = maps[:, 0::2].flatten(3), maps[:, 1::2].transpose(3, 4).flatten(3)
    return torch.stack(
        [by_row[:, 0], by_column[:, 0], by_row[:, 1].flip(2), by_column[:, 1].flip(2)], dim=1
    )


def _sequences(x: Tensor) -> Tensor:
    """Lay a map (b, h, w, d) out in the four orders (b, 4, d, l)."""
    rows = x.permute(0, 3, 1, 2).flatten(2)
    columns = x.permute(0, 3, 2, 1).flatten(2)
    forwards = torch.stack([rows, columns], dim=1)
    return torch.cat([forwards, forwards.flip(3)], dim=1)


def _merge(y: Tensor, h: int, w: int) -> Tensor:
    """Bring sequences (b, 4, d, l) back to the map and sum them: (b, h, w, d)."""
    b, _, d, _ = y.shape
    both_ways = y[:, :2] + y[:, 2:].flip(3)
    rows, columns = both_ways.unbind(1)
    by_row = rows.reshape(b, d, h, w).permute(0, 2, 3, 1)
    by_column = columns.reshape(b, d, w, h).permute(0, 3, 2, 1)
    return (by_row + by_column).contiguous()


def _check(tensors: dict[str, Tensor]) -> None:
    """Refuse shapes, number types and devices that do not fit, in one sentence."""
    x, A_logs, dt_projs_weight = (tensors[name] for name in ("x", "A_logs", "dt_projs_weight"))
    if x.dim() != 4 or A_logs.dim() != 2 or dt_projs_weight.dim() != 3:
        raise ValueError(
            "the 2-D core needs x (b, h, w, d), A_logs (4 d, n) and dt_projs_weight (4, d, r), got "
            f"{tuple(x.shape)}, {tuple(A_logs.shape)} and {tuple(dt_projs_weight.shape)}"
        )
    d, n, rank = x.shape[3], A_logs.shape[1], dt_projs_weight.shape[2]
    if not 1 <= n <= MAX_STATES:
        raise ValueError(
            f"A_logs {tuple(A_logs.shape)} has {n} states a channel, but a scan takes 1 to "
            f"{MAX_STATES}: build the layer with another number"
        )
    shapes = (
        x.shape,
        (DIRECTIONS, rank + 2 * n, d),
        (DIRECTIONS, d, rank),
        (DIRECTIONS, d),
        (DIRECTIONS * d, n),
        (DIRECTIONS * d,),
    )
    for (name, tensor), shape in zip(tensors.items(), shapes, strict=True):
        if tensor.shape != shape:
            raise ValueError(
                f"{name} has the shape {tuple(tensor.shape)}, but a map of {d} channels with {n} "
                f"states and rank {rank} needs {shape}"
            )
    check_kind(tensors)
