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
)
from .weight_names import (
    has_current_names_of_first,
    identify,
    is_head,
    is_output_norm,
    is_stem,
    nearest,
    shapes_of,
    to_current_names,
    to_first_names,
)

__all__ = [
    "CheckpointError",
    "Loaded",
    "MisfitError",
    "fit",
    "load_checkpoint",
    "load_into",
    "recognise",
    "save_safetensors",
    "weight_hash",
]

_ONE_BY_ONE = re.compile(r"\.(in_proj|out_proj|mlp\.fc1|mlp\.fc2|downsample\.reduction)\.weight$")


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
        a segmentation file lacks, or the stages' output norms that a classification file lacks.
    left_out
        Weights of the file that the model has no place for, of the same two kinds.
    stem_adapted
        Whether the first convolution was turned from RGB to another number of channels.
    """

    variant: str
    taken: int
    fresh: tuple[str, ...]
    left_out: tuple[str, ...]
    stem_adapted: bool


def load_into(model: nn.Module, source: str | Path | Mapping[str, Tensor], variant: str) -> Loaded:
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

    Raises
    ------
    CheckpointError
        If the file cannot be read.
    MisfitError
        If a weight is missing, left over or of another shape; it names the variant that fits.
    """
    state = load_checkpoint(source) if isinstance(source, (str, Path)) else source
    named = str(source) if isinstance(source, (str, Path)) else "the set of weights"
    wanted = model.state_dict()
    fitting, loaded = fit(state, wanted, variant, named)
    model.load_state_dict({**{key: wanted[key] for key in loaded.fresh}, **fitting}, strict=True)
    return loaded


def fit(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], variant: str, named: str
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

    Raises
    ------
    MisfitError
        If a weight is missing, left over or of another shape.
    """
    offered = state
    state = {
        key: _as_matrix(key, weight, wanted.get(key))
        for key, weight in _named_as(state, wanted).items()
    }
    left_out = tuple(key for key in state if key not in wanted and _may_be_left_out(key, wanted))
    state |= _norm_of_last_stage(state, wanted)
    adapted = _adapt_stem_in(state, wanted)
    fresh = tuple(key for key in wanted if key not in state and _may_stay_fresh(key, offered))
    fitting = {key: weight for key, weight in state.items() if key not in left_out}
    faults = _faults(fitting, wanted, fresh)
    if faults:
        raise MisfitError(f"{named} does not fit {variant}: {faults}; {_advice(offered, variant)}")
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
    has_linear = any(is_head(name) and "head." in name for name in state)
    return (is_head(key) and is_segmentation and not has_linear) or (
        is_output_norm(key) and not is_segmentation
    )


def _norm_of_last_stage(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the norm of the last stage's map under the model's name, where the file has another.

    A classifier's norm and the last output norm are the same part under two names.
    """
    have, need = _last_norm(state), _last_norm(wanted)
    if have is None or need is None or have == need or f"{need}.weight" in state:
        return {}
    return {f"{need}.{leaf}": state[f"{have}.{leaf}"] for leaf in ("weight", "bias")}


def _last_norm(names: Iterable[str]) -> str | None:
    norms = sorted(
        key.removesuffix(".weight")
        for key in names
        if (is_head(key) and key.endswith("norm.weight"))
        or (is_output_norm(key) and key.endswith(".weight"))
    )
    return norms[-1] if norms else None


def _adapt_stem_in(state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    """Turn the first convolution to the model's input channels; tell whether that was needed."""
    adapted = False
    for key in [key for key in state if is_stem(key) and key in wanted]:
        weight, channels = state[key], wanted[key].shape[1]
        if weight.dim() == 4 and weight.shape[1] == RGB != channels:
            state[key] = adapt_stem(weight, channels)
            adapted = True
    return adapted


def _faults(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], fresh: tuple[str, ...]
) -> str:
    """Say what keeps weights from being the wanted ones; empty if nothing does."""
    missing = [key for key in wanted if key not in state and key not in fresh]
    unexpected = [key for key in state if key not in wanted]
    misshapen = [
        f"{key} is {tuple(weight.shape)} where {tuple(wanted[key].shape)} is needed"
        for key, weight in state.items()
        if key in wanted and weight.shape != wanted[key].shape
    ]
    faults = [
        (missing, "missing"), (unexpected, "unexpected"), (misshapen, "of another shape")
    ]  # fmt: skip
    return ", ".join(
        f"{len(keys)} weights are {what} ({few(keys)})" for keys, what in faults if keys
    )


def _advice(offered: Mapping[str, Tensor], variant: str) -> str:
    """Say which variant weights belong to, and what to do."""
    fits = recognise(offered)
    if fits is not None and fits != variant:
        return f"these are the weights of {fits}: build that, or give a file of {variant}"
    if fits is not None:
        return f"stem and stages are those of {variant}: build it with the file's head and channels"
    name, shared, of = nearest(shapes_of(offered))
    return (
        f"they fit no known variant (nearest is {name}, of which {shared} of {of} weights are "
        f"there): give a file of {variant}"
    )
