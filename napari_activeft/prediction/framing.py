"""Slices of one volume on their way to a network, as they went to it in training.

Symbols: b slices, c channels of the image, k of the input, h w a stored slice, H W the network's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_activeft.training.view import (
    Read,
    Scaling,
    View,
    neighbours,
    prepare,
    scaling_of,
    with_neighbours,
)

if TYPE_CHECKING:
    from torch import Tensor


class Framing:
    """Prepares the slices of a volume batch by batch; neighbours are not prepared twice.

    Parameters
    ----------
    read
        Takes some positions and returns those slices, (m, c, h, w) in 0..1.
    depth, shape
        Slices of the volume, and (c, h, w) of one.
    spacing
        Millimetres per pixel down and across.
    """

    def __init__(
        self, read: Read, depth: int, shape: tuple[int, int, int], spacing: tuple[float, float]
    ) -> None:
        self.depth, self.shape = depth, shape
        self._read, self._spacing = read, spacing
        self._planes: dict[View, dict[int, NDArray[np.float32]]] = {}

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a stored slice."""
        return self.shape[1:]

    @cached_property
    def _scaling(self) -> Scaling:
        return scaling_of(self._read, self.depth)

    def inputs(self, positions: Sequence[int], view: View) -> Tensor:
        """Return the network's input for some slices, (b, k, H, W)."""
        import torch

        wanted = {
            at for position in positions for at in neighbours(position, self.depth, view.context)
        }
        held = self._planes.get(view, {})
        planes = {at: plane for at, plane in held.items() if at in wanted}
        new = sorted(wanted - planes.keys())
        if new:
            made = prepare(self._read(new), self._spacing, view, self._scaling)
            planes |= dict(zip(new, made, strict=True))
        self._planes[view] = planes
        stacked = [with_neighbours(planes, at, self.depth, view.context) for at in positions]
        return torch.from_numpy(np.stack(stacked))
