"""The queue: rounds, queries, and leases that give each query to one annotator at a time."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Final

from sqlalchemy import ColumnElement, Select, Subquery, case, func, insert, select
from sqlalchemy.orm import Session

from . import tables
from .errors import StoreError, UnknownRecordError
from .masks import Masks, rejected_slices
from .records import LeaseRecord, NewRound, QueryRecord, RoundRecord, fields_of

LEASE_MINUTES: Final = 30.0


class Queue(Masks):
    """Hands out queries so that no two annotators ever work on the same slice."""

    # Rounds

    def add_round(self, new: NewRound, actor: str) -> RoundRecord:
        """Store a selection and queue its slices in rank order.

        Raises
        ------
        StoreError
            If one of the slices was queried before (nothing is changed then).
        """
        with self._write() as session:
            self._refuse_queried(session, new.slice_ids)
            row = self._new_round(session, new)
            self._log(session, actor, "select", round=row.number, queries=len(new.slice_ids))
            return _round_record(row)

    def _new_round(
        self, session: Session, new: NewRound, state: str = "open", reason: str | None = None
    ) -> tables.Round:
        """Store a round and its queries, all in one state."""
        number = 1 + (session.scalar(select(func.max(tables.Round.number))) or 0)
        columns = fields_of(new, NewRound, "slice_ids")
        row = tables.Round(number=number, created_at=self._clock(), **columns)
        session.add(row)
        session.flush()
        common = {"round_id": row.id, "state": state, "skip_reason": reason}
        session.execute(
            insert(tables.Query),
            [
                {**common, "slice_id": slice_id, "rank": rank}
                for rank, slice_id in enumerate(new.slice_ids, start=1)
            ],
        )
        return row

    def _refuse_queried(self, session: Session, slice_ids: list[int]) -> None:
        queried = set(session.scalars(select(tables.Query.slice_id))) & set(slice_ids)
        if queried:
            raise StoreError(
                f"{len(queried)} of the chosen slices were queued meanwhile by another selection: "
                "run `napari-activeft select` again"
            )

    def rounds(self) -> list[RoundRecord]:
        """Return all rounds in order."""
        with self._read() as session:
            rows = session.scalars(select(tables.Round).order_by(tables.Round.number))
            return [_round_record(row) for row in rows]

    # Queries

    def queries(self) -> list[QueryRecord]:
        """Return all queries in the order in which they are handed out, with who leases them."""
        living = self._living_leases().subquery()
        query = (
            select(
                tables.Query.id,
                tables.Round.number,
                tables.Query.rank,
                _state_now(living),
                tables.Slice.id,
                tables.Slice.volume_id,
                tables.Slice.position,
                living.c.annotator,
                tables.Query.skip_reason,
            )
            .join(tables.Round, tables.Round.id == tables.Query.round_id)
            .join(tables.Slice, tables.Slice.id == tables.Query.slice_id)
            .outerjoin(living, living.c.query_id == tables.Query.id)
            .order_by(tables.Round.number, tables.Query.rank)
        )
        with self._read() as session:
            return [QueryRecord(*row) for row in session.execute(query)]

    def query_counts(self) -> dict[str, int]:
        """Return how many queries are in each state; every state is named."""
        living = self._living_leases().subquery()
        state = _state_now(living).label("state")
        query = (
            select(state, func.count())
            .select_from(tables.Query)
            .outerjoin(living, living.c.query_id == tables.Query.id)
            .group_by(state)
        )
        with self._read() as session:
            found = dict(session.execute(query).all())
        return {state: found.get(state, 0) for state in tables.QUERY_STATES}

    def waiting_count(self) -> int:
        """Return how many queries `lease_next` could hand out now, without visiting the others."""
        free = select(func.count()).where(tables.Query.state.in_(("open", "rejected")))
        expired = select(func.count()).where(
            tables.Lease.ended_at.is_(None), tables.Lease.expires_at <= self._clock()
        )
        with self._read() as session:
            return (session.scalar(free) or 0) + (session.scalar(expired) or 0)

    def waiting_volumes(self, but: int, most: int) -> list[int]:
        """Return whose slices are handed out next: volumes with a waiting query, the first first.

        Parameters
        ----------
        but
            A volume to leave out.
        most
            How many volumes.
        """
        found: list[int] = []
        with self._read() as session:
            for state in ("rejected", "open"):
                while len(found) < most:
                    volume_id = session.scalar(
                        select(tables.Slice.volume_id)
                        .join(tables.Query, tables.Query.slice_id == tables.Slice.id)
                        .where(
                            tables.Query.state == state,
                            tables.Slice.volume_id.not_in([but, *found]),
                        )
                        .order_by(tables.Query.round_id, tables.Query.rank)
                        .limit(1)
                    )
                    if volume_id is None:
                        break
                    found.append(volume_id)
        return found

    # Leases

    def lease_next(
        self, annotator: str, *, another: bool = False, minutes: float = LEASE_MINUTES
    ) -> LeaseRecord | None:
        """Give the annotator the next query and return its lease, or None if none is free.

        Whoever holds a lease gets that one again, renewed, so that a lost ticket costs nothing;
        rejected slices come before new ones, which come by round and rank.

        Parameters
        ----------
        annotator
            Who asks.
        another
            Lease one more query instead of the one already held.
        minutes
            Time until the lease expires unless it is renewed.
        """
        with self._write() as session:
            self._end_expired(session)
            lease = None if another else self._held_by(session, annotator)
            if lease is not None:
                lease.expires_at = self._clock() + timedelta(minutes=minutes)
                return self._lease_record(session, lease)
            query = self._first_in_state(session, "rejected")
            query = query or self._first_in_state(session, "open")
            if query is None:
                return None
            lease = self._new_lease(session, query, annotator, minutes)
            return self._lease_record(session, lease)

    def lease_query(
        self, query_id: int, annotator: str, *, minutes: float = LEASE_MINUTES
    ) -> LeaseRecord:
        """Give the annotator one query in particular; their own lease of it is renewed.

        Raises
        ------
        UnknownRecordError
            If there is no such query.
        StoreError
            If somebody else has it, or it was answered; a skipped one is asked again.
        """
        with self._write() as session:
            self._end_expired(session)
            query = session.get(tables.Query, query_id)
            if query is None:
                raise UnknownRecordError(f"no query {query_id} in {self.path}: reload the queue")
            held = self._lease_on(session, query)
            if held is None and query.state in ("open", "rejected", "skipped"):
                query.skip_reason = None
                held = self._new_lease(session, query, annotator, minutes)
            if held is None or held.annotator != annotator:
                why = query.state if held is None else f"with {held.annotator}"
                raise StoreError(f"query {query_id} is {why} already: choose another one")
            held.expires_at = self._clock() + timedelta(minutes=minutes)
            return self._lease_record(session, held)

    def holder(self, slice_id: int) -> str | None:
        """Return who is labelling a slice just now, None if nobody is."""
        living = self._living_leases().subquery()
        query = (
            select(living.c.annotator)
            .join(tables.Query, tables.Query.id == living.c.query_id)
            .where(tables.Query.slice_id == slice_id)
        )
        with self._read() as session:
            return session.scalar(query)

    def renew(self, token: str, minutes: float = LEASE_MINUTES) -> LeaseRecord:
        """Put off the end of a lease (a heart-beat) and return it.

        Raises
        ------
        StoreError
            If the lease has ended or its query now belongs to somebody else.
        """
        with self._write() as session:
            lease = self._living(session, token)
            lease.expires_at = self._clock() + timedelta(minutes=minutes)
            return self._lease_record(session, lease)

    def hand_back(self, token: str) -> None:
        """End a lease without an answer; the query is free for anybody."""
        with self._write() as session:
            lease = self._living(session, token)
            self._free(session, lease)
            self._log(session, lease.annotator, "hand back", query=lease.query_id)

    def skip(self, token: str, reason: str) -> None:
        """End a lease because the slice cannot or need not be labelled; it is not asked again."""
        with self._write() as session:
            lease = self._living(session, token)
            query = session.get_one(tables.Query, lease.query_id)
            query.state, query.skip_reason = "skipped", reason
            lease.ended_at = self._clock()
            self._log(session, lease.annotator, "skip", query=query.id, reason=reason)

    def _new_lease(
        self, session: Session, query: tables.Query, annotator: str, minutes: float
    ) -> tables.Lease:
        now = self._clock()
        lease = tables.Lease(
            query_id=query.id,
            annotator=annotator,
            token=secrets.token_hex(16),
            parent_revision_id=self._standing_id(session, query.slice_id),
            taken_at=now,
            expires_at=now + timedelta(minutes=minutes),
        )
        query.state = "leased"
        session.add(lease)
        session.flush()
        self._log(session, annotator, "lease", query=query.id)
        return lease

    def _end_expired(self, session: Session) -> None:
        """Free the queries whose leases ran out; their tokens stay known for a late submit."""
        now = self._clock()
        expired = session.scalars(
            select(tables.Lease).where(
                tables.Lease.ended_at.is_(None), tables.Lease.expires_at <= now
            )
        ).all()
        for lease in expired:
            self._free(session, lease)
        session.flush()

    def _free(self, session: Session, lease: tables.Lease) -> None:
        """End a lease; its query waits again, unless a reviewer gave the slice a mask meanwhile."""
        lease.ended_at = self._clock()
        query = session.get_one(tables.Query, lease.query_id)
        state = self._answered_state(session, query.slice_id)
        same = self._standing_id(session, query.slice_id) == lease.parent_revision_id
        query.state = "open" if same and state != "rejected" else state

    def _first_in_state(self, session: Session, state: str) -> tables.Query | None:
        return session.scalar(
            select(tables.Query)
            .where(tables.Query.state == state)
            .order_by(tables.Query.round_id, tables.Query.rank)
            .limit(1)
        )

    def _living_leases(self) -> Select[int, str]:
        return select(tables.Lease.query_id, tables.Lease.annotator).where(
            tables.Lease.ended_at.is_(None), tables.Lease.expires_at > self._clock()
        )

    def _lease_on(self, session: Session, query: tables.Query) -> tables.Lease | None:
        """Return the lease that a query is under; expired ones must have been ended before."""
        return session.scalar(
            select(tables.Lease).where(
                tables.Lease.query_id == query.id, tables.Lease.ended_at.is_(None)
            )
        )

    def _held_by(self, session: Session, annotator: str) -> tables.Lease | None:
        return session.scalar(
            select(tables.Lease)
            .where(tables.Lease.ended_at.is_(None), tables.Lease.annotator == annotator)
            .order_by(tables.Lease.id)
            .limit(1)
        )

    def _living(self, session: Session, token: str) -> tables.Lease:
        lease = self._lease_of(session, token)
        if not self._revive(session, lease):
            raise StoreError(
                f"the lease of query {lease.query_id} by {lease.annotator} has ended: run "
                "`napari-activeft next` for a new one"
            )
        return lease

    def _lease_of(self, session: Session, token: str) -> tables.Lease:
        lease = session.scalar(select(tables.Lease).where(tables.Lease.token == token))
        if lease is None:
            raise UnknownRecordError(
                "the ticket's lease is not known in this project: use the project that wrote the "
                "ticket, or run `napari-activeft next` for a new one"
            )
        return lease

    def _revive(self, session: Session, lease: tables.Lease) -> bool:
        """Give an expired lease back if nobody took or answered its query; say if it lives."""
        if lease.ended_at is None:
            return True
        if lease.ended_at < lease.expires_at:
            # It did not expire, it was handed back, skipped or answered.
            return False
        query = session.get_one(tables.Query, lease.query_id)
        newer = select(func.count()).where(
            tables.Lease.query_id == lease.query_id, tables.Lease.id > lease.id
        )
        answered = self._standing_id(session, query.slice_id) != lease.parent_revision_id
        if query.state not in ("open", "rejected") or answered or session.scalar(newer):
            return False
        lease.ended_at, query.state = None, "leased"
        return True

    def _lease_record(self, session: Session, lease: tables.Lease) -> LeaseRecord:
        query = session.get_one(tables.Query, lease.query_id)
        place = session.get_one(tables.Slice, query.slice_id)
        number = session.get_one(tables.Round, query.round_id).number
        return LeaseRecord(
            token=lease.token,
            query_id=query.id,
            round_number=number,
            rank=query.rank,
            slice_id=place.id,
            volume_id=place.volume_id,
            position=place.position,
            annotator=lease.annotator,
            expires_at=lease.expires_at,
            parent_revision_id=lease.parent_revision_id,
            review_comment=self._rejection_of(session, lease.parent_revision_id),
        )


def _state_now(living: Subquery) -> ColumnElement[str]:
    """Return a query's state, in which an expired lease no longer holds its query."""
    expired = (tables.Query.state == "leased") & living.c.annotator.is_(None)
    return case(
        (expired & tables.Query.slice_id.in_(rejected_slices()), "rejected"),
        (expired, "open"),
        else_=tables.Query.state,
    )


def _round_record(row: tables.Round) -> RoundRecord:
    columns = fields_of(row, RoundRecord, "round_id")
    return RoundRecord(round_id=row.id, **columns)
