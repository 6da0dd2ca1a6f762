"""How a network sees slices: pixels of one size, one scale of intensity, neighbours as channels.

Training and prediction share what is written here, so that a network never sees a slice in two
ways.

Symbols: m slices, c channels of the image, h w height and width as stored, H W after resampling,
k channels of the network's input: c for each of the 2 * context + 1 slices, in their order.

Grids: pixel centres align as in ``interpolate(align_corners=False)``, that is the outer edges of
the first and the last pixel stay where they are. Image and mask share the grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import UserError
from napari_activeft.voxels import UNLABELLED as UNLABELLED

if TYPE_CHECKING:
    from torch import Tensor


Read = Callable[[Sequence[int]], NDArray[np.float32]]
"""Takes some positions of a volume and returns those slices, (m, c, h, w) in 0..1."""

_Number = TypeVar("_Number", bound=np.generic)

STRIDE = 32
"""Sides of training crops are multiples of this: what the deepest network halves five times."""
_LARGEST_AUTO = 192
_LARGEST_SIDE = 8192
_SMALLEST_SIDE = 4
# Evenly spread over a volume: enough for mean and deviation to be right to a per cent.
_SCALING_SLICES = 32
# In units of the intensity range: below, a channel is constant but for rounding.
_SMALLEST_DEVIATION = 1e-3


class Sliced(Protocol):
    """What a view is fitted to: a volume's name, the (c, h, w) of its slices, and mm per pixel."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def shape(self) -> tuple[int, int, int]: ...  # noqa: D102

    @property
    def spacing(self) -> tuple[float, float]: ...  # noqa: D102


@dataclass(frozen=True)
class View:
    """How slices become the input of a network.

    Attributes
    ----------
    pixel_mm
        Side of a pixel in mm that slices are brought to; None leaves them as stored.
    size
        Height and width of a training crop in such pixels, multiples of 32.
    context
        Neighbouring slices on each side that become channels.
    channels
        Of the image, c.
    """

    pixel_mm: float | None
    size: tuple[int, int]
    context: int = 0
    channels: int = 1

    def __post_init__(self) -> None:
        if self.pixel_mm is not None and not (0 < self.pixel_mm < math.inf):
            raise UserError(
                f"pixels of {self.pixel_mm} mm were asked: give a size above 0, or none to leave "
                "them as they are stored"
            )
        if len(self.size) != 2 or any(side < STRIDE or side % STRIDE for side in self.size):
            raise UserError(
                f"training crops of {' x '.join(map(str, self.size))} pixels were asked, and two "
                f"sides that are multiples of {STRIDE} are needed: choose the next one"
            )
        if self.context < 0 or self.channels < 1:
            raise UserError(
                f"{self.context} neighbouring slices of {self.channels} channels were asked: give "
                "0 or more, and at least one channel"
            )

    @property
    def input_channels(self) -> int:
        """Channels of the network's input, k."""
        return self.channels * (2 * self.context + 1)

    def shape_of(self, shape: tuple[int, int], spacing: tuple[float, float]) -> tuple[int, int]:
        """Return H, W of slices that are stored as (h, w) pixels of so many mm.

        Raises
        ------
        UserError
            If they would become larger than any slice is, or a few pixels.
        """
        if self.pixel_mm is None:
            return shape
        sides = [n * mm / self.pixel_mm for n, mm in zip(shape, spacing, strict=True)]
        if max(sides) > _LARGEST_SIDE:
            raise UserError(
                f"slices of {shape[0]} x {shape[1]} pixels would become {sides[0]:.0f} x "
                f"{sides[1]:.0f} at {self.pixel_mm:g} mm, and {_LARGEST_SIDE} is the most: choose "
                "a larger pixel-mm, or correct the spacing of the image"
            )
        height, width = (max(round(side), 1) for side in sides)
        if max(height, width) < _SMALLEST_SIDE <= max(shape):
            raise UserError(
                f"slices of {shape[0]} x {shape[1]} pixels would become {height} x {width} at "
                f"{self.pixel_mm:g} mm: choose a smaller pixel-mm"
            )
        return height, width

    def to_json(self) -> dict[str, Any]:
        """Return it as a dictionary of plain values."""
        return {
            "pixel_mm": self.pixel_mm,
            "size": list(self.size),
            "context": self.context,
            "channels": self.channels,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """Return what `to_json` told; KeyError, TypeError or ValueError if it is something else."""
        height, width = (int(side) for side in told["size"])
        pixel_mm = None if told["pixel_mm"] is None else float(told["pixel_mm"])
        return cls(pixel_mm, (height, width), int(told["context"]), int(told["channels"]))


class Scaling(NamedTuple):
    """Mean and standard deviation of each channel of a volume, (c,), in 0..1."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]


def fit_view(
    stacks: Sequence[Sliced],
    *,
    pixel_mm: float | Literal["auto"] | None = "auto",
    size: int | Literal["auto"] = "auto",
    context: int = 0,
) -> View:
    """Return a view that fits some volumes.

    Parameters
    ----------
    pixel_mm
        ``"auto"`` is the median over the volumes of the side of a square of a pixel's area.
    size
        Of the square crops; ``"auto"`` holds the median slice, at most 192 x 192.

    Raises
    ------
    UserError
        If there is no volume, they differ in their number of channels, or a value is out of range.
    """
    if not stacks:
        raise UserError(
            "no volume with an accepted mask was given, and a network learns from them: label a "
            "slice and accept it first"
        )
    see_one_number_of_channels(stacks)
    if pixel_mm == "auto":
        # Rounded, because it is told and typed again.
        pixel_mm = float(f"{median(math.sqrt(s.spacing[0] * s.spacing[1]) for s in stacks):.4g}")
    largest = _LARGEST_AUTO // STRIDE * STRIDE
    whole = View(pixel_mm, (largest, largest), context, stacks[0].shape[0])
    if size != "auto":
        return View(pixel_mm, (size, size), context, whole.channels)
    shapes = [whole.shape_of(stack.shape[1:], stack.spacing) for stack in stacks]
    height, width = (
        min(math.ceil(median(sides) / STRIDE) * STRIDE, largest)
        for sides in zip(*shapes, strict=True)
    )
    return View(pixel_mm, (height, width), context, whole.channels)


def see_one_number_of_channels(stacks: Sequence[Sliced]) -> None:
    """Raise `UserError`, which names two volumes, where they differ in their channels."""
    first = stacks[0]
    other = next((stack for stack in stacks if stack.shape[0] != first.shape[0]), None)
    if other is not None:
        raise UserError(
            f"{first.name} has {first.shape[0]} and {other.name} has {other.shape[0]} channels: a "
            "network takes one number of them, so keep these volumes in projects of their own"
        )


def scaling_of(read: Read, depth: int) -> Scaling:
    """Return mean and deviation of a volume, over at most 32 slices spread evenly.

    A channel that is constant has deviation 1.
    """
    positions = np.unique(np.linspace(0, depth - 1, min(depth, _SCALING_SLICES)).round())
    count, total, squares = 0, np.zeros(()), np.zeros(())
    for position in positions.astype(int).tolist():
        pixels = read([position])[0].astype(np.float64)
        count += pixels[0].size
        total = total + pixels.sum((1, 2))
        squares = squares + (pixels**2).sum((1, 2))
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    deviation[deviation < _SMALLEST_DEVIATION] = 1.0
    return Scaling(mean.astype(np.float32), deviation.astype(np.float32))


def prepare(
    slices: NDArray[np.float32], spacing: tuple[float, float], view: View, scaling: Scaling
) -> NDArray[np.float32]:
    """Bring slices to the view's pixels, anti-aliased, and to the volume's scale of intensity.

    Parameters
    ----------
    slices
        (m, c, h, w), 0..1.
    spacing
        Millimetres per pixel down and across.
    scaling
        Of their volume, as `scaling_of` tells it.

    Returns
    -------
    prepared
        (m, c, H, W); over the volume of about mean 0 and deviation 1.
    """
    import torch

    _see_channels(slices.shape[1], view)
    height, width = slices.shape[2:]
    shape = view.shape_of((height, width), spacing)
    resampled = _resample(torch.from_numpy(np.ascontiguousarray(slices)), shape).numpy()
    sides = (-1, 1, 1)
    scaled: NDArray[np.float32] = resampled - scaling.mean.reshape(sides)
    scaled /= scaling.deviation.reshape(sides)
    return scaled


def prepare_mask(mask: NDArray[_Number], shape: tuple[int, int]) -> NDArray[_Number]:
    """Bring a mask (h, w) to the grid (H, W) of its image; each pixel is that of its centre."""
    rows, columns = (
        ((np.arange(new) + 0.5) * (old / new)).astype(np.intp)
        for old, new in zip(mask.shape, shape, strict=True)
    )
    chosen: NDArray[_Number] = mask[rows[:, np.newaxis], columns]
    return chosen


def back(values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Bring logits or probabilities (m, n, H, W) to the grid of the stored slices, (m, n, h, w)."""
    return _resample(values, shape)


def neighbours(position: int, depth: int, context: int) -> list[int]:
    """Return the slices whose pixels become channels, 2 * context + 1 of them in their order.

    At both ends of a volume the last slice is repeated.
    """
    around = range(position - context, position + context + 1)
    return [min(max(at, 0), depth - 1) for at in around]


def with_neighbours(
    planes: Mapping[int, NDArray[np.floating[Any]]], position: int, depth: int, context: int
) -> NDArray[np.float32]:
    """Return the network's input for a slice, (k, H, W).

    Parameters
    ----------
    planes
        Prepared slices (c, H, W) of one volume by position.
    position, depth
        Of the slice, and how many its volume has.
    """
    found = [planes[at] for at in neighbours(position, depth, context)]
    return np.concatenate(found, dtype=np.float32)


def _see_channels(channels: int, view: View) -> None:
    if channels != view.channels:
        raise UserError(
            f"a volume has {channels} channels and the network takes images of {view.channels}: "
            "use a network that was trained on such volumes"
        )


def _resample(values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Bring (m, n, H, W) to another height and width, smoothed where it becomes smaller."""
    from torch.nn.functional import interpolate

    if tuple(values.shape[2:]) == tuple(shape):
        return values
    return interpolate(values, size=shape, mode="bilinear", align_corners=False, antialias=True)
