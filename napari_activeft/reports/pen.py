"""Lines, dots and words on a canvas that becomes a PNG file, without a drawing library.

Symbols: x y in pixels of the finished picture, from its upper left corner.
"""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_activeft.reports.png import png

_FINE = 3  # drawn so many times as large, and averaged: edges come out smooth
_LETTER_WIDTH, _LETTER_HEIGHT = 5, 8
# Columns of the letters from blank to ~, the lowest bit of each on top.
_LETTERS = bytes.fromhex(
    "0000000000" "00005f0000" "0007000700" "147f147f14" "242a7f2a12" "2313086462" "3649562050"
    "0008070300" "001c224100" "0041221c00" "2a1c7f1c2a" "08083e0808" "0080703000" "0808080808"
    "0000606000" "2010080402" "3e5149453e" "00427f4000" "7249494946" "2141494d33" "1814127f10"
    "2745454539" "3c4a494931" "4121110907" "3649494936" "464949291e" "0000140000" "0040340000"
    "0008142241" "1414141414" "0041221408" "0201590906" "3e415d594e" "7c1211127c" "7f49494936"
    "3e41414122" "7f4141413e" "7f49494941" "7f09090901" "3e41415173" "7f0808087f" "00417f4100"
    "2040413f01" "7f08142241" "7f40404040" "7f021c027f" "7f0408107f" "3e4141413e" "7f09090906"
    "3e4151215e" "7f09192946" "2649494932" "03017f0103" "3f4040403f" "1f2040201f" "3f4038403f"
    "6314081463" "0304780403" "6159494d43" "007f414141" "0204081020" "004141417f" "0402010204"
    "4040404040" "0003070800" "2054547840" "7f28444438" "3844444428" "384444287f" "3854545418"
    "00087e0902" "18a4a49c78" "7f08040478" "00447d4000" "2040403d00" "7f10284400" "00417f4000"
    "7c04780478" "7c08040478" "3844444438" "fc18242418" "18242418fc" "7c08040408" "4854545424"
    "04043f4424" "3c4040207c" "1c2040201c" "3c4030403c" "4428102844" "4c9090907c" "4464544c44"
    "0008364100" "0000770000" "0041360800" "0201020402"
)  # fmt: skip
Colour = tuple[int, int, int]


def colour(written: str) -> Colour:
    """Return red, green and blue of ``#rrggbb``."""
    red, green, blue = bytes.fromhex(written.removeprefix("#"))
    return red, green, blue


class Canvas:
    """A white picture to draw on.

    Parameters
    ----------
    width, height
        In pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self._fine = np.full((height * _FINE, width * _FINE, 3), 255, dtype=np.uint8)

    def line(
        self, x0: float, y0: float, x1: float, y1: float, ink: Colour, width: float = 1.0
    ) -> Self:
        """Draw a straight line with round ends."""
        ends = np.array([[x0, y0], [x1, y1]]) * _FINE
        reach = width * _FINE / 2
        (left, top), (right, bottom) = ends.min(0) - reach - 1, ends.max(0) + reach + 1
        rows, columns, part = self._part(left, top, right, bottom)
        along = ends[1] - ends[0]
        length = float(along @ along)
        across = columns - ends[0, 0], rows - ends[0, 1]
        at = (across[0] * along[0] + across[1] * along[1]) / length if length else 0.0 * across[0]
        at = np.clip(at, 0.0, 1.0)
        away = np.hypot(across[0] - at * along[0], across[1] - at * along[1])
        part[away <= reach] = ink
        return self

    def dashed(
        self, x0: float, y0: float, x1: float, y1: float, ink: Colour, width: float = 1.0
    ) -> Self:
        """Draw a line of dashes, 7 pixels each and 5 apart."""
        length = math.hypot(x1 - x0, y1 - y0)
        for start in np.arange(0.0, length, 12.0):
            a, b = start / length, min(start + 7.0, length) / length
            ends = (x0 + a * (x1 - x0), y0 + a * (y1 - y0), x0 + b * (x1 - x0), y0 + b * (y1 - y0))
            self.line(*ends, ink, width)
        return self

    def dot(self, x: float, y: float, radius: float, ink: Colour) -> Self:
        """Draw a filled circle."""
        return self.line(x, y, x, y, ink, 2 * radius)

    def words(
        self, x: float, y: float, said: str, ink: Colour, *, size: int = 2, anchor: float = 0.0
    ) -> Self:
        """Write a line of text; letters that are not of ASCII become a question mark.

        Parameters
        ----------
        x, y
            Of its upper edge; ``anchor`` 0 begins at x, 0.5 is centred on it, 1 ends there.
        size
            Pixels of a dot of the letters, which are 5 by 8 dots.
        """
        dot = size * _FINE
        start = round((x - anchor * width_of(said, size)) * _FINE)
        top = round(y * _FINE)
        for at, letter in enumerate(said):
            shape = np.kron(_letter(letter), np.ones((dot, dot), dtype=bool))
            left = start + at * (_LETTER_WIDTH + 1) * dot
            place = self._fine[max(top, 0) : top + len(shape), max(left, 0) : left + shape.shape[1]]
            place[shape[: place.shape[0], : place.shape[1]]] = ink
        return self

    def png(self) -> bytes:
        """Return the picture as a PNG file."""
        height, width = (side // _FINE for side in self._fine.shape[:2])
        blocks = self._fine.reshape(height, _FINE, width, _FINE, 3)
        return png(np.round(blocks.mean((1, 3))).astype(np.uint8))

    def _part(
        self, left: float, top: float, right: float, bottom: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint8]]:
        """Return the pixel centres of a part of the fine picture, and the part itself."""
        height, width = self._fine.shape[:2]
        x0, x1 = (int(np.clip(side, 0, width)) for side in (left, right + 1))
        y0, y1 = (int(np.clip(side, 0, height)) for side in (top, bottom + 1))
        rows, columns = np.mgrid[y0:y1, x0:x1] + 0.5
        return rows, columns, self._fine[y0:y1, x0:x1]


def width_of(said: str, size: int = 2) -> float:
    """Return the pixels that a line of text takes."""
    return size * ((_LETTER_WIDTH + 1) * len(said) - 1)


def _letter(letter: str) -> NDArray[np.bool_]:
    """Return the dots of a letter, (8, 5)."""
    at = ord(letter) - ord(" ")
    if not 0 <= at < len(_LETTERS) // _LETTER_WIDTH:
        at = ord("?") - ord(" ")
    columns = np.frombuffer(_LETTERS, np.uint8)[at * _LETTER_WIDTH :][:_LETTER_WIDTH]
    bits = np.unpackbits(columns[np.newaxis], axis=0, bitorder="little")
    return bits.astype(bool)
