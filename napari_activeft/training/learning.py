"""What of a network learns: all of it, its decoder, what has a gradient, or low-rank additions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_activeft.errors import UserError
from napari_activeft.extras import need_lora
from napari_activeft.training.networks import is_plain

if TYPE_CHECKING:
    from napari_activeft.models.segmenter import Segmenter
    from napari_activeft.settings import TrainSettings

_DECODER_PARTS = ("layers_up", "final_up", "final_conv")  # of an encoder that holds a decoder too
_PROJECTIONS = ("in_proj", "out_proj", "fc1", "fc2")
_ADAPTER = "default"
_SMALLEST_NORM = 1e-12


@dataclass(frozen=True)
class LayerGradient:
    """How strongly one parameter was pulled in the steps of the probe.

    Attributes
    ----------
    name
        Of the parameter.
    weights
        How many numbers it holds.
    gradient
        Mean over the steps of the norm of its gradient.
    ratio
        That, over the norm of its weights.
    frozen
        Whether it was frozen then.
    """

    name: str
    weights: int
    gradient: float
    ratio: float
    frozen: bool = False


def see_learning(settings: TrainSettings, outputs: int) -> None:
    """See that a network can learn as the settings say, before anything is begun.

    Parameters
    ----------
    outputs
        Of the network, the background included.

    Raises
    ------
    UserError
        If low-rank additions cannot be had, or the class weights are not one for each output.
    """
    if settings.learns == "lora":
        if is_plain(settings.network):
            raise _without_projections(settings.network)
        need_lora()
    weights = settings.class_weights
    if weights is not None and len(weights) != outputs:
        raise UserError(
            f"{len(weights)} class weights were given for {outputs} outputs: one for the "
            "background and one for each class"
        )


def _without_projections(network: str) -> UserError:
    return UserError(
        f"learns=lora was given for {network}, whose encoder has no projections: take one of our "
        "networks, or learns=full"
    )


class Learning:
    """A network and which of its parameters learn.

    Parameters
    ----------
    network
        Its low-rank additions are put in here, and ``requires_grad`` is set.
    settings
        Of these `learns`, and what belongs to it.

    Raises
    ------
    UserError
        If low-rank additions are asked for and cannot be had.
    """

    def __init__(self, network: Segmenter, settings: TrainSettings) -> None:
        self.network = network
        self.frozen: set[str] = set()
        self._adapted: list[str] = []
        encoder = encoder_parameters(network)
        self._still = settings.learns == "decoder"
        if settings.learns == "lora":
            self._add_low_rank(settings, encoder)
            encoder = {name for name in _names(network) if ".lora_" not in name} & set(
                _with_base_layers(encoder, self._adapted)
            )
        for name, one in network.named_parameters():
            stays = settings.learns in ("decoder", "lora") and name in encoder
            one.requires_grad_(not stays and not network.is_unused(name))

    def train(self) -> None:
        """Put the network into train mode; an encoder that is frozen stays in eval mode."""
        self.network.train()
        if self._still:
            for part in encoder_parts(self.network):
                part.eval()

    def parameters(self) -> list[nn.Parameter]:
        """Return what learns now."""
        return [one for one in self.network.parameters() if one.requires_grad]

    def counts(self) -> tuple[int, int]:
        """Return how many numbers learn, and how many there are."""
        every = list(self.network.parameters())
        return sum(p.numel() for p in every if p.requires_grad), sum(p.numel() for p in every)

    def freeze(self, names: Iterable[str]) -> None:
        """Let these parameters learn no more."""
        parameters = dict(self.network.named_parameters())
        for name in names:
            parameters[name].requires_grad_(False)
            parameters[name].grad = None
            self.frozen.add(name)

    def plain_state(self) -> dict[str, Tensor]:
        """Return the weights of the plain network, low-rank additions merged into them."""
        state = {
            name.replace(".base_layer.", "."): weight.detach().clone()
            for name, weight in self.network.state_dict().items()
            if ".lora_" not in name
        }
        for name in self._adapted:
            layer: Any = self.network.get_submodule(name)
            state[f"{name}.weight"] += layer.get_delta_weight(_ADAPTER).detach()
        return state

    def _add_low_rank(self, settings: TrainSettings, encoder: set[str]) -> None:
        need_lora()
        from peft import LoraConfig, inject_adapter_in_model

        self._adapted = [
            name
            for name, part in self.network.named_modules()
            if isinstance(part, nn.Linear)
            and name.rpartition(".")[2] in _PROJECTIONS
            and f"{name}.weight" in encoder
        ]
        if not self._adapted:
            raise _without_projections(settings.network)
        config = LoraConfig(
            r=settings.lora_rank, lora_alpha=settings.lora_alpha, target_modules=self._adapted
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            inject_adapter_in_model(config, self.network, adapter_name=_ADAPTER)


class GradientProbe:
    """Adds up gradient norms over the first steps of a run.

    Parameters
    ----------
    learning
        Whose parameters are watched.
    steps
        How many to watch.
    """

    def __init__(self, learning: Learning, steps: int) -> None:
        self._learning, self._steps = learning, steps
        self.sums: dict[str, float] = {}
        self.seen = 0

    @property
    def over(self) -> bool:
        """Whether all steps were watched."""
        return self.seen >= self._steps

    @torch.no_grad()
    def watch(self, scale: float = 1.0) -> None:
        """Take in the gradients of a step, before they are clipped.

        A step whose gradients overflowed is not one: float16 leaves it out.

        Parameters
        ----------
        scale
            By which the loss was multiplied.
        """
        named = [(n, p.grad) for n, p in self._learning.network.named_parameters()]
        held = [(name, grad) for name, grad in named if grad is not None]
        norms = torch._foreach_norm([grad for _, grad in held])
        found = (torch.stack(list(norms)).double() / scale).tolist()
        if not math.isfinite(sum(found)):
            return
        for (name, _), norm in zip(held, found, strict=True):
            self.sums[name] = self.sums.get(name, 0.0) + norm
        self.seen += 1

    @torch.no_grad()
    def layers(self) -> list[LayerGradient]:
        """Return what was seen, in the order of the network."""
        return [
            LayerGradient(
                name,
                one.numel(),
                gradient := self.sums[name] / max(self.seen, 1),
                gradient / max(float(one.norm()), _SMALLEST_NORM),
            )
            for name, one in self._learning.network.named_parameters()
            if name in self.sums
        ]

    def state(self) -> dict[str, Any]:
        """Return what was seen, to be kept."""
        return {"sums": self.sums, "seen": self.seen}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what was kept."""
        self.sums, self.seen = dict(state["sums"]), int(state["seen"])


def choose_frozen(
    layers: list[LayerGradient], *, below: float, at_most: float
) -> list[LayerGradient]:
    """Mark the layers whose ratio is below a share of the median's, the smallest first.

    Parameters
    ----------
    below
        Share of the median ratio.
    at_most
        Share of all weights that may be frozen.

    Returns
    -------
    layers
        The same, in the same order, with ``frozen`` set.
    """
    if not layers:
        return []
    limit = below * sorted(layer.ratio for layer in layers)[len(layers) // 2]
    room = at_most * sum(layer.weights for layer in layers)
    chosen: set[str] = set()
    for layer in sorted(layers, key=lambda one: one.ratio):
        room -= layer.weights
        if layer.ratio >= limit or room < 0:
            break
        chosen.add(layer.name)
    return [LayerGradient(x.name, x.weights, x.gradient, x.ratio, x.name in chosen) for x in layers]


def encoder_parts(network: Segmenter) -> list[nn.Module]:
    """Return the parts of a network that make its encoder."""
    whole = network.get_submodule(network.encoder_name)
    named = getattr(network, "encoder_parts", None)
    return [
        part
        for name, part in whole.named_children()
        if (name in named if named is not None else name not in _DECODER_PARTS)
    ]


def encoder_parameters(network: Segmenter) -> set[str]:
    """Return the names of the parameters that belong to a network's encoder."""
    inside = {id(one) for part in encoder_parts(network) for one in part.parameters()}
    return {name for name, one in network.named_parameters() if id(one) in inside}


def _names(network: nn.Module) -> list[str]:
    return [name for name, _ in network.named_parameters()]


def _with_base_layers(names: Iterable[str], adapted: Iterable[str]) -> Iterable[str]:
    """Return the names as peft changes them: ``x.weight`` of an adapted x is its base layer's."""
    under = set(adapted)
    for name in names:
        head, _, tail = name.rpartition(".")
        yield f"{head}.base_layer.{tail}" if head in under else name
