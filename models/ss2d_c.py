"""The 2-D core of VMamba in one fused CPU call: no copy of the map for any direction.

Symbols: b batch, h w map height and width, m = b h w pixels, d channels, n states, r rank of the
step size's projection, k the four directions; `projected` holds dt, B, C of every direction,
(m, 4 (r + 2 n)).
The projection of the map is torch's matrix product; the step sizes and the scans of all directions
are ``csrc/ss2d_tasks.h``, which adds them up in place in a fixed order.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from . import selective_scan_c
from .linear import product
from .scan_backends import MAX_RANKS
from .selective_scan_c import MAX_STATES, STEPS

DIRECTIONS = 4
MAX_RANK = MAX_RANKS["c"]


def ss2d_c(
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
) -> Tensor:
    """Map x (b, h, w, d) to y (b, h, w, d); the parameters are those of `ss2d`."""
    A = -torch.exp(A_logs.float())
    weights = (x_proj_weight, dt_projs_weight, dt_projs_bias, A, Ds)
    tensors = [one.float().contiguous() for one in (x, *weights)]
    keep = torch.is_grad_enabled() and any(one.requires_grad for one in tensors)
    with torch.autocast("cpu", enabled=False):  # the kernel reads float32
        y: Tensor = ss2d_forward(*tensors, keep)[0]
    return y.to(x.dtype)


@torch.library.custom_op("napari_activeft::ss2d_c", mutates_args=())
def ss2d_forward(
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A: Tensor,
    Ds: Tensor,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y and, with `keep`, what the backward needs: projected and the states, flat."""
    projected = product(x.view(-1, x.shape[3]), x_proj_weight.flatten(0, 1).T)
    sizes = _sizes(x, A, dt_projs_weight)
    tiles = -(-sizes["l"] // STEPS) if keep else 0
    kept = selective_scan_c.count_tasks(sizes) * DIRECTIONS * tiles * sizes["n"]
    states = x.new_empty(kept * selective_scan_c.lanes())
    y = torch.empty_like(x)
    inputs = _inputs(x, projected, dt_projs_weight, dt_projs_bias, A, Ds)
    selective_scan_c.run(
        "ss2d_forward", sizes, {**inputs, "states": states if keep else None, "y": y}
    )
    return y, projected if keep else x.new_empty(0), states


@torch.library.custom_op("napari_activeft::ss2d_c_backward", mutates_args=())
def ss2d_backward(
    dy: Tensor,
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A: Tensor,
    Ds: Tensor,
    projected: Tensor,
    states: Tensor,
) -> list[Tensor]:
    """Return the gradients of the first six arguments of `ss2d_forward`."""
    sizes = _sizes(x, A, dt_projs_weight)
    b, d = sizes["b"], sizes["d"]
    blocks = selective_scan_c.count_tasks(sizes) // b
    inputs = _inputs(x, projected, dt_projs_weight, dt_projs_bias, A, Ds)
    dx = torch.empty_like(x)
    slots = x.new_empty(b, blocks, sizes["l"], projected.shape[1])
    by_image = [x.new_empty(b, *one.shape) for one in (dt_projs_weight, dt_projs_bias, A, Ds)]
    grads = dict(zip(("dweight", "dbias", "dA", "dD"), by_image, strict=True))
    more = {"dy": dy.contiguous(), "states": states, "du": dx, "dB": slots}
    selective_scan_c.run("ss2d_backward", sizes, {**inputs, **more, **grads})
    dprojected = selective_scan_c.sum_in_order(slots.unbind(1)).flatten(0, 1)
    del slots, more  # the largest array of all: not beside those of the products
    dx.view(-1, d).add_(product(dprojected, x_proj_weight.flatten(0, 1)))
    x_weight_grad = product(dprojected.T, x.view(-1, d)).view(x_proj_weight.shape)
    return [
        dx,
        x_weight_grad,
        *(selective_scan_c.sum_in_order(one.unbind(0)) for one in by_image),
    ]


def _inputs(
    x: Tensor, projected: Tensor, weight: Tensor, bias: Tensor, A: Tensor, Ds: Tensor
) -> dict[str, Tensor]:
    """Name the tensors as the kernel does."""
    return {"u": x, "B": projected, "weight": weight, "bias": bias, "A": A, "D": Ds}


def _sizes(x: Tensor, A: Tensor, dt_projs_weight: Tensor) -> dict[str, int]:
    b, height, width, d = x.shape
    n, rank = A.shape[1], dt_projs_weight.shape[2]
    if n > MAX_STATES or rank > MAX_RANK:
        raise ValueError(
            f"{n} states and rank {rank} were asked: the C kernel takes up to {MAX_STATES} and "
            f"{MAX_RANK}, choose another scan"
        )
    sizes = {"b": b, "d": d, "l": height * width, "n": n, "g": 1, "softplus": 1}
    return {**sizes, "height": height, "width": width, "rank": rank}


@ss2d_forward.register_fake
def _(
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A: Tensor,
    Ds: Tensor,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    if not keep:
        return x.new_empty(x.shape), x.new_empty(0), x.new_empty(0)
    pixels = x.shape[0] * x.shape[1] * x.shape[2]
    return (
        x.new_empty(x.shape),
        x.new_empty(pixels, DIRECTIONS * x_proj_weight.shape[1]),
        x.new_empty(torch.library.get_ctx().new_dynamic_size()),
    )


@ss2d_backward.register_fake
def _(
    dy: Tensor,
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A: Tensor,
    Ds: Tensor,
    projected: Tensor,
    states: Tensor,
) -> list[Tensor]:
    tensors = (x, x_proj_weight, dt_projs_weight, dt_projs_bias, A, Ds)
    return [one.new_empty(one.shape) for one in tensors]


class _Context(Protocol):
    """What autograd carries from the forward to the backward pass."""

    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep tensors for the backward pass."""


def _keep(ctx: _Context, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:-1], *output[1:])


def _differentiate(ctx: _Context, dy: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    with torch.autocast("cpu", enabled=False):
        return *ss2d_backward(dy, *ctx.saved_tensors), None


ss2d_forward.register_autograd(_differentiate, setup_context=_keep)
