"""What one stroke changed on a slice, and how the journal keeps it.

Symbols: n changed pixels; h w height and width of the slice.

A stroke in the journal is a header (`_HEADER`, little-endian) and one zlib stream of three arrays:
the distances between neighbouring pixels (uint32, n), the values before and after (uint16, n each).
Along a row the distances are 1, and values rarely differ within a stroke, so that a brush stroke of
some thousand pixels becomes a few hundred bytes.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import UserError
from napari_activeft.voxels import LabelMap

Kind = Literal["drawn", "undo", "redo"]

_KINDS: Final = get_args(Kind)
_MAGIC: Final = b"AFS1"
# Magic, kind, revision that was drawn on (0 for none), height, width, n.
_HEADER: Final = struct.Struct("<4sBQIII")
_BYTES_A_PIXEL: Final = 8
# Fast: a stroke must be on disk before the next one is over, and all levels find the rows.
_ZLIB_LEVEL: Final = 1


@dataclass(frozen=True, eq=False)
class Stroke:
    """The pixels of one slice that one action changed.

    Attributes
    ----------
    shape
        Of the slice, (h, w).
    pixels
        Rising flat indices of what changed, row after row, uint32 (n,).
    before, after
        Values there, uint16 (n,).
    kind
        Whether it was drawn, or took one back, or did that one again.
    """

    shape: tuple[int, int]
    pixels: NDArray[np.uint32] = field(repr=False)
    before: NDArray[np.uint16] = field(repr=False)
    after: NDArray[np.uint16] = field(repr=False)
    kind: Kind = "drawn"

    @classmethod
    def between(cls, before: LabelMap, after: LabelMap) -> Stroke | None:
        """Return what differs between two masks (h, w); None where nothing does."""
        pixels = np.flatnonzero(before != after)
        if not len(pixels):
            return None
        height, width = before.shape
        return cls(
            (height, width),
            pixels.astype(np.uint32),
            before.ravel()[pixels].astype(np.uint16),
            after.ravel()[pixels].astype(np.uint16),
        )

    def __len__(self) -> int:
        return len(self.pixels)

    def inverse(self, kind: Kind) -> Stroke:
        """Return the stroke that takes this one back."""
        return Stroke(self.shape, self.pixels, self.after, self.before, kind)

    def again(self, kind: Kind) -> Stroke:
        """Return the same change under another kind."""
        return Stroke(self.shape, self.pixels, self.before, self.after, kind)

    def fits(self, mask: LabelMap) -> bool:
        """Tell whether a mask (h, w) holds what this stroke found there."""
        return mask.shape == self.shape and bool((mask.ravel()[self.pixels] == self.before).all())

    def apply(self, mask: LabelMap) -> None:
        """Change a mask (h, w), in its place."""
        mask.reshape(-1)[self.pixels] = self.after

    def pack(self, base: int | None) -> bytes:
        """Return the bytes that the journal keeps.

        Parameters
        ----------
        base
            The revision that the slice's first stroke was drawn on, None if it had no mask.
        """
        head = _HEADER.pack(_MAGIC, _KINDS.index(self.kind), base or 0, *self.shape, len(self))
        body = (
            np.diff(self.pixels, prepend=np.uint32(0)).astype("<u4").tobytes()
            + self.before.astype("<u2").tobytes()
            + self.after.astype("<u2").tobytes()
        )
        return head + zlib.compress(body, _ZLIB_LEVEL)

    @classmethod
    def unpack(cls, payload: bytes) -> tuple[Stroke, int | None]:
        """Return a stroke of the journal, and the revision that it was drawn on.

        Raises
        ------
        UserError
            If the bytes are no stroke.
        """
        try:
            magic, kind, base, height, width, count = _HEADER.unpack_from(payload)
            body = zlib.decompress(payload[_HEADER.size :])
        except (struct.error, zlib.error) as fault:
            raise _not_a_stroke(str(fault)) from fault
        if magic != _MAGIC or kind >= len(_KINDS) or len(body) != count * _BYTES_A_PIXEL:
            raise _not_a_stroke("it was written by another program, or another version")
        pixels = np.cumsum(np.frombuffer(body, "<u4", count), dtype=np.uint64)
        if count and pixels[-1] >= height * width:
            raise _not_a_stroke(f"a pixel lies outside of {height} x {width}")
        before, after = np.frombuffer(body, "<u2", 2 * count, 4 * count).reshape(2, count)
        stroke = cls(
            (height, width),
            pixels.astype(np.uint32),
            before.astype(np.uint16),
            after.astype(np.uint16),
            _KINDS[kind],
        )
        return stroke, base or None


def _not_a_stroke(why: str) -> UserError:
    return UserError(
        f"an entry of the journal is no stroke ({why}): recover the strokes before it, or discard "
        "the journal of this slice"
    )
