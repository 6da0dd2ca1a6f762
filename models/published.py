"""What is known of published models: configurations, names and shapes of weights, official files.

The facts lie in ``published.json``, written by ``scripts/copy_published_facts.py``. Nothing here
needs torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_FACTS = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class PublishedFile:
    """An official file of weights.

    Attributes
    ----------
    file, url
        Its name and address.
    wrapper
        Key under which the weights lie in it.
    top1
        Accuracy on ImageNet-1k, percent.
    stated_parameters, stated_flops
        As its authors give them, such as 30M and 4.9G.
    """

    file: str
    url: str
    wrapper: str
    top1: float
    stated_parameters: str
    stated_flops: str


@dataclass(frozen=True)
class Published:
    """A published model.

    Attributes
    ----------
    name
        As in `registry.MODELS` where we build it under that name.
    repository, commit, licence
        Of the code that the facts were read from.
    config
        As its authors configure it.
    parameters
        Their number.
    shapes
        Of every weight by its name; empty where no file was at hand to read them from.
    renames
        Names of first-generation weights -> those of today's repository, by prefix or path part.
    file
        The official weights; None where none were published.
    """

    name: str
    repository: str
    commit: str | dict[str, str]
    licence: str
    config: dict[str, Any]
    parameters: int
    shapes: dict[str, tuple[int, ...]]
    renames: dict[str, str]
    file: PublishedFile | None


@cache
def published() -> dict[str, Published]:
    """Return all published models by name."""
    facts: dict[str, dict[str, Any]] = json.loads(_FACTS.read_text(encoding="utf-8"))
    return {name: _published(name, fact) for name, fact in facts.items()}


def _published(name: str, fact: dict[str, Any]) -> Published:
    return Published(
        name,
        fact["repository"],
        fact["commit"],
        fact["licence"],
        fact["config"],
        fact["parameters"],
        dict(_flat(fact.get("shapes", {}))),
        fact.get("renames", {}),
        _file(fact["checkpoint"]),
    )


def _file(checkpoint: dict[str, Any]) -> PublishedFile | None:
    """Return the official file, where the model's authors published one."""
    if "url" not in checkpoint:
        return None
    return PublishedFile(
        checkpoint["file"],
        checkpoint["url"],
        checkpoint["wrapper_key"],
        checkpoint["imagenet1k_top1"],
        checkpoint["stated_parameters"],
        checkpoint["stated_flops"],
    )


def _flat(
    node: dict[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[str, tuple[int, ...]]]:
    for part, below in node.items():
        if isinstance(below, dict):
            yield from _flat(below, (*path, part))
        else:
            yield ".".join((*path, part)), tuple(below)
