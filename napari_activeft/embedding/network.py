"""A network's pooled features as vectors.

Symbols: n slices, c channels, side of the pictures, d vector size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_activeft.devices import in_parts
from napari_activeft.errors import UserError
from napari_activeft.models.checkpoints import feature_hash

SIDE = 224
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class NetworkEncoder:
    """The mean over the last map of a network, see `VMamba.forward_features`.

    Grey pictures are repeated to three channels; three channels are taken as red, green and blue;
    of any other number each is normalised by the mean of ImageNet's three figures.

    Parameters
    ----------
    name
        Of the network.
    network
        With ``forward_features``, for 3 input channels if the pictures have 1 or 3.
    channels, side
        Of the pictures.
    device
        Where to compute.
    precision
        ``"float32"`` or ``"bfloat16"`` (matrix products and convolutions; the scan stays float32).
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        *,
        channels: int,
        side: int,
        device: torch.device,
        precision: str,
    ) -> None:
        self.name, self.channels, self.side = name, channels, side
        self.weight_hash = feature_hash(network.state_dict())
        self._network = network.to(device).eval().requires_grad_(False)
        self._device, self._precision = device, precision
        self._normalise = normaliser(channels, device)
        one = np.zeros((1, channels, side, side), dtype=np.float32)
        self.size = self._run_what_fits(one).shape[1]

    def identity(self) -> dict[str, Any]:
        """Return all that changes the vectors."""
        return {"weight_hash": self.weight_hash, "precision": self._precision}

    def embed(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map pictures (n, c, side, side) to vectors (n, d); halves what memory does not hold.

        Raises
        ------
        UserError
            If not even one picture fits into memory, or the network gives NaN or infinity.
        """
        vectors = self._run_what_fits(pictures)
        if not np.isfinite(vectors).all():
            raise UserError(
                f"{self.name} gives NaN or infinity for a slice: its weights are damaged or in "
                "too low a precision, take --precision float32 or `napari-activeft weights verify`"
            )
        return vectors

    def _run_what_fits(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run all pictures, in smaller and smaller parts if memory does not hold them."""
        refusal = (
            f"{self.name} at {self.side} x {self.side} does not fit into the memory of "
            f"{self._device}: take a smaller --size, a smaller encoder or --device cpu"
        )
        return np.concatenate(list(in_parts(self._run, [pictures], self._device, refusal)))

    @torch.inference_mode()
    def _run(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        x = self._normalise(torch.from_numpy(pictures).to(self._device))
        with torch.autocast(
            self._device.type, dtype=torch.bfloat16, enabled=self._precision == "bfloat16"
        ):
            pooled: Tensor = self._network.forward_features(x).pooled  # type: ignore[operator]
        vectors: NDArray[np.float32] = pooled.float().cpu().numpy()
        return vectors


def input_channels(channels: int) -> int:
    """Return how many channels a network takes for pictures of so many; grey ones are repeated."""
    return 3 if channels in (1, 3) else channels


def normaliser(channels: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return what brings pictures (n, c, h, w) in 0..1 to what a network takes.

    Grey pictures are repeated to three channels; the figures of ImageNet give mean 0 and deviation
    1, of any number of channels but 1 and 3 each is brought there by the mean of the three.
    """
    inputs = input_channels(channels)
    mean, std = (
        _per_channel(figures, inputs).to(device) for figures in (IMAGENET_MEAN, IMAGENET_STD)
    )

    def normalise(x: Tensor) -> Tensor:
        wide = x.expand(-1, inputs, -1, -1) if channels == 1 else x
        return (wide - mean) / std

    return normalise


def _per_channel(figures: tuple[float, float, float], channels: int) -> Tensor:
    """Return one figure a channel, (1, channels, 1, 1)."""
    each = figures if channels == 3 else (sum(figures) / 3,) * channels
    return torch.tensor(each).view(1, channels, 1, 1)
