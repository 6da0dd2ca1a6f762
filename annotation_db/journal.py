"""The journal: strokes that are on disk before their mask is submitted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sqlalchemy import delete, func, select

from . import tables
from .database import Database
from .errors import CorruptMaskError
from .records import StrokeRecord


class Journal(Database):
    """Keeps strokes until the mask that they belong to is submitted or given up."""

    def append_strokes(self, slice_id: int, annotator: str, payloads: Sequence[bytes]) -> None:
        """Write finished strokes to disk, in the order in which they were drawn."""
        with self._write() as session:
            session.add_all(
                tables.Stroke(
                    slice_id=slice_id,
                    annotator=annotator,
                    created_at=self._clock(),
                    checksum=hashlib.sha256(payload).hexdigest(),
                    payload=payload,
                )
                for payload in payloads
            )

    def strokes(
        self, slice_id: int, annotator: str, *, until_damage: bool = False
    ) -> list[StrokeRecord]:
        """Return the unsubmitted strokes of an annotator on a slice, oldest first.

        Parameters
        ----------
        until_damage
            Return those before the first damaged one instead of refusing.

        Raises
        ------
        CorruptMaskError
            If one of them is damaged.
        """
        query = (
            select(tables.Stroke)
            .where(tables.Stroke.slice_id == slice_id, tables.Stroke.annotator == annotator)
            .order_by(tables.Stroke.id)
        )
        with self._read() as session:
            rows = session.scalars(query).all()
        found: list[StrokeRecord] = []
        for row in rows:
            if hashlib.sha256(row.payload).hexdigest() != row.checksum:
                if until_damage:
                    break
                raise CorruptMaskError(
                    f"stroke {row.id} of {annotator} on slice {slice_id} is damaged: recover "
                    "the strokes before it, or discard the journal of this slice"
                )
            found.append(
                StrokeRecord(row.id, row.slice_id, row.annotator, row.created_at, row.payload)
            )
        return found

    def slices_with_strokes(self, annotator: str) -> dict[int, int]:
        """Return how many unsubmitted strokes an annotator has on each slice id."""
        query = (
            select(tables.Stroke.slice_id, func.count())
            .where(tables.Stroke.annotator == annotator)
            .group_by(tables.Stroke.slice_id)
        )
        with self._read() as session:
            return dict(session.execute(query).all())

    def discard_strokes(self, slice_id: int, annotator: str) -> int:
        """Give up an annotator's unsubmitted strokes on a slice; return how many there were."""
        with self._write() as session:
            gone = session.scalars(
                delete(tables.Stroke)
                .where(tables.Stroke.slice_id == slice_id, tables.Stroke.annotator == annotator)
                .returning(tables.Stroke.id)
            ).all()
            if gone:
                self._log(session, annotator, "discard strokes", slice=slice_id, strokes=len(gone))
            return len(gone)
