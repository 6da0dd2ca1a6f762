"""Runs: fine-tunings, what came out of each, and the masks that each proposes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from . import tables
from .errors import StoreError, UnknownRecordError
from .masks import newest_verdict, stood_behind
from .payload import Mask, PackedMask, pack
from .queue import Queue
from .records import ProposalRecord, RunRecord, fields_of


class Runs(Queue):
    """Keeps runs and their proposals; a proposal counts only once somebody accepted it."""

    def add_run(
        self,
        name: str,
        settings: dict[str, Any],
        actor: str,
        *,
        round_number: int | None = None,
    ) -> RunRecord:
        """Note that a fine-tuning begins and return its record, whose id is its number.

        Parameters
        ----------
        name
            What people call it; the author of its proposals.
        round_number
            The round whose masks it learns from; None where it learns from others.
        """
        with self._write() as session:
            row = tables.Run(
                round_id=self._round_id(session, round_number),
                name=name,
                settings=settings,
                state="running",
                metrics={},
                created_at=self._clock(),
            )
            session.add(row)
            session.flush()
            self._log(session, actor, "train", run=row.id)
            return self._run_record(session, row)

    def _round_id(self, session: Session, number: int | None) -> int | None:
        if number is None:
            return None
        found = session.scalar(select(tables.Round.id).where(tables.Round.number == number))
        if found is None:
            raise UnknownRecordError(
                f"no round {number} in this project: `napari-activeft info` shows those there are"
            )
        return found

    def update_run(
        self,
        run_id: int,
        *,
        metrics: Mapping[str, Any] | None = None,
        checkpoint: str | None = None,
        state: str | None = None,
    ) -> RunRecord:
        """Add to what is known of a run and return its record.

        Parameters
        ----------
        metrics
            Figures by name as JSON holds them; those of other names stay.
        checkpoint
            Where its weights lie, relative to the project.
        state
            ``"running"`` for one that goes on after a stop; see `end_run` for the others.
        """
        with self._write() as session:
            row = self._run_row(session, run_id)
            _add_to(row, metrics, checkpoint)
            if state is not None:
                row.state, row.ended_at = state, None
            return self._run_record(session, row)

    def end_run(
        self,
        run_id: int,
        state: str,
        *,
        metrics: Mapping[str, Any] | None = None,
        checkpoint: str | None = None,
    ) -> RunRecord:
        """Close a run as done, failed or cancelled and return its record."""
        if state not in ("done", "failed", "cancelled"):
            raise StoreError(
                f"a run ends done, failed or cancelled, not {state!r}: name one of these"
            )
        with self._write() as session:
            row = self._run_row(session, run_id)
            _add_to(row, metrics, checkpoint)
            row.state, row.ended_at = state, self._clock()
            return self._run_record(session, row)

    def run(self, run_id: int) -> RunRecord:
        """Return one run.

        Raises
        ------
        UnknownRecordError
            If there is none of that number.
        """
        with self._read() as session:
            return self._run_record(session, self._run_row(session, run_id))

    def runs(self) -> list[RunRecord]:
        """Return all runs, oldest first."""
        with self._read() as session:
            rows = session.scalars(select(tables.Run).order_by(tables.Run.id)).all()
            return [self._run_record(session, row) for row in rows]

    # Proposals

    def propose_masks(self, run_id: int, masks: Mapping[int, Mask]) -> list[int]:
        """Store what a run predicts for slices, by slice id, in one transaction.

        A mask that the run proposed for its slice before, to the pixel, is not stored again.

        Returns
        -------
        list of int
            The revision of each slice, in the order of ``masks``.

        Raises
        ------
        MaskError
            If a mask does not fit its slice or the classes; none is stored then.
        """
        packed = {slice_id: pack(mask) for slice_id, mask in masks.items()}
        with self._write() as session:
            run = self._run_row(session, run_id)
            before = self._proposed_before(session, run_id, set(masks))
            revisions = []
            for slice_id, mask in masks.items():
                self._check_fit(session, slice_id, packed[slice_id], mask)
                revisions.append(
                    self._propose(session, run, slice_id, packed[slice_id], before.get(slice_id))
                )
            new = len(set(revisions) - {revision for revision, _ in before.values()})
            if new:
                self._log(session, run.name, "propose", run=run_id, masks=new)
            return revisions

    def _propose(
        self,
        session: Session,
        run: tables.Run,
        slice_id: int,
        packed: PackedMask,
        before: tuple[int, str] | None,
    ) -> int:
        if before is not None and before[1] == packed.checksum:
            return before[0]
        revision = self._append(
            session,
            slice_id,
            packed,
            author=run.name,
            source="model",
            parent_id=self._standing_id(session, slice_id),
            run_id=run.id,
        )
        return revision.id

    def _proposed_before(
        self, session: Session, run_id: int, slice_ids: set[int]
    ) -> dict[int, tuple[int, str]]:
        """Return id and checksum of a run's newest proposal by slice id."""
        query = (
            select(tables.Revision.slice_id, tables.Revision.id, tables.Revision.checksum)
            .where(tables.Revision.run_id == run_id, tables.Revision.slice_id.in_(slice_ids))
            .order_by(tables.Revision.id)
        )
        rows = session.execute(query)
        return {slice_id: (revision_id, checksum) for slice_id, revision_id, checksum in rows}

    def proposals(self, run_id: int) -> list[ProposalRecord]:
        """Return the newest proposal of a run for each of its slices, by volume and position.

        Raises
        ------
        UnknownRecordError
            If there is no such run.
        """
        newest = (
            select(func.max(tables.Revision.id))
            .where(tables.Revision.run_id == run_id)
            .group_by(tables.Revision.slice_id)
        )
        standing = (
            select(func.max(tables.Revision.id))
            .where(tables.Revision.slice_id == tables.Slice.id, stood_behind())
            .correlate(tables.Slice)
            .scalar_subquery()
        )
        query = (
            select(
                tables.Revision.id,
                tables.Slice.id,
                tables.Slice.volume_id,
                tables.Slice.position,
                newest_verdict(),
                tables.Query.state,
                standing,
            )
            .join(tables.Slice, tables.Slice.id == tables.Revision.slice_id)
            .outerjoin(tables.Query, tables.Query.slice_id == tables.Slice.id)
            .where(tables.Revision.id.in_(newest))
            .order_by(tables.Slice.volume_id, tables.Slice.position)
        )
        with self._read() as session:
            self._run_row(session, run_id)
            rejected = self._rejected_revisions(session)
            return [
                ProposalRecord(
                    revision, slice_id, volume, at, verdict, state, standing, standing in rejected
                )
                for revision, slice_id, volume, at, verdict, state, standing in session.execute(
                    query
                )
            ]

    def _rejected_revisions(self, session: Session) -> set[int]:
        once = select(tables.Review.revision_id).where(tables.Review.verdict == "reject")
        query = select(tables.Revision.id).where(
            tables.Revision.id.in_(once), newest_verdict() == "reject"
        )
        return set(session.scalars(query))

    def _run_row(self, session: Session, run_id: int) -> tables.Run:
        row = session.get(tables.Run, run_id)
        if row is None:
            known = session.scalars(select(tables.Run.id).order_by(tables.Run.id)).all()
            listed = ", ".join(str(number) for number in known[-10:])
            raise UnknownRecordError(
                f"no run {run_id} in this project: "
                + (f"choose one of {listed}" if known else "make one with `napari-activeft train`")
            )
        return row

    def _run_record(self, session: Session, row: tables.Run) -> RunRecord:
        number = None
        if row.round_id is not None:
            number = session.get_one(tables.Round, row.round_id).number
        columns = fields_of(row, RunRecord, "run_id", "round_number")
        return RunRecord(run_id=row.id, round_number=number, **columns)


def _add_to(row: tables.Run, metrics: Mapping[str, Any] | None, checkpoint: str | None) -> None:
    # A new object: a change inside of the old one would not be seen.
    row.metrics = {**row.metrics, **(metrics or {})}
    row.checkpoint = row.checkpoint if checkpoint is None else checkpoint
