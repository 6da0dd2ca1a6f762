"""Masks as bytes: lossless, self-describing, and honest about damage.

A payload is ``magic | dtype code | height | width | CRC-32 | zstd frame``. The CRC covers the bytes
as they are stored, because zstd ignores some bits of its own. The SHA-256 beside the payload covers
dtype, shape and the *original* class ids, so it proves the whole round trip. Rows are not predicted
from their neighbours first: on real masks that made zstd's work harder, see docs/benchmarks.md.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import zstandard
from numpy.typing import NDArray

from .errors import CorruptMaskError, MaskError

Mask = NDArray[np.uint8] | NDArray[np.uint16]

MAX_SIDE: Final = 4096
"""Longest side of a mask in pixels."""

UNLABELLED: Final = 65535
"""In a mask: a pixel that nobody labelled. It is no class, and not background either."""

_MAGIC: Final = b"AFM1"
_HEAD: Final = struct.Struct("<4sBHHI")
_CODES: Final = {np.dtype(np.uint8): 1, np.dtype(np.uint16): 2}
_DTYPES: Final[dict[int, np.dtype[Any]]] = {1: np.dtype("<u1"), 2: np.dtype("<u2")}
# A tenth to a quarter smaller than the default level, and still a few ms for 512 x 512.
_LEVEL: Final = 9


@dataclass(frozen=True)
class PackedMask:
    """A mask ready to be stored.

    Attributes
    ----------
    payload
        The self-describing bytes.
    checksum
        SHA-256 of dtype, shape and class ids, 64 hexadecimal digits.
    height, width
        Shape of the mask in pixels.
    dtype
        ``"uint8"`` or ``"uint16"``.
    """

    payload: bytes
    checksum: str
    height: int
    width: int
    dtype: str


def pack(mask: Mask) -> PackedMask:
    """Compress a mask without loss.

    Parameters
    ----------
    mask
        Class ids, shape (h, w), uint8 or uint16, sides 1 to 4096; 0 is background and
        `UNLABELLED` what nobody labelled.

    Raises
    ------
    MaskError
        If the array is no such mask.
    """
    check_mask(mask)
    height, width = mask.shape
    code = _CODES[mask.dtype.newbyteorder("=")]
    rows = np.ascontiguousarray(mask, dtype=_DTYPES[code])
    frame = zstandard.ZstdCompressor(level=_LEVEL).compress(rows.data)
    payload = _HEAD.pack(_MAGIC, code, height, width, _crc(code, rows.shape, frame)) + frame
    checksum = _digest(code, rows)
    return PackedMask(payload, checksum, height, width, _DTYPES[code].name)


def unpack(payload: bytes, checksum: str, name: str) -> Mask:
    """Return the mask that `pack` compressed, shape (h, w).

    Parameters
    ----------
    payload
        The stored bytes.
    checksum
        The checksum stored beside them.
    name
        What to call the mask in an error, for example ``"revision 7"``.

    Raises
    ------
    CorruptMaskError
        If a single bit of payload or checksum has changed.
    """
    try:
        if not isinstance(payload, bytes):
            raise ValueError("it is no bytes")
        magic, code, height, width, crc = _HEAD.unpack_from(payload)
        if magic != _MAGIC or code not in _DTYPES or max(height, width) > MAX_SIDE:
            raise ValueError("its head is not that of a mask")
        dtype = _DTYPES[code]
        frame = payload[_HEAD.size :]
        if _crc(code, (height, width), frame) != crc:
            raise ValueError("its bytes are not those that were stored")
        # Asked before it is believed: a damaged frame may claim terabytes.
        if zstandard.get_frame_parameters(frame).content_size != height * width * dtype.itemsize:
            raise ValueError("its size is not that of its shape")
        raw = zstandard.ZstdDecompressor().decompress(frame)
        mask = np.frombuffer(bytearray(raw), dtype=dtype).reshape(height, width)
    except (struct.error, ValueError, zstandard.ZstdError) as damage:
        raise CorruptMaskError(_damage(name, str(damage))) from damage
    if _digest(code, mask) != checksum:
        raise CorruptMaskError(_damage(name, "its checksum does not match"))
    return mask.astype(dtype.newbyteorder("="), copy=False)


def check_mask(mask: Mask) -> None:
    """Raise `MaskError` unless ``mask`` is a 2-D uint8 or uint16 array of sides 1 to 4096."""
    if mask.ndim != 2 or mask.dtype.newbyteorder("=") not in _CODES:
        raise MaskError(
            f"a mask of shape {mask.shape} and type {mask.dtype} was given, but a mask is 2-D with "
            "uint8 or uint16 class ids: convert it first"
        )
    if not 1 <= min(mask.shape) <= max(mask.shape) <= MAX_SIDE:
        raise MaskError(
            f"a mask of {mask.shape[0]} x {mask.shape[1]} pixels was given, but sides must be 1 to "
            f"{MAX_SIDE} pixels: cut the image into tiles first"
        )


def _crc(code: int, shape: tuple[int, ...], frame: bytes) -> int:
    return zlib.crc32(frame, zlib.crc32(struct.pack("<BHH", code, *shape)))


def _digest(code: int, mask: Mask) -> str:
    digest = hashlib.sha256(struct.pack("<BHH", code, *mask.shape))
    digest.update(mask.data)
    return digest.hexdigest()


def _damage(name: str, cause: str) -> str:
    return (
        f"the mask of {name} is damaged ({cause}): run `napari-activeft doctor` for all damaged "
        "masks, then restore a backup of the database or label the slice again"
    )
