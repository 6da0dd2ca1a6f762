"""oneDNN's float32 products against torch's own (MKL) at the shapes of VMamba-S's linear layers.

Batch 2 at 224 x 224; forward, and both products of the backward pass; the two take turns, medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from napari_activeft.models.linear import available, linear
from torch import Tensor
from torch.nn.functional import linear as torch_linear

STAGES = ((3136, 96), (784, 192), (196, 384), (49, 768))  # pixels, channels
BATCH = 2
Run = Callable[[Tensor, Tensor, Tensor], Tensor]


def milliseconds(run: Run, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[float, float]:
    """Time one forward and one backward pass."""
    start = time.perf_counter()
    y = run(x, weight, bias)
    middle = time.perf_counter()
    torch.autograd.grad(y, (x, weight, bias), torch.ones_like(y))
    return 1e3 * (middle - start), 1e3 * (time.perf_counter() - middle)


def main() -> None:
    """Print a row a layer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not available():
        print("oneDNN's product is not available on this processor")
        return
    runs = {"torch": torch_linear, "oneDNN": linear}
    print("| rows x in -> out | torch: forward, backward | oneDNN | forward | backward |")
    print("|---|---|---|---|---|")
    for pixels, c in STAGES:
        for inner, columns in ((c, 2 * c), (2 * c, c), (c, 4 * c), (4 * c, c)):
            x = torch.randn(BATCH * pixels, inner, requires_grad=True)
            weight = torch.randn(columns, inner, requires_grad=True)
            bias = torch.randn(columns, requires_grad=True)
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
            for at in range(options.rounds + 1):
                for name, run in runs.items():
                    seen = milliseconds(run, x, weight, bias)
                    if at:
                        times[name].append(seen)
            (tf, tb), (of, ob) = (
                [statistics.median(each) for each in zip(*times[name], strict=True)]
                for name in runs
            )
            print(
                f"| {BATCH * pixels} x {inner} -> {columns} | {tf:.2f}, {tb:.2f} ms | {of:.2f}, "
                f"{ob:.2f} ms | {tf / of:.2f} x | {tb / ob:.2f} x |"
            )


if __name__ == "__main__":
    main()
