"""What an encoder is worth while it learns: its vectors of some slices of the pool.

Symbols: n slices, d vector size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from napari_activeft.embedding.quality import Quality, quality

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import nn

    from napari_activeft.training.unlabelled import Pictures

_LOOKED_AT: Final = 1000
_AT_ONCE: Final = 64


class Looking:
    """Measures what a network's vectors are worth, always of the same slices.

    Parameters
    ----------
    pictures
        Of which some are looked at.
    side
        At which they are embedded, in pixels.
    seed
        Of which they are.
    fabric
        Where to compute.
    normalise
        From pictures of 0 to 1 to what the network takes.
    """

    def __init__(
        self,
        pictures: Pictures,
        side: int,
        seed: int,
        fabric: Fabric,
        normalise: Callable[[Tensor], Tensor],
    ) -> None:
        self._pictures, self._side = pictures, side
        self._fabric, self._normalise = fabric, normalise
        rng = np.random.default_rng([seed, _LOOKED_AT])
        count = min(_LOOKED_AT, len(pictures))
        self._rows: NDArray[np.int64] = np.sort(rng.permutation(len(pictures))[:count])

    def __call__(self, network: nn.Module) -> Quality:
        """Measure the vectors of a network."""
        rows, pictures = self._rows, self._pictures
        was = network.training
        network.eval()
        parts = [
            self._vectors(network, rows[start : start + _AT_ONCE])
            for start in range(0, len(rows), _AT_ONCE)
        ]
        network.train(was)
        cases = [pictures.cases[row] for row in rows]
        return quality(np.concatenate(parts), cases, pictures.places[rows])

    @torch.inference_mode()
    def _vectors(self, network: nn.Module, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        size = (self._side, self._side)
        whole = interpolate(
            self._pictures.shown(rows, self._fabric.device),
            size=size,
            mode="bilinear",
            antialias=True,
        )
        with self._fabric.autocast():
            pooled = network.forward_features(self._normalise(whole)).pooled  # type: ignore[operator]
        vectors: NDArray[np.float32] = pooled.float().cpu().numpy()
        return vectors
