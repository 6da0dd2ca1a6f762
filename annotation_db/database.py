"""One open database: sessions for reading and writing, the clock, the log of events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from . import tables
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
