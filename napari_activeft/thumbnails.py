"""Small pictures of slices, made once in a thread and kept in the project's folder."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from napari_activeft.annotation_db import StoreError, VolumeRecord
from napari_activeft.errors import UserError
from napari_activeft.geometry import Geometry
from napari_activeft.pool import slice_spacing
from napari_activeft.project import Project
from napari_activeft.slice_pictures import SlicePictures
from napari_activeft.volume import write_png

FOLDER: Final = "thumbnails"
SIDE: Final = 72
"""Pixels of the longer side."""
_MAX_BYTES: Final = 1 << 28

Place = tuple[int, int]
"""Volume id and position."""
OnMade = Callable[[Place, Path | None], None]
"""Told in the thread of a picture that is there now, or None where there can be none."""


class Thumbnails:
    """Makes thumbnails of what is asked, the newest wish first.

    Parameters
    ----------
    project
        Open. Pictures are kept by the volume's content, so they survive moving it.
    on_made
        See `OnMade`.
    """

    def __init__(self, project: Project, on_made: OnMade) -> None:
        self._folder, self._on_made = project.folder / FOLDER, on_made
        self._project = project
        self._pictures: SlicePictures | None = None
        self._wanted: OrderedDict[Place, None] = OrderedDict()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="thumbnails", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def path(self, volume: VolumeRecord, position: int) -> Path:
        """Return where a slice's thumbnail lies, or will."""
        name = f"{volume.content_hash[:16]}-{volume.axis}-{position}.png"
        return self._folder / name[:2] / name

    def ask(self, places: Iterable[Place]) -> None:
        """Let thumbnails be made; each is told of once it is there."""
        with self._changed:
            for place in places:
                self._wanted[place] = None
                self._wanted.move_to_end(place, last=False)
            self._changed.notify_all()

    def close(self) -> None:
        """Drop what is wanted and end the thread, once the volume that is being read is read."""
        with self._changed:
            self._closing = True
            self._wanted.clear()
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._wanted)
                if self._closing:
                    return
                first, _ = next(iter(self._wanted.items()))
                # All of one volume together: it is read once.
                batch = [place for place in self._wanted if place[0] == first[0]]
                for place in batch:
                    del self._wanted[place]
            for place in batch:
                if self._closing:
                    return
                self._on_made(place, self._made(place))

    def _made(self, place: Place) -> Path | None:
        volume_id, position = place
        with suppress(UserError, StoreError, OSError, IndexError):
            if self._pictures is None:
                self._pictures = SlicePictures(self._project, _MAX_BYTES)
            volume = self._pictures.volume(volume_id)
            path = self.path(volume, position)
            if path.is_file():
                return path
            picture = self._pictures.of(volume_id, position)
            if picture is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                spacing = slice_spacing(Geometry.from_json(volume.geometry), volume.axis)
                write_png(path, shrunk(picture, spacing))
                return path
        return None


def shrunk(picture: NDArray[np.uint8], spacing: tuple[float, float]) -> NDArray[np.uint8]:
    """Return a picture (h, w) or (h, w, 3) of at most `SIDE` pixels a side, in mm proportions.

    Parameters
    ----------
    spacing
        Millimetres per pixel down and across.
    """
    height, width = picture.shape[:2]
    tall, wide = height * spacing[0], width * spacing[1]
    scale = SIDE / max(tall, wide)
    sides = (max(1, round(tall * scale)), max(1, round(wide * scale)))
    for axis, (old, new) in enumerate(zip((height, width), sides, strict=True)):
        picture = _resampled(picture, axis, old, new)
    return picture


def _resampled(picture: NDArray[np.uint8], axis: int, old: int, new: int) -> NDArray[np.uint8]:
    """Change the length of one axis: means of what falls together, else the nearest."""
    if new >= old:
        return np.take(picture, np.arange(new) * old // new, axis)
    starts = np.arange(new) * old // new
    sums = np.add.reduceat(picture.astype(np.float32), starts, axis)
    counts = np.diff([*starts.tolist(), old]).astype(np.float32)
    shape = [1] * picture.ndim
    shape[axis] = new
    means = sums / counts.reshape(shape)
    return np.asarray(np.minimum(means + 0.5, 255.0)).astype(np.uint8)
