"""The fused 2-D core against the composition of float64 scans that it replaces."""

import os

import pytest
import torch
from napari_activeft.models import selective_scan_c
from napari_activeft.models.ss2d import ss2d
from napari_activeft.models.ss2d_c import ss2d_c, ss2d_forward

pytestmark = pytest.mark.skipif(
    selective_scan_c.why_unavailable() is not None, reason=str(selective_scan_c.why_unavailable())
)

Y_ERROR, GRADIENT_ERROR = 1e-6, 1e-5  # relative L2 against float64
NAMES = ("x", "x_proj_weight", "dt_projs_weight", "dt_projs_bias", "A_logs", "Ds")


def inputs(shape, seed=0):
    """Draw the arguments for a shape b, h, w, d, n, r."""
    b, h, w, d, n, r = shape
    random = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.randn(*size, generator=random)

    return [
        draw(b, h, w, d),
        draw(4, r + 2 * n, d) * d**-0.5,
        draw(4, d, r) * r**-0.5,
        draw(4, d) - 3,
        torch.log(torch.arange(1.0, n + 1)).repeat(4 * d, 1) + 0.1 * draw(4 * d, n),
        draw(4 * d),
    ]


def both_ways(core, given, dy):
    leaves = [one.detach().clone().requires_grad_() for one in given]
    y = core(*leaves)
    y.backward(dy)
    return [y.detach(), *(one.grad for one in leaves)]


def floor_of(truth):
    """Return a norm below which an error counts as absolute: a tenth in every number of a tensor.

    Every number is a sum of terms of order one. Where a tensor has few numbers they may all cancel
    by chance, but the rounding of their terms does not.
    """
    return 0.1 * truth.numel() ** 0.5


def error(found, truth, floor):
    return float((found.double() - truth).norm() / truth.norm().clamp(min=floor))


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1, 1, 1, 1),
        (1, 1, 33, 8, 2, 1),
        (1, 40, 1, 8, 1, 2),
        (2, 4, 5, 3, 1, 1),
        (1, 8, 4, 64, 1, 4),
        (2, 7, 9, 70, 4, 3),
        (1, 12, 11, 130, 16, 5),
        (1, 3, 6, 20, 64, 7),
    ],
)
def test_y_and_gradients_are_those_of_four_float64_scans(shape):
    given = inputs(shape)
    dy = torch.randn(given[0].shape, generator=torch.Generator().manual_seed(1))

    y, *grads = both_ways(ss2d_c, given, dy)
    true_y, *true_grads = both_ways(
        lambda *leaves: ss2d(*leaves, backend="reference"),
        [one.double() for one in given],
        dy.double(),
    )

    assert error(y, true_y, floor_of(true_y)) <= Y_ERROR
    for name, found, truth in zip(NAMES, grads, true_grads, strict=True):
        assert error(found, truth, floor_of(truth)) <= GRADIENT_ERROR, name


def test_the_number_of_threads_changes_rounding_at_most():
    given, threads = inputs((2, 9, 8, 200, 2, 3)), torch.get_num_threads()
    dy, results = torch.ones_like(given[0]), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(both_ways(ss2d_c, given, dy))  # torch's own products may differ
    finally:
        torch.set_num_threads(threads)

    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_without_gradients_the_same_y_and_nothing_kept():
    given = inputs((1, 6, 7, 20, 2, 2))

    with torch.no_grad():
        plain = ss2d_c(*given)
    given[0].requires_grad_()

    assert torch.equal(plain, ss2d_c(*given).detach())


def test_a_gradient_of_another_layout_is_understood():
    given = inputs((1, 6, 7, 20, 2, 2))
    given[0].requires_grad_()
    weights = torch.randn(1, 20, 6, 7)

    (ss2d_c(*given).permute(0, 3, 1, 2) * weights).sum().backward()
    found, given[0].grad = given[0].grad, None
    (ss2d_c(*given) * weights.permute(0, 2, 3, 1).contiguous()).sum().backward()

    torch.testing.assert_close(found, given[0].grad)


def test_the_core_exports():
    class Core(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, value in zip(NAMES[1:], inputs((1, 4, 4, 6, 1, 2))[1:], strict=True):
                self.register_buffer(name, value)

        def forward(self, x):
            return ss2d_c(x, *(getattr(self, name) for name in NAMES[1:]))

    x, core = inputs((1, 4, 4, 6, 1, 2))[0], Core()

    exported = torch.export.export(core, (x,)).module()

    torch.testing.assert_close(exported(x), core(x))


def test_a_rank_beyond_the_kernel_is_refused():
    with pytest.raises(ValueError, match="rank 300"):
        ss2d_c(*inputs((1, 2, 2, 4, 1, 300)))


@pytest.mark.parametrize("shift", [-100.0, -20.0, 20.0, 80.0])
def test_extreme_step_sizes_stay_finite(shift):
    given = inputs((1, 9, 8, 40, 2, 3))
    given[3] += shift

    y, *grads = both_ways(ss2d_c, given, torch.ones_like(given[0]))

    true = ss2d(*(one.double() for one in given), backend="reference")
    assert error(y, true, 1e-12) <= Y_ERROR
    assert all(torch.isfinite(one).all() for one in grads)


@pytest.mark.parametrize("instructions", [0, 1, 2])
def test_every_instruction_set_gives_the_true_core(instructions, monkeypatch):
    if instructions > selective_scan_c._best_set():
        pytest.skip("this machine lacks the instruction set")
    monkeypatch.setattr(selective_scan_c, "_best_set", lambda: instructions)
    given = inputs((2, 7, 9, 70, 3, 13))
    dy = torch.ones_like(given[0])

    y, *grads = both_ways(ss2d_c, given, dy)
    true_y, *true_grads = both_ways(
        lambda *leaves: ss2d(*leaves, backend="reference"),
        [one.double() for one in given],
        dy.double(),
    )

    assert error(y, true_y, 1e-12) <= Y_ERROR
    for name, found, truth in zip(NAMES, grads, true_grads, strict=True):
        assert error(found, truth, 1e-12) <= GRADIENT_ERROR, name


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_scans_with_threads_of_its_own():
    given, threads = inputs((2, 9, 8, 200, 2, 3)), torch.get_num_threads()
    arguments = [*given[:4], -torch.exp(given[4]), given[5]]
    sizes = {"b": 2, "d": 200, "l": 72, "n": 2, "g": 1, "softplus": 1}
    sizes |= {"height": 9, "width": 8, "rank": 3}
    x, x_proj, dt_proj, bias, A, D = arguments
    projected = x.view(-1, 200) @ x_proj.flatten(0, 1).T
    named = {"u": x, "B": projected, "weight": dt_proj, "bias": bias, "A": A, "D": D}

    def scan():  # the kernel alone: torch's own OpenMP threads do not outlive a fork
        y = torch.empty_like(x)
        selective_scan_c.run("ss2d_forward", sizes, {**named, "y": y})
        return bytes(y.numpy().data)

    try:
        torch.set_num_threads(2)
        expected = scan()
        child = os.fork()
        if child == 0:
            os._exit(0 if scan() == expected else 1)
        _, status = os.waitpid(child, 0)
    finally:
        torch.set_num_threads(threads)

    assert os.waitstatus_to_exitcode(status) == 0


def test_threads_leave_the_floating_point_mode_alone():
    given, threads = inputs((2, 9, 8, 200, 2, 3)), torch.get_num_threads()
    tiny = torch.full((4,), 1e-30)
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            ss2d_c(*given)
            assert (tiny.mul(1e-10) > 0).all()
            if count == 1:
                continue
            pool = selective_scan_c._pool(count, os.getpid())
            for _ in range(3 * count):
                assert pool.submit(lambda: bool((tiny.mul(1e-10) > 0).all())).result()
    finally:
        torch.set_num_threads(threads)


def test_the_operator_passes_torch_s_own_checks():
    given = inputs((1, 5, 4, 6, 2, 3))
    given[4] = -torch.exp(given[4])

    torch.library.opcheck(ss2d_forward, (*[one.requires_grad_() for one in given], True))
    torch.library.opcheck(ss2d_forward, (*[one.detach() for one in given], False))
