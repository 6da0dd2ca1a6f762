"""The Triton scan: its checks in a process of their own, its compilation, its unavailability."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from napari_activeft.models import scan_backends, selective_scan_triton

CHECKS = Path(__file__).with_name("triton_checks.py")
OLDEST_INTERPRETER = (3, 7)  # that goes with numpy 2.4
needs_triton = pytest.mark.skipif(
    not selective_scan_triton._is_installed(), reason="the package triton is not installed"
)


def run_checks(interpreted):
    """Run the checks in a fresh process and fail with what pytest says there."""
    environment = {**os.environ, "TRITON_INTERPRET": interpreted, "OMP_NUM_THREADS": "1"}
    environment.pop(scan_backends.VARIABLE, None)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--tb=short",
        "--noconftest",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run([*command, str(CHECKS)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@needs_triton
def test_every_check_passes_under_the_interpreter():
    if tuple(map(int, version("triton").split(".")[:2])) < OLDEST_INTERPRETER:
        pytest.skip(f"the interpreter of Triton {version('triton')} does not go with numpy 2.4")
    run_checks(interpreted="1")


@needs_triton
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_every_check_passes_compiled_on_the_gpu():
    run_checks(interpreted="0")


TUNED = ("softplus", "run", "n", "columns", "channels_a_block", "tile")
SIZES = ("runs", "k", "g")


@needs_triton
@pytest.mark.parametrize("gpu", [("cuda", 80, 32), ("hip", "gfx942", 64)])
@pytest.mark.parametrize("kernel", ["scan_forward", "scan_backward"])
@pytest.mark.parametrize(
    ("d", "steps", "left_out"), [(20, 72, ()), (20, 70, ("z", "dz")), (1, 1, ("D", "bias"))]
)
def test_the_kernels_compile_for_gpus_that_are_not_here(
    gpu, kernel, d, steps, left_out, tmp_path, monkeypatch
):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    triton = pytest.importorskip("triton")
    compiler = pytest.importorskip("triton.backends.compiler")
    function = getattr(selective_scan_triton._kernels(), kernel)
    u, A, B = torch.empty(1, d, steps), torch.empty(d, 3), torch.empty(1, 1, 3, steps)
    known = {**selective_scan_triton._sizes(u, A, B), "softplus": True}
    constants = {
        (place,): None for place, name in enumerate(function.arg_names) if name in left_out
    }
    signature = {}
    for place, name in enumerate(function.arg_names):
        signature[name] = "i32" if name in SIZES else "*fp32"
        if name in TUNED or known.get(name) == 1:  # Triton puts a size of one into the program
            constants[place,] = known[name]
        if (place,) in constants:
            signature[name] = "constexpr"
    source = pytest.importorskip("triton.compiler").ASTSource(function, signature, constants)

    options = {"num_warps": selective_scan_triton.WARPS, "enable_fp_fusion": True}
    compiled = triton.compile(source, target=compiler.GPUTarget(*gpu), options=options)

    assert len(compiled.asm["cubin" if gpu[0] == "cuda" else "hsaco"]) > 0


def test_without_triton_the_reason_is_its_absence(monkeypatch):
    monkeypatch.setattr(selective_scan_triton, "_is_installed", lambda: False)
    monkeypatch.setenv("TRITON_INTERPRET", "1")

    assert not selective_scan_triton.is_interpreted()
    with pytest.raises(RuntimeError, match="not available here: the package triton is not"):
        scan_backends.choose_scan("triton", torch.device("cuda"), torch.float32)


def test_the_module_imports_where_there_is_no_triton():
    module = selective_scan_triton.__name__
    code = (
        "import sys; sys.modules['triton'] = None\n"
        f"from {module} import why_unavailable\n"
        "assert 'not installed' in why_unavailable(), why_unavailable()"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_without_a_gpu_the_reason_is_its_absence(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(selective_scan_triton, "_is_installed", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    reason = selective_scan_triton.why_unavailable()

    assert reason is not None
    assert reason.startswith("it needs a CUDA device, and there is none (TRITON_INTERPRET=1")


@pytest.fixture
def failing_launch(monkeypatch):
    """A GPU on which Triton finds no C compiler; the list holds the launches."""
    launches = []

    def launch(*arguments):
        launches.append(arguments)
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC.")

    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.delenv(scan_backends.VARIABLE, raising=False)
    monkeypatch.setattr(selective_scan_triton, "_is_installed", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", lambda *shape, device: torch.empty(shape))
    monkeypatch.setattr(selective_scan_triton, "_launch", launch)
    selective_scan_triton._why_no_launch.cache_clear()
    yield launches
    selective_scan_triton._why_no_launch.cache_clear()


def test_a_first_launch_that_fails_leaves_the_automatic_choice_to_torch(failing_launch):
    gpu = torch.device("cuda")

    for _ in range(3):
        assert scan_backends.choose_scan(None, gpu, torch.float32) in ("mamba_ssm", "torch")

    assert len(failing_launch) == 1


def test_a_first_launch_that_fails_is_the_reason_of_an_explicit_error(failing_launch):
    with pytest.raises(RuntimeError, match=r"first launch failed \(Failed to find C compiler\.\)"):
        scan_backends.choose_scan("triton", torch.device("cuda"), torch.float32)
