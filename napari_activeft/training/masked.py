"""Masked prediction of oriented gradients, from the map and from the vector.

Symbols: b slices of a batch, c channels, h w height and width of the last map, n squares on a side
of a view, d vector size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_activeft.training.objective import Batch, Objective
from napari_activeft.training.oriented import ORIENTATIONS, oriented_histograms
from napari_activeft.training.views import crops, lit, turns

if TYPE_CHECKING:
    from napari_activeft.training.averaging import RunningMean

_SQUARE, CELL = 16, 8  # pixels
_REDUCTION: Final = 32  # of the last map
_COARSE: Final = 12
_LEAST_DEVIATION: Final = 0.05
_TOKEN_DEVIATION: Final = 0.02


class MaskedModelling(Objective):
    """Masked prediction of oriented gradients (MaskFeat; Wei et al., 2022), from map and vector.

    Squares of a view, lit in some way, are hidden: their places in the stem's map hold one learnt
    vector. From the last map a linear layer tells the histograms of the hidden cells. From the
    pooled vector, which is what `embed` keeps, two more tell those of the whole view and its
    coarse brightness, as they are before the light was changed, or in the companion at the same
    crop: so the vector must hold what lies where, and need not hold contrast and noise.
    """

    def _make(self, width: int) -> None:
        stages = len(self.encoder.layers)
        self._cells = self._settings.view // CELL
        self._inside = _REDUCTION // CELL
        self.token = nn.Parameter(torch.randn(width >> (stages - 1)) * _TOKEN_DEVIATION)
        self.parts = nn.Linear(width, ORIENTATIONS * self._inside**2)
        self.whole = nn.Linear(width, ORIENTATIONS * self._cells**2)
        self.coarse = nn.Linear(width, _COARSE**2)

    def loss(
        self,
        batch: Batch,
        draw: torch.Generator,
        teacher: RunningMean,
        share: float,
    ) -> Tensor:
        """Return the sum of three mean squared errors, each over the variance of its target."""
        del teacher, share
        side = self._settings.view
        far = self.far(self._least, 1.0)
        theta = turns(len(batch.pictures), far, draw)
        plain, beside = (crops(one, side, theta) for one in (batch.pictures, batch.companions))
        hidden = self._hidden(plain, draw)
        last, pooled = self._seen(self._normalise(lit(plain, far, draw)), hidden)
        wanted, elsewhere = (oriented_histograms(one, CELL) for one in (plain, beside))
        whole = self._error_of_whole(pooled, elsewhere, beside)
        return self._error_of_parts(last, hidden, wanted) + whole

    def _error_of_parts(self, last: Tensor, hidden: Tensor, wanted: Tensor) -> Tensor:
        """Return how badly the last map tells the histograms of a view where it is hidden."""
        inside = F.pixel_shuffle(self.parts(last).permute(0, 3, 1, 2), self._inside)
        cells = F.interpolate(hidden, size=(self._cells, self._cells)).expand_as(wanted)
        return _error(inside[cells > 0], wanted[cells > 0])

    def _error_of_whole(self, pooled: Tensor, wanted: Tensor, shown: Tensor) -> Tensor:
        """Return how badly the vector tells a view's histograms and its coarse brightness."""
        whole = _error(self.whole(pooled), wanted.flatten(1))
        return whole + _error(self.coarse(pooled), _brightness(shown))

    def _hidden(self, shown: Tensor, draw: torch.Generator) -> Tensor:
        """Draw which squares of views are hidden, (b, 1, n, n) of 0 and 1, as many in each."""
        n = self._settings.view // _SQUARE
        order = torch.rand(len(shown), n * n, generator=draw).argsort(dim=1)
        most = max(1, round(self._settings.masked * n * n))
        return (order < most).view(-1, 1, n, n).float().to(shown.device)

    def _seen(self, shown: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normed last map (b, h, w, d) and its mean, with squares hidden."""

        def hide(_: nn.Module, __: object, embedded: Tensor) -> Tensor:
            mask = F.interpolate(hidden, size=embedded.shape[1:3]).permute(0, 2, 3, 1)
            return embedded * (1 - mask) + self.token * mask

        hook = self.encoder.patch_embed.register_forward_hook(hide)
        try:
            last: Tensor = self.encoder.stage_maps(shown)[-1]
        finally:
            hook.remove()
        normed = self._norm(last.float())
        return normed, normed.mean(dim=(1, 2))

    def _norm(self, last: Tensor) -> Tensor:
        """Norm the last map, as both generations do before they pool it."""
        own = self.encoder.classifier if hasattr(self.encoder, "classifier") else self.encoder
        normed: Tensor = own.norm(last)
        return normed


def _brightness(x: Tensor) -> Tensor:
    """Return the coarse brightness of pictures, (b, n), each of mean 0 and deviation 1."""
    small = F.adaptive_avg_pool2d(x.mean(dim=1, keepdim=True), _COARSE).flatten(1)
    small = small - small.mean(dim=1, keepdim=True)
    return small / (small.std(dim=1, keepdim=True) + _LEAST_DEVIATION)


def _error(told: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean squared error over the variance of what is wanted."""
    return F.mse_loss(told.float(), wanted) / (wanted.var() + _LEAST_DEVIATION**2)
