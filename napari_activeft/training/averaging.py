"""The running mean of the weights, which is steadier than the weights themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class RunningMean:
    """Keep ``m <- d m + (1 - d) w`` of a network's parameters, with d rising to the decay.

    In step t the decay is ``d = min(decay, (1 + t) / (10 + t))``, so that the random weights of the
    start are soon forgotten. Buffers (the figures of batch norms) are taken as they are.

    Parameters
    ----------
    network
        Its parameters are where the mean begins.
    decay
        0 to below 1; 0 follows the weights themselves.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._means = {name: one.detach().clone() for name, one in network.named_parameters()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after a step, which counts from 0."""
        decay = min(self._decay, (1 + step) / (10 + step))
        moving = [(self._means[n], p) for n, p in network.named_parameters() if p.requires_grad]
        if moving:
            means, weights = (list(part) for part in zip(*moving, strict=True))
            torch._foreach_lerp_(means, weights, 1 - decay)

    @torch.no_grad()
    def settle(self, network: nn.Module, names: Iterable[str]) -> None:
        """Let the mean of parameters that learn no more be their weights.

        Those that learn on are trained against these weights, not against an older mean of them.
        """
        parameters = dict(network.named_parameters())
        for name in names:
            self._means[name].copy_(parameters[name])

    @contextmanager
    def inside(self, network: nn.Module) -> Iterator[None]:
        """Put the mean in the place of the weights while the block runs."""
        parameters = dict(network.named_parameters())
        kept = {name: one.data for name, one in parameters.items()}
        try:
            for name, one in parameters.items():
                one.data = self._means[name]
            yield
        finally:
            for name, one in parameters.items():
                one.data = kept[name]

    def state(self) -> dict[str, Tensor]:
        """Return the means, to be kept."""
        return self._means

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from means that were kept."""
        for name, mean in self._means.items():
            mean.copy_(state[name])
