"""Masks as outlines and areas in SVG: sharp at any size, and a few kilobytes each.

Coordinates are pixels: the corner of pixel (row 0, column 0) is at 0 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def outline(mask: NDArray[np.bool_]) -> str:
    """Return the edges between a mask (h, w) and what is not of it as path data."""
    framed = np.pad(mask, 1).astype(np.int8)
    parts = []
    # An edge lies above pixel (y, x) where it and the one above differ; left of it likewise.
    for y, start, stop in _runs(np.diff(framed, axis=0)[:, 1:-1] != 0):
        parts.append(f"M{start} {y}H{stop}")
    for x, start, stop in _runs((np.diff(framed, axis=1)[1:-1] != 0).T):
        parts.append(f"M{x} {start}V{stop}")
    return "".join(parts)


def area(mask: NDArray[np.bool_]) -> str:
    """Return the area of a mask (h, w) as path data, one strip per run of pixels."""
    return "".join(f"M{start} {y}H{stop}v1H{start}z" for y, start, stop in _runs(mask))


def _runs(rows: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Return row, start and stop of each run of true values."""
    framed = np.pad(rows, ((0, 0), (1, 1))).astype(np.int8)
    steps = np.diff(framed, axis=1)
    starts, stops = np.argwhere(steps == 1), np.argwhere(steps == -1)
    return [
        (int(y), int(start), int(stop)) for (y, start), (_, stop) in zip(starts, stops, strict=True)
    ]
