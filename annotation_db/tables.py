"""The tables of a project, as mapped classes. No object of these leaves the package.

A new or changed column is a new numbered migration under ``migrations/versions``; a test compares
what the migrations build with what stands here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

SPLITS = ("pool", "val", "test")
QUERY_STATES = ("open", "leased", "submitted", "skipped", "approved", "rejected")
REVISION_SOURCES = ("drawn", "model", "corrected", "imported")
VERDICTS = ("approve", "reject")
WORK_STATES = ("queued", "running", "done", "failed", "cancelled")


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, stored in UTC without a zone and read back with one."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Drop the zone after moving to UTC."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        return None if value is None else value.replace(tzinfo=UTC)


# A partial index, in the words of each database that has them.
_LIVING: dict[str, Any] = {
    "sqlite_where": text("ended_at IS NULL"),
    "postgresql_where": text("ended_at IS NULL"),
}


def _one_of(column: str, allowed: tuple[str, ...]) -> CheckConstraint:
    values = ", ".join(f"'{value}'" for value in allowed)
    return CheckConstraint(f"{column} IN ({values})", name=column)


class Base(DeclarativeBase):
    """What all tables share: names of constraints, types of columns."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - read by SQLAlchemy on the class
        datetime: UtcDateTime,
        float: Double,
        dict[str, Any]: JSON,
        list[str]: JSON,
        list[list[float]]: JSON,
    }


class Project(Base):
    """The one project of this database."""

    __tablename__ = "project"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(32))
    name: Mapped[str]
    settings: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class ClassLabel(Base):
    """A class that pixels may belong to; 0 is background and has no row."""

    __tablename__ = "classes"
    __table_args__ = (CheckConstraint("value BETWEEN 1 AND 65534", name="value"),)

    value: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(unique=True)
    colour: Mapped[str] = mapped_column(String(7))


class Root(Base):
    """A folder that image paths are relative to."""

    __tablename__ = "roots"

    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(unique=True)
    # The same folder seen from the project, for projects that move together with their images.
    from_project: Mapped[str | None]


class Case(Base):
    """One examination; it fixes on which side of the split its volumes stand."""

    __tablename__ = "cases"
    __table_args__ = (_one_of("split", SPLITS),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    split: Mapped[str] = mapped_column(String(8))


class Volume(Base):
    """One image volume and how it is cut into slices."""

    __tablename__ = "volumes"
    __table_args__ = (CheckConstraint("axis BETWEEN 0 AND 2", name="axis"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey(Case.id), index=True)
    root_id: Mapped[int] = mapped_column(ForeignKey(Root.id), index=True)
    name: Mapped[str] = mapped_column(unique=True)
    files: Mapped[list[str]]
    series: Mapped[str | None]
    label_file: Mapped[str | None]
    content_hash: Mapped[str] = mapped_column(String(64), unique=True)
    byte_count: Mapped[int]
    geometry: Mapped[dict[str, Any]]
    channels: Mapped[int]
    intensity_range: Mapped[list[list[float]]]
    axis: Mapped[int]
    slice_count: Mapped[int]
    slice_height: Mapped[int]
    slice_width: Mapped[int]
    added_at: Mapped[datetime]


class Slice(Base):
    """One 2-D cut of a volume."""

    __tablename__ = "slices"
    __table_args__ = (UniqueConstraint("volume_id", "position"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    volume_id: Mapped[int] = mapped_column(ForeignKey(Volume.id))
    position: Mapped[int]
    emptiness: Mapped[float]


class Round(Base):
    """One selection, with all that is needed to repeat it."""

    __tablename__ = "rounds"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(unique=True)
    selector: Mapped[str]
    budget: Mapped[int]
    seed: Mapped[int]
    settings: Mapped[dict[str, Any]]
    encoder: Mapped[str | None]
    weight_hash: Mapped[str | None]
    pool_checksum: Mapped[str] = mapped_column(String(64))
    report: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class Query(Base):
    """One slice asked of the annotators; a slice is asked once."""

    __tablename__ = "queries"
    __table_args__ = (
        _one_of("state", QUERY_STATES),
        UniqueConstraint("round_id", "rank"),
        Index("ix_queries_state_round_id_rank", "state", "round_id", "rank"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    round_id: Mapped[int] = mapped_column(ForeignKey(Round.id))
    slice_id: Mapped[int] = mapped_column(ForeignKey(Slice.id), unique=True)
    rank: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    skip_reason: Mapped[str | None]


class Run(Base):
    """One fine-tuning."""

    __tablename__ = "runs"
    __table_args__ = (_one_of("state", WORK_STATES),)

    id: Mapped[int] = mapped_column(primary_key=True)
    round_id: Mapped[int | None] = mapped_column(ForeignKey(Round.id))
    name: Mapped[str]
    settings: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    metrics: Mapped[dict[str, Any]]
    checkpoint: Mapped[str | None]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class Lease(Base):
    """The time for which one query belongs to one annotator."""

    __tablename__ = "leases"
    __table_args__ = (
        # The database itself refuses a second living lease of one query.
        Index("uq_leases_living", "query_id", unique=True, **_LIVING),
        Index("ix_leases_expiry", "expires_at", **_LIVING),
        Index("ix_leases_annotator", "annotator", **_LIVING),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    query_id: Mapped[int] = mapped_column(ForeignKey(Query.id), index=True)
    annotator: Mapped[str]
    token: Mapped[str] = mapped_column(String(32), unique=True)
    # No foreign key: revisions name their lease, and a circle of keys cannot be created in order.
    parent_revision_id: Mapped[int | None]
    taken_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class Revision(Base):
    """One mask of a slice; revisions are only ever appended."""

    __tablename__ = "revisions"
    __table_args__ = (
        _one_of("source", REVISION_SOURCES),
        Index("ix_revisions_slice_id_id", "slice_id", "id"),
        {"sqlite_autoincrement": True},  # an id is never given twice
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    slice_id: Mapped[int] = mapped_column(ForeignKey(Slice.id))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("revisions.id"), index=True)
    run_id: Mapped[int | None] = mapped_column(ForeignKey(Run.id), index=True)
    lease_id: Mapped[int | None] = mapped_column(ForeignKey(Lease.id), index=True)
    author: Mapped[str]
    source: Mapped[str] = mapped_column(String(16))
    # Set on a submit that came too late: kept, but never taken for the slice's mask.
    conflict: Mapped[bool]
    seconds_spent: Mapped[float | None]
    height: Mapped[int]
    width: Mapped[int]
    dtype: Mapped[str] = mapped_column(String(8))
    checksum: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    # Last, so that SQLite never pages through a blob to reach another column.
    payload: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)


class Review(Base):
    """A second opinion on a revision."""

    __tablename__ = "reviews"
    __table_args__ = (_one_of("verdict", VERDICTS),)

    id: Mapped[int] = mapped_column(primary_key=True)
    revision_id: Mapped[int] = mapped_column(ForeignKey(Revision.id), index=True)
    reviewer: Mapped[str]
    verdict: Mapped[str] = mapped_column(String(8))
    comment: Mapped[str]
    created_at: Mapped[datetime]


class Stroke(Base):
    """One stroke that is not yet part of a submitted mask."""

    __tablename__ = "journal"
    __table_args__ = (
        Index("ix_journal_slice_id_annotator", "slice_id", "annotator"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    slice_id: Mapped[int] = mapped_column(ForeignKey(Slice.id))
    annotator: Mapped[str]
    created_at: Mapped[datetime]
    checksum: Mapped[str] = mapped_column(String(64))
    payload: Mapped[bytes] = mapped_column(LargeBinary)


class Job(Base):
    """One step that runs in a worker process."""

    __tablename__ = "jobs"
    __table_args__ = (_one_of("state", WORK_STATES),)

    id: Mapped[int] = mapped_column(primary_key=True)
    verb: Mapped[str]
    settings: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    done: Mapped[int]
    total: Mapped[int]
    host: Mapped[str | None]
    pid: Mapped[int | None]
    log_file: Mapped[str | None]
    reason: Mapped[str | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    threads: Mapped[int | None]
    # When the process of `pid` was started, in seconds since 1970: the system gives an old number
    # to a new process.
    process_started: Mapped[float | None]
    worker_pid: Mapped[int | None]
    cancel_asked_at: Mapped[datetime | None]


class Event(Base):
    """Who did what when."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]
    verb: Mapped[str]
    details: Mapped[dict[str, Any]]
