"""Positional contrast: slices at the same place of different people must get like vectors.

Symbols: b slices of a batch, c channels, s side of a picture, d vector size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_activeft.training.masked import CELL, MaskedModelling
from napari_activeft.training.objective import Batch
from napari_activeft.training.oriented import oriented_histograms
from napari_activeft.training.views import Bounds, crops, lit, turns

if TYPE_CHECKING:
    from napari_activeft.training.averaging import RunningMean

_TEMPERATURE: Final = 0.2
_HIDDEN, _BOTTLENECK = 512, 128
_NEVER: Final = -1e4


class PositionContrast(MaskedModelling):
    """Contrast by place (PCL; Zeng et al., 2021) beside masked prediction, which keeps detail.

    Two views, one of a slice and one of a companion (a neighbour, the same place in another phase,
    or a slice of another case that lies at the same place and looks much like it), must be
    nearer to each other than to the other views of the batch (normalised temperature-scaled
    cross entropy; Chen et al., 2020); slices that may show the same are no opponents. Where a pool
    has no stacks or one case only, companions are the slices themselves.

    Half of the contrast is of the pooled vectors themselves, which is what `embed` keeps; half of
    what a small head makes of them, whose norm over the batch lets an encoder learn that starts at
    random: alone it would leave the vectors all but alike.

    A batch is mirrored as a whole: were each pair mirrored in its own way, that would tell it from
    the others. Light changes little, because brightness is part of what a slice shows.
    """

    smallest: ClassVar[float] = 0.6
    across: ClassVar[bool] = True
    together: ClassVar[int] = 8

    def _make(self, width: int) -> None:
        super()._make(width)
        # Without its norm over the batch an encoder that starts at random gives all slices the same
        # vector, and stays there.
        self.head = nn.Sequential(
            nn.BatchNorm1d(width, affine=False, track_running_stats=False),
            nn.Linear(width, _HIDDEN),
            nn.GELU(),
            nn.Linear(_HIDDEN, _BOTTLENECK),
        )

    def loss(
        self,
        batch: Batch,
        draw: torch.Generator,
        teacher: RunningMean,
        share: float,
    ) -> Tensor:
        """Return the cross entropy of finding the companion, plus the errors of what is hidden."""
        del teacher, share
        far = self._little()
        shown = torch.cat(
            [
                crops(one, self._settings.view, turns(len(one), far, draw))
                for one in self._mirrored(batch, draw)
            ]
        )
        hidden = self._hidden(shown, draw)
        last, pooled = self._seen(self._normalise(lit(shown, far, draw)), hidden)
        wanted = oriented_histograms(shown, CELL)
        errors = self._error_of_parts(last, hidden, wanted)
        errors = errors + self._error_of_whole(pooled, wanted, shown)
        with torch.autocast(pooled.device.type, enabled=False):
            vectors = pooled.float()
            contrasts = [contrast(one, batch.alike) for one in (self.head(vectors), vectors)]
        return errors + (contrasts[0] + contrasts[1]) / 2

    def _little(self) -> Bounds:
        """Return how far views differ: less than for the other objectives."""
        far = self.far(self._least, 1.0)
        return replace(far, mirrored=False, gamma=1.3, contrast=0.2, light=0.05)

    def _mirrored(self, batch: Batch, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        drawn = torch.randint(0, 2, (2,), generator=draw).tolist()
        may = self._settings.turns != "none"
        axes = [axis for axis, yes in zip((2, 3), drawn, strict=True) if yes and may]
        return batch.pictures.flip(axes), batch.companions.flip(axes)


def contrast(vectors: Tensor, alike: Tensor) -> Tensor:
    """Return the mean cross entropy of finding a view's companion among all other views.

    Parameters
    ----------
    vectors
        Shape (2 b, d): of the pictures, then of their companions; only their directions count.
    alike
        Bool (2 b, 2 b): who is no opponent of whom.
    """
    unit = F.normalize(vectors, dim=1)
    likeness = torch.mm(unit, unit.T) / _TEMPERATURE
    own = torch.arange(len(vectors), device=vectors.device)
    wanted = own.roll(len(vectors) // 2)
    left_out = alike.to(vectors.device).clone()
    left_out[own, wanted] = False
    left_out[own, own] = True
    return F.cross_entropy(likeness.masked_fill(left_out, _NEVER), wanted)
