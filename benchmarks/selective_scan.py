"""How long the scans take at VMamba-S's four stages, in one thread, and against the plain loop.

Batch 2, four directions, medians of alternating rounds within one run, so that a busy machine
slows all scans alike. ``scan`` times `selective_scan` alone, ``core`` the whole 2-D core. The
reference is the fair loop, over `unbind`. Ratios are of forward and backward summed. ``--quick``
takes one round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from napari_activeft.models.selective_scan import available_scans, selective_scan
from napari_activeft.models.ss2d import ss2d
from torch import Tensor

STAGES = ((56, 192), (28, 384), (14, 768), (7, 1536))  # side of the map, channels d
BATCH, DIRECTIONS = 2, 4
Run = Callable[[str], Tensor]


def scan_of(side: int, channels: int, states: int) -> tuple[Run, list[Tensor]]:
    """Draw the tensors of a scan and return it with what it is differentiated by."""
    d, steps = DIRECTIONS * channels, side * side
    u, delta = torch.randn(BATCH, d, steps), torch.randn(BATCH, d, steps)
    B, C = (torch.randn(BATCH, DIRECTIONS, states, steps) for _ in range(2))
    A, D, bias = exponents(d, states), torch.ones(d), torch.randn(d) - 3
    tensors = [t.requires_grad_() for t in (u, delta, A, B, C, D, bias)]
    return lambda name: selective_scan(*tensors[:6], None, bias, backend=name), tensors


def core_of(side: int, channels: int, states: int) -> tuple[Run, list[Tensor]]:
    """Draw the tensors of a 2-D core and return it with what it is differentiated by."""
    rank = channels // 32  # of VMamba's step sizes: half the channels are the block's, over 16
    x = torch.randn(BATCH, side, side, channels)
    x_proj = torch.randn(DIRECTIONS, rank + 2 * states, channels) / channels**0.5
    dt_proj = torch.randn(DIRECTIONS, channels, rank) / rank**0.5
    bias = torch.randn(DIRECTIONS, channels) - 3
    A_logs = (-exponents(DIRECTIONS * channels, states)).log()
    tensors = [x, x_proj, dt_proj, bias, A_logs, torch.ones(DIRECTIONS * channels)]
    tensors = [t.requires_grad_() for t in tensors]
    return lambda name: ss2d(*tensors, backend=name), tensors


def exponents(channels: int, states: int) -> Tensor:
    """Return A as VMamba starts it: -1 to -n in every channel."""
    return -torch.arange(1.0, states + 1).repeat(channels, 1)


def one_round(run: Run, tensors: Sequence[Tensor], name: str) -> tuple[float, float]:
    """Milliseconds of one forward and one backward pass."""
    start = time.perf_counter()
    y = run(name)
    middle = time.perf_counter()
    torch.autograd.grad(y, tensors, torch.ones_like(y))
    return 1e3 * (middle - start), 1e3 * (time.perf_counter() - middle)


def medians(
    run: Run, tensors: Sequence[Tensor], names: Sequence[str], rounds: int
) -> dict[str, tuple[float, float]]:
    """Median forward and backward milliseconds by scan, the scans taking turns."""
    for name in names:
        if name != "reference":
            one_round(run, tensors, name)
    times = [{name: one_round(run, tensors, name) for name in names} for _ in range(rounds)]
    return {
        name: (
            statistics.median(one[name][0] for one in times),
            statistics.median(one[name][1] for one in times),
        )
        for name in names
    }


def main() -> None:
    """Print one row a scan, a stage and a number of states."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, no reference at 16 states")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    names = [name for name, reason in available_scans().items() if reason is None]
    print("what   map            states  scan        forward  backward  reference / scan")
    for states in (1, 16):
        for side, channels in STAGES:
            for what, make in (("scan", scan_of), ("core", core_of)):
                run, tensors = make(side, channels, states)
                slow = options.quick and states > 1
                timed = [name for name in names if name != "reference" or not slow]
                found = medians(run, tensors, timed, 1 if options.quick else options.rounds)
                report(what, f"{side} x {side} x {channels}", states, found)


def report(what: str, size: str, states: int, found: dict[str, tuple[float, float]]) -> None:
    """Print the rows of one measurement."""
    slow = sum(found["reference"]) if "reference" in found else float("nan")
    for name, (forward, backward) in found.items():
        ratio = slow / (forward + backward)
        print(
            f"{what:5}  {size:13}  {states:6}  {name:10}  {forward:7.1f}  {backward:8.1f}  "
            f"{ratio:16.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
