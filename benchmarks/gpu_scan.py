"""How long the scans take on a GPU at VMamba-S's four stages, against each other.

The scans take turns within one run, medians of ``--rounds``; the memory is what a forward and a
backward pass need beside the inputs. ``scan`` is `selective_scan` alone, ``core`` the whole 2-D
core. Prints one line and ends where there is no CUDA (or ROCm) device.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence

import torch
from napari_activeft.models.scan_backends import available_scans, scans_that_serve
from napari_activeft.models.selective_scan import selective_scan
from napari_activeft.models.ss2d import ss2d
from torch import Tensor

STAGES = ((56, 192), (28, 384), (14, 768), (7, 1536))  # side of the map, channels d
DIRECTIONS = 4
Run = Callable[[str], Tensor]


def draw(*shape: int) -> Tensor:
    """Draw standard normal numbers on the GPU."""
    return torch.randn(*shape, device="cuda")


def exponents(channels: int, states: int) -> Tensor:
    """Return A as VMamba starts it: -1 to -n in every channel."""
    return -torch.arange(1.0, states + 1, device="cuda").repeat(channels, 1)


def scan_of(batch: int, side: int, channels: int, states: int) -> tuple[Run, list[Tensor]]:
    """Draw the tensors of a scan and return it with what it is differentiated by."""
    d, steps = DIRECTIONS * channels, side * side
    u, delta = draw(batch, d, steps), draw(batch, d, steps)
    B, C = (draw(batch, DIRECTIONS, states, steps) for _ in range(2))
    A, D, bias = exponents(d, states), draw(d), draw(d) - 3
    tensors = [one.requires_grad_() for one in (u, delta, A, B, C, D, bias)]
    return lambda name: selective_scan(*tensors[:6], None, bias, backend=name), tensors


def core_of(batch: int, side: int, channels: int, states: int) -> tuple[Run, list[Tensor]]:
    """Draw the tensors of a 2-D core and return it with what it is differentiated by."""
    rank, d = channels // 32, DIRECTIONS * channels
    x = draw(batch, side, side, channels)
    x_proj = draw(DIRECTIONS, rank + 2 * states, channels) / channels**0.5
    dt_proj = draw(DIRECTIONS, channels, rank) / rank**0.5
    bias, A_logs = draw(DIRECTIONS, channels) - 3, (-exponents(d, states)).log()
    tensors = [one.requires_grad_() for one in (x, x_proj, dt_proj, bias, A_logs, draw(d))]
    return lambda name: ss2d(*tensors, backend=name), tensors


def one_round(run: Run, tensors: Sequence[Tensor], name: str) -> tuple[float, float, float]:
    """Milliseconds of a forward and of a backward pass, and their extra memory in MB."""
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(3)]
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    marks[0].record()
    y = run(name)
    marks[1].record()
    torch.autograd.grad(y, tensors, torch.ones_like(y))
    marks[2].record()
    torch.cuda.synchronize()
    memory = (torch.cuda.max_memory_allocated() - held) / 1e6
    return marks[0].elapsed_time(marks[1]), marks[1].elapsed_time(marks[2]), memory


def report(what: str, sizes: Sequence[int], names: Sequence[str], rounds: int) -> None:
    """Time all scans in turn and print a row for each."""
    batch, side, channels, states = sizes
    run, tensors = (scan_of if what == "scan" else core_of)(batch, side, channels, states)
    for name in names:
        one_round(run, tensors, name)  # compiles what is compiled at the first call
    times = [{name: one_round(run, tensors, name) for name in names} for _ in range(rounds)]
    for name in names:
        forward, backward, memory = (
            statistics.median(one[name][place] for one in times) for place in range(3)
        )
        print(
            f"{what:5} {batch:5}  {side:2} x {side:2} x {channels:4}  {states:6}  {name:10}  "
            f"{forward:7.3f}  {backward:8.3f}  {memory:6.0f}",
            flush=True,
        )


def main() -> None:
    """Print one row for each scan, stage, batch and number of states."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[2, 32])
    parser.add_argument("--states", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here")
        return
    torch.manual_seed(0)
    served = scans_that_serve(torch.device("cuda"), torch.float32)
    names = [name for name in served if name != "reference"]  # one launch a step: minutes
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    for name, reason in available_scans().items():
        if reason is not None:
            print(f"without {name}: {reason}")
    print("what  batch  map           states  scan        forward  backward      MB")
    for batch in options.batches:
        for states in options.states:
            for side, channels in STAGES:
                for what in ("scan", "core"):
                    report(what, (batch, side, channels, states), names, options.rounds)


if __name__ == "__main__":
    main()
