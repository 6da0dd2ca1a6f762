"""A project: a folder with one database, and the way from its records to image files."""

from __future__ import annotations

import getpass
import hashlib
import os
import shlex
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

from napari_activeft.annotation_db import RootRecord, Store, VolumeRecord
from napari_activeft.errors import UserError
from napari_activeft.folder_walk import PROJECT_FILE
from napari_activeft.geometry import Geometry
from napari_activeft.pool import VolumeCache
from napari_activeft.volume import Source, Volume, open_volume

ENVIRONMENT_VARIABLE = "NAPARI_ACTIVEFT_PROJECT"


class NoProjectError(UserError):
    """No project was named, and the working folder lies in none."""


class Project:
    """An open project.

    Attributes
    ----------
    folder
        Where it lies, absolute.
    store
        Its database.
    cache
        Its volumes by id, the ones used last in memory.
    """

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self.store = store
        self._roots: dict[int, RootRecord] = {}
        self.cache = VolumeCache(lambda volume_id: self.open_volume(store.volume(volume_id)))

    @classmethod
    def create(cls, folder: Path, name: str, settings: dict[str, str]) -> Self:
        """Make a project in a folder, which is made too.

        Raises
        ------
        UserError
            If the folder is a project already or cannot be made.
        """
        folder = Path(folder).absolute()
        if (folder / PROJECT_FILE).exists():
            raise UserError(
                f"{folder} is a project already: choose another folder, or use it with --project"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as refusal:
            raise UserError(
                f"the folder {folder} cannot be made ({refusal.strerror}): choose another one"
            ) from refusal
        return cls(folder, Store.create(folder / PROJECT_FILE, name or folder.name, settings))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the project in a folder.

        Raises
        ------
        UserError
            If there is none.
        """
        folder = Path(folder).absolute()
        if not (folder / PROJECT_FILE).is_file():
            raise UserError(
                f"{folder} is no project, it has no {PROJECT_FILE}: make one with `napari-activeft "
                f"init {shlex.quote(str(folder))}`"
            )
        return cls(folder, Store.open(folder / PROJECT_FILE))

    def close(self) -> None:
        """Let go of the database."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def plane(self) -> str:
        """How volumes of this project are sliced, see `pool.plane_axis`."""
        return str(self.store.project().settings.get("plane", "auto"))

    @cached_property
    def actor(self) -> str:
        """Who works here, for the log of events: the name of the login."""
        return login_name()

    # Image files

    def add_root(self, root: Path) -> int:
        """Remember a folder of images and return its id."""
        absolute = root.resolve()
        try:
            from_project = Path(os.path.relpath(absolute, self.folder.resolve())).as_posix()
        except ValueError:  # another drive
            from_project = None
        return self.store.add_root(str(absolute), from_project)

    def root_folder(self, root: RootRecord) -> Path:
        """Return where a folder of images lies now: where it was, or where it moved with us."""
        there = Path(root.path)
        if not there.is_dir() and root.from_project is not None:
            moved = (self.folder.resolve() / root.from_project).resolve()
            return moved if moved.is_dir() else there
        return there

    def source(self, volume: VolumeRecord) -> Source:
        """Return the files of a volume, whether they are there or not."""
        root = self.root_folder(self._root(volume.root_id))
        return Source(tuple(root / file for file in volume.files), volume.series)

    def label_path(self, volume: VolumeRecord) -> Path | None:
        """Return the label map that belongs to a volume, None if it has none."""
        if volume.label_file is None:
            return None
        return self.root_folder(self._root(volume.root_id)) / volume.label_file

    def open_volume(self, volume: VolumeRecord) -> Volume:
        """Open the image of a volume and see that it still has the geometry that was stored.

        Raises
        ------
        VolumeError
            If it is missing or cannot be read.
        UserError
            If it is another image now.
        """
        opened = open_volume(self.source(volume))
        misfit = opened.geometry.difference(Geometry.from_json(volume.geometry))
        if misfit:
            raise UserError(
                f"the image of {volume.name} changed since it was added, {misfit}: run "
                "`napari-activeft doctor`, and restore the image"
            )
        return opened

    def _root(self, root_id: int) -> RootRecord:
        """Return a folder of images; read once, as it never changes."""
        if root_id not in self._roots:
            self._roots = self.store.roots()  # another program may have added it
        return self._roots[root_id]


def login_name() -> str:
    """Return the name under which the user is logged in, ``"unknown"`` where there is none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return "unknown"


def find_project(named: Path | None, start: Path | None = None) -> Path:
    """Return the project: as named, from the environment, or the nearest parent folder that is one.

    Parameters
    ----------
    named
        What the user gave, if anything.
    start
        Where to look from; the working folder by default.

    Raises
    ------
    NoProjectError
        If none is found.
    """
    if named is not None:
        return named
    if from_environment := os.environ.get(ENVIRONMENT_VARIABLE):
        return Path(from_environment)
    start = (start or Path.cwd()).absolute()
    for folder in (start, *start.parents):
        if (folder / PROJECT_FILE).is_file():
            return folder
    raise NoProjectError(
        f"{start} lies in no project: go into one, name it with --project or "
        f"{ENVIRONMENT_VARIABLE}, or make one with `napari-activeft init DIR`"
    )


def content_hash(files: Sequence[Path]) -> tuple[str, int]:
    """Return the SHA-256 of the bytes of some files, one after the other, and how many there are.

    Raises
    ------
    OSError
        If one of them cannot be read.
    """
    if len(files) == 1:
        with files[0].open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), files[0].stat().st_size
    parts = [content_hash([file]) for file in files]
    joined = hashlib.sha256("".join(digest for digest, _ in parts).encode("ascii"))
    return joined.hexdigest(), sum(size for _, size in parts)
