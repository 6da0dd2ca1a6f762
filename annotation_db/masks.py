"""Masks of slices: submitted, imported, reviewed, accepted; never changed, only followed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import Session, undefer

from . import tables
from .database import Database
from .errors import MaskError, StoreError, UnknownRecordError
from .payload import UNLABELLED, Mask, PackedMask, pack, unpack
from .records import AcceptedRecord, RevisionRecord, StandingRecord, fields_of


class Masks(Database):
    """Appends revisions and says which of them count."""

    # Predictions

    def add_prediction(self, slice_id: int, mask: Mask, *, run_id: int, author: str) -> int:
        """Store what a model proposes for a slice; it counts only after somebody approved it."""
        packed = pack(mask)
        with self._write() as session:
            self._check_fit(session, slice_id, packed, mask)
            parent = self._standing_id(session, slice_id)
            revision = self._append(
                session,
                slice_id,
                packed,
                author=author,
                source="model",
                parent_id=parent,
                run_id=run_id,
            )
            return revision.id

    # Reviews

    def review(
        self, revision_ids: int | Sequence[int], verdict: str, reviewer: str, comment: str = ""
    ) -> None:
        """Approve or reject revisions; the newest review of a revision is the one that counts.

        All of them are reviewed in one transaction, or none. The queries of their slices follow,
        but for those that somebody is labelling just now.

        Raises
        ------
        UnknownRecordError
            If there is no such revision.
        StoreError
            If the verdict is neither ``"approve"`` nor ``"reject"``, or a revision is not the
            slice's newest.
        """
        if verdict not in tables.VERDICTS:
            raise StoreError(f"a verdict of {verdict!r} was given: say 'approve' or 'reject'")
        ids = [revision_ids] if isinstance(revision_ids, int) else revision_ids
        with self._write() as session:
            for revision_id in ids:
                self._review(session, revision_id, verdict, reviewer, comment)
                self._log(session, reviewer, verdict, revision=revision_id, comment=comment)

    def _review(
        self, session: Session, revision_id: int, verdict: str, reviewer: str, comment: str
    ) -> None:
        revision = session.get(tables.Revision, revision_id)
        if revision is None:
            raise UnknownRecordError(f"no revision {revision_id} in {self.path}")
        standing = self._standing_id(session, revision.slice_id)
        if revision.conflict or (revision.source != "model" and revision.id != standing):
            raise StoreError(
                f"revision {revision_id} does not count for its slice, revision {standing} "
                "does: review that one"
            )
        session.add(
            tables.Review(
                revision_id=revision_id,
                reviewer=reviewer,
                verdict=verdict,
                comment=comment,
                created_at=self._clock(),
            )
        )
        session.flush()
        query = session.scalar(
            select(tables.Query).where(tables.Query.slice_id == revision.slice_id)
        )
        # Before too: a prediction that is approved and then rejected counts no longer.
        counts = revision_id in (standing, self._standing_id(session, revision.slice_id))
        if query is not None and counts and query.state != "leased":
            query.state = self._answered_state(session, revision.slice_id)

    # Reading

    def accepted(self) -> list[AcceptedRecord]:
        """Return the mask that counts for every slice that has one, by volume and position."""
        with self._read() as session:
            return [AcceptedRecord(*row) for row in session.execute(accepted_query())]

    def standing(self) -> list[StandingRecord]:
        """Return the mask that stands for every slice that has one, by volume and position."""
        with self._read() as session:
            return [StandingRecord(*row) for row in session.execute(_standing_query())]

    def standing_id(self, slice_id: int) -> int | None:
        """Return the revision that stands for a slice, None if it has none."""
        with self._read() as session:
            return self._standing_id(session, slice_id)

    def mask_count(self) -> int:
        """Return how many revisions are stored, of any source."""
        with self._read() as session:
            return session.scalar(select(func.count()).select_from(tables.Revision)) or 0

    def annotator_totals(self) -> list[dict[str, Any]]:
        """Return, by name of author, the masks of people, those of known time, and that time."""
        query = (
            select(
                tables.Revision.author,
                func.count().label("masks"),
                func.count(tables.Revision.seconds_spent).label("timed"),
                func.coalesce(func.sum(tables.Revision.seconds_spent), 0.0).label("seconds"),
            )
            .where(tables.Revision.source != "model")
            .group_by(tables.Revision.author)
            .order_by(tables.Revision.author)
        )
        with self._read() as session:
            return [dict(row) for row in session.execute(query).mappings()]

    def accepted_masks(self, volume_id: int) -> dict[int, Mask]:
        """Return the accepted masks of a volume by slice position.

        Raises
        ------
        CorruptMaskError
            If one of them is damaged.
        """
        with self._read() as session:
            rows = [AcceptedRecord(*row) for row in session.execute(accepted_query(volume_id))]
            return {row.position: self._unpacked(session, row.revision_id) for row in rows}

    def mask(self, revision_id: int) -> Mask:
        """Return the class ids of one revision, shape (h, w).

        Raises
        ------
        UnknownRecordError
            If there is no such revision.
        CorruptMaskError
            If its bytes no longer match their checksum.
        """
        with self._read() as session:
            return self._unpacked(session, revision_id)

    def revisions(self, slice_id: int) -> list[RevisionRecord]:
        """Return all revisions of a slice, oldest first, those kept aside included."""
        query = select(tables.Revision).where(tables.Revision.slice_id == slice_id)
        with self._read() as session:
            rows = session.scalars(query.order_by(tables.Revision.id))
            return [revision_record(row) for row in rows]

    def _unpacked(self, session: Session, revision_id: int) -> Mask:
        query = select(tables.Revision).options(undefer(tables.Revision.payload))
        row = session.scalar(query.where(tables.Revision.id == revision_id))
        if row is None:
            raise UnknownRecordError(f"no revision {revision_id} in {self.path}")
        return unpack(row.payload, row.checksum, f"revision {row.id} (slice {row.slice_id})")

    # For the other parts of the store

    def _append(
        self,
        session: Session,
        slice_id: int,
        packed: PackedMask,
        *,
        author: str,
        source: str,
        parent_id: int | None,
        lease_id: int | None = None,
        run_id: int | None = None,
        seconds_spent: float | None = None,
        conflict: bool = False,
    ) -> tables.Revision:
        revision = tables.Revision(
            slice_id=slice_id,
            parent_id=parent_id,
            run_id=run_id,
            lease_id=lease_id,
            author=author,
            source=source,
            conflict=conflict,
            seconds_spent=seconds_spent,
            height=packed.height,
            width=packed.width,
            dtype=packed.dtype,
            checksum=packed.checksum,
            created_at=self._clock(),
            payload=packed.payload,
        )
        session.add(revision)
        session.flush()
        return revision

    def _standing_id(self, session: Session, slice_id: int) -> int | None:
        """Return the slice's newest revision that a person stands behind, rejected or not."""
        query = select(func.max(tables.Revision.id)).where(
            tables.Revision.slice_id == slice_id, stood_behind()
        )
        return session.scalar(query)

    def _answered_state(self, session: Session, slice_id: int) -> str:
        """Return the state that the query of a slice deserves by the slice's mask alone."""
        standing = self._standing_id(session, slice_id)
        if standing is None:
            return "open"
        verdict = session.scalar(select(newest_verdict()).where(tables.Revision.id == standing))
        return {None: "submitted", "approve": "approved", "reject": "rejected"}[verdict]

    def _rejection_of(self, session: Session, revision_id: int | None) -> str | None:
        """Return the reviewer's comment if the newest review of a revision rejects it."""
        query = select(tables.Review).where(tables.Review.revision_id == revision_id)
        review = session.scalar(query.order_by(tables.Review.id.desc()).limit(1))
        return review.comment if review is not None and review.verdict == "reject" else None

    def _check_fit(self, session: Session, slice_id: int, packed: PackedMask, mask: Mask) -> None:
        """Raise `MaskError` if a mask has another shape than its slice, or unknown classes."""
        size = select(tables.Volume.slice_height, tables.Volume.slice_width).join(tables.Slice)
        expected = session.execute(size.where(tables.Slice.id == slice_id)).one_or_none()
        if expected is None:
            raise UnknownRecordError(f"no slice {slice_id} in {self.path}: reload the queue")
        if (packed.height, packed.width) != tuple(expected):
            raise MaskError(
                f"the mask is {packed.height} x {packed.width} pixels, its slice is "
                f"{expected[0]} x {expected[1]}: save the mask in the size of the slice's image"
            )
        known = set(session.scalars(select(tables.ClassLabel.value)))
        # Counting is ten times faster than sorting (np.unique) on a few class ids.
        strange = set(np.flatnonzero(np.bincount(mask.ravel())).tolist()) - known - {0, UNLABELLED}
        if strange:
            raise MaskError(
                f"the mask holds class {_listed(strange)}, the project knows "
                f"{_listed(known) or 'no class'}: correct the mask (or give the mask where the "
                "picture was given), or add the class with `napari-activeft classes`"
            )


def _listed(values: set[int]) -> str:
    """Return values as text, the first ten of them and how many more."""
    shown = ", ".join(str(value) for value in sorted(values)[:10])
    return shown if len(values) <= 10 else f"{shown} and {len(values) - 10} more values"


def newest_verdict() -> ColumnElement[str | None]:
    """Return the newest verdict on the revision of the enclosing query."""
    return (
        select(tables.Review.verdict)
        .where(tables.Review.revision_id == tables.Revision.id)
        .order_by(tables.Review.id.desc())
        .limit(1)
        .correlate(tables.Revision)
        .scalar_subquery()
    )


def stood_behind() -> ColumnElement[bool]:
    """Return the condition that a person made, imported or approved a revision."""
    return ~tables.Revision.conflict & or_(
        tables.Revision.source != "model", newest_verdict() == "approve"
    )


def accepted_query(volume_id: int | None = None) -> Select[int, int, int, int]:
    """Select slice id, volume id, position and revision id of what is accepted.

    Accepted is the newest drawn, corrected or imported revision of a slice unless it was rejected;
    a model's revision takes part only once somebody approved it.
    """
    standing = select(func.max(tables.Revision.id)).where(stood_behind())
    if volume_id is not None:
        standing = standing.join(tables.Slice).where(tables.Slice.volume_id == volume_id)
    verdict = newest_verdict()
    return (
        select(tables.Slice.id, tables.Slice.volume_id, tables.Slice.position, tables.Revision.id)
        .join(tables.Revision, tables.Revision.slice_id == tables.Slice.id)
        .where(tables.Revision.id.in_(standing.group_by(tables.Revision.slice_id)))
        .where(or_(verdict.is_(None), verdict == "approve"))
        .order_by(tables.Slice.volume_id, tables.Slice.position)
    )


def _standing_query() -> Select[Any]:
    newest = select(func.max(tables.Revision.id)).where(stood_behind())
    reviewer = (
        select(tables.Review.reviewer)
        .where(tables.Review.revision_id == tables.Revision.id)
        .order_by(tables.Review.id.desc())
        .limit(1)
        .correlate(tables.Revision)
        .scalar_subquery()
    )
    return (
        select(
            tables.Revision.id,
            tables.Slice.id,
            tables.Slice.volume_id,
            tables.Slice.position,
            tables.Revision.author,
            tables.Revision.source,
            newest_verdict(),
            reviewer,
            tables.Query.id,
            func.coalesce(tables.Query.state == "leased", False),
        )
        .join(tables.Slice, tables.Slice.id == tables.Revision.slice_id)
        .outerjoin(tables.Query, tables.Query.slice_id == tables.Slice.id)
        .where(tables.Revision.id.in_(newest.group_by(tables.Revision.slice_id)))
        .order_by(tables.Slice.volume_id, tables.Slice.position)
    )


def rejected_slices() -> Select[int]:
    """Select the ids of the slices whose mask was rejected."""
    standing = select(func.max(tables.Revision.id)).where(stood_behind())
    return select(tables.Revision.slice_id).where(
        tables.Revision.id.in_(standing.group_by(tables.Revision.slice_id)),
        newest_verdict() == "reject",
    )


def revision_record(row: tables.Revision) -> RevisionRecord:
    """Return a revision's record without its pixels."""
    columns = fields_of(row, RevisionRecord, "revision_id")
    return RevisionRecord(revision_id=row.id, **columns)
