"""Crops that are turned, bent, and lit in another way each time, for networks that see few slices.

All of the geometry is one grid, by which the whole slice is sampled once: what a rotation brings
into a crop is what lies beside it in the slice, and nothing is blurred twice. The order of what
changes intensities is that of nnU-Net (Isensee et al. 2021), its strengths are turned down for
networks that train minutes.

Symbols: k channels of the network's input, H W height and width of a slice, h w of the crop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_activeft.training.cropping import Augment, Crop, Window, cut
from napari_activeft.training.view import View

if TYPE_CHECKING:
    import torch

Strength = Literal["none", "light", "strong"]
Turns = Literal["none", "flips", "full"]

# Between the control points of the bending, as a share of the crop's shorter side.
_CONTROL_SPACING = 1 / 5


@dataclass(frozen=True)
class _Bounds:
    """How far crops are changed at most, or how often.

    Attributes
    ----------
    moved
        Share of crops whose geometry changes, flips apart.
    degrees, shear, shift
        Of rotation; of shear; of translation as a share of the crop's side. To both sides.
    scale, aspect
        Factor of the size to both sides, and of one side over the other.
    bent, bend
        Share of moved crops that are bent, and by how much (standard deviation of the shifts of
        the control points, as a share of the shorter side).
    noise, blur, light, low_resolution, gamma
        Shares of crops that are changed so.
    """

    moved: float
    degrees: float
    shear: float
    shift: float
    scale: float
    aspect: float
    bent: float
    bend: float
    noise: float
    blur: float
    light: float
    low_resolution: float
    gamma: float


_BOUNDS = {
    "light": _Bounds(
        moved=0.7,
        degrees=15,
        shear=0.0,
        shift=0.05,
        scale=1.15,
        aspect=1.0,
        bent=0.0,
        bend=0.0,
        noise=0.1,
        blur=0.0,
        light=0.2,
        low_resolution=0.0,
        gamma=0.2,
    ),
    "strong": _Bounds(
        moved=0.9,
        degrees=30,
        shear=0.1,
        shift=0.1,
        scale=1.35,
        aspect=1.1,
        bent=0.5,
        bend=0.025,
        noise=0.2,
        blur=0.15,
        light=0.3,
        low_resolution=0.2,
        gamma=0.35,
    ),
}


def augmenter(strength: Strength, view: View, turns: Turns = "flips") -> Augment:
    """Return what cuts a window out of a slice and changes it.

    Not for several threads at once: make one for each.

    Parameters
    ----------
    strength
        ``"none"`` only cuts; ``"light"`` turns, scales and lights a little; ``"strong"`` does more
        of it, bends, blurs and adds noise.
    view
        Of the slices.
    turns
        How a slice may lie in the scanner: as it does, also mirrored along either side
        (``"flips"``), or by quarter turns too (``"full"``). Where classes are told by their side
        of the body, flips make them one.
    """
    if strength == "none":
        return lambda image, target, rng, window: cut(image, target, window)
    return _Augmenter(_BOUNDS[strength], view, turns)


class _Augmenter:
    """See `augmenter`."""

    def __init__(self, bounds: _Bounds, view: View, turns: Turns) -> None:
        from monai.transforms.spatial.array import RandDeformGrid, Resample

        self._bounds, self._turns = bounds, turns
        shorter = min(view.size)
        self._spacing = round(shorter * _CONTROL_SPACING)
        self._spread = cache(_spread)
        self._deform: Any = RandDeformGrid(
            spacing=(self._spacing, self._spacing), magnitude_range=(0.0, bounds.bend * shorter)
        )
        self._resample = Resample(padding_mode="border")
        self._intensity = _intensity(bounds)

    def __call__(
        self,
        image: NDArray[np.float32],
        target: NDArray[np.int16],
        rng: np.random.Generator,
        window: Window,
    ) -> Crop:
        """Return the crop, image (k, h, w) and target (h, w)."""
        import torch

        # What MONAI draws, it draws from numpy's older generator.
        state = np.random.RandomState(rng.integers(2**32, dtype=np.uint32))
        grid = self._grid(rng, state, window)
        image, target = self._sample(image, target, grid, window)
        changed: Any = torch.from_numpy(image)
        for change in self._intensity:
            change.set_random_state(state=state)
            changed = change(changed)
        return np.asarray(changed, dtype=np.float32), target

    def _grid(
        self, rng: np.random.Generator, state: np.random.RandomState, window: Window
    ) -> torch.Tensor | None:
        """Return from where each pixel of the crop comes, None if from where it lies.

        The grid is (3, h, w): rows and columns of the slice, and ones.
        """
        from monai.transforms.spatial.array import AffineGrid
        from monai.utils.type_conversion import convert_to_tensor

        bounds = self._bounds
        moved = rng.random() < bounds.moved
        bent = moved and rng.random() < bounds.bent
        flips = rng.random(2) < (0 if self._turns == "none" else 0.5)
        quarters = int(rng.integers(4)) if self._turns == "full" else 0
        if not (moved or flips.any() or quarters):
            return None
        size = (window.height, window.width)
        still = 0.0, [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]
        angle, shears, shift, scales = self._draw(rng) if moved else still
        affine: Any = AffineGrid(
            rotate_params=[angle + quarters * math.pi / 2],
            shear_params=shears,
            scale_params=[-s if flip else s for s, flip in zip(scales, flips, strict=True)],
            dtype=np.float32,
        )
        if bent:
            self._deform.set_random_state(state=state)
            coarse = convert_to_tensor(affine(grid=self._deform(size))[0])
            down, across = (
                self._spread(points, side, self._spacing)
                for points, side in zip(coarse.shape[1:], size, strict=True)
            )
            grid: torch.Tensor = down @ coarse @ across.T
        else:
            grid = convert_to_tensor(affine(size)[0])
        for rows, start, side, share in zip(grid, window[:2], size, shift, strict=False):
            rows += start + (side - 1) / 2 + share * side
        return grid

    def _draw(
        self, rng: np.random.Generator
    ) -> tuple[float, list[float], list[float], list[float]]:
        """Draw an angle in radians, two shears, two shifts and two scales."""
        bounds = self._bounds
        angle = float(rng.uniform(-1, 1)) * math.radians(bounds.degrees)
        shears = rng.uniform(-bounds.shear, bounds.shear, 2).tolist()
        shift = rng.uniform(-bounds.shift, bounds.shift, 2).tolist()
        scale = bounds.scale ** rng.uniform(-1, 1)
        aspect = bounds.aspect ** rng.uniform(-0.5, 0.5)
        return angle, shears, shift, [float(scale * aspect), float(scale / aspect)]

    def _sample(
        self,
        image: NDArray[np.float32],
        target: NDArray[np.int16],
        grid: torch.Tensor | None,
        window: Window,
    ) -> Crop:
        """Take image and target at the points of a grid; outside of the slice as `cut` does."""
        import torch

        if grid is None:
            return cut(image, target, window)
        # Of a large slice only the part around the points; a pixel more, which is between them.
        low = grid[:2].amin((1, 2)).floor().int().tolist()
        high = grid[:2].amax((1, 2)).ceil().int().tolist()
        around = Window(
            low[0] - 1,
            low[1] - 1,
            *(last - first + 3 for first, last in zip(low, high, strict=True)),
        )
        image, target = cut(image, target, around)
        for rows, start, side in zip(grid, around[:2], around[2:], strict=False):
            rows -= start + (side - 1) / 2
        resample: Callable[..., Any] = self._resample
        labels = torch.from_numpy(target.astype(np.float32)[np.newaxis])
        found = resample(torch.from_numpy(image), grid, mode="bilinear", dtype=np.float32)
        chosen = resample(labels, grid, mode="nearest", dtype=np.float32)
        return np.asarray(found, dtype=np.float32), np.asarray(chosen)[0].astype(np.int16)


def _spread(points: int, side: int, spacing: int) -> torch.Tensor:
    """Return the weights, (side, points), of control points in the pixels between them (bicubic).

    The middle of the pixels is that of the points, which reach beyond them.
    """
    import torch
    from torch.nn.functional import interpolate

    weights = interpolate(
        torch.eye(points)[None, None],
        size=(points * spacing, points),
        mode="bicubic",
        align_corners=False,
    )[0, 0]
    beyond = (len(weights) - side) // 2
    return weights[beyond : beyond + side].contiguous()


def _intensity(bounds: _Bounds) -> list[Any]:
    """Return what changes intensities, in its order; images are of mean 0 and deviation 1."""
    from monai.transforms.intensity import array as lit
    from monai.transforms.spatial.array import RandSimulateLowResolution

    found = [
        (bounds.noise, lit.RandGaussianNoise(bounds.noise, std=0.15)),
        (
            bounds.blur,
            lit.RandGaussianSmooth((0.4, 0.9), (0.4, 0.9), prob=bounds.blur),
        ),
        (bounds.light, lit.RandScaleIntensity(0.25, prob=bounds.light)),
        (bounds.light, lit.RandShiftIntensity(0.2, prob=bounds.light)),
        (
            bounds.low_resolution,
            RandSimulateLowResolution(
                bounds.low_resolution, upsample_mode="bilinear", zoom_range=(0.5, 1.0)
            ),
        ),
        (
            bounds.gamma,
            lit.RandAdjustContrast(bounds.gamma, (0.7, 1.5), retain_stats=True),
        ),
        (
            bounds.gamma,
            lit.RandAdjustContrast(
                bounds.gamma / 3, (0.7, 1.5), invert_image=True, retain_stats=True
            ),
        ),
    ]
    return [change for share, change in found if share]
