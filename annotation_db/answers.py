"""Answers to queries: a submit under a lease, or masks that were made elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from . import tables
from .errors import StaleSubmitError, StoreError, UnknownRecordError
from .masks import accepted_query, revision_record
from .payload import Mask, PackedMask, pack
from .queue import Queue
from .records import RevisionRecord

# The states in which a query still waits for an answer.
_WAITING = ("open", "skipped", "rejected")


@dataclass(frozen=True)
class ImportCounts:
    """What became of the masks of one import.

    Attributes
    ----------
    stored
        Slices that got an imported mask.
    kept
        Slices that had an accepted mask already, which stays.
    leased
        Slices that somebody is labelling just now, which were left to them.
    """

    stored: int
    kept: int
    leased: int

    def __add__(self, other: ImportCounts) -> ImportCounts:
        return ImportCounts(
            self.stored + other.stored, self.kept + other.kept, self.leased + other.leased
        )


class Answers(Queue):
    """Turns masks into revisions and closes the queries that they answer."""

    def submit(
        self,
        token: str,
        mask: Mask,
        *,
        seconds_spent: float | None = None,
        on_top: bool = False,
        started_from: int | Literal["lease"] | None = "lease",
    ) -> RevisionRecord:
        """Store the answer to a leased query, close the query and return the new revision.

        Sending the same mask twice with one token (an acknowledgement got lost) gives the same
        revision twice.

        Parameters
        ----------
        token
            The lease's token.
        mask
            Class ids, shape (h, w) of the queried slice; 0 is background.
        seconds_spent
            Time on task, pauses excluded.
        on_top
            Store the mask as a correction of whatever the slice's mask is now, instead of
            refusing it when somebody else answered meanwhile.
        started_from
            The revision that the mask was drawn on, None for an empty slice; by default the one
            that stood when the lease was taken. Strokes recovered under a later lease may be older.

        Raises
        ------
        StaleSubmitError
            If the lease passed to somebody else, or the slice got another mask since it was
            taken. Both masks are kept, the other one still counts.
        MaskError
            If the mask does not fit the slice or holds a class that is not in the class table.
        """
        packed = pack(mask)
        with self._write() as session:
            lease = self._lease_of(session, token)
            query = session.get_one(tables.Query, lease.query_id)
            self._check_fit(session, query.slice_id, packed, mask)
            standing = self._standing_id(session, query.slice_id)
            revision = self._sent_before(session, lease, packed)
            if revision is not None and not revision.conflict:
                if not on_top or revision.id == standing:
                    return revision_record(revision)
                revision = None
            first = lease.parent_revision_id if started_from == "lease" else started_from
            stale = None if on_top else self._staleness(session, lease, standing, first)
            passed = self._has_passed(session, standing, first)
            base = standing if passed and on_top else first
            if revision is None or stale is None:
                revision = self._append(
                    session,
                    query.slice_id,
                    packed,
                    author=lease.annotator,
                    source="drawn" if base is None else "corrected",
                    parent_id=base,
                    lease_id=lease.id,
                    seconds_spent=seconds_spent,
                    conflict=stale is not None,
                )
                verb = "submit" if stale is None else "submit too late"
                self._log(session, lease.annotator, verb, query=query.id, revision=revision.id)
            if stale is None:
                self._close(session, query.slice_id, query, lease.annotator)
        if stale is not None:
            raise _refusal(stale, revision.id)
        return revision_record(revision)

    def add_mask(
        self,
        slice_id: int,
        mask: Mask,
        annotator: str,
        *,
        started_from: int | None,
        seconds_spent: float | None = None,
        on_top: bool = False,
    ) -> RevisionRecord:
        """Store a mask of a slice that nobody was asked for, or a correction; return the revision.

        Parameters
        ----------
        started_from
            The slice's mask that this one was drawn on, None if there was none.
        seconds_spent, on_top
            See `submit`.

        Raises
        ------
        StaleSubmitError
            If the slice got another mask meanwhile. Both are kept, the other one still counts.
        StoreError
            If somebody else holds the lease of this slice's query just now.
        MaskError
            If the mask does not fit the slice or holds a class that is not in the class table.
        """
        packed = pack(mask)
        with self._write() as session:
            self._end_expired(session)
            self._check_fit(session, slice_id, packed, mask)
            query = session.scalar(select(tables.Query).where(tables.Query.slice_id == slice_id))
            self._refuse_if_with_another(session, query, annotator)
            standing = self._standing_id(session, slice_id)
            passed = self._has_passed(session, standing, started_from)
            late = passed and not on_top
            base = standing if passed and on_top else started_from
            revision = self._append(
                session,
                slice_id,
                packed,
                author=annotator,
                source="drawn" if base is None else "corrected",
                parent_id=base,
                seconds_spent=seconds_spent,
                conflict=late,
            )
            verb = "add mask too late" if late else "add mask"
            self._log(session, annotator, verb, slice=slice_id, revision=revision.id)
            if not late:
                self._close(session, slice_id, query, annotator)
        if late:
            stale = f"the slice got another mask (revision {standing}) meanwhile"
            raise _refusal(stale, revision.id)
        return revision_record(revision)

    def _refuse_if_with_another(
        self, session: Session, query: tables.Query | None, annotator: str
    ) -> None:
        if query is None:
            return
        held = self._lease_on(session, query)
        if held is not None and held.annotator != annotator:
            raise StoreError(
                f"{held.annotator} is labelling this slice just now (query {query.id}): wait until "
                "it is submitted, then correct that mask"
            )

    def _close(
        self, session: Session, slice_id: int, query: tables.Query | None, annotator: str
    ) -> None:
        """Close a slice's query and whatever leases it has; its strokes are part of the mask."""
        if query is not None:
            query.state, query.skip_reason = "submitted", None
            lease = self._lease_on(session, query)
            if lease is not None:
                lease.ended_at = self._clock()
        session.execute(
            delete(tables.Stroke).where(
                tables.Stroke.slice_id == slice_id, tables.Stroke.annotator == annotator
            )
        )

    def _has_passed(self, session: Session, standing: int | None, first: int | None) -> bool:
        """Tell whether a slice got another mask since the work on it began with the first one.

        A proposal is corrected beside whatever mask there is; only a newer one has passed it.
        """
        if standing == first or first is None:
            return standing != first
        begun = session.get(tables.Revision, first)
        if begun is None:
            raise UnknownRecordError(f"no revision {first} in {self.path}: open the slice anew")
        return begun.source != "model" or (standing is not None and standing > first)

    def _staleness(
        self, session: Session, lease: tables.Lease, standing: int | None, first: int | None
    ) -> str | None:
        """Say why a submit under this lease comes too late, None if it is in time."""
        if self._has_passed(session, standing, first):
            author = session.get_one(tables.Revision, standing).author if standing else "nobody"
            return f"the slice got another mask (revision {standing} by {author}) meanwhile"
        if not self._revive(session, lease):
            return f"the lease of query {lease.query_id} by {lease.annotator} has ended"
        return None

    def _sent_before(
        self, session: Session, lease: tables.Lease, packed: PackedMask
    ) -> tables.Revision | None:
        return session.scalar(
            select(tables.Revision)
            .where(
                tables.Revision.lease_id == lease.id,
                tables.Revision.checksum == packed.checksum,
            )
            .order_by(tables.Revision.id.desc())
            .limit(1)
        )

    def import_masks(self, volume_id: int, masks: Mapping[int, Mask], author: str) -> ImportCounts:
        """Store masks that were made outside, by slice position, in one transaction.

        A slice that has an accepted mask keeps it; a slice that somebody is labelling just now is
        left alone; waiting queries of imported slices are closed.
        """
        packed = {position: pack(mask) for position, mask in masks.items()}
        stored = kept = leased = 0
        with self._write() as session:
            self._end_expired(session)
            slice_ids = self._slice_ids(session, volume_id)
            states = self._query_states(session, volume_id)
            accepted = {row[0] for row in session.execute(accepted_query(volume_id))}
            for position, mask in masks.items():
                slice_id = slice_ids.get(position)
                if slice_id is None:
                    raise UnknownRecordError(
                        f"volume {volume_id} has no slice at position {position}: reload the pool"
                    )
                if slice_id in accepted:
                    kept += 1
                elif states.get(slice_id) == "leased":
                    leased += 1
                else:
                    self._check_fit(session, slice_id, packed[position], mask)
                    self._import_one(session, slice_id, packed[position], author)
                    stored += 1
            if stored:
                self._log(session, author, "import", volume=volume_id, masks=stored)
        return ImportCounts(stored, kept, leased)

    def _slice_ids(self, session: Session, volume_id: int) -> dict[int, int]:
        """Return the slice ids of a volume by position."""
        query = select(tables.Slice.position, tables.Slice.id)
        rows = session.execute(query.where(tables.Slice.volume_id == volume_id))
        return dict(rows.all())

    def _query_states(self, session: Session, volume_id: int) -> dict[int, str]:
        """Return the states of a volume's queries by slice id."""
        query = select(tables.Query.slice_id, tables.Query.state).join(tables.Slice)
        rows = session.execute(query.where(tables.Slice.volume_id == volume_id))
        return dict(rows.all())

    def _import_one(self, session: Session, slice_id: int, packed: PackedMask, author: str) -> None:
        parent = self._standing_id(session, slice_id)
        self._append(session, slice_id, packed, author=author, source="imported", parent_id=parent)
        query = session.scalar(select(tables.Query).where(tables.Query.slice_id == slice_id))
        if query is not None and query.state in _WAITING:
            query.state, query.skip_reason = "submitted", None


def _refusal(stale: str, revision_id: int) -> StaleSubmitError:
    return StaleSubmitError(
        f"{stale}, so your mask was kept aside as revision {revision_id} and does not count: "
        "submit it again with --on-top if it is to count, the slice's other masks stay stored",
        revision_id,
    )
