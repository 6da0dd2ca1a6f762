"""From a project to what networks learn from: its volumes, and the masks that count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from napari_activeft.annotation_db import VolumeRecord
from napari_activeft.errors import UserError
from napari_activeft.geometry import Geometry
from napari_activeft.pool import slice_spacing
from napari_activeft.pool_stacks import SliceReader
from napari_activeft.project import Project
from napari_activeft.training.dataset import LabelledVolume


def labelled_volumes(
    project: Project, splits: Sequence[str] = ("pool",), *, by_people: bool = False
) -> list[LabelledVolume]:
    """Return the volumes of some splits that have an accepted mask, with all of them.

    Parameters
    ----------
    splits
        Of ``"pool"``, ``"val"`` and ``"test"``.
    by_people
        Leave out accepted proposals: a network would be measured against its own.
    """
    store, found = project.store, []
    places = accepted_places(project, by_people=by_people)
    human = places if by_people else accepted_places(project, by_people=True)
    for volume in store.volumes():
        if volume.volume_id not in places or volume.split not in splits:
            continue
        masks = store.accepted_masks(volume.volume_id)
        kept = {at: mask for at, mask in masks.items() if at in places[volume.volume_id]}
        made = frozenset(kept) - human.get(volume.volume_id, set())
        found.append(_volume(project, volume, kept, by_network=made))
    return found


def accepted_places(project: Project, *, by_people: bool = False) -> dict[int, set[int]]:
    """Return the positions of the accepted masks by volume id.

    Parameters
    ----------
    by_people
        Leave out accepted proposals.
    """
    store = project.store
    models = {one.revision_id for one in store.standing() if by_people and one.source == "model"}
    places: dict[int, set[int]] = {}
    for record in store.accepted():
        if record.revision_id not in models:
            places.setdefault(record.volume_id, set()).add(record.position)
    return places


def stacks(project: Project, volumes: Sequence[VolumeRecord] | None = None) -> list[LabelledVolume]:
    """Return volumes, all by default, with the way to their slices and without masks."""
    chosen = project.store.volumes() if volumes is None else volumes
    return [_volume(project, volume, {}) for volume in chosen]


def class_values(project: Project) -> list[int]:
    """Return the values of the classes in the order of a network's outputs, which is theirs.

    Raises
    ------
    UserError
        If the project has no class.
    """
    values = sorted(record.value for record in project.store.classes())
    if not values:
        raise UserError(
            "this project has no class, and a network needs at least one to tell from the "
            "background: add them with `napari-activeft classes 1=NAME`"
        )
    return values


def _volume(
    project: Project,
    volume: VolumeRecord,
    masks: Mapping[int, NDArray[Any]],
    by_network: frozenset[int] = frozenset(),
) -> LabelledVolume:
    return LabelledVolume(
        name=volume.name,
        case=volume.case,
        split=volume.split,
        spacing=slice_spacing(Geometry.from_json(volume.geometry), volume.axis),
        shape=(volume.channels, volume.slice_height, volume.slice_width),
        depth=volume.slice_count,
        read=SliceReader(project, volume),
        masks=masks,
        by_network=by_network,
    )
