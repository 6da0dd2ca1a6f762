"""The fused CPU kernel of the selective scan, reached through ctypes.

Symbols: b batch, d channels, l steps, n states, g groups of channels that share B and C.
Contiguous float32 tensors on the CPU only; the kernel is ``csrc/selective_scan.c``, built as an
optional extension. Its tasks are (batch, block of channels) pairs; ctypes lets go of the GIL, so a
few Python threads run them, without OpenMP. The number of threads changes no bit of the result.
"""

import ctypes
import functools
import os
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import Tensor

STEPS = 32  # of a tile, as in the C file
MAX_STATES = 64
RANGES_PER_THREAD = 4  # more ranges than threads: a thread that is held up holds up few tasks

_SIZES = ("b", "d", "l", "n", "g", "softplus", "height", "width", "rank")
_INPUTS = ("u", "delta", "A", "B", "C", "D", "z", "bias", "dy", "weight")
_OUTPUTS = ("states", "y", "du", "ddelta", "dA", "dB", "dC", "dD", "dz", "dbias", "dweight")


class _Arguments(ctypes.Structure):
    """``struct scan_args`` of the C file, field by field."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, ctypes.c_void_p) for name in (*_INPUTS, *_OUTPUTS)),
    )


def why_unavailable() -> str | None:
    """Say in one line why the kernel cannot be used, or return None where it can."""
    file = _file()
    if file is None:
        return "the C kernel was not built: install a C compiler and reinstall napari-activeft"
    try:
        _library()
    except (OSError, AttributeError) as error:
        return f"the C kernel {file} cannot be loaded ({error}): reinstall napari-activeft"
    return None


def forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    keep_states: bool = True,
) -> tuple[Tensor, Tensor]:
    """Scan; u, delta, z (b, d, l), A (d, n), B, C (b, g, n, l), D, delta_bias (d) -> y (b, d, l).

    Returns
    -------
        y (b, d, l), and the states before every 32nd step for `backward`, (tasks, tiles, n, lanes);
        empty without `keep_states`.
    """
    inputs = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z, "bias": delta_bias}
    sizes = _sizes(u, A, B, inputs, delta_softplus)
    tiles = -(-sizes["l"] // STEPS) if keep_states else 0
    states = u.new_empty(count_tasks(sizes), tiles, sizes["n"], lanes())
    y = torch.empty_like(u)
    kept = {"states": states if keep_states else None}
    run("scan_forward", sizes, {**inputs, **kept, "y": y})
    return y, states


def backward(
    dy: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Give the gradients of u, delta, A, B, C, D, z, delta_bias (None for an absent one).

    Parameters are those of `forward`, `dy` (b, d, l) the gradient of y, `states` from `forward`.
    """
    inputs = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z, "bias": delta_bias}
    inputs |= {"dy": dy, "states": states}
    sizes = _sizes(u, A, B, inputs, delta_softplus)
    b, d, length, n, g = (sizes[name] for name in "bdlng")
    blocks = count_tasks(sizes) // (b * g)
    grads = {
        "du": torch.empty_like(u),
        "ddelta": torch.empty_like(u),
        "dA": u.new_empty(b, d, n),
        "dB": u.new_empty(b, g, blocks, n, length),
        "dC": u.new_empty(b, g, blocks, n, length),
        "dD": u.new_empty(b, d),
        "dbias": u.new_empty(b, d),
    }
    dz = None if z is None else torch.empty_like(z)
    run("scan_backward", sizes, {**inputs, **grads, "dz": dz})
    du, ddelta, dA, dB, dC, dD, dbias = grads.values()
    return (
        du,
        ddelta,
        sum_in_order(dA.unbind(0)),
        sum_in_order(dB.unbind(2)),
        sum_in_order(dC.unbind(2)),
        None if D is None else sum_in_order(dD.unbind(0)),
        dz,
        None if delta_bias is None else sum_in_order(dbias.unbind(0)),
    )


def sum_in_order(parts: Sequence[Tensor]) -> Tensor:
    """Sum one by one: torch's own sum may split the parts by the number of threads."""
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total


def _sizes(
    u: Tensor, A: Tensor, B: Tensor, tensors: Mapping[str, Tensor | None], softplus: bool
) -> dict[str, int]:
    """Sizes of a call, checked: the kernel reads memory by them."""
    b, d, length = u.shape
    n, g = A.shape[1], B.shape[1]
    sequence, shared = (b, d, length), (b, g, n, length)
    wanted = {"A": (d, n), "B": shared, "C": shared, "D": (d,), "bias": (d,)}
    for name, tensor in tensors.items():
        if tensor is None or name == "states":
            continue
        if tuple(tensor.shape) != wanted.get(name, sequence):
            raise ValueError(
                f"{name} is {tuple(tensor.shape)} beside u {sequence}, A ({d}, {n}) and {g} "
                f"groups: it must be {wanted.get(name, sequence)}"
            )
    if not 1 <= n <= MAX_STATES or d % g:
        raise ValueError(
            f"{n} states and {d} channels in {g} groups were asked: the C kernel takes 1 to "
            f"{MAX_STATES} states and channels that divide by the groups"
        )
    return {"b": b, "d": d, "l": length, "n": n, "g": g, "softplus": int(softplus)}


def lanes() -> int:
    """Tell how many channels a block has."""
    return int(_library().napari_activeft_lanes())


def count_tasks(sizes: dict[str, int]) -> int:
    """Count the tasks of a call: batch x groups x blocks of channels in a group."""
    width = sizes["d"] // sizes["g"]
    return sizes["b"] * sizes["g"] * -(-width // lanes())


def run(name: str, sizes: dict[str, int], tensors: Mapping[str, Tensor | None]) -> None:
    """Run all tasks of a kernel on as many threads as torch uses; the tensors are the caller's.

    The calling thread takes its share of the work: a small call does not wait for another to wake.
    """
    kernel = getattr(_library(), f"napari_activeft_{name}")
    pointers = {name: _pointer(name, t) for name, t in tensors.items() if t is not None}
    arguments = ctypes.byref(_Arguments(**sizes, **pointers))
    tasks, threads = count_tasks(sizes), torch.get_num_threads()
    best = _best_set()
    pieces = max(1, min(tasks, RANGES_PER_THREAD * threads)) if threads > 1 else 1
    waiting = deque(range(pieces))

    def work() -> bool:
        failed = False
        while waiting:
            try:
                piece = waiting.popleft()
            except IndexError:  # another thread was quicker
                break
            begin, end = tasks * piece // pieces, tasks * (piece + 1) // pieces
            failed |= bool(kernel(arguments, begin, end, best))
        return failed

    helpers: list[Future[bool]] = []
    started: list[Future[bool]] = []
    try:
        if pieces > 1:
            pool = _pool(threads, os.getpid())
            helpers.extend(pool.submit(work) for _ in range(min(threads, pieces) - 1))
        failed = work()
    finally:  # whatever happens, nobody may write into these tensors after this call
        waiting.clear()
        started.extend(helper for helper in helpers if not helper.cancel())
        wait(started)
    if failed or any(helper.result() for helper in started):
        raise MemoryError("no memory was left for the scan: lower the batch size")


def _pointer(name: str, tensor: Tensor) -> int:
    """Return the address of a tensor's numbers, where they lie as the kernel reads them."""
    if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
        raise TypeError(
            f"{name} is {tensor.dtype} on {tensor.device}: the C kernel takes float32 on the CPU, "
            "choose another scan for the rest"
        )
    if not tensor.is_contiguous():
        raise ValueError(f"{name} is not contiguous: call .contiguous() on it first")
    return tensor.data_ptr()


@functools.lru_cache(maxsize=1)
def _pool(threads: int, _process: int) -> ThreadPoolExecutor:
    """Keep one pool: of this process, as threads do not survive a fork, and for one number.

    Threads of a pool that was replaced end when its last call is done and lets go of it.
    """
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="scan")


def _file() -> Path | None:
    """Find the library next to this file."""
    for suffix in EXTENSION_SUFFIXES:
        file = Path(__file__).with_name(f"_scan{suffix}")
        if file.is_file():
            return file
    return None


@functools.cache
def _library() -> ctypes.CDLL:
    file = _file()
    if file is None:
        raise RuntimeError(why_unavailable())
    library = ctypes.CDLL(str(file))
    for name in ("scan_forward", "scan_backward", "ss2d_forward", "ss2d_backward"):
        kernel = getattr(library, f"napari_activeft_{name}")
        kernel.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int)
        kernel.restype = ctypes.c_int
    return library


@functools.cache
def _best_set() -> int:
    """Choose the widest instruction set of this machine: 0 baseline, 1 AVX2, 2 AVX-512."""
    return int(_library().napari_activeft_best_set())
