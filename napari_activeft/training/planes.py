"""Prepared slices of volumes, kept in memory as far as a budget of bytes goes.

Symbols: c channels, H W height and width of a slice after resampling.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import OnProgress, UserError, no_progress
from napari_activeft.training.view import Scaling, View, neighbours, prepare, scaling_of

if TYPE_CHECKING:
    from napari_activeft.training.dataset import LabelledVolume

Plane = NDArray[np.floating[Any]]
_PIECE_BYTES = 64 << 20


class Planes:
    """The prepared slices of some volumes.

    Those that find room are kept: as float32 where all of them do, else as float16 (values are of
    deviation 1, so that is right to a thousandth). The others are read again each time. Any number
    of threads may ask.

    Parameters
    ----------
    view
        How slices are prepared.
    cache_bytes
        Of the slices that are kept.
    """

    def __init__(self, view: View, cache_bytes: int) -> None:
        self.view, self._cache_bytes = view, cache_bytes
        self.dtype: type[np.floating[Any]] = np.float32
        self.kept_bytes = 0
        self._kept: dict[tuple[str, int], Plane] = {}
        self._scalings: dict[str, Scaling] = {}
        self._reading = threading.Lock()

    def fill(
        self,
        wanted: Sequence[tuple[LabelledVolume, Iterable[int]]],
        on_progress: OnProgress = no_progress,
    ) -> None:
        """Read the slices at some positions of each volume, and their neighbours.

        Raises
        ------
        UserError
            If an image cannot be read or is not what the volume says it is.
        """
        context = self.view.context
        needed = [
            (volume, sorted({n for at in at_ for n in neighbours(at, volume.depth, context)}))
            for volume, at_ in wanted
        ]
        if sum(len(at) * self._bytes_of(volume) for volume, at in needed) > self._cache_bytes:
            self.dtype = np.float16
        on_progress(0, len(needed))
        for done, (volume, positions) in enumerate(needed, start=1):
            self._fill_from(volume, positions)
            on_progress(done, len(needed))

    def of(self, volume: LabelledVolume, positions: Sequence[int]) -> Mapping[int, Plane]:
        """Return prepared slices (c, H, W) by position, from memory or from the volume."""
        found = {
            at: plane
            for at in positions
            if (plane := self._kept.get((volume.name, at))) is not None
        }
        missing = sorted(set(positions) - set(found))
        if missing:
            found.update(zip(missing, self._read(volume, missing), strict=True))
        return found

    def _fill_from(self, volume: LabelledVolume, positions: Sequence[int]) -> None:
        """Keep what finds room; a volume of which nothing does is still read once, as a check."""
        size = self._bytes_of(volume)
        step = max(_PIECE_BYTES // (4 * math.prod(volume.shape)), 1)
        for start in range(0, len(positions), step):
            piece = positions[start : start + step]
            room = (self._cache_bytes - self.kept_bytes) // size
            if room < 1 and start:
                return
            prepared = self._read(volume, piece)
            for at, plane in zip(piece, prepared[: max(room, 0)], strict=False):
                self._kept[volume.name, at] = plane.astype(self.dtype)
                self.kept_bytes += size

    def _read(self, volume: LabelledVolume, positions: Sequence[int]) -> NDArray[np.float32]:
        with self._reading:
            slices = volume.read(positions)
            if slices.shape != (len(positions), *volume.shape):
                raise UserError(
                    f"{volume.name} gave slices of {_by(slices.shape[1:])} (channels, height, "
                    f"width), and {_by(volume.shape)} were expected: restore its image"
                )
            if volume.name not in self._scalings:
                self._scalings[volume.name] = scaling_of(volume.read, volume.depth)
        return prepare(slices, volume.spacing, self.view, self._scalings[volume.name])

    def _bytes_of(self, volume: LabelledVolume) -> int:
        """Return the bytes of one slice of a volume as it is kept."""
        shape = self.view.shape_of(volume.shape[1:], volume.spacing)
        return np.dtype(self.dtype).itemsize * volume.shape[0] * math.prod(shape)


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
