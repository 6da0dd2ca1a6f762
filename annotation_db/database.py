"""One open database: sessions for reading and writing, the clock, the log of events."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from . import tables
from .errors import StoreError
from .sqlite import WRITE, plain_errors

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return this moment with its zone."""
    return datetime.now(UTC)


class Database:
    """What every part of the store stands on. One user action is one ``_write`` block."""

    def __init__(self, path: Path, engine: Engine, clock: Clock) -> None:
        self.path = path
        self._engine = engine
        self._writing = engine.execution_options(**WRITE)
        self._clock = clock
        self._file = _identity(path)

    def see_in_place(self) -> None:
        """See that the file which is open is still the one at its path.

        A file that was moved or removed can be written on, and nobody would find it.

        Raises
        ------
        StoreError
            If it is not.
        """
        if _identity(self.path) != self._file:
            raise StoreError(
                f"{self.path} was moved, removed or replaced while it was open: put it back, or "
                "close the project and open it where it is now; nothing was saved just now"
            )

    def fingerprint(self) -> tuple[tuple[int, int], ...]:
        """Return what changes with every write of any program, without a look into the file."""
        both = (_told_of(self.path.with_name(self.path.name + end)) for end in ("", "-wal"))
        return tuple((0, 0) if told is None else (told.st_mtime_ns, told.st_size) for told in both)

    def last_event(self) -> int:
        """Return the number of the last thing that anybody did, progress of jobs left out."""
        with self._read() as session:
            return session.scalar(select(func.max(tables.Event.id))) or 0

    @contextmanager
    def _read(self) -> Iterator[Session]:
        """Give a consistent view of the database that nobody's write disturbs."""
        with plain_errors(self.path), Session(self._engine) as session:
            yield session

    @contextmanager
    def _write(self) -> Iterator[Session]:
        """Give the write lock; on leaving, everything is on disk, on an error nothing is."""
        with (
            plain_errors(self.path),
            Session(self._writing, expire_on_commit=False) as session,
            session.begin(),
        ):
            # Ask for the lock now: the first statement may come after a long computation.
            session.connection()
            yield session

    def _log(self, session: Session, actor: str, verb: str, **details: Any) -> None:  # noqa: ANN401
        event = tables.Event(at=self._clock(), actor=actor, verb=verb, details=details)
        session.add(event)


def _told_of(path: Path) -> os.stat_result | None:
    """Return what the system says of a file; None where it is not there."""
    try:
        return path.stat()
    except OSError:
        return None


def _identity(path: Path) -> tuple[int, int] | None:
    told = _told_of(path)
    return None if told is None else (told.st_dev, told.st_ino)
