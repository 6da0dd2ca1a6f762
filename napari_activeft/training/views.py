"""Views of a picture: other crops, turned and lit in other ways, of what is the same to an encoder.

All of a batch are made at once by torch, on the device where the encoder computes. What is drawn
comes from a generator on the CPU, so that it is the same on every device.

Symbols: b pictures, c channels, s their side, v side of a view.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Bounds:
    """How far views may differ.

    Attributes
    ----------
    area
        Smallest and largest share of the picture that a view shows.
    aspect
        Largest ratio of its sides.
    degrees
        By which it is turned at most.
    mirrored
        Whether it may be mirrored left to right and top to bottom.
    gamma
        Largest exponent of the intensities; the smallest is its inverse.
    contrast, light
        Largest change of contrast (as a share) and of brightness.
    noise
        Largest deviation of the noise.
    blurred, coarse, inverted, grey
        Share of views that are blurred, that are of half the resolution or less, that have dark and
        bright exchanged, and of views in colour that lose it.
    """

    area: tuple[float, float]
    aspect: float = 4 / 3
    degrees: float = 20.0
    mirrored: bool = True
    gamma: float = 1.8
    contrast: float = 0.4
    light: float = 0.15
    noise: float = 0.06
    blurred: float = 0.3
    coarse: float = 0.25
    inverted: float = 0.0
    grey: float = 0.2


def views(pictures: Tensor, side: int, bounds: Bounds, draw: torch.Generator) -> Tensor:
    """Return one view of each picture.

    Parameters
    ----------
    pictures
        Shape (b, c, s, s), 0 to 1.
    side
        Of the views, v.
    draw
        On the CPU.

    Returns
    -------
    views
        Shape (b, c, v, v), 0 to 1.
    """
    return lit(crops(pictures, side, turns(len(pictures), bounds, draw)), bounds, draw)


def crops(pictures: Tensor, side: int, theta: Tensor) -> Tensor:
    """Return a crop of each picture, (b, c, v, v), by what `turns` has drawn."""
    b, c = pictures.shape[:2]
    grid = F.affine_grid(theta.to(pictures.device), [b, c, side, side], align_corners=False)
    return F.grid_sample(pictures, grid, mode="bilinear", align_corners=False)


def _uniform(draw: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=draw) * (high - low) + low


def turns(b: int, bounds: Bounds, draw: torch.Generator) -> Tensor:
    """Draw affine maps (b, 2, 3) from a view to its picture, both from -1 to 1."""
    side = _uniform(draw, *bounds.area, b).sqrt()
    spread = math.log(bounds.aspect) / 2
    stretch = _uniform(draw, -spread, spread, b).exp()
    high, wide = (side * stretch).clamp(max=1), (side / stretch).clamp(max=1)
    angle = torch.deg2rad(_uniform(draw, -bounds.degrees, bounds.degrees, b))
    down, across = ((1 - one) * _uniform(draw, -1, 1, b) for one in (high, wide))
    if bounds.mirrored:
        flips = torch.randint(0, 2, (2, b), generator=draw) * 2 - 1
        high, wide = high * flips[0], wide * flips[1]
    cos, sin = angle.cos(), angle.sin()
    rows = [
        torch.stack([cos * wide, -sin * high, across], dim=1),
        torch.stack([sin * wide, cos * high, down], dim=1),
    ]
    return torch.stack(rows, dim=1)


def lit(x: Tensor, bounds: Bounds, draw: torch.Generator) -> Tensor:
    """Change intensities (b, c, v, v) from 0 to 1, of each picture in its own way."""
    b, c = x.shape[:2]

    def each(low: float, high: float) -> Tensor:
        return _uniform(draw, low, high, b, 1, 1, 1).to(x.device)

    def some(share: float) -> Tensor:
        return each(0, 1) < share

    x = torch.where(some(bounds.inverted), 1 - x, x)
    if c > 1:
        x = torch.where(some(bounds.grey), x.mean(dim=1, keepdim=True), x)
    most = math.log(bounds.gamma)
    x = x.clamp(1e-4, 1).pow(each(-most, most).exp())
    mean = x.mean(dim=(2, 3), keepdim=True)
    x = (x - mean) * (1 + each(-bounds.contrast, bounds.contrast)) + mean
    x = x + each(-bounds.light, bounds.light)
    x = torch.where(some(bounds.blurred), _blurred(x), x)
    x = torch.where(some(bounds.coarse), _coarse(x, draw), x)
    noise = torch.randn(x.shape, generator=draw).to(x.device)
    return (x + noise * each(0, bounds.noise) * some(0.5)).clamp(0, 1)


def _coarse(x: Tensor, draw: torch.Generator) -> Tensor:
    """Bring pictures to a half to a quarter of their resolution and back, all alike."""
    share = float(_uniform(draw, 0.25, 0.5, 1))
    small = F.interpolate(x, scale_factor=share, mode="bilinear", antialias=True)
    return F.interpolate(small, size=x.shape[2:], mode="bilinear")


def _blurred(x: Tensor) -> Tensor:
    """Blur by a binomial kernel of five pixels."""
    kernel = x.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    c = x.shape[1]
    padded = F.pad(x, (2, 2, 2, 2), mode="replicate")
    down = F.conv2d(padded, kernel.view(1, 1, 5, 1).expand(c, 1, 5, 1), groups=c)
    return F.conv2d(down, kernel.view(1, 1, 1, 5).expand(c, 1, 1, 5), groups=c)
