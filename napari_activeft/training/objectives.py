"""What an encoder learns from slices that nobody labelled.

Symbols: b slices of a batch, c channels, s side of a picture, d vector size, k prototypes.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_activeft.training.oriented import ORIENTATIONS, oriented_histograms
from napari_activeft.training.views import Bounds, crops, lit, turns, views

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_activeft.settings import PretrainSettings
    from napari_activeft.training.averaging import RunningMean

LOCAL_AREA: Final = (0.08, 0.35)
_STUDENT_TEMPERATURE: Final = 0.1
_TEACHER_TEMPERATURES: Final = (0.04, 0.07)
_WARMING: Final = 0.3
_CENTRE_DECAY: Final = 0.9
_HIDDEN, _BOTTLENECK = 512, 128
_SQUARE, _CELL = 16, 8  # pixels
_REDUCTION: Final = 32  # of the last map
_COARSE: Final = 12
_LEAST_DEVIATION: Final = 0.05
_TOKEN_DEVIATION: Final = 0.02


class Objective(nn.Module):
    """An encoder, what learns beside it and is thrown away afterwards, and the loss of both.

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
        self._make(width)

    @abstractmethod
    def _make(self, width: int) -> None:
        """Make what learns beside the encoder."""

    @abstractmethod
    def loss(
        self,
        pictures: Tensor,
        companions: Tensor,
        draw: torch.Generator,
        teacher: RunningMean,
        share: float,
    ) -> Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        pictures
            Shape (b, c, s, s), 0 to 1.
        companions
            The same shape: of each picture one that shows the same, or itself.
        draw
            On the CPU.
        teacher
            Running mean of this module's weights.
        share
            Of the steps that are done, 0 to 1.
        """


class Distillation(Objective):
    """Self-distillation of multi-crop views (DINO; Caron et al., 2021).

    The running mean of the network, which sees two large views, tells which prototypes a slice
    belongs to; the network itself, which sees all views, must tell the same from every other one.
    The second large view is of a companion: a neighbouring slice, or the slice at the same
    place of another volume of the case. Outputs are centred and sharpened, which keeps
    them from collapsing.
    """

    centre: Tensor

    def _make(self, width: int) -> None:
        self.head = nn.Sequential(
            nn.Linear(width, _HIDDEN),
            nn.GELU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.GELU(),
            nn.Linear(_HIDDEN, _BOTTLENECK),
        )
        count = self._settings.prototypes
        self.prototypes = nn.Parameter(torch.randn(count, _BOTTLENECK))
        self.register_buffer("centre", torch.zeros(count))

    def logits(self, shown: Tensor) -> Tensor:
        """Map views (b, c, v, v) to the likeness to each prototype, (b, k), -1 to 1."""
        pooled: Tensor = self.encoder.forward_features(self._normalise(shown)).pooled
        with torch.autocast(pooled.device.type, enabled=False):
            unit = F.normalize(self.head(pooled.float()), dim=1)
            return torch.mm(unit, F.normalize(self.prototypes, dim=1).T)

    def loss(
        self,
        pictures: Tensor,
        companions: Tensor,
        draw: torch.Generator,
        teacher: RunningMean,
        share: float,
    ) -> Tensor:
        """Return the mean cross entropy of all pairs of different views."""
        settings = self._settings
        large, small = _large(settings), bounds(settings, LOCAL_AREA)
        side = settings.view
        both = torch.cat([views(pictures, side, large, draw), views(companions, side, large, draw)])
        parts = [views(pictures, side // 2, small, draw) for _ in range(settings.locals)]
        with torch.no_grad(), teacher.inside(self):
            told = self.logits(both)
        # Autocast would go on with the teacher's weights in the lower precision, without gradient.
        torch.clear_autocast_cache()
        low, high = _TEACHER_TEMPERATURES
        temperature = low + (high - low) * min(1.0, share / _WARMING)
        wanted = ((told - self.centre) / temperature).softmax(dim=1).chunk(2)
        seen = list(self.logits(both).chunk(2))
        if parts:
            seen += self.logits(torch.cat(parts)).chunk(len(parts))
        losses = [
            -(target * (view / _STUDENT_TEMPERATURE).log_softmax(dim=1)).sum(dim=1).mean()
            for at, target in enumerate(wanted)
            for other, view in enumerate(seen)
            if at != other
        ]
        with torch.no_grad():
            self.centre.lerp_(told.mean(dim=0), 1 - _CENTRE_DECAY)
        return torch.stack(losses).mean()


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
        self._cells = self._settings.view // _CELL
        self._inside = _REDUCTION // _CELL
        self.token = nn.Parameter(torch.randn(width >> (stages - 1)) * _TOKEN_DEVIATION)
        self.parts = nn.Linear(width, ORIENTATIONS * self._inside**2)
        self.whole = nn.Linear(width, ORIENTATIONS * self._cells**2)
        self.coarse = nn.Linear(width, _COARSE**2)

    def loss(
        self,
        pictures: Tensor,
        companions: Tensor,
        draw: torch.Generator,
        teacher: RunningMean,
        share: float,
    ) -> Tensor:
        """Return the sum of three mean squared errors, each over the variance of its target."""
        del teacher, share
        settings = self._settings
        far = _large(settings)
        theta = turns(len(pictures), far, draw)
        plain = crops(pictures, settings.view, theta)
        beside = crops(companions, settings.view, theta)
        hidden = self._hidden(len(pictures), draw).to(pictures.device)
        last, pooled = self._seen(self._normalise(lit(plain, far, draw)), hidden)
        shown, wanted = (oriented_histograms(one, _CELL) for one in (plain, beside))
        inside = F.pixel_shuffle(self.parts(last).permute(0, 3, 1, 2), self._inside)
        cells = F.interpolate(hidden, size=(self._cells, self._cells)).expand_as(shown)
        return (
            _error(inside[cells > 0], shown[cells > 0])
            + _error(self.whole(pooled), wanted.flatten(1))
            + _error(self.coarse(pooled), _brightness(beside))
        )

    def _hidden(self, count: int, draw: torch.Generator) -> Tensor:
        """Draw which squares are hidden, (b, 1, n, n) of 0 and 1, as many in each picture."""
        n = self._settings.view // _SQUARE
        order = torch.rand(count, n * n, generator=draw).argsort(dim=1)
        most = max(1, round(self._settings.masked * n * n))
        return (order < most).view(-1, 1, n, n).float()

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


OBJECTIVES: Final[dict[str, type[Objective]]] = {
    "distill": Distillation,
    "masked": MaskedModelling,
}


def bounds(settings: PretrainSettings, area: tuple[float, float]) -> Bounds:
    """Return how far views of a run may differ."""
    return Bounds(area=area, mirrored=settings.turns != "none", inverted=settings.inverted)


def _large(settings: PretrainSettings) -> Bounds:
    return bounds(settings, (settings.smallest, 1.0))


def _brightness(x: Tensor) -> Tensor:
    """Return the coarse brightness of pictures, (b, n), each of mean 0 and deviation 1."""
    small = F.adaptive_avg_pool2d(x.mean(dim=1, keepdim=True), _COARSE).flatten(1)
    small = small - small.mean(dim=1, keepdim=True)
    return small / (small.std(dim=1, keepdim=True) + _LEAST_DEVIATION)


def _error(told: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean squared error over the variance of what is wanted."""
    return F.mse_loss(told.float(), wanted) / (wanted.var() + _LEAST_DEVIATION**2)
