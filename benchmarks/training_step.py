"""A training step of a VM-UNet (forward, backward, AdamW), and a test slice, by scan.

224 x 224, batch 2, float32; the scans take turns in one process with the same threads, medians.
``vm_unet_s1`` has VMamba-S's encoder and second-generation blocks (d_state 1), ``vm_unet`` is the
published network (d_state 16).
``--busy`` repeats the step of the scan ``c`` while another process holds one core.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from napari_activeft.models.registry import build_model
from napari_activeft.models.scan_backends import available_scans
from torch import nn

SIDE, BATCH = 224, 2


class Step:
    """One network with its optimiser; called, it takes one training step."""

    def __init__(self, name: str, scan: str) -> None:
        self.network = build_model(name, classes=4, scan=scan, seed=0)
        self._optimiser = torch.optim.AdamW(self.network.parameters(), lr=1e-4)
        self.x = torch.randn(BATCH, 3, SIDE, SIDE)
        self._y = torch.randint(0, 4, (BATCH, SIDE, SIDE))

    def __call__(self) -> float:
        """Return the seconds it took."""
        self.network.train()
        start = time.perf_counter()
        loss = nn.functional.cross_entropy(self.network(self.x), self._y)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()
        return time.perf_counter() - start

    @torch.inference_mode()
    def test_slice(self) -> float:
        """Return the seconds of one picture without gradients."""
        self.network.eval()
        start = time.perf_counter()
        self.network(self.x[:1])
        return time.perf_counter() - start


def burn() -> None:
    """Hold one core."""
    while True:
        pass


def busy(step: Step, rounds: int) -> None:
    """Print how much slower a step is beside a process that holds one core."""
    quiet = statistics.median(step() for _ in range(rounds))
    other = multiprocessing.Process(target=burn, daemon=True)
    other.start()
    time.sleep(0.5)
    beside = statistics.median(step() for _ in range(rounds))
    other.kill()
    print(f"quiet {quiet:.2f} s, beside a busy process {beside:.2f} s: {beside / quiet:.2f} x")


def high_water_mark() -> int:
    """Return the most MiB that this process held; Linux only, 0 elsewhere.

    `resource.getrusage` will not do: a child inherits its parent's mark.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) // 1024 for line in lines if "VmHWM" in line), 0)


def peak_memory(name: str, scan: str) -> int:
    """Return the MiB that a process of its own uses at most for two steps."""
    command = [sys.executable, __file__, "--memory", name, scan]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Print a row a network and scan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", nargs="+", default=["vm_unet_s1", "vm_unet"])
    parser.add_argument("--scans", nargs="+", default=["c", "torch", "reference"])
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.memory:
        step = Step(*options.memory)
        step(), step()
        print(high_water_mark())
        return
    scans = [scan for scan in options.scans if available_scans()[scan] is None]
    print("| network | scan | step | reference / step | test slice | peak memory |")
    print("|---|---|---|---|---|---|")
    for name in options.models:
        steps = {scan: Step(name, scan) for scan in scans}
        for step in steps.values():
            step(), step.test_slice()
        times = [{s: (step(), step.test_slice()) for s, step in steps.items()}
                 for _ in range(options.rounds)]  # fmt: skip
        medians = {
            scan: [statistics.median(one[scan][what] for one in times) for what in (0, 1)]
            for scan in scans
        }
        for scan, (seconds, test) in medians.items():
            slow = medians.get("reference", [float("nan")])[0]
            print(
                f"| {name} | {scan} | {seconds:.2f} s | {slow / seconds:.1f} x | {test:.2f} s | "
                f"{peak_memory(name, scan)} MiB |",
                flush=True,
            )
        if options.busy:
            busy(steps[scans[0]], options.rounds)


if __name__ == "__main__":
    main()
