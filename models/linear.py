"""A linear layer whose float32 products on x86 CPUs are oneDNN's.

Symbols: m rows, k inner size, n columns of a product ``y (m, n) = x (m, k) w^T (n, k) + bias (n)``.

torch gives float32 products to MKL, whose AVX-512 code runs on Intel's processors only; on others
oneDNN, which torch carries too, is about twice as fast, forward and backward
(``benchmarks/products.py``). On Intel's the two are equals. Rounding differs in the last bit, as
between any two libraries. The environment variable ``NAPARI_ACTIVEFT_ONEDNN=0`` keeps MKL.
"""

from __future__ import annotations

import functools
import os
import platform
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import linear as torch_linear

VARIABLE = "NAPARI_ACTIVEFT_ONEDNN"
# Below, the call costs more than the product.
_SMALLEST = 1 << 19


class Linear(nn.Linear):
    """``nn.Linear`` with the same weights, names and results, by `linear`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Map (..., k) to (..., n)."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Map x (..., k) to ``x weight^T + bias`` (..., n), as ``torch.nn.functional.linear``."""
    if not _fits(x, weight, bias):
        return torch_linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    tensors = (rows, weight) if bias is None else (rows, weight, bias)
    if torch.is_grad_enabled() and any(one.requires_grad for one in tensors):
        y: Tensor = _product_op(rows, weight, bias)
    else:
        y = _onednn(rows, weight, bias)
    return y.view(*x.shape[:-1], weight.shape[0])


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a b`` (m, n) of a (m, k) and b (k, n) without a graph for the backward pass."""
    b = b.t()
    return _onednn(a, b, None) if _fits(a, b, None) else torch_linear(a, b)


def _fits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Tell whether oneDNN computes this product, and faster."""
    return (
        # First: an exported graph holds torch's own operations, and none of the sizes below.
        not torch.compiler.is_compiling()
        and x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and (bias is None or bias.dtype == torch.float32)
        and x.numel() * weight.shape[0] >= _SMALLEST
        and x.shape[-1] == weight.shape[1]
        and not torch.is_autocast_enabled("cpu")
        and type(x) in (Tensor, nn.Parameter)
        and available()
    )


def available() -> bool:
    """Tell whether this build of torch and this processor have oneDNN's float32 product."""
    return os.environ.get(VARIABLE, "1") != "0" and _works()


@functools.cache
def _works() -> bool:
    """Try it: the operation is one of torch's own, but not one that it documents."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    if not torch._C._has_mkldnn:
        return False
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(size, generator=generator) for size in ((5, 7), (3, 7)))
    bias = torch.ones(3)
    try:
        found = _onednn(x, weight, bias), _onednn(x.t(), weight[:, :5], None)
    except (AttributeError, RuntimeError, TypeError):
        return False
    expected = torch_linear(x, weight, bias), torch_linear(x.t(), weight[:, :5])
    return all(torch.allclose(*pair, atol=1e-5) for pair in zip(found, expected, strict=True))


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply; both may be transposed views."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


@torch.library.custom_op("napari_activeft::linear", mutates_args=())
def _product_op(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _onednn(x, weight, bias)


@_product_op.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


class _Context(Protocol):
    """What autograd carries from the forward to the backward pass."""

    saved_tensors: tuple[Tensor, Tensor]
    needs_input_grad: tuple[bool, bool, bool]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep tensors for the backward pass."""


def _keep(ctx: _Context, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], inputs[1])


def _differentiate(ctx: _Context, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    for_x, for_weight, for_bias = ctx.needs_input_grad
    return (
        linear(dy, weight.t()) if for_x else None,
        linear(dy.t(), x.t()) if for_weight else None,
        dy.sum(0) if for_bias else None,
    )


_product_op.register_autograd(_differentiate, setup_context=_keep)
