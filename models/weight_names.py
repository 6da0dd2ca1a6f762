"""Names of weights: what files call them, and which model a set of names and shapes belongs to.

A *variant* is the name of a model in `registry.MODELS` or of a published one in `published`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache

import torch
from torch import Tensor

from .published import published

Shapes = Mapping[str, tuple[int, ...]]

# First generation: as its files name the parts, and as today's repository of its authors does.
_FIRST_AND_CURRENT = (
    ("patch_embed.proj.", "patch_embed.0."),
    ("patch_embed.norm.", "patch_embed.2."),
    (".ln_1.", ".norm."),
    (".self_attention.", ".op."),
    ("norm.", "classifier.norm."),
    ("head.", "classifier.head."),
)
_STEMS = ("patch_embed.0.weight", "patch_embed.proj.weight")
_HEADS = ("classifier.", "norm.", "head.")
_LINEAR = ("classifier.head.", "head.")
_BODY = ("patch_embed.", "layers.")
_OUTPUT_NORM = re.compile(r"outnorm[0-3]\.(weight|bias)")  # of the four stages
_BLOCK = re.compile(r"layers\.\d+\.blocks\.\d+\.")


def to_first_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name first-generation weights as their official files do."""
    return {_renamed(key, [(new, old) for old, new in _FIRST_AND_CURRENT]): value
            for key, value in state.items()}  # fmt: skip


def to_current_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name first-generation weights as today's repository of their authors does."""
    return {_renamed(key, _FIRST_AND_CURRENT): value for key, value in state.items()}


def _renamed(key: str, renames: Iterable[tuple[str, str]]) -> str:
    block = _BLOCK.match(key)
    for old, new in renames:
        if old.startswith("."):
            if block and key[block.end() - 1 :].startswith(old):
                return key[: block.end() - 1] + new + key[block.end() - 1 + len(old) :]
        elif key.startswith(old):
            return new + key.removeprefix(old)
    return key


def has_current_names_of_first(state: Mapping[str, Tensor]) -> bool:
    """Tell whether these are first-generation weights under today's names."""
    blocks = [key for key in state if _BLOCK.match(key)]
    return (
        "patch_embed.0.weight" in state
        and any(".op." in key for key in blocks)
        and not any(".norm2." in key for key in blocks)
    )


def is_stem(key: str) -> bool:
    """Tell whether a weight is that of the first convolution."""
    return key.endswith(_STEMS)


def is_head(key: str) -> bool:
    """Tell whether a weight belongs to an encoder's classifier."""
    return key.startswith(_HEADS)


def is_linear_head(key: str) -> bool:
    """Tell whether a weight turns the pooled vector into logits: vectors do without it."""
    return key.startswith(_LINEAR)


def is_output_norm(key: str) -> bool:
    """Tell whether a weight belongs to the norms that segmentation and detection put on stages."""
    return _OUTPUT_NORM.fullmatch(key) is not None


def stem_channels(state: Mapping[str, Tensor]) -> int | None:
    """Return how many channels of an image the first convolution takes; None without one."""
    stems = [weight.shape[1] for key, weight in state.items() if is_stem(key) and weight.dim() == 4]
    return stems[0] if stems else None


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight."""
    return {key: tuple(value.shape) for key, value in state.items()}


@cache
def variant_shapes(variant: str) -> dict[str, tuple[int, ...]] | None:
    """Return names and shapes of a variant's weights; None if nothing is known of it.

    Published facts come first; our own models are built without memory and asked.
    """
    known = published().get(variant)
    if known is not None and known.shapes:
        return known.shapes
    from .registry import MODELS

    if variant not in MODELS:
        return None
    with torch.device("meta"):
        return shapes_of(MODELS[variant].build(channels=3, classes=None, scan=None).state_dict())


def variants() -> list[str]:
    """Return all variants, published ones first."""
    from .registry import MODELS

    return [*published(), *(name for name in MODELS if name not in published())]


def identify(shapes: Shapes) -> str | None:
    """Return the variant whose weights have these names and shapes; None if none has.

    Where no variant fits in full, an encoder whose stem and stages fit is the answer: its file may
    come from segmentation, or its head may know other classes.
    """
    for same in (_same_weights, _same_body):
        for variant in variants():
            wanted = variant_shapes(variant)
            if wanted is not None and same(shapes, wanted):
                return variant
    return None


def nearest(shapes: Shapes) -> tuple[str, int, int]:
    """Return the variant that shares most weights with these, how many, and of how many."""
    found = []
    for variant in variants():
        wanted = variant_shapes(variant) or {}
        shared = sum(shapes.get(key) == shape for key, shape in wanted.items())
        alike = shared / max(len(wanted.keys() | shapes.keys()), 1)
        found.append((alike, variant, shared, len(wanted)))
    _, variant, shared, of = max(found, key=lambda candidate: candidate[0])
    return variant, shared, of


def _same_weights(shapes: Shapes, wanted: Shapes) -> bool:
    return dict(shapes) == dict(wanted)


def _same_body(shapes: Shapes, wanted: Shapes) -> bool:
    """Tell whether stem and stages are those of an encoder, with nothing else but heads and norms.

    The stem's convolution may have any number of input channels.
    """
    if not all(key.startswith(_BODY) or is_head(key) for key in wanted):
        return False
    rest = [key for key in shapes if not key.startswith(_BODY)]
    return all(is_head(key) or is_output_norm(key) for key in rest) and (
        _body(shapes) == _body(wanted)
    )


def _body(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    return {
        key: shape
        for key, shape in shapes.items()
        if key.startswith(_BODY) and not is_stem(key)
    }  # fmt: skip
