"""VMamba-S against Swin-S and ConvNeXt-S: pictures a second, and where the time goes.

All with random weights, 224 x 224, float32, in one process with the same threads; the networks take
turns and medians are shown. The other two come from the package transformers
(``pip install -e '.[bench]'``); ConvNeXt is also timed in the memory format that suits it best.
The rivals are timed as they come, and with their linear layers computed by `models/linear.py`.
``floor`` is the time of VMamba-S's matrix products alone, on tensors of their shapes, by either
library.
``--profile`` adds the shares of the operations.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterator
from types import MethodType

import torch
from napari_activeft.models.linear import Linear, product
from napari_activeft.models.registry import build_model
from napari_activeft.models.scan_backends import available_scans
from napari_activeft.models.ss2d_layer import SS2D
from torch import Tensor, nn

SIDE = 224
Run = Callable[[Tensor], object]
GROUPS = {
    "matrix products": ("mm", "linear", "matmul", "einsum", "mkldnn_linear", "bmm"),
    "selective scan": ("ss2d", "selective_scan"),
    "convolutions": ("conv",),
    "GELU": ("gelu",),
    "SiLU": ("silu",),
    "layer norm": ("layer_norm",),
}


def rivals() -> dict[str, Run]:
    """Build the two rivals; none where transformers is not installed."""
    try:
        from transformers import ConvNextConfig, ConvNextModel, SwinConfig, SwinModel
    except ImportError:
        print("transformers is not installed, no rivals: pip install -e '.[bench]'")
        return {}
    swin = SwinModel(SwinConfig(depths=[2, 2, 18, 2], num_heads=[3, 6, 12, 24])).eval()
    sizes = {"depths": [3, 3, 27, 3], "hidden_sizes": [96, 192, 384, 768]}
    convnext = ConvNextModel(ConvNextConfig(**sizes)).eval()
    last = ConvNextModel(ConvNextConfig(**sizes)).eval().to(memory_format=torch.channels_last)
    return {
        "Swin-S": swin,
        "Swin-S, our linear layers": with_our_layers(copy.deepcopy(swin)),
        "ConvNeXt-S": convnext,
        "ConvNeXt-S, channels last": lambda x: last(x.to(memory_format=torch.channels_last)),
        "ConvNeXt-S, our linear layers": with_our_layers(copy.deepcopy(convnext)),
    }


def with_our_layers(network: nn.Module) -> nn.Module:
    """Let a network's linear layers compute as ours do."""
    for module in network.modules():
        if type(module) is nn.Linear:
            module.forward = MethodType(Linear.forward, module)
    return network


def products(network: nn.Module, x: Tensor) -> list[tuple[int, int, int]]:
    """Return (rows, inner, columns) of every matrix product of a pass, convolutions as products."""
    found: list[tuple[int, int, int]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Linear):
            rows = inputs[0].numel() // module.in_features
            found.append((rows, module.in_features, module.out_features))
        elif isinstance(module, nn.Conv2d) and module.groups == 1:
            inner = module.weight[0].numel()
            found.append((output.numel() // module.out_channels, inner, module.out_channels))
        elif isinstance(module, SS2D):
            directions, projected, inner = module.x_proj_weight.shape
            rows, rank = inputs[0][..., 0].numel(), module.dt_projs_weight.shape[2]
            found.append((rows, inner, directions * projected))
            found.extend([(rows, rank, inner)] * directions)

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    network(x)
    for hook in hooks:
        hook.remove()
    return found


def floor_of(network: nn.Module, x: Tensor, multiply: Callable[[Tensor, Tensor], Tensor]) -> Run:
    """Return a run of a network's matrix products and nothing else."""
    operands = [(torch.randn(m, k), torch.randn(k, n)) for m, k, n in products(network, x)]

    def run(_: Tensor) -> None:
        for a, b in operands:
            multiply(a, b)

    return run


def turns(runs: dict[str, Run], x: Tensor, rounds: int) -> Iterator[tuple[str, float]]:
    """Time each run once a round, after one that is not counted."""
    for at in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run(x)
            if at:
                yield name, time.perf_counter() - start


def profile(network: nn.Module, x: Tensor) -> None:
    """Print the share of each group of operations in one pass."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiling

    with profiling(activities=[ProfilerActivity.CPU]) as seen:
        network(x)
    spent = dict.fromkeys([*GROUPS, "other"], 0.0)
    for event in seen.key_averages():
        name = event.key.lower()
        group = next((g for g, parts in GROUPS.items() if any(p in name for p in parts)), "other")
        spent[group] += event.self_cpu_time_total
    total = sum(spent.values())
    print("\n| operation | share |\n|---|---|")
    for group, micros in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"| {group} | {micros / total:.1%} |")


@torch.inference_mode()
def main() -> None:
    """Print a row a network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    x = torch.randn(options.batch, 3, SIDE, SIDE)
    name = "vmamba_small_s2l15"
    scans = [scan for scan in ("c", "torch") if available_scans()[scan] is None]
    networks = {scan: build_model(name, scan=scan, seed=0).eval() for scan in scans}
    runs: dict[str, Run] = {f"VMamba-S, scan {scan}": run for scan, run in networks.items()}
    runs |= rivals()
    runs["floor, MKL"] = floor_of(networks[scans[0]], x, torch.mm)
    runs["floor, oneDNN"] = floor_of(networks[scans[0]], x, product)
    times: dict[str, list[float]] = {}
    for key, seconds in turns(runs, x, options.rounds):
        times.setdefault(key, []).append(seconds)
    ours = statistics.median(times[next(iter(runs))])
    print(f"| {options.threads} threads, batch {options.batch} | ms a picture | VMamba-S is |")
    print("|---|---|---|")
    for key, held in times.items():
        seconds = statistics.median(held)
        print(f"| {key} | {1e3 * seconds / options.batch:.0f} | {seconds / ours:.2f} x |")
    if options.profile:
        profile(networks[scans[0]], x)


if __name__ == "__main__":
    main()
