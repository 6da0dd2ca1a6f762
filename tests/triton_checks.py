"""What the Triton scan must hold, in a process of its own: compiled on a GPU, else interpreted.

``test_selective_scan_triton.py`` runs it: Triton reads TRITON_INTERPRET once, at its import. By
hand: ``TRITON_INTERPRET=1 python -m pytest --noconftest tests/triton_checks.py``.
"""

import numpy as np
import pytest
import torch
from napari_activeft.models import scan_backends, selective_scan_triton
from napari_activeft.models.scan_ops import scan_backward, scan_forward
from napari_activeft.models.selective_scan import selective_scan
from scanmaking import NAMES, OPTIONAL, arguments

INTERPRETED = selective_scan_triton.is_interpreted()
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
Y_ERROR, GRADIENT_ERROR = (1e-6, 1e-5) if INTERPRETED else (2e-6, 1e-5)  # a GPU's exp is rougher
only_interpreted = pytest.mark.skipif(not INTERPRETED, reason="is about the interpreter")
# numpy, which interprets, warns of overflow where a GPU is silent
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
SHAPES = [  # b, d, steps, n, g
    (1, 1, 1, 1, 1),
    (2, 6, 31, 3, 2),
    (1, 4, 32, 16, 1),
    (1, 3, 33, 1, 3),
    (2, 10, 100, 1, 1),
    (1, 20, 300, 1, 2),
    (1, 18, 70, 5, 1),
    (1, 2, 129, 4, 1),
    (1, 3, 20, 64, 1),
]


def scan_in_doublings(self, given):
    """Scan as a GPU does, in log2(steps) joins; the interpreter would join number by number."""
    now, distance = list(given), 1
    place = np.cumsum(np.ones_like(now[0].handle.data), axis=self.axis) - 1
    steps = place.shape[self.axis]
    while distance < steps:
        before = [self.to_tensor(np.roll(x.handle.data, distance, self.axis), x.dtype) for x in now]
        joined = self.combine_fn.fn(*before, *now)
        now = [
            self.to_tensor(np.where(place >= distance, y.handle.data, x.handle.data), x.dtype)
            for x, y in zip(now, joined, strict=True)
        ]
        distance *= 2
    return now


@pytest.fixture(autouse=True)
def _quick_interpreter(request, monkeypatch):
    if INTERPRETED and "as_it_is" not in request.fixturenames:
        interpreter = pytest.importorskip("triton.runtime.interpreter")
        monkeypatch.setattr(interpreter.ScanOps, "generic_scan", scan_in_doublings)


@pytest.fixture
def as_it_is():
    """Leave the interpreter alone."""


def drawn(shape=(2, 6, 33, 3, 2), without=(), softplus=True):
    b, d, steps, n, g = shape
    tensors = arguments(b=b, d=d, steps=steps, n=n, g=g, without=without, dtype=torch.float32)
    if not softplus:  # a negative step size would let the state grow without bound
        tensors["delta"] = tensors["delta"].abs() * 0.5
        tensors.pop("delta_bias", None)
    return {name: tensor.to(DEVICE) for name, tensor in tensors.items()}


def with_gradients(tensors, scan, **options):
    """Return y and the gradients of a weighted sum of it, by name."""
    inputs = {name: t.detach().clone().requires_grad_() for name, t in tensors.items()}
    y = selective_scan(**inputs, backend=scan, **options)
    weight = torch.linspace(-9, 9, y.numel(), device=DEVICE, dtype=y.dtype).reshape(y.shape).cos()
    found = torch.autograd.grad(y, list(inputs.values()), weight)
    return {"y": y.detach()} | dict(zip(inputs, found, strict=True))


def assert_true(tensors, **options):
    """Compare with the reference in float64; the floor is explained in test_selective_scan.py."""
    found = with_gradients(tensors, "triton", **options)
    exact = {name: t.double() for name, t in tensors.items()}
    floor = 0.1 * found["y"].numel() ** 0.5
    for name, truth in with_gradients(exact, "reference", **options).items():
        assert torch.isfinite(found[name]).all(), name
        error, norm = float((found[name].double() - truth).norm()), float(truth.norm())
        bound = Y_ERROR if name == "y" else GRADIENT_ERROR
        assert error <= bound * max(norm, floor), (name, error, norm)


@pytest.mark.parametrize("shape", SHAPES)
def test_y_and_every_gradient_are_those_of_the_reference(shape):
    assert_true(drawn(shape))


@pytest.mark.parametrize("without", [("D",), ("z",), ("delta_bias",), OPTIONAL])
@pytest.mark.parametrize("softplus", [True, False])
def test_every_option_may_be_left_out(without, softplus):
    tensors = drawn((1, 4, 40, 2, 1), without, softplus)

    assert_true(tensors, delta_softplus=softplus)


@only_interpreted
def test_the_interpreter_as_it_is_gives_the_same(as_it_is):
    assert_true(drawn((1, 2, 20, 2, 1)))


@pytest.mark.parametrize("step", [-200.0, -80.0, -8.0, 19.9, 20.0, 20.1, 80.0])
def test_extreme_step_sizes_stay_finite_and_true(step):
    tensors = drawn((1, 4, 40, 2, 1), without=("delta_bias",))
    tensors["delta"] = torch.full_like(tensors["delta"], step)

    assert_true(tensors)


def test_small_step_sizes_keep_their_digits():
    tensors = drawn((1, 4, 40, 1, 1), without=("D", "z", "delta_bias"))
    tensors["delta"] -= 9  # softplus of it is about 1e-4

    y = selective_scan(**tensors, backend="triton").double()

    exact = selective_scan(**{name: t.double() for name, t in tensors.items()}, backend="reference")
    assert (y - exact).norm() <= Y_ERROR * exact.norm()


def test_states_that_die_at_once_are_followed():
    tensors = drawn((1, 4, 40, 2, 1))
    tensors["A"] = tensors["A"] * 1000

    assert_true(tensors)


def test_a_nan_stays_in_its_channel_and_after_its_step():
    tensors = drawn((1, 4, 140, 1, 1))
    tensors["delta"][0, 2, 5] = float("nan")

    y = selective_scan(**tensors, backend="triton")

    assert torch.isnan(y[0, 2, 5:]).all()
    assert torch.isfinite(y[0, 2, :5]).all()
    assert torch.isfinite(y[0, [0, 1, 3]]).all()


def test_a_nan_that_follows_in_memory_does_not_reach_the_row_before():
    tensors = drawn((1, 4, 32, 1, 1))
    tensors["delta"][0, 2, 0] = float("nan")

    found = with_gradients(tensors, "triton")

    assert torch.isnan(found["delta"][0, 2]).all()
    assert torch.isfinite(found["u"][0, [0, 1, 3]]).all()
    assert torch.isfinite(found["delta"][0, [0, 1, 3]]).all()


def test_two_runs_give_the_same_bits():
    tensors = drawn((2, 10, 20, 1, 1))

    first, second = (with_gradients(tensors, "triton") for _ in range(2))

    assert all(torch.equal(first[name], second[name]) for name in first)


def test_without_a_gradient_y_is_the_same_and_nothing_is_kept():
    values = [drawn((1, 4, 70, 3, 1)).get(name) for name in NAMES]

    y, states = selective_scan_triton.forward(*values, True)
    plain, none = selective_scan_triton.forward(*values, True, keep_states=False)

    assert torch.equal(y, plain)
    assert states.shape == (1, 4, 1 + 69 // 128, 3)
    assert none.numel() == 0


def test_what_is_kept_is_far_less_than_all_states():
    tensors = drawn((1, 4, 200, 4, 1))

    _, states = selective_scan_triton.forward(*(tensors.get(name) for name in NAMES), True)

    assert states.numel() == 4 * 4 * -(-200 // 64)


def test_torch_accepts_the_operation():
    plain = [drawn((1, 2, 3, 1, 1)).get(name) for name in NAMES]
    values = [t.clone().requires_grad_() for t in plain]

    torch.library.opcheck(scan_forward, (*values, True, "triton", True))

    y, states = scan_forward(*plain, True, "triton", True)
    torch.library.opcheck(scan_backward, (torch.ones_like(y), *plain, True, states, "triton"))


def test_export_keeps_batch_and_length_free():
    class Scanner(torch.nn.Module):
        def forward(self, tensors):
            return selective_scan(**tensors, backend="triton")

    tensors = drawn((2, 4, 20, 1, 2))
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    axes = {"u": {0: batch, 2: length}, "B": {0: batch, 3: length}}
    axes |= {"delta": axes["u"], "z": axes["u"], "C": axes["B"]}
    free = {name: axes.get(name, {}) for name in tensors}

    program = torch.export.export(Scanner(), (tensors,), dynamic_shapes=(free,))

    other = drawn((3, 4, 37, 1, 2))
    torch.testing.assert_close(program.module()(other), Scanner()(other))


def test_half_inputs_and_strided_ones_are_taken():
    tensors = drawn((2, 4, 24, 2, 1))
    strided = {name: t.mT.contiguous().mT if t.dim() > 2 else t for name, t in tensors.items()}
    halved = {name: t.half() if t.dim() > 2 else t for name, t in tensors.items()}

    y = selective_scan(**tensors, backend="triton")

    assert torch.equal(selective_scan(**strided, backend="triton"), y)
    half = selective_scan(**halved, backend="triton")
    exact = selective_scan(**{name: t.float() for name, t in halved.items()}, backend="reference")
    torch.testing.assert_close(half, exact.half(), rtol=2e-3, atol=2e-3)


def test_float64_is_refused_by_name():
    with pytest.raises(ValueError, match="'triton', but it computes in float32 only"):
        scan_backends.choose_scan("triton", DEVICE, torch.float64)


@only_interpreted
def test_the_interpreter_serves_the_cpu_only_and_only_when_asked():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")

    assert scan_backends.available_scans()["triton"] is None
    assert scan_backends.choose_scan("triton", cpu, torch.float32) == "triton"
    assert scan_backends.choose_scan(None, cpu, torch.float32) != "triton"
    assert scan_backends.choose_scan(None, gpu, torch.float32) != "triton"
    with pytest.raises(ValueError, match="unset TRITON_INTERPRET"):
        scan_backends.choose_scan("triton", gpu, torch.float32)


@pytest.mark.skipif(INTERPRETED, reason="is about a GPU")
def test_a_gpu_chooses_triton_by_itself_and_takes_real_sizes():
    assert scan_backends.choose_scan(None, DEVICE, torch.float32) == "triton"
    for shape in ((2, 768, 3136, 1, 4), (2, 1536, 784, 1, 4), (2, 768, 784, 16, 4)):
        assert_true(drawn(shape))
