"""Put weights into a model strictly.

Nothing is guessed: a weight that is missing, left over or of another shape is an error that names
the model which the weights fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from .backbone import RGB, adapt_stem
from .checkpoint_files import (
    CheckpointError,
    few,
    load_checkpoint,
    save_safetensors,
    weight_hash,
    weights_in,
)
from .weight_names import (
    has_current_names_of_first,
    identify,
    is_head,
    is_linear_head,
    is_output_norm,
    is_stem,
    nearest,
    shapes_of,
    stem_channels,
    to_current_names,
    to_first_names,
)

__all__ = [
    "CheckpointError",
    "Loaded",
    "MisfitError",
    "feature_hash",
    "fit",
    "load_checkpoint",
    "load_into",
    "recognise",
    "save_safetensors",
    "stem_channels",
    "weight_hash",
]

_ONE_BY_ONE = re.compile(r"\.(in_proj|out_proj|mlp\.fc1|mlp\.fc2|downsample\.reduction)\.weight$")
_LAST_OUTPUT_NORM = "outnorm3"
GREY = 1


class MisfitError(CheckpointError):
    """Weights that are not those of the model."""


@dataclass(frozen=True)
class Loaded:
    """What became of weights that were put into a model.

    Attributes
    ----------
    variant
        The model's name.
    taken
        Weights that were taken over.
    fresh
        Weights of the model that the file does not hold and that stayed as they were: a head that
        the file lacks or has another of, or the stages' output norms that a classification file
        lacks.
    left_out
        Weights of the file that the model has no place for, of the same two kinds.
    stem_adapted
        Whether the first convolution was turned from RGB or grey to another number of channels.
    """

    variant: str
    taken: int
    fresh: tuple[str, ...]
    left_out: tuple[str, ...]
    stem_adapted: bool


def load_into(
    model: nn.Module,
    source: str | Path | Mapping[str, Tensor],
    variant: str,
    *,
    any_head: bool = False,
) -> Loaded:
    """Put weights into a model, all of them or none.

    Two things may differ, and `Loaded` says so: an encoder's classifier and the output norms of a
    segmentation backbone need not be on both sides. The classifier's norm and the last output norm
    norm the same map, so one becomes the other.

    Parameters
    ----------
    model
        To be filled; left as it was if the weights do not fit.
    source
        A file, or weights by name.
    variant
        The model's name, for messages.
    any_head
        Whether the file may have another linear head or none, which then stays as it was.

    Raises
    ------
    CheckpointError
        If the weights cannot be read.
    MisfitError
        If a weight is missing, left over or of another shape or kind; it names the variant that
        fits.
    """
    named = str(source) if isinstance(source, (str, Path)) else "the set of weights"
    state = (
        load_checkpoint(source) if isinstance(source, (str, Path)) else weights_in(source, named)
    )
    wanted = model.state_dict()
    fitting, loaded = fit(state, wanted, variant, named, any_head=any_head)
    model.load_state_dict({**{key: wanted[key] for key in loaded.fresh}, **fitting}, strict=True)
    return loaded


def feature_hash(state: Mapping[str, Tensor]) -> str:
    """Return `weight_hash` over the weights that compute the pooled vector: all but the head."""
    return weight_hash({key: weight for key, weight in state.items() if not is_linear_head(key)})


def fit(
    state: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    variant: str,
    named: str,
    *,
    any_head: bool = False,
) -> tuple[dict[str, Tensor], Loaded]:
    """Return weights under the names and shapes that a model has for them, see `load_into`.

    Parameters
    ----------
    state
        The weights.
    wanted
        The model's own, of which only names and shapes matter.
    variant, named
        The model's name and that of the file, for messages.
    any_head
        Whether the two may have different linear heads.

    Raises
    ------
    MisfitError
        If a weight is missing, left over or of another shape or kind.
    """
    offered = state
    state = {
        key: _as_matrix(key, weight, wanted.get(key))
        for key, weight in _named_as(state, wanted).items()
    }
    unlike = _unlike_heads(state, wanted) if any_head else set()
    left_out = tuple(
        key
        for key in state
        if key in unlike or (key not in wanted and _may_be_left_out(key, wanted))
    )
    halves = _halves_of_norms(state)
    state |= _norm_of_last_stage(state, wanted)
    adapted = _adapt_stem_in(state, wanted)
    fresh = tuple(
        key
        for key in wanted
        if key in unlike or (key not in state and _may_stay_fresh(key, offered))
    )
    fitting = {key: weight for key, weight in state.items() if key not in left_out}
    faults = _faults(fitting, wanted, fresh, halves)
    if faults:
        raise MisfitError(
            f"{named} does not fit {variant}: {faults}; {_advice(offered, wanted, variant)}"
        )
    return fitting, Loaded(variant, len(fitting), fresh, left_out, adapted)


def recognise(state: Mapping[str, Tensor]) -> str | None:
    """Return the variant that weights belong to, whatever the names of a first-generation file."""
    named = to_first_names(state) if has_current_names_of_first(state) else dict(state)
    squeezed = {
        key: weight.flatten(1) if _ONE_BY_ONE.search(key) and weight.dim() == 4 else weight
        for key, weight in named.items()
    }
    return identify(shapes_of(squeezed))


def _named_as(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name first-generation weights as the model does."""
    if "patch_embed.proj.weight" in wanted and has_current_names_of_first(state):
        return to_first_names(state)
    if "patch_embed.proj.weight" in state and has_current_names_of_first(wanted):
        return to_current_names(state)
    return dict(state)


def _as_matrix(key: str, weight: Tensor, wanted: Tensor | None) -> Tensor:
    """View the weight of a 1 x 1 convolution (o, i, 1, 1) as that of a linear layer (o, i)."""
    is_matrix = wanted is not None and wanted.dim() == 2
    if weight.dim() == 4 and weight.shape[2:] == (1, 1) and is_matrix and _ONE_BY_ONE.search(key):
        return weight.flatten(1)
    return weight


def _may_be_left_out(key: str, wanted: Mapping[str, Tensor]) -> bool:
    """Tell whether the model does without a weight: it has no classifier, or no output norms."""
    return (is_head(key) and not any(is_head(name) for name in wanted)) or (
        is_output_norm(key) and not any(is_output_norm(name) for name in wanted)
    )


def _may_stay_fresh(key: str, state: Mapping[str, Tensor]) -> bool:
    """Tell whether the file's kind lacks a weight: it has no classifier, or no output norms."""
    is_segmentation = any(is_output_norm(name) for name in state)
    has_linear = any(is_linear_head(name) for name in state)
    return (is_linear_head(key) and is_segmentation and not has_linear) or (
        is_output_norm(key) and not is_segmentation
    )


def _unlike_heads(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> set[str]:
    """Return the weights of both linear heads if they differ in names or shapes."""
    theirs, ours = (
        {key: weight.shape for key, weight in side.items() if is_linear_head(key)}
        for side in (state, wanted)
    )
    return set() if theirs == ours else theirs.keys() | ours.keys()


def _halves_of_norms(state: Mapping[str, Tensor]) -> list[str]:
    """Return what output norms lack that have only one of weight and bias."""
    norms = {key.rpartition(".")[0] for key in state if is_output_norm(key)}
    both = [f"{norm}.{leaf}" for norm in sorted(norms) for leaf in ("weight", "bias")]
    return [key for key in both if key not in state]


def _norm_of_last_stage(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the norm of the last stage's map under the model's name, where the file has another.

    A classifier's norm and the last output norm are the same part under two names.
    """
    have, need = _last_norm(state), _last_norm(wanted)
    if have is None or need is None or have == need or f"{need}.weight" in state:
        return {}
    return {
        f"{need}.{leaf}": state[f"{have}.{leaf}"]
        for leaf in ("weight", "bias")
        if f"{have}.{leaf}" in state
    }


def _last_norm(names: Iterable[str]) -> str | None:
    norms = sorted(
        key.removesuffix(".weight")
        for key in names
        if (is_head(key) and key.endswith("norm.weight")) or key == f"{_LAST_OUTPUT_NORM}.weight"
    )
    return norms[-1] if norms else None


def _adapt_stem_in(state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    """Turn the first convolution to the model's input channels; tell whether that was needed."""
    adapted = False
    for key in [key for key in state if is_stem(key) and key in wanted]:
        weight, channels = state[key], wanted[key].shape[1]
        state[key] = turn_stem(weight, channels)
        adapted |= state[key] is not weight
    return adapted


def turn_stem(weight: Tensor, channels: int) -> Tensor:
    """Turn the first convolution's weight (c, 1 or 3, y, x) to a number of channels.

    What was trained on grey sees the mean of the channels then. Any other weight is returned as it
    is.
    """
    if weight.dim() != 4 or weight.shape[1] not in (GREY, RGB) or weight.shape[1] == channels:
        return weight
    if weight.shape[1] == GREY:
        return weight.repeat(1, channels, 1, 1) / channels
    return adapt_stem(weight, channels)


def _faults(
    state: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    fresh: tuple[str, ...],
    halves: list[str],
) -> str:
    """Say what keeps weights from being the wanted ones; empty if nothing does."""
    missing = [key for key in wanted if key not in state and key not in fresh]
    missing += [key for key in halves if key not in missing]
    unexpected = [key for key in state if key not in wanted]
    misshapen = [
        f"{key} is {tuple(weight.shape)} where {tuple(wanted[key].shape)} is needed"
        for key, weight in state.items()
        if key in wanted and weight.shape != wanted[key].shape
    ]
    faults = [
        (missing, "missing"),
        (unexpected, "unexpected"),
        (misshapen, "of another shape"),
        (other_kinds(state, wanted), "of another kind of numbers"),
    ]
    return ", ".join(
        f"{len(keys)} {'weight is' if len(keys) == 1 else 'weights are'} {what} ({few(keys)})"
        for keys, what in faults
        if keys
    )


def other_kinds(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Name weights that hold whole numbers where fractions are needed, or the reverse."""
    return [
        f"{key} is {str(weight.dtype).removeprefix('torch.')}"
        for key, weight in state.items()
        if key in wanted and weight.is_floating_point() != wanted[key].is_floating_point()
    ]


def _advice(offered: Mapping[str, Tensor], wanted: Mapping[str, Tensor], variant: str) -> str:
    """Say which variant weights belong to, and what to do."""
    fits = recognise(offered)
    theirs, ours = stem_channels(offered), stem_channels(wanted)
    if fits == variant and theirs not in (None, GREY, RGB, ours):
        return (
            f"they were trained on images of {theirs} channels and turn to no other number: give "
            f"images of {theirs} channels, or a file for 1 or 3"
        )
    if fits == variant and other_kinds(offered, wanted):
        return "quantised weights are not used: give the file that they were made from"
    if fits is not None and fits != variant:
        return f"these are the weights of {fits}: build that, or give a file of {variant}"
    if fits is not None:
        return f"stem and stages are those of {variant}: build it with the file's head and channels"
    name, shared, of = nearest(shapes_of(offered))
    return (
        f"they fit no known variant (nearest is {name}, of which {shared} of {of} weights are "
        f"there): give a file of {variant}"
    )
