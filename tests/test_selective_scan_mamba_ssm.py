"""How the compiled kernel of mamba_ssm is called, against a stand-in that keeps to its contract.

The contract is that of ``csrc/selective_scan/selective_scan.cpp`` of mamba_ssm 1.2 to 2.x.
"""

import sys
import types

import pytest
import torch
from napari_activeft.models import (
    scan_backends,
    selective_scan_mamba_ssm,
    selective_scan_torch,
)
from napari_activeft.models.scan_ops import scan_forward
from napari_activeft.models.selective_scan_reference import scan
from scanmaking import NAMES, OPTIONAL, arguments

CHUNK = 2048  # steps between the states that the real kernel keeps


def check(values):
    """Refuse what the real kernel refuses; return whether there is a gate."""
    u, _, A, B, _, _, z, _ = values
    b, d, steps = u.shape
    n, g = A.shape[1], B.shape[1]
    wanted = [(b, d, steps)] * 2 + [(d, n)] + [(b, g, n, steps)] * 2 + [(d,), (b, d, steps), (d,)]
    for one, shape in zip(values, wanted, strict=True):
        assert one is None or (one.shape == shape and one.dtype == torch.float32)
        assert one is None or one.stride(-1) == 1 or one.shape[-1] == 1
    return z is not None


def fwd(*given):
    """Return y before the gate, the states and, with z, y."""
    assert len(given) == 9
    *values, softplus = given
    gated = check(values)
    u, A, z = values[0], values[2], values[6]
    out, _ = selective_scan_torch.forward(*values[:6], None, values[7], softplus)
    chunks = -(-u.shape[2] // CHUNK)
    states = torch.arange(u.shape[0] * u.shape[1] * chunks * 2 * A.shape[1], dtype=torch.float32)
    states = states.view(*u.shape[:2], chunks, 2 * A.shape[1])
    return [out, states, out * torch.nn.functional.silu(z)] if gated else [out, states]


def bwd(*given):
    """Return the gradients in the kernel's order; D's and delta_bias's are None where they are."""
    assert len(given) == 14
    *values, dy, states, out, dz, softplus, recompute = given
    gated = check(values)
    assert dz is None
    assert recompute is False
    first, kept, *_ = fwd(*values, softplus)
    assert torch.equal(states, kept)
    assert states.is_contiguous()
    assert torch.equal(out, first) if gated else out is None
    _, kept = selective_scan_torch.forward(*values, softplus)
    *most, dz, d_bias = selective_scan_torch.backward(dy, *values, softplus, kept)
    return [*most, d_bias, *([dz] if gated else [])]


@pytest.fixture
def kernel(monkeypatch):
    """mamba_ssm's extension, as it would be after an import."""
    module = types.ModuleType("selective_scan_cuda")
    module.fwd, module.bwd = fwd, bwd
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", module)
    selective_scan_mamba_ssm._kernel.cache_clear()
    yield module
    selective_scan_mamba_ssm._kernel.cache_clear()


@pytest.fixture
def no_kernel(monkeypatch):
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", None)
    selective_scan_mamba_ssm._kernel.cache_clear()
    yield
    selective_scan_mamba_ssm._kernel.cache_clear()


@pytest.mark.parametrize("without", [(), ("D",), ("z",), ("delta_bias",), OPTIONAL])
@pytest.mark.parametrize("steps", [7, 2049])
def test_the_kernel_is_given_what_it_needs_and_understood(kernel, without, steps):
    tensors = arguments(steps=steps, b=1, d=2, n=2, g=1, without=without, dtype=torch.float32)
    values = [tensors.get(name) for name in NAMES]
    leaves = [None if one is None else one.clone().requires_grad_() for one in values]
    there = [one for one in leaves if one is not None]
    expected = scan(*leaves, True)
    dy = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0))

    y, _ = scan_forward(*leaves, True, "mamba_ssm", True)
    found = torch.autograd.grad(y, there, dy)

    torch.testing.assert_close(y, expected)
    for one, true in zip(found, torch.autograd.grad(expected, there, dy), strict=True):
        torch.testing.assert_close(one, true)


@pytest.mark.parametrize("without", [(), OPTIONAL])
def test_torch_accepts_the_operation(kernel, without):
    tensors = arguments(without=without, dtype=torch.float32)
    plain = [tensors.get(name) for name in NAMES]
    values = [None if one is None else one.clone().requires_grad_() for one in plain]

    torch.library.opcheck(scan_forward, (*values, True, "mamba_ssm", True))
    torch.library.opcheck(scan_forward, (*plain, True, "mamba_ssm", False))


def test_nothing_is_kept_where_no_gradient_is_wanted(kernel):
    values = [arguments(dtype=torch.float32).get(name) for name in NAMES]

    y, kept = selective_scan_mamba_ssm.forward(*values, True)
    plain, nothing = selective_scan_mamba_ssm.forward(*values, True, keep_states=False)

    assert torch.equal(y, plain)
    assert kept.numel() > nothing.numel() == 0


def test_without_the_package_the_reason_is_its_absence(no_kernel):
    with pytest.raises(RuntimeError, match="not available here: the package mamba_ssm is not"):
        scan_backends.choose_scan("mamba_ssm", torch.device("cuda"), torch.float32)


def test_without_a_gpu_the_reason_is_its_absence(kernel, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    reason = selective_scan_mamba_ssm.why_unavailable()

    assert reason == "it needs a CUDA device, and there is none"


def test_on_a_gpu_it_serves_where_triton_cannot(kernel, monkeypatch):
    monkeypatch.delenv(scan_backends.VARIABLE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    triton = scan_backends.load_scan("triton")
    monkeypatch.setattr(triton, "why_unavailable", lambda: "no compiler")

    assert scan_backends.choose_scan(None, torch.device("cuda"), torch.float32) == "mamba_ssm"
