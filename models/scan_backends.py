"""Which implementation of the selective scan serves a call.

An argument wins over `use_scan`, that over the environment variable ``NAPARI_ACTIVEFT_SCAN``, and
without any the device, the number type and the limits of the kernels decide. What was asked for by
name and cannot serve is an error, never another one in its place.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor

VARIABLE = "NAPARI_ACTIVEFT_SCAN"
_AUTOMATIC = "automatic"  # what `use_scan(None)` sets: the environment is not asked either
_used: ContextVar[str | None] = ContextVar("napari_activeft_scan", default=None)
SCANS = ("reference", "torch", "c", "triton", "mamba_ssm")
MAX_RANKS = {"c": 256}  # of the step size's projection in a 2-D core; the others have no limit
# By device, best first, before torch. Triton before mamba_ssm: it gives the same bits every time.
PREFERRED = {"cpu": ("c",), "cuda": ("triton", "mamba_ssm")}
Gradients = tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None
]


class Scan(Protocol):
    """What the module of a fast scan offers; B and C are (b, g, n, l), all tensors contiguous."""

    def why_unavailable(self) -> str | None:
        """Say why the scan cannot run on this computer, None if it can."""

    def forward(
        self,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        z: Tensor | None,
        delta_bias: Tensor | None,
        delta_softplus: bool,
        *,
        keep_states: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Return y and what the backward pass needs, empty without `keep_states`."""

    def backward(
        self,
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
    ) -> Gradients:
        """Return the gradients of the first eight arguments of `forward`."""


def load_scan(name: str) -> Scan:
    """Import the module of a scan."""
    return cast(Scan, importlib.import_module(f"{__package__}.selective_scan_{name}"))


def available_scans() -> dict[str, str | None]:
    """List the scans by name, each with the reason why it cannot run here, None if it can."""
    return {name: _why_unavailable(name) for name in SCANS}


def _why_unavailable(name: str) -> str | None:
    try:
        return load_scan(name).why_unavailable()
    except ImportError as error:
        return f"its module cannot be imported ({error})"


@contextmanager
def use_scan(name: str | None) -> Iterator[None]:
    """Serve every call of this thread (or task of asyncio) by one scan for a while.

    Other threads and processes, those started meanwhile too, are not touched: for them there is the
    environment variable ``NAPARI_ACTIVEFT_SCAN``, which is read and never written.

    Parameters
    ----------
    name
        Name of a scan, or None for the automatic choice, whatever the environment says.
    """
    if name is not None:
        _check_available(name, "use_scan")
    token = _used.set(_AUTOMATIC if name is None else name)
    try:
        yield
    finally:
        _used.reset(token)


def choose_scan(
    asked: str | None, device: torch.device, dtype: torch.dtype, *, rank: int = 0
) -> str:
    """Name the scan that serves a call.

    Parameters
    ----------
    asked
        Name given by the caller, None to leave the choice to `use_scan`, the environment and the
        device.
    device, dtype
        Where the scan computes, and in which number type (float32 or float64).
    rank
        Of the step size's projection, where a 2-D core is asked for; some have a limit.
    """
    name, origin = _asked(asked)
    if name is None:
        return _best_scan(device, dtype, rank)
    _check_available(name, origin)
    misfit = _misfit(name, device, dtype, rank)
    if misfit is not None:
        raise ValueError(f"{origin} asks for the scan '{name}', but {misfit}")
    return name


def _asked(argument: str | None) -> tuple[str | None, str]:
    """Return the name that is asked for, None for the automatic choice, and who asks."""
    used = _used.get()
    if argument:
        return argument, "the argument backend"
    if used is not None:
        return None if used == _AUTOMATIC else used, "use_scan"
    return os.environ.get(VARIABLE) or None, f"the environment variable {VARIABLE}"


def _best_scan(device: torch.device, dtype: torch.dtype, rank: int) -> str:
    for name in PREFERRED.get(device.type, ()):
        if _misfit(name, device, dtype, rank) is None and _why_unavailable(name) is None:
            return name
    return "torch"


def _misfit(name: str, device: torch.device, dtype: torch.dtype, rank: int) -> str | None:
    """Say what a scan cannot take of a call, None if it can serve it."""
    most = MAX_RANKS.get(name)
    if most is not None and rank > most:
        return (
            f"it takes projections of rank up to {most}, and this one has rank {rank}: take 'torch'"
        )
    return _MISFITS[name](device, dtype)


def scans_that_serve(device: torch.device, dtype: torch.dtype) -> list[str]:
    """List the scans that are there and take such tensors."""
    return [
        name
        for name in SCANS
        if _why_unavailable(name) is None and _MISFITS[name](device, dtype) is None
    ]


class Served(NamedTuple):
    """Which scan a device's float32 calls get, None if the one asked for cannot serve, and why."""

    device: str
    scan: str | None
    why: str


def scan_report() -> tuple[dict[str, str | None], list[Served]]:
    """Tell what the scans of this computer are, see `available_scans`, and what serves its devices.

    The first report on a computer with a GPU compiles a tiny kernel.
    """
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    return available_scans(), [_served(device) for device in devices]


def _served(device: str) -> Served:
    asked, origin = _asked(None)
    try:
        scan = choose_scan(None, torch.device(device), torch.float32)
    except (RuntimeError, ValueError) as error:
        return Served(device, None, str(error))
    who = origin.removeprefix("the environment variable ")
    return Served(device, scan, f"{who} asks for it" if asked else "the automatic choice")


def check_name(name: str, origin: str) -> None:
    """Refuse what is no name of a scan; whether it can run here is asked when it is used."""
    if name not in SCANS:
        raise ValueError(f"{origin} asks for the scan '{name}': choose one of {', '.join(SCANS)}")


def _check_available(name: str, origin: str) -> None:
    check_name(name, origin)
    reason = _why_unavailable(name)
    if reason is not None:
        raise RuntimeError(
            f"{origin} asks for the scan '{name}', which is not available here: {reason}"
        )


def _why_c_does_not_fit(device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cpu":
        return f"it runs on the CPU only and the tensors are on {device}: take 'torch'"
    return _why_not_float32(dtype)


def _why_triton_does_not_fit(device: torch.device, dtype: torch.dtype) -> str | None:
    module = importlib.import_module(f"{__package__}.selective_scan_triton")
    interpreted = module.is_interpreted()
    if interpreted and device.type != "cpu":
        return (
            f"Triton's interpreter is on, which takes tensors on the CPU, and they are on {device}"
            ": unset TRITON_INTERPRET"
        )
    if not interpreted and device.type != "cuda":
        return f"it runs on a CUDA device and the tensors are on {device}: take 'c' or 'torch'"
    return _why_not_float32(dtype)


def _why_mamba_ssm_does_not_fit(device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cuda":
        return f"it runs on a CUDA device and the tensors are on {device}: take 'c' or 'torch'"
    return _why_not_float32(dtype)


def _why_not_float32(dtype: torch.dtype) -> str | None:
    if dtype != torch.float32:
        return "it computes in float32 only and the tensors are float64: take 'torch'"
    return None


def _fits_anything(device: torch.device, dtype: torch.dtype) -> str | None:
    return None


_MISFITS: dict[str, Callable[[torch.device, torch.dtype], str | None]] = {
    "reference": _fits_anything,
    "torch": _fits_anything,
    "c": _why_c_does_not_fit,
    "triton": _why_triton_does_not_fit,
    "mamba_ssm": _why_mamba_ssm_does_not_fit,
}
