"""Every selective scan against the plain recurrence, and the choice between them."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from napari_activeft.models import scan_backends, selective_scan_torch
from napari_activeft.models.scan_backends import scans_that_serve
from napari_activeft.models.scan_ops import scan_backward, scan_forward
from napari_activeft.models.selective_scan import available_scans, selective_scan, use_scan
from scanmaking import NAMES, OPTIONAL, arguments, naive

SCANS = scans_that_serve(torch.device("cpu"), torch.float32)
FAST = [name for name in SCANS if name != "reference"]
TYPES = {torch.float64: 1e-10, torch.float32: 1e-5}
FAST_TYPES = [
    (name, dtype)
    for name in FAST
    for dtype in TYPES
    if not (name == "c" and dtype == torch.float64)
]
shapes = st.fixed_dictionaries(
    {
        "b": st.integers(1, 3),
        "k": st.integers(1, 5),
        "steps": st.integers(1, 150),
        "n": st.integers(1, 9),
        "g": st.integers(1, 4),
        "without": st.lists(st.sampled_from(OPTIONAL), unique=True),
        "seed": st.integers(0, 2**20),
    }
)


@pytest.fixture(autouse=True)
def _no_choice_in_the_environment(monkeypatch):
    monkeypatch.delenv(scan_backends.VARIABLE, raising=False)


def drawn(shape, dtype=torch.float64):
    shape = dict(shape)
    return arguments(d=shape.pop("k") * shape["g"], dtype=dtype, **shape)


def with_gradients(tensors, scan, **options):
    """Return y and the gradients of a weighted sum of it, by name."""
    inputs = {name: t.detach().clone().requires_grad_() for name, t in tensors.items()}
    y = selective_scan(**inputs, backend=scan, **options)
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape).cos()
    found = torch.autograd.grad(y, list(inputs.values()), weight)
    return {"y": y.detach()} | dict(zip(inputs, found, strict=True))


def assert_close(found, expected, tolerance):
    """Bound the error of each tensor by its norm, or by what its terms would add up to.

    A gradient is a sum of terms of order one, of m = y.numel() of them or more in all its numbers.
    Rounding follows the terms, not their sum, and without cancellation the norm would be about
    sqrt(m): where it is less than a tenth of that, the tenth stands in for it.
    """
    floor = 0.1 * expected["y"].numel() ** 0.5
    for name, true in expected.items():
        assert torch.isfinite(found[name]).all(), name
        error, norm = (found[name].double() - true.double()).norm(), true.double().norm()
        assert error <= tolerance * max(norm, floor), (name, float(error), float(norm))


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("softplus", [True, False])
@pytest.mark.parametrize("without", [(), ("D",), ("z", "delta_bias"), OPTIONAL])
def test_a_scan_equals_the_loop_over_numbers(scan, softplus, without):
    tensors = arguments(without=without, spread=1.0 if softplus else 0.1)
    if scan == "c":
        tensors = {name: t.float() for name, t in tensors.items()}

    y = selective_scan(**tensors, delta_softplus=softplus, backend=scan)

    expected = {"y": naive(**tensors, delta_softplus=softplus)}
    assert_close({"y": y}, expected, 1e-6 if scan == "c" else 1e-12)


@pytest.mark.parametrize("scan", [name for name in SCANS if name != "c"])
@pytest.mark.parametrize("without", [(), ("D", "z"), ("delta_bias",)])
@pytest.mark.parametrize("softplus", [True, False])
def test_gradients_equal_finite_differences(scan, without, softplus):
    tensors = arguments(b=1, steps=5, n=2, without=without, spread=0.5)

    def run(*values):
        named = dict(zip(tensors, values, strict=True))
        return selective_scan(**named, delta_softplus=softplus, backend=scan)

    assert torch.autograd.gradcheck(run, [t.requires_grad_() for t in tensors.values()])


@pytest.mark.parametrize(("scan", "dtype"), FAST_TYPES)
@settings(max_examples=25, deadline=None)
@given(shape=shapes, softplus=st.booleans())
def test_a_fast_scan_and_its_gradients_equal_the_reference(scan, dtype, shape, softplus):
    tensors = drawn(shape, dtype)
    if not softplus:  # a negative step size would let the state grow without bound
        tensors["delta"] = tensors["delta"].abs()
        tensors.pop("delta_bias", None)
    exact = {name: t.double() for name, t in tensors.items()}

    found = with_gradients(tensors, scan, delta_softplus=softplus)

    expected = with_gradients(exact, "reference", delta_softplus=softplus)
    assert_close(found, expected, TYPES[dtype])


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200, 256])
@pytest.mark.parametrize("wide", [1, 1 << 20])
@pytest.mark.parametrize("numbers", [1, 1 << 20])
def test_torch_blocks_and_chunks_of_every_size_give_the_same(monkeypatch, length, wide, numbers):
    monkeypatch.setitem(selective_scan_torch.WIDE_STEP, "cpu", wide)
    monkeypatch.setitem(selective_scan_torch.BLOCK_NUMBERS, "cpu", numbers)
    tensors = arguments(steps=length)

    found = with_gradients(tensors, "torch")

    assert_close(found, with_gradients(tensors, "reference"), 1e-12)


@pytest.mark.parametrize(("scan", "dtype"), FAST_TYPES)
@pytest.mark.parametrize("step", [-80.0, 19.9, 20.0, 20.1, 80.0])
def test_extreme_step_sizes_stay_finite_and_right(scan, dtype, step):
    tensors = arguments(steps=130, without=("delta_bias",), dtype=dtype)
    tensors["delta"] = torch.full_like(tensors["delta"], step)
    exact = {name: t.double() for name, t in tensors.items()}

    found = with_gradients(tensors, scan)

    assert_close(found, with_gradients(exact, "reference"), TYPES[dtype])


@pytest.mark.parametrize("scan", SCANS)
def test_many_states_and_one_step_work(scan):
    tensors = arguments(steps=1, n=64, g=1, dtype=torch.float32)

    y = selective_scan(**tensors, backend=scan)

    assert_close({"y": y}, {"y": naive(**tensors)}, 1e-5)


@pytest.mark.parametrize("scan", SCANS)
def test_tensors_that_do_not_lie_in_one_piece_give_the_same(scan):
    tensors = arguments(b=3, d=6, steps=70, dtype=torch.float32)
    strided = {
        name: t.transpose(0, -1).contiguous().transpose(0, -1) if t.dim() > 1 else t
        for name, t in tensors.items()
    }
    strided["D"] = torch.stack([tensors["D"]] * 2, dim=1)[:, 0]

    assert not strided["u"].is_contiguous()
    assert_close(with_gradients(strided, scan), with_gradients(tensors, scan), 1e-6)


@pytest.mark.parametrize("scan", SCANS)
def test_an_expanded_output_gradient_is_taken(scan):
    tensors = arguments(steps=40, dtype=torch.float32)
    u = tensors.pop("u").requires_grad_()

    selective_scan(u, **tensors, backend=scan).sum().backward()

    assert u.grad is not None
    assert torch.isfinite(u.grad).all()


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_inputs_keep_a_float32_state(scan, half):
    tensors = arguments(d=4, steps=300)
    for name in ("u", "delta", "B", "C", "z"):
        tensors[name] = tensors[name].to(half)
    for name in ("A", "D", "delta_bias"):
        tensors[name] = tensors[name].float()

    found = with_gradients(tensors, scan)

    assert all(found[name].dtype == tensors[name].dtype for name in NAMES)
    exact = selective_scan(**{name: t.float() for name, t in tensors.items()}, backend="reference")
    assert found["y"].dtype == half
    torch.testing.assert_close(found["y"], exact.to(half))


@pytest.mark.parametrize("scan", SCANS)
def test_one_group_needs_no_axis(scan):
    tensors = arguments(g=1, dtype=torch.float32)
    squeezed = tensors | {"B": tensors["B"][:, 0], "C": tensors["C"][:, 0]}

    y = selective_scan(**squeezed, backend=scan)

    torch.testing.assert_close(y, selective_scan(**tensors, backend=scan))


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("empty", [{"b": 0}, {"steps": 0}])
def test_an_empty_input_gives_an_empty_output_and_gradients_of_zero(scan, empty):
    tensors = arguments(**empty, dtype=torch.float32)
    leaves = {name: t.requires_grad_() for name, t in tensors.items()}

    y = selective_scan(**leaves, backend=scan)
    y.sum().backward()

    assert y.shape == leaves["u"].shape
    for name, leaf in leaves.items():
        assert leaf.grad is not None, name
        assert torch.equal(leaf.grad, torch.zeros_like(leaf)), name


def test_the_reference_can_be_differentiated_twice():
    tensors = arguments(dtype=torch.float64)
    u = tensors["u"].requires_grad_()

    y = selective_scan(**tensors, backend="reference")
    (first,) = torch.autograd.grad(y.pow(2).sum(), u, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), u)

    # y is linear in u, y = M u: first = 2 M' y and second = 2 M' M 1.
    with torch.no_grad():
        of_ones = selective_scan(**tensors | {"u": torch.ones_like(u)}, backend="reference")
    again = selective_scan(**tensors, backend="reference")
    (expected,) = torch.autograd.grad(again, u, 2 * of_ones)
    torch.testing.assert_close(second, expected)


@pytest.mark.parametrize("scan", FAST)
@pytest.mark.parametrize("without", [(), OPTIONAL])
def test_torch_accepts_the_operation(scan, without):
    tensors = arguments(without=without, dtype=torch.float32)
    values = [tensors.get(name) for name in NAMES]
    values = [None if t is None else t.requires_grad_() for t in values]

    plain = [None if t is None else t.detach() for t in values]

    torch.library.opcheck(scan_forward, (*values, True, scan, True))
    torch.library.opcheck(scan_forward, (*plain, True, scan, False))

    y, states = scan_forward(*values, True, scan, True)
    torch.library.opcheck(scan_backward, (torch.ones_like(y), *plain, True, states.detach(), scan))


class Scanner(torch.nn.Module):
    """A network that is nothing but a scan."""

    def __init__(self, scan):
        super().__init__()
        self.scan = scan

    def forward(self, tensors):
        return selective_scan(**tensors, backend=self.scan)


@pytest.mark.parametrize("scan", SCANS)
def test_export_keeps_the_scan(scan):
    tensors = arguments(steps=5, dtype=torch.float32)

    program = torch.export.export(Scanner(scan), (tensors,))

    torch.testing.assert_close(program.module()(tensors), Scanner(scan)(tensors))


@pytest.mark.parametrize("scan", FAST)
def test_export_keeps_batch_and_length_free(scan):
    tensors = arguments(steps=70, dtype=torch.float32)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    axes = {"u": {0: batch, 2: length}, "B": {0: batch, 3: length}}
    axes |= {"delta": axes["u"], "z": axes["u"], "C": axes["B"]}
    free = {name: axes.get(name, {}) for name in tensors}

    program = torch.export.export(Scanner(scan), (tensors,), dynamic_shapes=(free,))

    other = arguments(b=3, steps=131, dtype=torch.float32, seed=1)
    torch.testing.assert_close(program.module()(other), Scanner(scan)(other))


def test_the_reference_and_torch_are_always_there():
    found = available_scans()

    assert found["reference"] is None
    assert found["torch"] is None
    assert set(found) == set(scan_backends.SCANS)


@pytest.mark.parametrize("scan", FAST)
def test_no_states_are_kept_where_no_gradient_is_wanted(scan, monkeypatch):
    tensors, kept = arguments(steps=70, dtype=torch.float32), []
    module = scan_backends.load_scan(scan)
    forward = module.forward

    def watched(*values, **options):
        y, states = forward(*values, **options)
        kept.append(states.numel())
        return y, states

    monkeypatch.setattr(module, "forward", watched)
    plain = selective_scan(**tensors, backend=scan)
    tensors["D"].requires_grad_()
    differentiated = selective_scan(**tensors, backend=scan)
    with torch.no_grad():
        selective_scan(**tensors, backend=scan)

    assert [numbers > 0 for numbers in kept] == [False, True, False]
    assert torch.equal(plain, differentiated)


CPU, GPU, OTHER = (torch.device(name) for name in ("cpu", "cuda", "mps"))


@pytest.mark.parametrize(
    ("device", "dtype", "missing", "expected"),
    [
        (CPU, torch.float32, (), "c"),
        (CPU, torch.float32, ("c",), "torch"),
        (CPU, torch.float64, (), "torch"),
        (GPU, torch.float32, (), "triton"),
        (GPU, torch.float32, ("triton",), "mamba_ssm"),
        (GPU, torch.float32, ("triton", "mamba_ssm"), "torch"),
        (GPU, torch.float64, (), "torch"),
        (OTHER, torch.float32, (), "torch"),
    ],
)
def test_the_automatic_choice_is_the_best_that_is_there_and_fits(
    monkeypatch, device, dtype, missing, expected
):
    monkeypatch.setattr(
        scan_backends, "_why_unavailable", lambda name: "gone" if name in missing else None
    )

    assert scan_backends.choose_scan(None, device, dtype) == expected


def test_the_scans_that_serve_are_there_and_fit(monkeypatch):
    monkeypatch.setattr(scan_backends, "_why_unavailable", lambda name: None)

    assert scans_that_serve(CPU, torch.float64) == ["reference", "torch"]
    assert scans_that_serve(CPU, torch.float32) == ["reference", "torch", "c"]
    assert scans_that_serve(GPU, torch.float32) == ["reference", "torch", "triton", "mamba_ssm"]


def test_the_report_says_what_serves_a_device_and_why(monkeypatch):
    def serving_cpu():
        _, (cpu, *_rest) = scan_backends.scan_report()
        return cpu

    reasons, _ = scan_backends.scan_report()
    assert reasons == available_scans()
    best = "c" if "c" in SCANS else "torch"
    assert serving_cpu() == ("cpu", best, "the automatic choice")
    monkeypatch.setenv(scan_backends.VARIABLE, "torch")
    assert serving_cpu() == ("cpu", "torch", f"{scan_backends.VARIABLE} asks for it")
    monkeypatch.setenv(scan_backends.VARIABLE, "warp")
    assert serving_cpu().scan is None
    assert "choose one of reference" in serving_cpu().why


def choice(asked=None):
    return scan_backends.choose_scan(asked, torch.device("cpu"), torch.float64)


def test_argument_wins_over_setting_and_setting_over_environment(monkeypatch):
    assert choice() == "torch"
    monkeypatch.setenv(scan_backends.VARIABLE, "reference")
    assert choice() == "reference"
    with use_scan("torch"):
        assert choice() == "torch"
        assert choice("reference") == "reference"
        with use_scan(None):
            assert choice() == "torch"
    assert choice() == "reference"


def test_a_setting_ends_with_its_block_even_after_an_error():
    with pytest.raises(ValueError, match="warp"), use_scan("reference"):
        choice("warp")
    assert scan_backends.VARIABLE not in os.environ


def test_a_setting_is_of_its_thread_and_leaves_the_environment_alone(monkeypatch):
    monkeypatch.setenv(scan_backends.VARIABLE, "reference")
    before = dict(os.environ)

    with use_scan("torch"), ThreadPoolExecutor(1) as other:
        assert dict(os.environ) == before
        assert other.submit(choice).result() == "reference"
        assert choice() == "torch"
    assert choice() == "reference"


def test_the_report_names_a_setting_as_what_asks():
    with use_scan("torch"):
        _, (cpu, *_rest) = scan_backends.scan_report()
    assert cpu == ("cpu", "torch", "use_scan asks for it")


def test_an_unknown_scan_is_an_error_that_lists_the_known(monkeypatch):
    with pytest.raises(ValueError, match="asks for the scan 'warp': choose one of reference"):
        choice("warp")
    with pytest.raises(ValueError, match="use_scan asks"), use_scan("warp"):
        pass
    monkeypatch.setenv(scan_backends.VARIABLE, "warp")
    with pytest.raises(ValueError, match=scan_backends.VARIABLE):
        choice()


def test_an_explicit_scan_that_is_not_there_says_why(monkeypatch):
    monkeypatch.setattr(scan_backends, "_why_unavailable", lambda name: "it was not built")

    with pytest.raises(RuntimeError, match="'c', which is not available here: it was not built"):
        choice("c")


@pytest.mark.parametrize(
    ("scan", "device", "dtype", "sentence"),
    [
        ("c", CPU, torch.float64, "it computes in float32 only"),
        ("c", GPU, torch.float32, "it runs on the CPU only"),
        ("triton", GPU, torch.float64, "it computes in float32 only"),
        ("triton", CPU, torch.float32, "it runs on a CUDA device and the tensors are on cpu"),
        ("mamba_ssm", GPU, torch.float64, "it computes in float32 only"),
        ("mamba_ssm", CPU, torch.float32, "it runs on a CUDA device and the tensors are on cpu"),
    ],
)
def test_a_scan_refuses_by_name_what_it_does_not_take(monkeypatch, scan, device, dtype, sentence):
    monkeypatch.setattr(scan_backends, "_why_unavailable", lambda name: None)

    with pytest.raises(ValueError, match=f"asks for the scan '{scan}', but {sentence}"):
        scan_backends.choose_scan(scan, device, dtype)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"u": torch.zeros(2, 4)}, r"u has the shape \(2, 4\)"),
        ({"A": torch.zeros(4, 65)}, "1 to 64 states"),
        ({"A": torch.zeros(4)}, "1 to 64 states"),
        ({"B": torch.zeros(2, 3, 3, 7)}, "3 groups, but they share 4 channels"),
        ({"delta": torch.zeros(2, 4, 8)}, r"delta has the shape \(2, 4, 8\)"),
        ({"A": torch.zeros(5, 3)}, r"A has the shape \(5, 3\)"),
        ({"C": torch.zeros(2, 1, 3, 7)}, r"C has the shape \(2, 1, 3, 7\)"),
        ({"D": torch.zeros(5)}, r"D has the shape \(5,\)"),
        ({"z": torch.zeros(2, 4, 1)}, r"z has the shape \(2, 4, 1\)"),
        ({"delta_bias": torch.zeros(2, 4)}, r"delta_bias has the shape \(2, 4\)"),
        ({"z": torch.zeros(2, 4, 7, device="meta")}, "z is on meta and u on cpu"),
    ],
)
def test_a_tensor_of_another_shape_or_place_is_named(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        selective_scan(**arguments(dtype=torch.float32) | change)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"D": torch.zeros(4, dtype=torch.float64)}, "D is torch.float64 beside u"),
        ({"z": torch.zeros(2, 4, 7, dtype=torch.int64)}, "z is torch.int64, but a scan takes"),
    ],
)
def test_a_number_type_that_does_not_fit_is_named(change, sentence):
    with pytest.raises(TypeError, match=sentence):
        selective_scan(**arguments(dtype=torch.float32) | change)
