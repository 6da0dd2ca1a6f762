"""The pool's slices, volume by volume, on their way to an encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_activeft.annotation_db import SliceRow, VolumeRecord
from napari_activeft.embedding.engine import Stack
from napari_activeft.errors import UserError
from napari_activeft.geometry import Geometry
from napari_activeft.pool import normalise, slice_spacing, take_slice
from napari_activeft.project import Project, content_hash


def stacks_of(project: Project, pool: Sequence[SliceRow]) -> list[Stack]:
    """Group the slices of the pool by volume, each with the way to its pixels.

    Raises
    ------
    UserError
        If volumes differ in their number of channels.
    """
    rows: dict[int, list[SliceRow]] = {}
    for row in pool:
        rows.setdefault(row.volume_id, []).append(row)
    volumes = {volume.volume_id: volume for volume in project.store.volumes()}
    _see_one_number_of_channels([volumes[volume_id] for volume_id in rows])
    return [_stack(project, volumes[volume_id], held) for volume_id, held in rows.items()]


def _see_one_number_of_channels(volumes: Sequence[VolumeRecord]) -> None:
    other = next((v for v in volumes if v.channels != volumes[0].channels), None)
    if other is not None:
        raise UserError(
            f"{volumes[0].name} has {volumes[0].channels} and {other.name} has {other.channels} "
            "channels: an encoder needs one number for the whole pool, so keep them in projects of "
            "their own"
        )


def _stack(project: Project, volume: VolumeRecord, rows: Sequence[SliceRow]) -> Stack:
    return Stack(
        name=volume.name,
        keys=[row.key for row in rows],
        positions=[row.position for row in rows],
        shape=(volume.channels, volume.slice_height, volume.slice_width),
        spacing=slice_spacing(Geometry.from_json(volume.geometry), volume.axis),
        read=SliceReader(project, volume),
    )


class SliceReader:
    """Reads normalised slices of one volume, after a look whether its files are still the same."""

    def __init__(self, project: Project, volume: VolumeRecord) -> None:
        self._project, self._volume = project, volume
        self._is_same = False

    def __call__(self, positions: Sequence[int]) -> NDArray[np.float32]:
        """Return slices, (m, c, h, w)."""
        if not self._is_same:
            self._see_same_content()
        volume = self._volume
        data = self._project.cache.volume(volume.volume_id).data
        ranges = [(low, high) for low, high in volume.intensity_range]
        slices = [normalise(take_slice(data, volume.axis, at), ranges) for at in positions]
        return np.stack([one if one.ndim == 3 else one[np.newaxis] for one in slices])

    def _see_same_content(self) -> None:
        """Refuse other content: its vector would stay under the hash of the old one for good."""
        source = self._project.source(self._volume)
        try:
            found, _ = content_hash(source.files)
        except OSError as refusal:
            raise UserError(
                f"the image of {self._volume.name} cannot be read ({refusal.strerror}): restore "
                f"{source.paths[0]}, or add its folder again from where it is now"
            ) from refusal
        if found != self._volume.content_hash:
            raise UserError(
                f"the image of {self._volume.name} changed since it was added: restore "
                f"{source.paths[0]}, or add the new one under another name"
            )
        self._is_same = True
