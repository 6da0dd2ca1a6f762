"""Small pictures inside a page, as PNG in a data address."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GREY, _RGB = 0, 2


def data_address(picture: NDArray[np.uint8], largest: int = 192) -> str:
    """Return a picture, grey (h, w) or RGB (h, w, 3), as ``data:image/png;base64,...``.

    Sides above ``largest`` are brought to at most that by averaging whole blocks of pixels.
    """
    small = _reduced(picture, largest)
    return f"data:image/png;base64,{base64.b64encode(png(small)).decode('ascii')}"


def png(picture: NDArray[np.uint8]) -> bytes:
    """Return a picture, uint8 (h, w) or (h, w, 3), as a PNG file."""
    colours = _GREY if picture.ndim == 2 else _RGB
    if picture.dtype != np.uint8 or picture.shape[2:] not in ((), (3,)) or not picture.size:
        raise ValueError(
            f"a picture is {picture.dtype} {picture.shape}: give uint8 (h, w) or (h, w, 3)"
        )
    height, width = picture.shape[:2]
    lines = np.zeros((height, 1 + picture[0].size), dtype=np.uint8)  # each begins with filter 0
    lines[:, 1:] = picture.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, content)
        for kind, content in (
            (b"IHDR", header),
            (b"IDAT", zlib.compress(lines.tobytes(), 9)),
            (b"IEND", b""),
        )
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def _reduced(picture: NDArray[Any], largest: int) -> NDArray[np.uint8]:
    block = -(-max(picture.shape[:2]) // largest)
    if block == 1:
        return picture
    height, width = (max(side // block, 1) for side in picture.shape[:2])
    rows, columns = (min(block, side) for side in picture.shape[:2])
    cut = picture[: height * rows, : width * columns]
    blocks = cut.reshape(height, rows, width, columns, *picture.shape[2:])
    averaged: NDArray[np.uint8] = np.round(blocks.mean(axis=(1, 3))).astype(np.uint8)
    return averaged
