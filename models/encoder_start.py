"""Start a segmentation network from the weights of a pre-trained VMamba.

The encoder takes the weights of its stem and stages. Decoder blocks take those of the encoder stage
of their width, as VM-UNet's authors do. Everything else starts fresh, and the report says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .checkpoint_files import few, load_checkpoint, weights_in
from .checkpoints import MisfitError, other_kinds, recognise, turn_stem
from .gated_encoder import GatedEncoder
from .segmenter import Segmenter
from .weight_names import (
    has_current_names_of_first,
    is_head,
    is_output_norm,
    is_stem,
    to_first_names,
)

_BODY = ("patch_embed.", "layers.")
_BLOCK = re.compile(r"layers\.\d+\.blocks\.\d+\.")
_UP_BLOCK = re.compile(r"(?:.*\.)?layers_up\.(\d+)\.(blocks\..*)")
_CONV_BIAS = ".op.conv2d.bias"


@dataclass(frozen=True)
class EncoderStart:
    """What became of the weights of a pre-trained encoder.

    Attributes
    ----------
    taken
        Weights of the encoder that were taken over, by their names in the network.
    mirrored
        Weights of the decoder that were taken over from the encoder stage of their width.
    fresh
        Weights of the network that stayed as they were.
    left_out
        Weights of the file that the network has no place for: the classifier, and blocks of a
        stage that is deeper in the file than in VM-UNet.
    stem_adapted
        Whether the first convolution was turned from RGB or grey to another number of channels.
    """

    taken: tuple[str, ...]
    mirrored: tuple[str, ...]
    fresh: tuple[str, ...]
    left_out: tuple[str, ...]
    stem_adapted: bool


def load_encoder(model: Segmenter, source: str | Path | Mapping[str, Tensor]) -> EncoderStart:
    """Put the weights of a pre-trained VMamba into a network, all of them or none.

    VM-UNet and VM-UNetV2 take first-generation weights (``vmamba_v0_small``, of which they use the
    first blocks of every stage); ``vm_unet_conv`` and ``vm_unet_s1`` those of the second generation
    of their size, block by block. There the classifier's norm starts the norm of the last stage.

    Parameters
    ----------
    model
        To be started; left as it was if the weights do not fit.
    source
        A file, or weights by name.

    Raises
    ------
    CheckpointError
        If the weights cannot be read.
    MisfitError
        If a weight that the encoder needs is missing or of another shape or kind, or one is left
        over.
    """
    if not isinstance(model, Segmenter):
        raise TypeError(
            f"a {type(model).__name__} was given to start, but it must be a segmentation network "
            "with an encoder inside: put the weights of an encoder into an encoder by load_into"
        )
    state = (
        load_checkpoint(source)
        if isinstance(source, (str, Path))
        else weights_in(source, "the set of weights")
    )
    wanted = model.state_dict()
    gated = isinstance(model.get_submodule(model.encoder_name), GatedEncoder)
    if gated and has_current_names_of_first(state):
        state = to_first_names(state)
    taken = _encoder_sources(model, wanted, state)
    mirrored = _mirror_sources(wanted)
    sources = taken | mirrored
    values = {
        key: _as_wanted(origin, state[origin], wanted[key])
        for key, origin in sources.items()
        if origin in state
    }
    left_out = [key for key in state if key not in sources.values()]
    _check(
        sources, values, wanted, state, [key for key in left_out if not _spare(key, gated, sources)]
    )
    model.load_state_dict(wanted | values, strict=True)
    return EncoderStart(
        tuple(taken),
        tuple(mirrored),
        tuple(key for key in wanted if key not in values),
        tuple(left_out),
        any(is_stem(o) and state[o].shape != wanted[k].shape for k, o in taken.items()),
    )


def _encoder_sources(
    model: Segmenter, wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> dict[str, str]:
    """Name, for every encoder weight that is to be taken over, the weight of the file."""
    prefix = f"{model.encoder_name}."
    inside = [key.removeprefix(prefix) for key in wanted if key.startswith(prefix)]
    sources = {prefix + key: key for key in inside if key.startswith(_BODY)}
    if model.as_published:  # the notebook's faults: random biases, untrained norms
        return {
            key: origin
            for key, origin in sources.items()
            if origin in state or not origin.endswith(_CONV_BIAS)
        }
    norms = [key for key in inside if is_output_norm(key)]
    last = max(norms, default="").split(".")[0]
    for key in norms:
        pooling = key.replace(f"{last}.", "classifier.norm.")
        origin = key if key in state else pooling
        if origin in state:
            sources[prefix + key] = origin
    return sources


def _mirror_sources(wanted: Mapping[str, Tensor]) -> dict[str, str]:
    """Name the encoder weight that a decoder weight starts from: the last mirrors the first."""
    found = {key: match for key in wanted if (match := _UP_BLOCK.fullmatch(key))}
    last = max((int(match[1]) for match in found.values()), default=0)
    return {key: f"layers.{last - int(match[1])}.{match[2]}" for key, match in found.items()}


def _as_wanted(origin: str, weight: Tensor, wanted: Tensor) -> Tensor:
    """Bring a weight to the network's form: 1 x 1 convolution as matrix, stem by channels."""
    if weight.dim() == 4 and wanted.dim() == 2 and weight.shape[2:] == (1, 1):
        return weight.flatten(1)
    return turn_stem(weight, wanted.shape[1]) if is_stem(origin) else weight


def _spare(key: str, gated: bool, sources: Mapping[str, str]) -> bool:
    """Tell whether a weight of the file may be left out."""
    if is_head(key) or is_output_norm(key):
        return True
    block = _BLOCK.match(key)
    used = sources.values()
    return gated and block is not None and not any(name.startswith(block[0]) for name in used)


def _check(
    sources: Mapping[str, str],
    values: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    unexpected: list[str],
) -> None:
    """Refuse weights that do not fit, in one sentence."""
    missing = [origin for origin in sources.values() if origin not in state]
    misshapen = [
        f"{sources[key]} {tuple(state[sources[key]].shape)} where {tuple(wanted[key].shape)} is due"
        for key, value in values.items()
        if value.shape != wanted[key].shape
    ]
    kinds = other_kinds(values, wanted)
    faults = [
        f"{len(names)} {one if len(names) == 1 else many} ({few(names)})"
        for names, one, many in (
            (
                missing,
                "weight that the encoder needs is missing",
                "weights that the encoder needs are missing",
            ),
            (unexpected, "has no place in it", "have no place in it"),
            (misshapen, "is of another shape", "are of another shape"),
            (kinds, "is of another kind of numbers", "are of another kind of numbers"),
        )
        if names
    ]
    if faults:
        variant = recognise(state)
        origin = "of no encoder known here" if variant is None else f"those of {variant}"
        raise MisfitError(
            f"the weights, {origin}, do not start this network: {'; '.join(faults)}: take the "
            "weights of the encoder that it is built on"
        )
