"""Self-distillation: each view of a slice tells what the running mean sees in the others.

Symbols: b slices of a batch, c channels, v side of a view, k prototypes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_activeft.training.objective import Batch, Objective
from napari_activeft.training.views import views

if TYPE_CHECKING:
    from napari_activeft.training.averaging import RunningMean

_LOCAL_AREA: Final = (0.08, 0.35)
_STUDENT_TEMPERATURE: Final = 0.1
_TEACHER_TEMPERATURES: Final = (0.04, 0.07)
_WARMING: Final = 0.3
_CENTRE_DECAY: Final = 0.9
_HIDDEN, _BOTTLENECK = 512, 128


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
        batch: Batch,
        draw: torch.Generator,
        teacher: RunningMean,
        share: float,
    ) -> Tensor:
        """Return the mean cross entropy of all pairs of different views."""
        settings = self._settings
        large, small = self.far(self._least, 1.0), self.far(*_LOCAL_AREA)
        side = settings.view
        both = torch.cat(
            [views(one, side, large, draw) for one in (batch.pictures, batch.companions)]
        )
        parts = [views(batch.pictures, side // 2, small, draw) for _ in range(settings.locals)]
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
