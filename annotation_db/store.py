"""The store: one database file that holds everything people did. The package's front door."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, Self

from sqlalchemy.orm import Session

from . import tables
from .answers import Answers
from .by_hand import ByHand
from .checks import Checks
from .database import Clock, utc_now
from .errors import NotAProjectError, StoreError
from .jobs import Jobs
from .journal import Journal
from .runs import Runs
from .schema import bring_up_to_date, migrate
from .sqlite import WRITE, make_engine, network_file_system, plain_errors, put_in_place


class Store(Answers, ByHand, Runs, Jobs, Journal, Checks):
    """An open project database.

    Attributes
    ----------
    path
        The database file.
    warnings
        Sentences that the user should see once: a network file system, an upgrade that was done.
    """

    warnings: tuple[str, ...] = ()

    @classmethod
    def create(
        cls, path: Path, name: str, settings: dict[str, Any], clock: Clock = utc_now
    ) -> Self:
        """Make the database of a new project and open it.

        The file appears under its name only when it is complete.

        Raises
        ------
        StoreError
            If there is one already.
        """
        taken = f"{path} exists already: open it, or choose another folder"
        if path.exists():
            raise StoreError(taken)
        partial = path.with_name(f".{secrets.token_hex(4)}.partial")
        # No write-ahead log yet: a rename would leave it behind under the old name.
        engine = make_engine(partial, network=True)
        try:
            with plain_errors(path):
                migrate(engine)
                with Session(engine.execution_options(**WRITE)) as session, session.begin():
                    session.add(
                        tables.Project(
                            id=1,
                            uid=secrets.token_hex(16),
                            name=name,
                            settings=settings,
                            created_at=clock(),
                        )
                    )
            put_in_place(partial, path)
        except FileExistsError as refusal:
            raise StoreError(taken) from refusal
        finally:
            engine.dispose()
            partial.unlink(missing_ok=True)
        store = cls.open(path, clock)
        try:
            store.project()
        except StoreError:
            # What cannot be read in the moment it is made (a full disk) is no project.
            store.close()
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            raise
        return store

    @classmethod
    def open(cls, path: Path, clock: Clock = utc_now) -> Self:
        """Open a project's database, upgraded if it is older than the program.

        Raises
        ------
        NotAProjectError
            If there is no such file, or it is no database of this program.
        NewerDatabaseError
            If a newer version of the program wrote it.
        """
        if not path.is_file():
            raise NotAProjectError(
                f"there is no project database at {path}: make a project with `napari-activeft "
                "init`"
            )
        kind = network_file_system(path.parent)
        engine = make_engine(path, network=kind is not None)
        warnings = []
        if kind is not None:
            warnings.append(
                f"{path.parent} lies on a network file system ({kind}): it is used with a rollback "
                "journal, slower and safe for one writer at a time; a local disk is better"
            )
        try:
            with plain_errors(path):
                copy = bring_up_to_date(engine, path, clock())
        except BaseException:
            engine.dispose()
            raise
        if copy is not None:
            warnings.append(f"the database was upgraded; its earlier state is kept as {copy}")
        store = cls(path, engine, clock)
        store.warnings = tuple(warnings)
        return store

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
