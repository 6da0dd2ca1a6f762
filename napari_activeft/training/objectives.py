"""The objectives of pre-training by name."""

from __future__ import annotations

from typing import Final

from napari_activeft.training.distillation import Distillation
from napari_activeft.training.masked import MaskedModelling
from napari_activeft.training.objective import Objective
from napari_activeft.training.position import PositionContrast

OBJECTIVES: Final[dict[str, type[Objective]]] = {
    "position": PositionContrast,
    "masked": MaskedModelling,
    "distill": Distillation,
}
