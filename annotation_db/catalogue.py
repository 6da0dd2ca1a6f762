"""What there is to label: the project, its classes, folders, cases, volumes and slices."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from . import tables
from .database import Database
from .errors import StoreError, UnknownRecordError
from .records import (
    ClassRecord,
    NewVolume,
    ProjectRecord,
    RootRecord,
    SliceRow,
    VolumeRecord,
    fields_of,
)


class Catalogue(Database):
    """Reads and writes all that is known before the first query."""

    def project(self) -> ProjectRecord:
        """Return the project's own record."""
        with self._read() as session:
            row = session.execute(select(tables.Project)).scalar_one()
            return ProjectRecord(row.uid, row.name, row.settings, row.created_at)

    # Classes

    def classes(self) -> list[ClassRecord]:
        """Return the classes by rising value."""
        with self._read() as session:
            rows = session.scalars(select(tables.ClassLabel).order_by(tables.ClassLabel.value))
            return [ClassRecord(row.value, row.name, row.colour) for row in rows]

    def set_classes(self, classes: Sequence[ClassRecord], actor: str) -> None:
        """Replace the class table.

        Raises
        ------
        StoreError
            If a class that is left out occurs in a stored mask (nothing is changed then).
        """
        kept = {record.value for record in classes}
        with self._write() as session:
            known = session.scalars(select(tables.ClassLabel.value)).all()
            gone = set(known) - kept
            masks = session.scalar(select(func.count()).select_from(tables.Revision))
            if gone and masks:
                raise StoreError(
                    f"class {min(gone)} cannot be removed while {masks} masks are stored that may "
                    "hold it: keep it in the list, its name and colour may change"
                )
            session.execute(delete(tables.ClassLabel))
            session.add_all(
                tables.ClassLabel(value=c.value, name=c.name, colour=c.colour) for c in classes
            )
            self._log(session, actor, "classes", values=sorted(kept))

    # Folders of images

    def roots(self) -> dict[int, RootRecord]:
        """Return the image folders by id."""
        with self._read() as session:
            rows = session.scalars(select(tables.Root))
            return {row.id: RootRecord(row.id, row.path, row.from_project) for row in rows}

    def add_root(self, path: str, from_project: str | None) -> int:
        """Remember an image folder, or find it, and return its id."""
        with self._write() as session:
            found = session.scalar(select(tables.Root.id).where(tables.Root.path == path))
            if found is not None:
                return found
            root = tables.Root(path=path, from_project=from_project)
            session.add(root)
            session.flush()
            return root.id

    # Cases and volumes

    def case_splits(self) -> dict[str, str]:
        """Return the split (pool, val or test) of every case by name."""
        with self._read() as session:
            rows = session.execute(select(tables.Case.name, tables.Case.split))
            return dict(rows.all())

    def add_volumes(self, volumes: Iterable[NewVolume], actor: str) -> list[int]:
        """Store volumes with their slices in one transaction and return their ids.

        A case that is new takes the split its first volume names; a known case keeps its own.
        """
        with self._write() as session:
            cases = {case.name: case.id for case in session.scalars(select(tables.Case)).all()}
            added = [self._add_volume(session, cases, volume) for volume in volumes]
            if added:
                self._log(session, actor, "add", volumes=len(added))
            return added

    def _add_volume(self, session: Session, cases: dict[str, int], new: NewVolume) -> int:
        if new.case not in cases:
            case = tables.Case(name=new.case, split=new.split)
            session.add(case)
            session.flush()
            cases[new.case] = case.id
        columns = fields_of(new, NewVolume, "case", "split", "emptiness")
        volume = tables.Volume(
            case_id=cases[new.case],
            slice_count=len(new.emptiness),
            added_at=self._clock(),
            **columns,
        )
        session.add(volume)
        session.flush()
        session.execute(
            insert(tables.Slice),
            [
                {"volume_id": volume.id, "position": position, "emptiness": emptiness}
                for position, emptiness in enumerate(new.emptiness)
            ],
        )
        return volume.id

    def move_volume(
        self,
        volume_id: int,
        *,
        root_id: int,
        files: list[str],
        label_file: str | None,
        actor: str,
    ) -> None:
        """Note where a volume's files lie now; its content is the same."""
        with self._write() as session:
            volume = self._volume_row(session, volume_id)
            volume.root_id, volume.files = root_id, files
            volume.label_file = label_file or volume.label_file
            self._log(session, actor, "move", volume=volume.name)

    def set_label_file(self, volume_id: int, label_file: str) -> None:
        """Note which label map belongs to a volume, as a path relative to the volume's root."""
        with self._write() as session:
            volume = self._volume_row(session, volume_id)
            volume.label_file = label_file

    def _volume_row(self, session: Session, volume_id: int) -> tables.Volume:
        volume = session.get(tables.Volume, volume_id)
        if volume is None:
            raise UnknownRecordError(f"no volume {volume_id} in {self.path}: reload the pool")
        return volume

    def volumes(self) -> list[VolumeRecord]:
        """Return all volumes by name."""
        with self._read() as session:
            rows = session.execute(_WITH_CASE.order_by(tables.Volume.name)).all()
            return [_volume_record(*row) for row in rows]

    def volume_names(self) -> dict[int, str]:
        """Return the name of every volume by its id."""
        with self._read() as session:
            rows = session.execute(select(tables.Volume.id, tables.Volume.name))
            return {row.id: row.name for row in rows}

    def volumes_by_name(self, names: Sequence[str]) -> list[VolumeRecord]:
        """Return the volumes of some names."""
        query = _WITH_CASE.where(tables.Volume.name.in_(names))
        with self._read() as session:
            return [_volume_record(*row) for row in session.execute(query)]

    def volume(self, volume_id: int) -> VolumeRecord:
        """Return one volume.

        Raises
        ------
        UnknownRecordError
            If there is none of that id.
        """
        with self._read() as session:
            row = session.execute(_WITH_CASE.where(tables.Volume.id == volume_id)).one_or_none()
            if row is None:
                raise UnknownRecordError(f"no volume {volume_id} in {self.path}: reload the pool")
            return _volume_record(*row)

    # Slices

    def pool_slices(self) -> list[SliceRow]:
        """Return the slices of all ``pool`` cases, by volume name and position."""
        query = (
            select(
                tables.Slice.id,
                tables.Slice.position,
                tables.Slice.emptiness,
                tables.Volume.id,
                tables.Volume.content_hash,
                tables.Volume.axis,
                tables.Case.name,
            )
            .join(tables.Volume, tables.Volume.id == tables.Slice.volume_id)
            .join(tables.Case, tables.Case.id == tables.Volume.case_id)
            .where(tables.Case.split == "pool")
            .order_by(tables.Volume.name, tables.Slice.position)
        )
        with self._read() as session:
            return [
                SliceRow(slice_id, f"{content[:16]}:{axis}:{at}", volume_id, case, at, emptiness)
                for slice_id, at, emptiness, volume_id, content, axis, case in session.execute(
                    query
                )
            ]

    def slice_id(self, volume_id: int, position: int) -> int:
        """Return the id of the slice at ``position`` of a volume."""
        with self._read() as session:
            found = session.scalar(
                select(tables.Slice.id).where(
                    tables.Slice.volume_id == volume_id, tables.Slice.position == position
                )
            )
        if found is None:
            raise UnknownRecordError(
                f"volume {volume_id} has no slice at position {position}: reload the pool"
            )
        return found

    def slice_places(self, slice_ids: Iterable[int]) -> dict[int, tuple[int, int]]:
        """Return volume id and position of some slices, those that are not there left out."""
        query = select(tables.Slice.id, tables.Slice.volume_id, tables.Slice.position)
        with self._read() as session:
            rows = session.execute(query.where(tables.Slice.id.in_(list(slice_ids)))).all()
            return {slice_id: (volume_id, position) for slice_id, volume_id, position in rows}

    def counts(self) -> Mapping[str, int]:
        """Return how many cases, volumes and slices each split holds, as ``"pool slices": 12``."""
        query = (
            select(
                tables.Case.split,
                func.count(tables.Case.id.distinct()),
                func.count(tables.Volume.id),
                func.sum(tables.Volume.slice_count),
            )
            .join(tables.Volume, tables.Volume.case_id == tables.Case.id)
            .group_by(tables.Case.split)
        )
        found = {f"{split} {what}": 0 for split in tables.SPLITS for what in _COUNTED}
        with self._read() as session:
            for split, *numbers in session.execute(query):
                found |= {f"{split} {what}": n for what, n in zip(_COUNTED, numbers, strict=True)}
        return found


_COUNTED = ("cases", "volumes", "slices")
_WITH_CASE = select(tables.Volume, tables.Case.name, tables.Case.split).join(
    tables.Case, tables.Case.id == tables.Volume.case_id
)


def _volume_record(row: tables.Volume, case: str, split: str) -> VolumeRecord:
    columns = fields_of(row, VolumeRecord, "volume_id", "case", "split")
    return VolumeRecord(volume_id=row.id, case=case, split=split, **columns)


def pool_checksum(slices: Iterable[SliceRow]) -> str:
    """Return a SHA-256 over the keys of the pool; it does not depend on their order."""
    keys = "\n".join(sorted(row.key for row in slices))
    return hashlib.sha256(keys.encode("ascii")).hexdigest()
