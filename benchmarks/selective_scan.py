"""How long the scans take at VMamba-S's four stages, how exact they are and what memory they take.

Batch 2, four directions, medians of rounds in which the scans take turns, so that a busy machine
slows all alike. ``scan`` times `selective_scan` alone, ``core`` the whole 2-D core, `ss2d`. The
reference is the fair loop, over `unbind`; ratios are of forward and backward summed, both with the
same number of threads. Errors are relative L2 against the reference in float64. Memory is what the
high-water mark of a fresh process rises by over one forward and backward pass, its result and
gradients included, after a pass over a tiny map. ``--quick`` takes one round, ``--busy`` compares
two threads with and without another process that holds one core (``--memory`` and ``--beside`` are
for the processes that this one starts). Tables are Markdown, printed as
they come and kept in ``benchmarks/results/selective_scan.md``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from napari_activeft.models.scan_backends import scans_that_serve
from napari_activeft.models.selective_scan import selective_scan
from napari_activeft.models.ss2d import ss2d
from torch import Tensor

STAGES = ((56, 192), (28, 384), (14, 768), (7, 1536))  # side of the map, channels d
BATCH, DIRECTIONS = 2, 4
RESULTS = Path(__file__).parent / "results" / "selective_scan.md"
PARAMETERS = ("x", "x_proj", "dt_proj", "dt_bias", "A_logs", "Ds")
Run = Callable[..., Tensor]


def scan_of(side: int, channels: int, states: int) -> tuple[Run, list[Tensor]]:
    """Draw the tensors of a scan and return it with what it is differentiated by."""
    d, steps = DIRECTIONS * channels, side * side
    u, delta = torch.randn(BATCH, d, steps), torch.randn(BATCH, d, steps)
    B, C = (torch.randn(BATCH, DIRECTIONS, states, steps) for _ in range(2))
    A, D, bias = exponents(d, states), torch.ones(d), torch.randn(d) - 3
    tensors = [t.requires_grad_() for t in (u, delta, A, B, C, D, bias)]
    return lambda name: selective_scan(*tensors[:6], None, tensors[6], backend=name), tensors


def core_of(side: int, channels: int, states: int) -> tuple[Run, list[Tensor]]:
    """Draw the tensors of a 2-D core and return it with what it is differentiated by."""
    tensors = [t.requires_grad_() for t in core_tensors(side, channels, states)]
    return lambda name: ss2d(*tensors, backend=name), tensors


def core_tensors(side: int, channels: int, states: int) -> list[Tensor]:
    """Draw a map and the parameters of a 2-D core, in the order of `ss2d`."""
    rank = channels // 32  # of VMamba's step sizes: half the channels are the block's, over 16
    x = torch.randn(BATCH, side, side, channels)
    x_proj = torch.randn(DIRECTIONS, rank + 2 * states, channels) / channels**0.5
    dt_proj = torch.randn(DIRECTIONS, channels, rank) / rank**0.5
    bias = torch.randn(DIRECTIONS, channels) - 3
    A_logs = (-exponents(DIRECTIONS * channels, states)).log()
    return [x, x_proj, dt_proj, bias, A_logs, torch.ones(DIRECTIONS * channels)]


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


class Report:
    """Print lines as they come, and keep them in a file that starts anew with every run."""

    def __init__(self) -> None:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("", "utf-8")

    def table(self, title: str, *columns: str) -> None:
        """Start a table."""
        self.line(f"\n{title}\n")
        self.row(*columns)
        self.row(*("---" for _ in columns))

    def row(self, *cells: object) -> None:
        """Add a row, numbers with three digits."""
        shown = [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells]
        self.line(f"| {' | '.join(shown)} |")

    def line(self, text: str) -> None:
        """Print a line and keep it."""
        print(text, flush=True)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(text + "\n")


def report_times(report: Report, names: list[str], options: argparse.Namespace) -> None:
    """One row a kind of call, a stage, a number of states and a scan."""
    title = f"Milliseconds, {options.threads} thread(s)"
    report.table(title, "what", "map", "d_state", "scan", "forward", "backward", "reference / scan")
    for states in (1, 16):
        for side, channels in STAGES:
            for what, make in (("core", core_of), ("scan", scan_of)):
                run, tensors = make(side, channels, states)
                slow = options.quick and states > 1
                timed = [name for name in names if name != "reference" or not slow]
                found = medians(run, tensors, timed, 1 if options.quick else options.rounds)
                whole = sum(found["reference"]) if "reference" in found else float("nan")
                for name, times in found.items():
                    size = f"{side} x {side} x {channels}"
                    report.row(what, size, states, name, *times, whole / sum(times))


def report_errors(report: Report, names: list[str], quick: bool) -> None:
    """Relative L2 errors of y and of the worst gradient, and whether all is finite at delta 80."""
    report.table(
        "Relative L2 error of the core against float64",
        *("map", "d_state", "scan", "y", "worst gradient", "of", "finite at delta 80"),
    )
    for states in (1, 16):
        for side, channels in STAGES[2:] if quick or states > 1 else STAGES:
            given = core_tensors(side, channels, states)
            wide = [given[0], given[1], given[2], given[3] + 80.0, *given[4:]]
            dy = torch.randn_like(given[0])
            true = both_ways([t.double() for t in given], dy.double(), "reference")
            for name in names:
                errors = [
                    float((one.double() - truth).norm() / truth.norm())
                    for one, truth in zip(both_ways(given, dy, name), true, strict=True)
                ]
                finite = all(bool(one.isfinite().all()) for one in both_ways(wide, dy, name))
                worst = max(range(1, len(errors)), key=errors.__getitem__)
                size = f"{side} x {side} x {channels}"
                of = PARAMETERS[worst - 1]
                report.row(size, states, name, errors[0], errors[worst], of, finite)


def both_ways(given: Sequence[Tensor], dy: Tensor, name: str) -> list[Tensor]:
    """Return y and the gradients of a core."""
    leaves = [one.clone().requires_grad_() for one in given]
    y = ss2d(*leaves, backend=name)
    return [y.detach(), *torch.autograd.grad(y, leaves, dy)]


def report_memory(report: Report, names: list[str]) -> None:
    """Megabytes by which one pass raises the high-water mark of a fresh process."""
    report.table(
        f"Extra memory of the core at {STAGES[0][0]} x {STAGES[0][0]} x {STAGES[0][1]}, MB",
        *("d_state", "scan", "forward alone", "forward and backward"),
    )
    for states in (1, 16):
        for name in names:
            if name == "reference" and states > 1:
                continue  # gigabytes
            extra = [
                subprocess.run(
                    [sys.executable, __file__, "--memory", name, str(states), way],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout.strip()
                for way in ("forward", "both")
            ]
            report.row(states, name, *extra)


def extra_memory(name: str, states: int, way: str) -> float:
    """Run one pass in this process and return by how many MB its high-water mark rose."""
    import resource

    torch.set_num_threads(1)
    given = core_tensors(*STAGES[0], states)

    def once(tensors: list[Tensor]) -> None:
        if way == "forward":
            with torch.no_grad():
                ss2d(*tensors, backend=name)
        else:
            leaves = [one.requires_grad_() for one in tensors]
            y = ss2d(*leaves, backend=name)
            torch.autograd.grad(y, leaves, y.detach())

    once([torch.randn(1, 2, 2, STAGES[0][1]), *(one.clone() for one in given[1:])])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    once(given)
    rise = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return rise / (2**20 if sys.platform == "darwin" else 2**10)


def report_busy(report: Report, names: list[str], rounds: int) -> None:
    """Two threads, alone and while another process spins on one of the cores.

    Twice: with OpenMP's threads spinning while they wait, as by default, and asleep.
    """
    report.table(
        "Core at 56 x 56, two threads, another process holding one core, ms",
        *("scan", "OMP_WAIT_POLICY", "quiet", "busy", "busy / quiet"),
    )
    for name in names:
        for policy in ("unset", "passive"):
            environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
            if policy != "unset":
                environment["OMP_WAIT_POLICY"] = policy
            told = subprocess.run(
                [sys.executable, __file__, "--beside", name, str(rounds)],
                env=environment,
                check=True,
                capture_output=True,
                text=True,
            ).stdout.split()
            quiet, held = (float(one) for one in told)
            report.row(name, policy, quiet, held, held / quiet)


def beside_a_spinner(name: str, rounds: int) -> tuple[float, float]:
    """Median milliseconds of a pass with two threads, alone and beside a busy process."""
    torch.set_num_threads(2)
    run, tensors = core_of(*STAGES[0], 1)
    spent: dict[bool, list[float]] = {False: [], True: []}
    one_round(run, tensors, name)
    for _ in range(rounds):
        for busy in (False, True):
            spinner = multiprocessing.get_context("spawn").Process(target=spin, daemon=True)
            if busy:
                spinner.start()
                time.sleep(1.0)  # until it spins
            times = [sum(one_round(run, tensors, name)) for _ in range(rounds)]
            spent[busy].append(statistics.median(times))
            if busy:
                spinner.kill()
                spinner.join()
    return statistics.median(spent[False]), statistics.median(spent[True])


def spin() -> None:
    """Hold the first core that this process may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    while True:
        pass


def main() -> None:
    """Print the tables that were asked for, all but ``--busy`` without a choice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, no reference at 16 states")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scans", nargs="+", help="of those that run here; all by default")
    parser.add_argument("--only", choices=("times", "errors", "memory", "busy"))
    parser.add_argument("--busy", action="store_const", const="busy", dest="only")
    parser.add_argument("--memory", nargs=3, metavar=("SCAN", "D_STATE", "WAY"))
    parser.add_argument("--beside", nargs=2, metavar=("SCAN", "ROUNDS"))
    options = parser.parse_args()
    if options.beside:
        print(*beside_a_spinner(options.beside[0], int(options.beside[1])))
        return
    if options.memory:
        name, states, way = options.memory
        print(f"{extra_memory(name, int(states), way):.1f}")
        return
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    here = scans_that_serve(torch.device("cpu"), torch.float32)
    names, report = options.scans or here, Report()
    if options.only in (None, "times"):
        report_times(report, names, options)
    if options.only in (None, "errors"):
        report_errors(report, names, options.quick)
    if options.only in (None, "memory") and sys.platform != "win32":
        report_memory(report, names)
    if options.only == "busy":
        report_busy(report, options.scans or ["c"], options.rounds)


if __name__ == "__main__":
    main()
