"""The database's own health: what `napari-activeft doctor` asks of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from . import tables
from .database import Database
from .errors import CorruptMaskError
from .masks import stood_behind
from .payload import unpack
from .records import Fault
from .sqlite import back_up, damaged_pages, orphans, plain_errors, tells_of_damage

_RESTORE = (
    "restore the newest healthy copy from the project's backups/ folder, or use sqlite3's .recover"
)


class Checks(Database):
    """Looks at every page, key and mask, and says how to mend what is wrong."""

    def check(self, on_progress: Callable[[int, int], None] | None = None) -> list[Fault]:
        """Return everything that is wrong with the database; an empty list is a healthy one.

        Parameters
        ----------
        on_progress
            Called with (masks read, masks in all).
        """
        parts: tuple[Callable[[Session], list[Fault]], ...] = (
            lambda session: _named(damaged_pages(session.connection())),
            lambda session: _named(orphans(session.connection())),
            lambda session: self._masks(session, on_progress or (lambda done, total: None)),
            self._queue,
            self._strokes,
        )
        faults: list[Fault] = []
        with self._read() as session:
            for part in parts:
                try:
                    faults += part(session)
                except DatabaseError as refusal:
                    # A damaged page stops the part that needs it, not the others.
                    if not tells_of_damage(refusal):
                        raise
                    faults += _named([str(refusal.orig)])
        return faults

    def _masks(self, session: Session, on_progress: Callable[[int, int], None]) -> list[Fault]:
        ids = session.scalars(select(tables.Revision.id).order_by(tables.Revision.id)).all()
        columns = (tables.Revision.payload, tables.Revision.checksum, tables.Revision.slice_id)
        faults = []
        for done, revision_id in enumerate(ids, start=1):
            # One at a time: all masks of a large project do not fit into memory.
            query = select(*columns).where(tables.Revision.id == revision_id)
            name = f"revision {revision_id}"
            try:
                payload, checksum, slice_id = session.execute(query).one()
                unpack(payload, checksum, f"{name} (slice {slice_id})")
            except CorruptMaskError as damage:
                faults.append(Fault(name, str(damage)))
            except DatabaseError as refusal:
                if not tells_of_damage(refusal):
                    raise
                faults.append(Fault(name, f"{refusal.orig}: {_RESTORE}"))
            on_progress(done, len(ids))
        return faults

    def _strokes(self, session: Session) -> list[Fault]:
        columns = (tables.Stroke.id, tables.Stroke.payload, tables.Stroke.checksum)
        return [
            Fault(f"stroke {stroke_id}", "its bytes are damaged: recover the strokes before it")
            for stroke_id, payload, checksum in session.execute(select(*columns))
            if not isinstance(payload, bytes) or hashlib.sha256(payload).hexdigest() != checksum
        ]

    def _queue(self, session: Session) -> list[Fault]:
        living = select(tables.Lease.query_id).where(tables.Lease.ended_at.is_(None))
        lost = session.scalars(
            select(tables.Query.id).where(
                tables.Query.state == "leased", tables.Query.id.not_in(living)
            )
        )
        answered = session.scalars(
            select(tables.Query.id).where(
                tables.Query.state.in_(("submitted", "approved")),
                tables.Query.slice_id.not_in(
                    select(tables.Revision.slice_id).where(stood_behind())
                ),
            )
        )
        return [
            Fault(f"query {query_id}", "it is leased, but nobody holds it: run `doctor --mend`")
            for query_id in lost
        ] + [
            Fault(f"query {query_id}", "it is answered, but has no mask: run `doctor --mend`")
            for query_id in answered
        ]

    def mend_queue(self) -> int:
        """Put queries that nobody holds, or that have no mask, back into the queue; count them."""
        with self._write() as session:
            broken = [fault.subject.removeprefix("query ") for fault in self._queue(session)]
            for query_id in broken:
                session.get_one(tables.Query, int(query_id)).state = "open"
            if broken:
                self._log(session, "doctor", "mend", queries=broken)
            return len(broken)

    def back_up(self, folder: Path) -> Path:
        """Copy the database, consistent to the last commit, into ``folder``; return the copy."""
        with plain_errors(self.path):
            return back_up(self.path, folder, "copy", self._clock())


def _named(faults: list[str]) -> list[Fault]:
    return [Fault("database", f"{fault}: {_RESTORE}") for fault in faults]
