"""The volumes of a pool as people look through them."""

from __future__ import annotations

from dataclasses import dataclass

from napari_activeft.annotation_db import VolumeRecord
from napari_activeft.errors import UserError
from napari_activeft.geometry import Geometry
from napari_activeft.project import Project


@dataclass(frozen=True)
class PoolRow:
    """A volume.

    Attributes
    ----------
    volume
        As it is stored.
    size, spacing
        Voxels and millimetres along z, y and x, in words.
    problem
        What is wrong with its image, empty if nothing is: whether it is where it was. `doctor`
        also looks inside.
    """

    volume: VolumeRecord
    size: str
    spacing: str
    problem: str


def pool_rows(project: Project) -> list[PoolRow]:
    """Return all volumes by name."""
    return [_row(project, volume) for volume in project.store.volumes()]


def _row(project: Project, volume: VolumeRecord) -> PoolRow:
    geometry = Geometry.from_json(volume.geometry)
    return PoolRow(
        volume,
        " x ".join(str(side) for side in geometry.shape),
        " x ".join(f"{mm:.3g}" for mm in geometry.spacing),
        "" if _is_there(project, volume) else "image missing",
    )


def _is_there(project: Project, volume: VolumeRecord) -> bool:
    try:
        return all(path.exists() for path in project.source(volume).files)
    except (UserError, OSError):  # in a folder that may not be read
        return False
