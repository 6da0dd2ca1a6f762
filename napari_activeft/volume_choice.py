"""Which volumes of a project are meant: by split, by name."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from napari_activeft.annotation_db import VolumeRecord
from napari_activeft.errors import UserError
from napari_activeft.project import Project


def chosen_volumes(
    project: Project, splits: Sequence[str], names: Sequence[str]
) -> list[VolumeRecord]:
    """Return the volumes of some splits and names, in the order of their names.

    Parameters
    ----------
    splits
        pool, val and test; none means pool, or any where names are given.
    names
        As `info` and `add` show them, in which ``*`` stands for anything; none means all.

    Raises
    ------
    UserError
        If a name fits no volume, or there is none in the splits.
    """
    volumes = project.store.volumes()
    for name in names:
        if not any(fnmatchcase(volume.name, name) for volume in volumes):
            near = get_close_matches(name, [volume.name for volume in volumes], 3, cutoff=0.3)
            meant = f", such as {', '.join(near)}" if near else ""
            raise UserError(
                f"no volume is called {name!r}: name one as it was added{meant}, with * for any "
                "letters"
            )
    wanted = set(splits) or ({"pool", "val", "test"} if names else {"pool"})
    found = [
        volume
        for volume in volumes
        if volume.split in wanted
        and (not names or any(fnmatchcase(volume.name, name) for name in names))
    ]
    if not found:
        among = f" among those named {', '.join(names)}" if names else ""
        raise UserError(
            f"there is no volume of the split {' or '.join(sorted(wanted))}{among}: add volumes "
            "with `napari-activeft add FOLDER`, or name another --split"
        )
    return found
