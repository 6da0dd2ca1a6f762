"""The linear layer against torch's own, forward and backward, and when it stands back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from napari_activeft.models import linear as linear_module
from napari_activeft.models.linear import Linear, available, linear, product
from torch.nn.functional import linear as torch_linear

needs_onednn = pytest.mark.skipif(not available(), reason="no oneDNN product on this processor")


@pytest.fixture(autouse=True)
def _every_size(monkeypatch):
    monkeypatch.setattr(linear_module, "_SMALLEST", 0)
    monkeypatch.delenv(linear_module.VARIABLE, raising=False)


def tensors(m=6, k=5, n=4, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((m, k), (n, k), (n,))
    return [torch.randn(s, generator=generator, dtype=dtype).requires_grad_() for s in shapes]


@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(1, 70),
    k=st.integers(1, 70),
    n=st.integers(1, 70),
    with_bias=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_the_product_and_its_gradients_are_those_of_torch(m, k, n, with_bias, seed):
    x, weight, bias = tensors(m, k, n, seed)
    given_ = (x, weight, bias) if with_bias else (x, weight)
    dy = torch.randn(m, n, generator=torch.Generator().manual_seed(seed + 1))

    y = linear(*given_)
    found = [y, *torch.autograd.grad(y, given_, dy)]

    exact = [one.detach().double().requires_grad_() for one in given_]
    expected = torch_linear(*exact)
    expected = [expected, *torch.autograd.grad(expected, exact, dy.double())]
    for one, true in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), true, atol=1e-4, rtol=1e-5)


@needs_onednn
def test_onednn_is_what_computes_it(monkeypatch):
    x, weight, bias = (one.detach() for one in tensors())
    monkeypatch.setattr(linear_module, "_onednn", lambda *_: torch.full((6, 4), 7.0))

    assert torch.all(linear(x, weight, bias) == 7)
    monkeypatch.setenv(linear_module.VARIABLE, "0")
    assert not torch.any(linear(x, weight, bias) == 7)


def test_any_leading_shape_passes_and_so_do_transposed_views():
    x, weight, bias = (one.detach() for one in tensors(24))
    torch.testing.assert_close(
        linear(x.view(2, 3, 4, 5), weight, bias), torch_linear(x, weight, bias).view(2, 3, 4, 4)
    )
    torch.testing.assert_close(product(weight.t(), weight), weight.t() @ weight)
    strided = torch.randn(10, 24).t()[:, ::2]
    torch.testing.assert_close(linear(strided, weight), torch_linear(strided, weight))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_number_types_are_left_to_torch(dtype):
    x, weight, bias = (one.detach() for one in tensors(dtype=dtype))

    assert torch.equal(linear(x, weight, bias), torch_linear(x, weight, bias))


def test_autocast_computes_in_the_type_it_asks_for():
    x, weight, bias = (one.detach() for one in tensors())

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(x, weight, bias).dtype == torch.bfloat16


@needs_onednn
def test_torch_accepts_the_operation():
    torch.library.opcheck(linear_module._product_op, tuple(tensors()))


def test_an_exported_layer_holds_torchs_own_operations():
    layer = Linear(5, 4)
    exported = torch.export.export(layer, (torch.randn(6, 5),))

    assert "napari_activeft" not in str(exported.graph)
    x = torch.randn(6, 5)
    torch.testing.assert_close(exported.module()(x), layer(x))


def test_an_exported_layer_takes_any_number_of_rows(monkeypatch):
    monkeypatch.setattr(linear_module, "_SMALLEST", 100)
    layer, rows = Linear(5, 4), torch.export.Dim("rows", min=1, max=1000)

    exported = torch.export.export(layer, (torch.randn(6, 5),), dynamic_shapes=({0: rows},))

    for m in (1, 2, 900):
        x = torch.randn(m, 5)
        torch.testing.assert_close(exported.module()(x), layer(x))


def test_the_layer_has_the_names_and_values_of_torchs_own():
    torch.manual_seed(0)
    ours = Linear(5, 4)
    torch.manual_seed(0)
    theirs = torch.nn.Linear(5, 4)

    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)
    )


def test_gradients_of_gradients_pass():
    x, weight, bias = tensors()
    (first,) = torch.autograd.grad(linear(x, weight, bias).pow(2).sum(), x, create_graph=True)

    (second,) = torch.autograd.grad(first.sum(), weight)

    exact = [one.detach().clone().requires_grad_() for one in (x, weight, bias)]
    (first,) = torch.autograd.grad(torch_linear(*exact).pow(2).sum(), exact[0], create_graph=True)
    torch.testing.assert_close(second, torch.autograd.grad(first.sum(), exact[1])[0])
