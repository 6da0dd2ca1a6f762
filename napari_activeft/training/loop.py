"""One run, step by step: its state, what a step does, what happens between steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_activeft.errors import UserError
from napari_activeft.training.averaging import RunningMean
from napari_activeft.training.batches import Batches, parts_of, torch_seed
from napari_activeft.training.learning import (
    GradientProbe,
    LayerGradient,
    Learning,
    choose_frozen,
)
from napari_activeft.training.losses import SegmentationLoss, Totals
from napari_activeft.training.memory import halved_on_shortage
from napari_activeft.training.optimiser import learning_rate, make_optimiser

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from napari_activeft.settings import TrainSettings

OnLog = Callable[[str], None]
_TRIED_SIDE = 64  # pixels of an image that shows how many outputs there are


class Diverged(UserError):
    """The loss or its gradient is no number any more."""


class DeepForward(nn.Module):
    """A network whose ``forward`` gives all outputs: what is wrapped for many processes."""

    def __init__(self, network: nn.Module, deep: bool) -> None:
        super().__init__()
        self.network, self._deep = network, deep

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (b, k, h, w) to logits (b, n, h, w), and coarser ones where they are wanted."""
        logits: list[Tensor] = self.network.forward_deep(x)  # type: ignore[operator]
        return logits if self._deep else logits[:1]


@dataclass
class Course:
    """Where a run is.

    Attributes
    ----------
    step
        Steps that were done.
    part
        Slices that are worked on at once, over all processes; halved when memory is short.
    rows
        What was noted at each step.
    best, best_step
        The best score and its step; None before the first.
    since_best
        Measurements since then.
    seconds
        Spent before this process.
    layers
        What the gradient probe saw, once it is over.
    """

    part: int
    step: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None
    best_step: int | None = None
    since_best: int = 0
    seconds: float = 0.0
    layers: list[LayerGradient] = field(default_factory=list)


class Loop:
    """The changing part of a run.

    Parameters
    ----------
    learning
        The network, with its weights, on the CPU.
    batches
        Where crops come from.
    loss
        Of a part of a batch.
    settings
        Of the run.
    fabric
        Launched.
    on_log
        Told what a reader of the log should know.
    """

    def __init__(
        self,
        learning: Learning,
        batches: Batches,
        loss: SegmentationLoss,
        settings: TrainSettings,
        fabric: Fabric,
        on_log: OnLog,
    ) -> None:
        self.learning, self.settings, self.fabric = learning, settings, fabric
        self.course = Course(part=settings.batch)
        self._batches, self._loss, self._on_log = batches, loss, on_log
        self._deep = DeepForward(
            learning.network, settings.deep_supervision and learning.network.deep_supervision
        )
        self._deep.to(fabric.device)
        self.optimiser = make_optimiser(
            learning.network, settings, fused=fabric.device.type in ("cpu", "cuda")
        )
        self._fabric_optimiser: Any = fabric.setup_optimizers(self.optimiser)
        self._wrapped: Any = fabric.setup_module(self._deep)
        self.mean = RunningMean(learning.network, settings.ema)
        self.probe = GradientProbe(learning, settings.probe_steps)
        self._places = _places_of(settings, fabric.global_rank)
        self._outputs = self._count_outputs()

    def step(self) -> dict[str, Any]:
        """Change the weights once and return what is to be noted.

        Raises
        ------
        Diverged
            If loss or gradient is no number; the network is then as it was before the step.
        """
        course, settings = self.course, self.settings
        last = course.step + 1 >= settings.steps
        images, targets = self._batches.crops(course.step, self._places, last=last)
        rate = learning_rate(course.step, settings)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self._wrapped.train()
        self.learning.train()  # after: it leaves a frozen encoder in eval mode
        buffers = [(one, one.clone()) for one in self.learning.network.buffers()]
        figures = halved_on_shortage(
            lambda part: self._gradient(images, targets, part), course, self.fabric, self._on_log
        )
        norm = self._clipped_norm()
        if not math.isfinite(sum(figures)) or not self._may_go_on(norm):
            for one, before in buffers:  # batch norms have taken in what was no number
                one.copy_(before)
            raise Diverged(
                f"the loss of step {course.step + 1} is {figures[0]:.4g} and its gradient "
                f"{norm:.4g}, but finite ones are needed: lower the learning rate or take float32"
            )
        self._fabric_optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.mean.update(self.learning.network, course.step)
        course.step += 1
        self._freeze_when_due()
        loss, ce, dice = figures
        row = {"step": course.step, "loss": loss, "ce": ce, "dice": dice, "lr": rate, "norm": norm}
        course.rows.append(row)
        return row

    def _gradient(self, images: Tensor, targets: Tensor, part: int) -> list[float]:
        """Add up the gradients of a step in parts; return its loss, cross entropy and Dice loss."""
        fabric, processes = self.fabric, self.fabric.world_size
        self.optimiser.zero_grad(set_to_none=True)
        torch.manual_seed(torch_seed(self.settings.seed, self.course.step, fabric.global_rank))
        totals = self._totals(targets)
        sums = torch.zeros(3, dtype=torch.float64, device=fabric.device)
        parts = list(parts_of(range(len(images)), max(1, part // processes)))
        for number, places in enumerate(parts, start=1):
            chosen = slice(places[0], places[-1] + 1)
            x, target = images[chosen].to(fabric.device), targets[chosen].to(fabric.device)
            with fabric.no_backward_sync(self._wrapped, enabled=number < len(parts)):
                share = self._loss(self._wrapped(x), target, totals)
                fabric.backward(share.loss * processes)  # processes are averaged
            sums += torch.stack([share.loss.detach(), share.ce, share.dice]).double()
        figures: list[float] = self._summed(sums).tolist()
        return figures

    def _totals(self, targets: Tensor) -> Totals:
        """Count what the whole step holds, over all processes."""
        weights = self._loss.weight_of(targets, self._outputs).to(self.fabric.device)
        return Totals(
            self.settings.batch * self.settings.accumulate, self._summed(weights).tolist()
        )

    @torch.no_grad()
    def _count_outputs(self) -> int:
        """Return how many outputs the loss looks at."""
        network = self.learning.network
        x = torch.zeros(1, network.channels, _TRIED_SIDE, _TRIED_SIDE, device=self.fabric.device)
        return len(self._deep.eval()(x))

    def _summed(self, figures: Tensor) -> Tensor:
        if self.fabric.world_size == 1:
            return figures
        summed: Tensor = self.fabric.all_reduce(figures, reduce_op="sum")  # type: ignore[assignment]
        return summed

    def _clipped_norm(self) -> float:
        """Clip the gradient and return its norm before; the probe sees it as it was."""
        if not self.probe.over:
            scaler = getattr(self.fabric._precision, "scaler", None)  # of float16 only
            self.probe.watch(1.0 if scaler is None else scaler.get_scale())
        norm = self.fabric.clip_gradients(
            self._wrapped,
            self._fabric_optimiser,
            max_norm=self.settings.clip or math.inf,
            error_if_nonfinite=False,
        )
        return float(norm) if norm is not None else math.nan

    def _may_go_on(self, norm: float) -> bool:
        """Tell whether a step may be taken; float16 leaves out steps by itself."""
        return math.isfinite(norm) or self.fabric._precision.precision == "16-mixed"

    def _freeze_when_due(self) -> None:
        """Freeze what hardly moves, once, right after the probe."""
        if self.course.layers or not self.probe.over:
            return
        settings = self.settings
        layers = self.probe.layers()
        if settings.learns == "freeze_low_gradient":
            layers = choose_frozen(
                layers, below=settings.freeze_below, at_most=settings.freeze_most
            )
            names = [layer.name for layer in layers if layer.frozen]
            self.freeze(names)
            learns, every = self.learning.counts()
            self._on_log(
                f"after {self.course.step} steps {len(names)} of {len(layers)} parameters were "
                f"frozen for their small gradients; {learns:,} of {every:,} weights learn on"
            )
        self.course.layers = layers

    def freeze(self, names: list[str]) -> None:
        """Freeze parameters; many processes must be told what there is to exchange."""
        self.learning.freeze(names)
        self.mean.settle(self.learning.network, names)
        if names and self.fabric.world_size > 1:
            self._wrapped = self.fabric.setup_module(self._deep)


def _places_of(settings: TrainSettings, rank: int) -> list[int]:
    """Return the places of a step that are a process's: its part of every batch."""
    share = settings.batch // (settings.devices * settings.nodes)
    return [
        batch * settings.batch + rank * share + at
        for batch in range(settings.accumulate)
        for at in range(share)
    ]


def now() -> float:
    """Return seconds on a clock that never goes back."""
    return time.monotonic()
