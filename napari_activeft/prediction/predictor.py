"""Whole volumes through one or several trained networks, slice by slice.

Symbols: b slices at once, c channels of the image, n classes with the background, h w height and
width of a stored slice, d slices of the volume.

Never more than a batch of slices is in memory as probabilities, whatever the volume's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from napari_activeft.devices import let_go, pick_device, pick_precision, tried
from napari_activeft.errors import UserError
from napari_activeft.prediction.calibration import Calibration, fit_over_slices
from napari_activeft.prediction.certainty import pixel_entropy, slice_means
from napari_activeft.prediction.framing import Framing
from napari_activeft.prediction.turning import TURNS, Augmentation, Turn
from napari_activeft.prediction.windows import WHOLE_UP_TO, over_slices
from napari_activeft.training.view import Read, View, back
from napari_activeft.voxels import LabelMap

if TYPE_CHECKING:
    from torch import Tensor

    from napari_activeft.training.run_files import SavedNetwork


@dataclass(frozen=True)
class Member:
    """One trained network.

    Attributes
    ----------
    network
        Maps (b, k, h, w) to logits (b, n, h, w).
    view
        How slices become its input.
    temperature
        That its logits are divided by; None where it is not calibrated, which is as 1.
    never
        Outputs that are never predicted: nobody showed it such a class.
    """

    network: Callable[[Tensor], Tensor] = field(repr=False)
    view: View
    temperature: float | None = None
    never: tuple[int, ...] = ()


@dataclass(frozen=True)
class PredictedSlice:
    """What networks say of one slice.

    Attributes
    ----------
    position
        Of the slice in its volume.
    labels
        Values of the most probable classes, (h, w).
    probabilities
        float32 (n, h, w), background first.
    entropy
        float32 (h, w), 0 (sure) to 1, see `certainty.pixel_entropy`.
    uncertainty
        Of the slice, 0 to 1, see `certainty`.
    disagreement
        Of several networks, 0 to 1 (BALD: the entropy of their mean less their mean entropy); None
        where there is only one.
    """

    position: int
    labels: LabelMap = field(repr=False)
    probabilities: NDArray[np.float32] = field(repr=False)
    entropy: NDArray[np.float32] = field(repr=False)
    uncertainty: float
    disagreement: float | None


class Labelled(Protocol):
    """A slice as a network sees it, and what is labelled of it; see `dataset.Example`."""

    @property
    def image(self) -> NDArray[np.float32]:
        """The network's input, (k, H, W)."""

    @property
    def target(self) -> NDArray[np.int16]:
        """Class indices (H, W), -1 where nobody labelled."""


class Predictor:
    """Predicts volumes by the mean probabilities of one or several networks.

    Parameters
    ----------
    members
        They have the same classes; each may see slices in its own way.
    class_values
        Of the outputs after the background, 1 to 65534.
    device, precision
        Where to compute and in which numbers, see `devices`.
    tta
        Test-time augmentation: none, flips (4 ways), or full (8: quarter turns too).
    overlap, whole_up_to
        Of neighbouring windows, and how many times a training crop a slice must be to need them.
    batch
        Slices at once; halved where the memory does not suffice.
    """

    def __init__(
        self,
        members: Sequence[Member],
        class_values: Sequence[int],
        *,
        device: str = "auto",
        precision: str = "auto",
        tta: Augmentation = "none",
        overlap: float = 0.5,
        whole_up_to: float = WHOLE_UP_TO,
        batch: int = 8,
    ) -> None:
        if not members:
            raise ValueError("no network was given to predict with: give at least one")
        self.members = tuple(members)
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self.batch = batch
        self._turns = TURNS[tta]
        self._overlap, self._whole_up_to = overlap, whole_up_to
        values = np.array([0, *class_values])
        self._values = values.astype(np.uint8 if values.max() <= 255 else np.uint16)

    @classmethod
    def load(
        cls,
        saved: SavedNetwork | Sequence[SavedNetwork],
        *,
        scan: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        tta: Augmentation = "none",
        overlap: float = 0.5,
        whole_up_to: float = WHOLE_UP_TO,
        batch: int = 8,
    ) -> Self:
        """Build the networks that runs kept; the other parameters are those of the class.

        Raises
        ------
        UserError
            If weights cannot be read, or the networks have different classes.
        """
        several = saved if isinstance(saved, Sequence) else [saved]
        for other in several[1:]:
            if other.classes != several[0].classes:
                raise UserError(
                    f"{other.folder.name} has other classes than {several[0].folder.name}: only "
                    "networks of the same classes predict together, name one of them"
                )
        where = pick_device(device)
        members = [
            Member(one.build(scan).to(where), one.view, one.temperature, _never(one))
            for one in several
        ]
        return cls(
            members,
            [one.value for one in several[0].classes],
            device=device,
            precision=precision,
            tta=tta,
            overlap=overlap,
            whole_up_to=whole_up_to,
            batch=batch,
        )

    @property
    def calibrated(self) -> bool:
        """Whether each network has a temperature."""
        return all(member.temperature is not None for member in self.members)

    def volume(
        self, read: Read, depth: int, shape: tuple[int, int, int], spacing: tuple[float, float]
    ) -> Iterator[PredictedSlice]:
        """Predict a volume, slice after slice.

        Parameters
        ----------
        read
            Takes some positions and returns those slices, (m, c, h, w) in 0..1.
        depth, shape
            Slices of the volume, and (c, h, w) of one.
        spacing
            Millimetres per pixel down and across.

        Raises
        ------
        UserError
            If the volume cannot be read, has other channels than the networks take, or not even
            one slice at once finds room in memory.
        """
        framing = Framing(read, depth, shape, spacing)
        start = 0
        while start < depth:
            positions = range(start, min(start + self.batch, depth))
            predicted = tried(partial(self._predict, framing), positions)
            if predicted is not None:
                yield from predicted
                start += len(positions)
            elif len(positions) > 1:
                self.batch = len(positions) // 2
                let_go(self.device)
            else:
                raise UserError(
                    f"{self.device} has no room for one slice of {shape[1]} x {shape[2]} pixels: "
                    "close other programs, or predict with --device cpu"
                )

    def calibration_of(self, member: Member, labelled: Iterable[Labelled]) -> Calibration:
        """Fit the temperature of one network on slices that it did not learn from.

        Parameters
        ----------
        labelled
            Inputs (k, H, W) and class indices (H, W), -1 where nobody labelled.
        """
        import torch

        def slices() -> Iterator[tuple[Tensor, Tensor]]:
            for one in labelled:
                with torch.inference_mode():
                    x = torch.from_numpy(one.image)[None].to(self.device)
                    logits = self._logits(member, x, member.view.size)[0]
                yield logits.clone(), torch.from_numpy(one.target)

        return fit_over_slices(slices())

    def _predict(self, framing: Framing, positions: Sequence[int]) -> list[PredictedSlice]:
        """Predict a batch of slices."""
        import torch

        first, *others = self.members
        with torch.inference_mode():
            mean = self._probabilities(first, framing, positions)
            if not others:
                return self._sliced(positions, mean, None)
            apart = pixel_entropy(mean)
            for member in others:
                one = self._probabilities(member, framing, positions)
                mean += one
                apart += pixel_entropy(one)
            return self._sliced(positions, mean / len(self.members), apart / len(self.members))

    def _sliced(
        self, positions: Sequence[int], mean: Tensor, apart: Tensor | None
    ) -> list[PredictedSlice]:
        """Take a batch apart.

        Parameters
        ----------
        mean
            Probabilities (b, n, h, w).
        apart
            The mean of the networks' own entropies, (b, h, w); None where there is only one.
        """
        entropy = pixel_entropy(mean)
        best = mean.max(1).indices  # the first of equals, as argmax, in a tenth of the time
        others = [] if apart is None else [(entropy - apart).clamp_min(0.0)]
        doubts, *apartness = slice_means(entropy, best > 0, *others)
        labels = self._values[best.cpu().numpy()]
        told, unsure = mean.cpu().numpy(), entropy.cpu().numpy()
        return [
            PredictedSlice(
                position=position,
                labels=labels[row],
                probabilities=told[row],
                entropy=unsure[row],
                uncertainty=float(doubts[row]),
                disagreement=float(apartness[0][row]) if apartness else None,
            )
            for row, position in enumerate(positions)
        ]

    def _probabilities(self, member: Member, framing: Framing, positions: Sequence[int]) -> Tensor:
        """Return one network's probabilities on the stored grid, (b, n, h, w)."""
        x = framing.inputs(positions, member.view).to(self.device)
        first, *others = self._turns
        mean = self._turned(member, x, first)
        for turn in others:
            mean += self._turned(member, x, turn)
        return back(mean / len(self._turns), framing.size)

    def _turned(self, member: Member, x: Tensor, turn: Turn) -> Tensor:
        """Return probabilities of slices that the network saw laid in one way, laid back."""
        import torch

        logits = self._logits(member, turn.lay(x), turn.size(member.view.size))
        if member.never:
            logits[:, list(member.never)] = -torch.inf
        return turn.undo((logits / (member.temperature or 1.0)).softmax(1))

    def _logits(self, member: Member, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the logits of slices at the network's pixel size, (b, n, H, W)."""
        with self._numbers():
            logits = over_slices(
                member.network,
                x,
                size,
                overlap=self._overlap,
                at_once=self.batch,
                whole_up_to=self._whole_up_to,
            )
        return logits.float()

    def _numbers(self) -> AbstractContextManager[object]:
        """Let networks compute in the precision that was chosen."""
        import torch

        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=getattr(torch, self.precision))


def _never(saved: SavedNetwork) -> tuple[int, ...]:
    """Return the outputs of a network for classes of which it was shown no pixel."""
    return tuple(
        output for output, one in enumerate(saved.classes, start=1) if one.value in saved.unlearnt
    )
