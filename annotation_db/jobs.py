"""Jobs: steps that run in processes of their own, and how far each has come."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from . import tables
from .database import Database
from .errors import StoreError, UnknownRecordError
from .processes import ProcessMark
from .records import JobRecord, fields_of

UNFINISHED: Final = ("queued", "running")
# A process that was asked for loads this program before it says that it is there.
_START_SECONDS: Final = 60.0
_NEVER_CAME: Final = (
    "its process never started: look into the log, and start it again with `napari-activeft jobs "
    "resume {}`"
)
_GONE: Final = (
    "its process {} is gone without a word: it was killed (SIGKILL, as the system does when memory "
    "runs out), or the computer was switched off; `napari-activeft jobs resume {}` starts it again"
)


class Jobs(Database):
    """Keeps the state of jobs; a state that is final never changes."""

    def add_job(
        self,
        verb: str,
        settings: dict[str, Any],
        actor: str,
        *,
        threads: int | None = None,
        log_file: str | None = None,
    ) -> JobRecord:
        """Queue a job and return its record; its process makes itself known by `claim_job`.

        Parameters
        ----------
        verb, settings
            The step, and its settings as JSON holds them.
        threads
            How many it may compute with.
        log_file
            Relative to the project; ``{:03d}`` in it becomes the job's number.
        """
        with self._write() as session:
            row = tables.Job(
                verb=verb,
                settings=settings,
                state="queued",
                done=0,
                total=0,
                threads=threads,
                created_at=self._clock(),
            )
            session.add(row)
            session.flush()
            row.log_file = None if log_file is None else log_file.format(row.id)
            self._log(session, actor, "job", job=row.id, step=verb)
            return _record(row)

    def claim_job(self, job_id: int, process: ProcessMark) -> JobRecord:
        """Note which process keeps watch over a queued job.

        Raises
        ------
        StoreError
            If another process does, or the job has ended.
        """
        with self._write() as session:
            row = self._job_row(session, job_id)
            if row.state != "queued" or row.pid is not None:
                raise StoreError(
                    f"job {job_id} is {row.state} and has its process: start another one"
                )
            row.host, row.pid, row.process_started = process.host, process.pid, process.started
            return _record(row)

    def begin_job(self, job_id: int, worker_pid: int) -> bool:
        """Note that a job computes now, in which process; say whether it may still run."""
        with self._write() as session:
            row = self._job_row(session, job_id)
            if row.state == "queued":
                row.state, row.started_at, row.worker_pid = "running", self._clock(), worker_pid
            return row.state == "running"

    def job_progress(self, job_id: int, done: int, total: int) -> bool:
        """Note how far a job is and say whether it may go on: False if it was asked to stop."""
        with self._write() as session:
            row = self._job_row(session, job_id)
            if row.state in UNFINISHED:
                row.done, row.total = done, total
            return row.state in UNFINISHED and row.cancel_asked_at is None

    def ask_to_cancel(self, job_id: int, actor: str) -> JobRecord:
        """Ask a job to stop, and end one whose process is not there yet; return its record.

        One that has ended stays as it is.
        """
        with self._write() as session:
            row = self._job_row(session, job_id)
            if row.state in UNFINISHED and row.cancel_asked_at is None:
                row.cancel_asked_at = self._clock()
                self._log(session, actor, "cancel", job=job_id)
                if row.pid is None:
                    self._end(session, row, "cancelled", "it was cancelled before it began")
            return _record(row)

    def end_job(self, job_id: int, state: str, reason: str | None = None) -> bool:
        """Give a job its final state and say whether this call did it.

        Parameters
        ----------
        state
            done, failed or cancelled.
        reason
            Why it did not finish, one sentence.
        """
        with self._write() as session:
            return self._end(session, self._job_row(session, job_id), state, reason)

    def end_dead_jobs(self) -> list[int]:
        """Let jobs of this computer fail whose process is gone; return their ids.

        One that was asked to stop counts as cancelled.
        """
        if not any(self._is_dead(job) for job in self.jobs(*UNFINISHED)):
            return []
        with self._write() as session:
            query = select(tables.Job).where(tables.Job.state.in_(UNFINISHED))
            # Asked again: it may have ended in order between the two looks.
            dead = [row for row in session.scalars(query).all() if self._is_dead(_record(row))]
            for row in dead:
                if row.cancel_asked_at is not None:
                    self._end(session, row, "cancelled", "it was cancelled")
                elif row.pid is None:
                    self._end(session, row, "failed", _NEVER_CAME.format(row.id))
                else:
                    self._end(session, row, "failed", _GONE.format(row.pid, row.id))
            return [row.id for row in dead]

    def _is_dead(self, job: JobRecord) -> bool:
        if job.host is None or job.pid is None or job.process_started is None:
            return self._clock() - job.created_at > timedelta(seconds=_START_SECONDS)
        return not ProcessMark(job.host, job.pid, job.process_started).lives()

    def _end(self, session: Session, row: tables.Job, state: str, reason: str | None) -> bool:
        if row.state not in UNFINISHED:
            return False
        row.state, row.reason, row.ended_at = state, reason, self._clock()
        self._log(session, "job", state, job=row.id)
        return True

    def job(self, job_id: int) -> JobRecord:
        """Return one job.

        Raises
        ------
        UnknownRecordError
            If there is none of that number.
        """
        with self._read() as session:
            return _record(self._job_row(session, job_id))

    def jobs(self, *states: str) -> list[JobRecord]:
        """Return the jobs in these states, all without any, oldest first."""
        query = select(tables.Job).order_by(tables.Job.id)
        if states:
            query = query.where(tables.Job.state.in_(states))
        with self._read() as session:
            return [_record(row) for row in session.scalars(query)]

    def _job_row(self, session: Session, job_id: int) -> tables.Job:
        row = session.get(tables.Job, job_id)
        if row is None:
            raise UnknownRecordError(
                f"no job {job_id} in this project: `napari-activeft jobs list` shows those there "
                "are"
            )
        return row


def _record(row: tables.Job) -> JobRecord:
    return JobRecord(job_id=row.id, **fields_of(row, JobRecord, "job_id"))
