"""Slices of a project as pictures to look at, of volumes that may be gone by now."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_activeft.annotation_db import VolumeRecord
from napari_activeft.errors import UserError
from napari_activeft.pool import VolumeCache, normalise, picture, take_slice
from napari_activeft.project import Project


class SlicePictures:
    """Makes pictures of slices, the volumes used last in memory.

    It has a cache of its own: whoever labels next shall be told when an image went missing, and
    shall not lose the volumes read ahead for him.

    Parameters
    ----------
    project
        Open.
    max_bytes
        Voxels kept in memory.
    """

    def __init__(self, project: Project, max_bytes: int = 1 << 30) -> None:
        self._project = project
        self._volumes = {volume.volume_id: volume for volume in project.store.volumes()}
        self._cache = VolumeCache(lambda one: project.open_volume(self.volume(one)), max_bytes)

    def volume(self, volume_id: int) -> VolumeRecord:
        """Return what is known of a volume."""
        if volume_id not in self._volumes:  # it was added since
            self._volumes[volume_id] = self._project.store.volume(volume_id)
        return self._volumes[volume_id]

    def of(self, volume_id: int, position: int) -> NDArray[np.uint8] | None:
        """Return a slice as (h, w) or RGB (h, w, 3); None where its image cannot be read."""
        volume = self.volume(volume_id)
        try:
            data = self._cache.volume(volume_id).data
        except UserError:
            return None
        ranges = [(low, high) for low, high in volume.intensity_range]
        return picture(normalise(take_slice(data, volume.axis, position), ranges))
