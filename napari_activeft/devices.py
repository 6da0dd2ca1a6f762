"""Where to compute, with what number type and how much at once; torch is imported on call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

from napari_activeft.errors import UserError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

S = TypeVar("S", bound="Sequence[Any] | NDArray[Any]")
T = TypeVar("T")
X = TypeVar("X")


def pick_device(asked: str) -> torch.device:
    """Return the device of a name; ``"auto"`` is a CUDA or ROCm GPU if there is one, else the CPU.

    Raises
    ------
    UserError
        If there is no such device here.
    """
    import torch

    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise UserError(
            f"the device {asked!r} was asked: write auto, cpu, cuda, cuda:1 or mps"
        ) from None
    there = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    if (device.index or 0) >= there.get(device.type, 0):
        found = [f"{kind} ({count})" for kind, count in there.items() if count]
        raise UserError(
            f"the device {asked!r} was asked, but this computer and its build of torch offer "
            f"{', '.join(found)}: take one of these, or auto"
        )
    return device


def use_threads(count: int) -> None:
    """Let torch compute with so many threads of the CPU; 0 leaves it to torch."""
    import torch

    if count:
        torch.set_num_threads(count)


def pick_precision(asked: str, device: torch.device) -> str:
    """Return ``"float32"`` or ``"bfloat16"``; ``"auto"`` is the faster one that is safe.

    That is bfloat16 on GPUs and CPUs that compute in it (AMX tiles or AVX-512 BF16); others are
    slower with it.

    Raises
    ------
    UserError
        If bfloat16 was asked and the GPU has none.
    """
    import torch

    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        if asked == "bfloat16" and not native:
            raise UserError(
                "bfloat16 was asked, but this GPU does not compute in it: take --precision float32"
            )
        return "bfloat16" if asked == "auto" and native else asked.replace("auto", "float32")
    if asked == "auto" and device.type == "cpu" and _cpu_computes_in_bfloat16():
        return "bfloat16"
    return asked.replace("auto", "float32")


def _cpu_computes_in_bfloat16() -> bool:
    import torch

    questions = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in questions)


def free_bytes(device: torch.device) -> int:
    """Return the memory that is free on a device; on shared memory a quarter of it is ours."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available) // 4


def tried(work: Callable[[X], T], given: X) -> T | None:
    """Return what the work makes of what it is given, None where memory does not hold it.

    The exception is gone on return, and with it the tensors that its frames hold.
    """
    import torch

    try:
        return work(given)
    except (torch.OutOfMemoryError, MemoryError):
        return None
    except RuntimeError as refusal:
        if "allocate memory" not in str(refusal):  # what torch says of a computer's own
            raise
        return None


def in_parts(
    work: Callable[[S], T], groups: Iterable[S], device: torch.device, refusal: str
) -> Iterator[T]:
    """Do some work on groups of items, or on parts of these which halve until memory holds them.

    Parameters
    ----------
    refusal
        What a user is told if not even one item fits.

    Raises
    ------
    UserError
        Then.
    """
    most = sys.maxsize
    for items in groups:
        start = 0
        while start < len(items):
            part: Any = items[start : start + most]
            done = tried(work, part)
            if done is not None:
                yield done
                start += len(part)
            elif len(part) == 1:
                raise UserError(refusal)
            else:
                most = -(-len(part) // 2)
                let_go(device)


def let_go(device: torch.device) -> None:
    """Give cached memory of a device back before the next, smaller try."""
    import torch

    if device.type == "cuda":
        torch.cuda.empty_cache()
