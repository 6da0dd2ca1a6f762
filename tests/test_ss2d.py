"""The 2-D core against a slow direct form that walks the four paths pixel by pixel."""

import itertools

import numpy as np
import pytest
import torch
from napari_activeft.models import scan_backends
from napari_activeft.models.scan_backends import scans_that_serve, use_scan
from napari_activeft.models.ss2d import ss2d
from napari_activeft.models.ss2d_torch import core_forward
from torch.export import Dim

SCANS = scans_that_serve(torch.device("cpu"), torch.float32)
NAMES = ("x", "x_proj_weight", "dt_projs_weight", "dt_projs_bias", "A_logs", "Ds")


def arguments(b=2, h=3, w=5, d=4, n=2, rank=3, seed=0) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    shapes = [(b, h, w, d), (4, rank + 2 * n, d), (4, d, rank), (4, d), (4 * d, n), (4 * d,)]
    return [torch.from_numpy(rng.normal(size=shape)) for shape in shapes]


def paths(h: int, w: int) -> list[list[tuple[int, int]]]:
    by_row = [(i, j) for i in range(h) for j in range(w)]
    by_column = [(i, j) for j in range(w) for i in range(h)]
    return [by_row, by_column, by_row[::-1], by_column[::-1]]


def walk(x, x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds):
    """One batch item, one direction, one pixel at a time."""
    x, x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds = (
        t.detach().numpy() for t in (x, x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds)
    )
    b, h, w, d = x.shape
    n, rank = A_logs.shape[1], dt_projs_weight.shape[2]
    y = np.zeros_like(x)
    for item in range(b):
        for k, path in enumerate(paths(h, w)):
            A, D = -np.exp(A_logs[k * d : (k + 1) * d]), Ds[k * d : (k + 1) * d]
            state = np.zeros((d, n))
            for i, j in path:
                u = x[item, i, j]
                dt, B, C = np.split(x_proj_weight[k] @ u, [rank, rank + n])
                delta = np.log1p(np.exp(dt_projs_weight[k] @ dt + dt_projs_bias[k]))
                state = np.exp(delta[:, None] * A) * state + (delta * u)[:, None] * B
                y[item, i, j] += state @ C + D * u
    return y


def as_scan(tensors, scan):
    """The number type that a scan computes in, and the tolerance that goes with it."""
    if scan == "c":
        return [t.float() for t in tensors], 2e-5
    return tensors, 1e-10


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (3, 5), (7, 2), (1, 6), (9, 9)])
@pytest.mark.parametrize("n", [1, 4])
def test_core_equals_the_walk_along_four_paths(scan, size, n):
    tensors = arguments(h=size[0], w=size[1], n=n)
    expected = walk(*tensors)

    tensors, tolerance = as_scan(tensors, scan)
    y = ss2d(*tensors, backend=scan)

    assert y.shape == tensors[0].shape
    np.testing.assert_allclose(y.numpy(), expected, rtol=tolerance, atol=tolerance * 10)


@pytest.mark.parametrize("scan", [name for name in SCANS if name != "reference"])
def test_gradients_equal_those_of_the_reference(scan):
    tensors = arguments(h=7, w=11, d=6)
    weight = torch.from_numpy(np.random.default_rng(1).normal(size=tensors[0].shape))

    def gradients(inputs, name):
        inputs = [t.clone().requires_grad_() for t in inputs]
        y = ss2d(*inputs, backend=name)
        return torch.autograd.grad(y, inputs, weight.to(y.dtype))

    expected = gradients(tensors, "reference")
    same_type, tolerance = as_scan(tensors, scan)
    for name, one, true in zip(NAMES, gradients(same_type, scan), expected, strict=True):
        error = (one.double() - true).norm() / true.norm()
        assert error < tolerance, name


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(range(4), 2)))
def test_exchanging_two_directions_changes_the_result(first, second):
    x, *weights = arguments(h=4, w=5)
    y = ss2d(x, *weights)
    order = list(range(4))
    order[first], order[second] = order[second], order[first]

    swapped = [
        t[order] if len(t) == 4 else t.unflatten(0, (4, -1))[order].flatten(0, 1) for t in weights
    ]

    assert (ss2d(x, *swapped) - y).norm() > 0.01 * y.norm()


def test_a_map_that_does_not_lie_in_one_piece_gives_the_same():
    x, *weights = arguments(h=4, w=5)
    strided = x.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1)

    assert not strided.is_contiguous()
    torch.testing.assert_close(ss2d(strided, *weights), ss2d(x, *weights))


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_weight_of_another_shape_is_named(name):
    tensors = dict(zip(NAMES, arguments(), strict=True))
    tensors[name] = torch.cat([tensors[name], tensors[name][..., :1]], dim=-1)

    with pytest.raises(ValueError, match=r"has the shape .* needs"):
        ss2d(**tensors)


def test_a_map_without_its_four_axes_is_refused():
    x, *weights = arguments()

    with pytest.raises(ValueError, match=r"needs x \(b, h, w, d\)"):
        ss2d(x[0], *weights)


@pytest.mark.skipif("c" not in SCANS, reason="the C kernel was not built")
def test_a_core_that_c_does_in_one_call_is_taken_where_it_is_there(monkeypatch):
    module = pytest.importorskip("napari_activeft.models.ss2d_c")
    tensors = [t.float() for t in arguments()]
    monkeypatch.setattr(module, "ss2d_c", lambda x, *_: -x)

    assert torch.equal(ss2d(*tensors, backend="c"), -tensors[0])
    assert not torch.equal(ss2d(*tensors, backend="torch"), -tensors[0])


@pytest.mark.parametrize("scan", [name for name in SCANS if name != "reference"])
def test_export_keeps_the_core(scan):
    class Core(torch.nn.Module):
        def forward(self, *tensors):
            return ss2d(*tensors, backend=scan)

    tensors = tuple(t.float() for t in arguments())

    program = torch.export.export(Core(), tensors)

    torch.testing.assert_close(program.module()(*tensors), Core()(*tensors))


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("what", ["the map", "everything", "autocast"])
def test_half_precision_gives_nearly_the_same_and_gradients(scan, dtype, what):
    if scan == "triton" and what != "the map":
        pytest.skip("the interpreter is slow: once is enough")
    leaves = [t.float().requires_grad_() for t in arguments(h=3, w=4)]
    true = ss2d(*leaves, backend="reference").detach()
    halved = {"the map": leaves[:1], "everything": leaves, "autocast": []}[what]
    given = [t.to(dtype) for t in halved] + leaves[len(halved) :]

    with torch.autocast("cpu", dtype, enabled=what == "autocast"):
        y = ss2d(*given, backend=scan)
    y.float().sum().backward()

    assert y.dtype == (torch.float32 if what == "autocast" else dtype)
    assert (y.float() - true).norm() < 0.03 * true.norm()
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves)


@pytest.mark.parametrize("name", NAMES[1:])
def test_float64_beside_float32_is_refused_by_name(name):
    tensors = {key: t.float() for key, t in zip(NAMES, arguments(), strict=True)}
    tensors[name] = tensors[name].double()

    with pytest.raises(TypeError, match=f"{name} is torch.float64 beside x of torch.float32"):
        ss2d(**tensors)


@pytest.mark.parametrize("scan", [None, *SCANS])
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
@pytest.mark.parametrize("name", NAMES)
def test_a_number_type_that_no_scan_computes_in_is_refused_by_name(scan, dtype, name):
    tensors = {key: t.float() for key, t in zip(NAMES, arguments(), strict=True)}
    tensors[name] = tensors[name].to(dtype)

    with pytest.raises(TypeError, match=f"{name} is {dtype}, but a scan takes float16"):
        ss2d(**tensors, backend=scan)


@pytest.mark.parametrize("scan", [None, *SCANS])
@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_without_memory_is_refused_by_name(scan, name):
    tensors = {key: t.float() for key, t in zip(NAMES, arguments(), strict=True)}
    tensors[name] = tensors[name].to("meta")

    with pytest.raises(ValueError, match=r"is on .* and x on .*: move them to one device"):
        ss2d(**tensors, backend=scan)


@pytest.mark.parametrize("scan", [None, *SCANS])
@pytest.mark.parametrize("states", [0, 65])
def test_states_that_no_scan_holds_are_refused(scan, states):
    with pytest.raises(ValueError, match=f"{states} states a channel, but a scan takes 1 to 64"):
        ss2d(*(t.float() for t in arguments(n=states)), backend=scan)


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("empty", [{"b": 0}, {"h": 0}, {"w": 0}, {"h": 0, "w": 0}, {"d": 0}])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_empty_map_gives_an_empty_map_and_gradients_of_zero(scan, empty, threads):
    leaves = [t.float().requires_grad_() for t in arguments(**empty)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        y = ss2d(*leaves, backend=scan)
        y.sum().backward()
    finally:
        torch.set_num_threads(before)

    assert y.shape == leaves[0].shape
    for name, leaf in zip(NAMES, leaves, strict=True):
        assert leaf.grad is not None, name
        assert torch.equal(leaf.grad, torch.zeros_like(leaf)), name


@pytest.mark.skipif("c" not in SCANS, reason="the C kernel was not built")
def test_the_automatic_choice_leaves_a_rank_beyond_the_kernel_to_torch(monkeypatch):
    monkeypatch.delenv(scan_backends.VARIABLE, raising=False)
    tensors = [t.float() for t in arguments(rank=257)]

    assert torch.equal(ss2d(*tensors), ss2d(*tensors, backend="torch"))
    with pytest.raises(ValueError, match=r"backend asks for the scan 'c', but .*rank 257"):
        ss2d(*tensors, backend="c")
    with pytest.raises(ValueError, match="use_scan asks for the scan 'c', but"), use_scan("c"):
        ss2d(*tensors)


@pytest.mark.parametrize("scan", [name for name in SCANS if name in ("torch", "c")])
def test_export_takes_maps_of_any_batch_and_size(scan):
    class Core(torch.nn.Module):
        def forward(self, *tensors):
            return ss2d(*tensors, backend=scan)

    _, *weights = (t.float() for t in arguments())
    free = ({0: Dim("b"), 1: Dim("h"), 2: Dim("w")}, *[None] * len(weights))

    program = torch.export.export(
        Core(), (torch.randn(2, 5, 6, 4), *weights), dynamic_shapes=(free,)
    )

    for sides in ((2, 5, 6), (3, 9, 2), (7, 4, 33)):
        x = torch.randn(*sides, 4)
        torch.testing.assert_close(program.module()(x, *weights), Core()(x, *weights))


@pytest.mark.skipif("c" not in SCANS, reason="the C kernel was not built")
def test_float64_is_refused_by_c_when_asked_for_by_name():
    with pytest.raises(ValueError, match=r"'c', but it computes in float32 only"):
        ss2d(*arguments(), backend="c")


@pytest.mark.parametrize("keep", [True, False])
def test_the_operator_of_the_torch_core_passes_torch_s_own_checks(keep):
    rng = np.random.default_rng(0)
    shapes = [(2, 4, 35, 3), (2, 4, 35, 3), (12, 2), (2, 4, 35, 2), (2, 4, 35, 2), (12,), (12,)]
    given = [torch.from_numpy(rng.normal(size=shape)) for shape in shapes]
    given[2] = -torch.exp(given[2])

    torch.library.opcheck(core_forward, (*[t.requires_grad_(keep) for t in given], keep))
