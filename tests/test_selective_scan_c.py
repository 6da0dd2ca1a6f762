"""The C kernel against a float64 loop: values, every gradient, threads, extremes."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from napari_activeft.models import selective_scan_c

pytestmark = pytest.mark.skipif(
    selective_scan_c.why_unavailable() is not None, reason=str(selective_scan_c.why_unavailable())
)

Y_ERROR, GRADIENT_ERROR = 1e-6, 1e-5  # relative L2 against float64
NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
SHAPES = [  # b, d, l, n, g
    (1, 1, 1, 1, 1),
    (2, 3, 1, 2, 1),
    (1, 64, 32, 1, 1),
    (2, 64, 31, 2, 2),
    (1, 65, 33, 16, 1),
    (2, 100, 70, 16, 4),
    (1, 128, 64, 64, 2),
    (2, 192, 97, 1, 1),
    (1, 8, 257, 64, 4),
    (3, 260, 45, 1, 2),
]


def inputs(shape, seed=0, scale=1.0, shift=-2.0, without=()):
    b, d, length, n, g = shape
    rng = np.random.default_rng(seed)
    made = {
        "u": rng.normal(size=(b, d, length)),
        "delta": rng.normal(size=(b, d, length)) * scale + shift,
        "A": -rng.uniform(0.1, 1.0, size=(d, n)) * np.arange(1, n + 1),
        "B": rng.normal(size=(b, g, n, length)),
        "C": rng.normal(size=(b, g, n, length)),
        "D": rng.normal(size=d),
        "z": rng.normal(size=(b, d, length)),
        "delta_bias": rng.normal(size=d) * 0.5,
    }
    return {
        name: None if name in without else torch.from_numpy(x.astype("float32"))
        for name, x in made.items()
    }


def numpy_loop(u, delta, A, B, C, D, z, delta_bias, softplus):
    """Scan in float64, written apart from any torch."""
    u, delta, A, B, C = (x.double().numpy() for x in (u, delta, A, B, C))
    if delta_bias is not None:
        delta = delta + delta_bias.double().numpy()[:, None]
    if softplus:
        delta = np.logaddexp(0.0, delta)
    b, d, length = u.shape
    group = np.arange(d) // (d // B.shape[1])
    h = np.zeros((b, d, A.shape[1]))
    y = np.zeros_like(u)
    for t in range(length):
        step = delta[:, :, t, None]
        h = np.exp(step * A) * h + step * B[:, group][..., t] * u[:, :, t, None]
        y[:, :, t] = (h * C[:, group][..., t]).sum(-1)
    if D is not None:
        y += D.double().numpy()[:, None] * u
    if z is not None:
        z = z.double().numpy()
        y *= z / (1 + np.exp(-z))
    return torch.from_numpy(y)


def torch_loop(u, delta, A, B, C, D, z, delta_bias, softplus):
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    if softplus:
        delta = torch.nn.functional.softplus(delta)
    per_group = u.shape[1] // B.shape[1]
    B, C = (x.repeat_interleave(per_group, 1).unbind(3) for x in (B, C))
    h = torch.zeros_like(u[:, :, 0, None] * A)
    ys = []
    for ut, dt, Bt, Ct in zip(u.unbind(2), delta.unbind(2), B, C, strict=True):
        h = torch.exp(dt[..., None] * A) * h + (dt * ut)[..., None] * Bt
        ys.append((h * Ct).sum(-1))
    y = torch.stack(ys, 2)
    if D is not None:
        y = y + D[:, None] * u
    return y if z is None else y * torch.nn.functional.silu(z)


def error(found, truth, floor=1e-30):
    found, truth = found.double(), truth.detach()
    return float((found - truth).norm() / truth.norm().clamp(min=floor))


def both_ways(given, softplus=True, seed=1):
    """Return y, gradients by name, and dy of one pass through the kernel."""
    y, states = selective_scan_c.forward(*given.values(), softplus)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))
    grads = selective_scan_c.backward(dy, *given.values(), softplus, states)
    return y, dict(zip(NAMES, grads, strict=True)), dy


def true_gradients(given, softplus, dy):
    leaves = {name: None if x is None else x.double().requires_grad_() for name, x in given.items()}
    torch_loop(**leaves, softplus=softplus).backward(dy.double())
    return {name: None if x is None else x.grad for name, x in leaves.items()}


def assert_gradients_are_true(given, softplus):
    _, grads, dy = both_ways(given, softplus)
    for name, truth in true_gradients(given, softplus, dy).items():
        if truth is None:
            assert grads[name] is None
        else:
            assert error(grads[name], truth) <= GRADIENT_ERROR, name


@pytest.mark.parametrize("shape", SHAPES)
def test_y_is_that_of_a_float64_loop(shape):
    given = inputs(shape)
    truth = numpy_loop(**given, softplus=True)

    y, states = selective_scan_c.forward(*given.values(), True)
    without, none = selective_scan_c.forward(*given.values(), True, keep_states=False)

    floor = (
        0.1 * y.numel() ** 0.5
    )  # terms of order one; a few numbers may cancel, rounding does not
    assert error(y, truth, floor) <= Y_ERROR
    assert torch.equal(y, without)
    assert states.numel() > none.numel() == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_those_of_a_float64_loop(shape):
    assert_gradients_are_true(inputs(shape), softplus=True)


@pytest.mark.parametrize("without", [("D",), ("z",), ("delta_bias",), ("D", "z", "delta_bias")])
@pytest.mark.parametrize("softplus", [True, False])
def test_every_option_may_be_left_out(without, softplus):
    shift = -2.0 if softplus else 0.5
    given = inputs((2, 70, 50, 3, 2), shift=shift, scale=0.1, without=without)

    y, _ = selective_scan_c.forward(*given.values(), softplus)

    assert error(y, numpy_loop(**given, softplus=softplus)) <= Y_ERROR
    assert_gradients_are_true(given, softplus)


@pytest.mark.parametrize("instructions", [0, 1, 2])
def test_every_instruction_set_gives_the_true_result(instructions, monkeypatch):
    if instructions > selective_scan_c._best_set():
        pytest.skip("this machine lacks the instruction set")
    monkeypatch.setattr(selective_scan_c, "_best_set", lambda: instructions)
    given = inputs((2, 100, 70, 5, 2))

    y, _ = selective_scan_c.forward(*given.values(), True)

    assert error(y, numpy_loop(**given, softplus=True)) <= Y_ERROR
    assert_gradients_are_true(given, softplus=True)


def test_the_number_of_threads_changes_no_bit():
    given, threads = inputs((2, 300, 70, 4, 2)), torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            y, grads, _ = both_ways(given)
            results.append([y, *grads.values()])
    finally:
        torch.set_num_threads(threads)

    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("delta", [-200.0, -90.0, -20.0, 19.99, 20.01, 80.0])
def test_extreme_deltas_stay_finite_and_true(delta):
    given = inputs((1, 20, 100, 4, 1), shift=delta, scale=0.01, without=("delta_bias",))

    y, grads, _ = both_ways(given)

    assert error(y, numpy_loop(**given, softplus=True)) <= Y_ERROR
    assert all(torch.isfinite(x).all() for x in grads.values() if x is not None)
    if delta > -80:
        assert_gradients_are_true(given, softplus=True)


def test_growing_states_are_followed():
    given = inputs((1, 20, 40, 2, 1), without=("z",))
    given["A"] = -given["A"] * 0.3

    y, _ = selective_scan_c.forward(*given.values(), True)

    assert error(y, numpy_loop(**given, softplus=True)) <= Y_ERROR


def test_a_nan_is_not_hidden():
    given = inputs((1, 4, 40, 1, 1))
    given["delta"][0, 2, 5] = float("nan")

    y, _ = selective_scan_c.forward(*given.values(), True)

    assert torch.isnan(y[0, 2, 5:]).all()
    assert torch.isfinite(y[0, [0, 1, 3]]).all()


def test_dying_states_take_no_longer_and_leave_the_rounding_mode_alone():
    from time import perf_counter

    def seconds(given):
        spent = []
        for _ in range(5):
            start = perf_counter()
            both_ways(given)
            spent.append(perf_counter() - start)
        return min(spent)

    lively, dying = inputs((1, 64, 2000, 4, 1)), inputs((1, 64, 2000, 4, 1))
    dying["u"][:, :, 1:] = 0  # the first state halves until nothing is left of it

    assert seconds(dying) < 5 * seconds(lively)
    assert torch.tensor(1e-30).mul(1e-10) > 0  # denormals are back


def test_a_wrong_shape_type_or_layout_is_refused():
    given = inputs((1, 4, 40, 2, 1))
    wrong = {
        "delta": (given["delta"][:, :, :-1].contiguous(), ValueError, "delta is"),
        "u": (given["u"].double(), TypeError, "float32"),
        "z": (given["z"].mT.contiguous().mT, ValueError, "contiguous"),
        "C": (given["C"].repeat(1, 3, 1, 1), ValueError, "C is"),
    }

    for name, (tensor, kind, message) in wrong.items():
        with pytest.raises(kind, match=message):
            selective_scan_c.forward(*{**given, name: tensor}.values(), True)


def test_more_states_than_the_kernel_holds_are_refused():
    with pytest.raises(ValueError, match="1 to 64 states"):
        selective_scan_c.forward(*inputs((1, 4, 40, 65, 1)).values(), True)


@pytest.mark.parametrize(
    ("tensor", "kind", "sentence"),
    [
        (torch.zeros(1, 4, 40, dtype=torch.float64), TypeError, "u is torch.float64 on cpu"),
        (torch.zeros(1, 4, 40, device="meta"), TypeError, "u is torch.float32 on meta"),
        (torch.zeros(1, 40, 4).mT, ValueError, "u is not contiguous"),
    ],
)
def test_no_pointer_to_other_memory_reaches_the_kernel(tensor, kind, sentence):
    sizes = {"b": 1, "d": 4, "l": 40, "n": 1, "g": 1, "softplus": 1}

    with pytest.raises(kind, match=sentence):
        selective_scan_c.run("scan_forward", sizes, {"u": tensor, "y": torch.zeros(1, 4, 40)})


@pytest.mark.parametrize("threads", [1, 2])
def test_a_call_without_tasks_does_nothing(threads):
    given, before = inputs((2, 4, 40, 1, 1)), torch.get_num_threads()
    empty = {name: t if name in ("A", "D", "delta_bias") else t[:0] for name, t in given.items()}
    try:
        torch.set_num_threads(threads)
        y, _ = selective_scan_c.forward(*empty.values(), True)
    finally:
        torch.set_num_threads(before)

    assert y.shape == (0, 4, 40)


def test_one_pool_of_threads_is_kept_however_many_numbers_were_used():
    given, before = inputs((2, 300, 70, 4, 2)), torch.get_num_threads()

    def alive():
        return {one.name for one in threading.enumerate() if one.name.startswith("scan")}

    try:
        for count in (2, 5, 3, 2):
            torch.set_num_threads(count)
            selective_scan_c.forward(*given.values(), True)
            until = time.monotonic() + 10
            while len(alive()) > count and time.monotonic() < until:
                time.sleep(0.01)
            assert 1 <= len(alive()) <= count
    finally:
        torch.set_num_threads(before)


def test_callers_with_other_numbers_of_threads_do_not_disturb_each_other():
    given = inputs((2, 300, 70, 4, 2))
    expected, _ = selective_scan_c.forward(*given.values(), True)

    def scan(count):
        torch.set_num_threads(count)  # of this thread
        found = [selective_scan_c.forward(*given.values(), True)[0] for _ in range(20)]
        return all(torch.equal(one, expected) for one in found)

    with ThreadPoolExecutor(3) as callers:
        assert all(callers.map(scan, (2, 3, 4)))
