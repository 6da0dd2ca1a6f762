"""What an encoder learns from slices that nobody labelled: what all objectives share.

Symbols: b slices of a batch, c channels, s side of a picture, d vector size.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from napari_activeft.training.views import Bounds

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from napari_activeft.settings import PretrainSettings
    from napari_activeft.training.averaging import RunningMean


@dataclass(frozen=True)
class Batch:
    """What an objective sees of the pool in one step.

    Attributes
    ----------
    pictures
        Shape (b, c, s, s), 0 to 1.
    companions
        The same shape: of each picture one that shows the same, or itself.
    alike
        Bool (2 b, 2 b): which pictures, and then companions, may show the same, by where they lie.
    """

    pictures: Tensor
    companions: Tensor
    alike: Tensor


class Objective(nn.Module):
    """An encoder, what learns beside it and is thrown away afterwards, and the loss of both.

    Attributes
    ----------
    smallest
        Share of a picture that a large view shows at least, where the settings leave it open.
    across
        Whether companions come from other cases too.
    together
        How many slices of one stack come in a row; 1 draws them one by one.

    Parameters
    ----------
    encoder
        A second-generation VMamba.
    width
        Of its pooled vectors, d.
    settings
        Of the run.
    normalise
        From pictures of 0 to 1 to what the encoder takes.
    """

    smallest: ClassVar[float] = 0.35
    across: ClassVar[bool] = False
    together: ClassVar[int] = 1

    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        settings: PretrainSettings,
        normalise: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.encoder: Any = encoder
        self._settings, self._normalise = settings, normalise
        self._least = self.smallest if settings.smallest is None else settings.smallest
        self._make(width)

    @abstractmethod
    def _make(self, width: int) -> None:
        """Make what learns beside the encoder."""

    @abstractmethod
    def loss(
        self,
        batch: Batch,
        draw: torch.Generator,
        teacher: RunningMean,
        share: float,
    ) -> Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        batch
            What is seen.
        draw
            On the CPU.
        teacher
            Running mean of this module's weights.
        share
            Of the steps that are done, 0 to 1.
        """

    def far(self, least: float, most: float) -> Bounds:
        """Return how far views differ that show so much of a picture, as shares of its area."""
        settings = self._settings
        return Bounds(
            area=(least, most), mirrored=settings.turns != "none", inverted=settings.inverted
        )
