"""What a network is, before and after it was trained, and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from napari_activeft.training.view import View


@dataclass(frozen=True)
class ClassName:
    """One class of the project: its value in masks, 1 to 65534, and its name."""

    value: int
    name: str


@dataclass(frozen=True)
class NetworkSpec:
    """What a network is, before and after it was trained.

    Attributes
    ----------
    network
        A name in `training.networks.NETWORKS`.
    channels
        Of its input, neighbouring slices included.
    classes
        In the order of its outputs; output 0 is the background.
    view
        How slices become its input.
    """

    network: str
    channels: int
    classes: tuple[ClassName, ...]
    view: View

    @property
    def outputs(self) -> int:
        """Classes and the background."""
        return len(self.classes) + 1

    def is_like(self, other: NetworkSpec) -> bool:
        """Tell whether a network is the same but for what its classes are called."""
        values = [[one.value for one in spec.classes] for spec in (self, other)]
        unnamed = [dataclasses.replace(spec, classes=()) for spec in (self, other)]
        return values[0] == values[1] and unnamed[0] == unnamed[1]


def spec_to_json(spec: NetworkSpec) -> dict[str, Any]:
    """Return what a network is, for JSON."""
    return {
        "network": spec.network,
        "channels": spec.channels,
        "classes": [dataclasses.asdict(each) for each in spec.classes],
        "view": spec.view.to_json(),
    }


def spec_from_json(told: Mapping[str, Any]) -> NetworkSpec:
    """Return what `spec_to_json` wrote."""
    return NetworkSpec(
        network=str(told["network"]),
        channels=int(told["channels"]),
        classes=tuple(ClassName(int(c["value"]), str(c["name"])) for c in told["classes"]),
        view=View.from_json(told["view"]),
    )
