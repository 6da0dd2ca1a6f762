"""All that is special to SQLite, so that another database can follow.

Writes take the one write lock at once (``BEGIN IMMEDIATE``): a transaction that starts by reading
and then asks for the lock can be refused without waiting, one that starts with the lock only waits.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import psutil
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import ConnectionPoolEntry

from .errors import (
    DamagedDatabaseError,
    NotAProjectError,
    ReadOnlyStoreError,
    StoreBusyError,
    StoreError,
)

BUSY_SECONDS: Final = 60.0
"""How long a caller waits for another program's write before it hears of it."""

WRITE: Final = {"activeft_write": True}
"""Execution option of a connection that will write."""

# File systems whose locks or shared memory cannot be trusted with a write-ahead log.
_NETWORK_FILE_SYSTEMS: Final = frozenset(
    (
        *("9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "davfs", "glusterfs", "gpfs", "lustre"),
        *("ncpfs", "nfs", "nfs3", "nfs4", "smb", "smb2", "smb3", "smbfs", "sshfs", "vboxsf"),
        "webdav",
    )
)


def network_file_system(folder: Path) -> str | None:
    """Return the network file system that ``folder`` lies on, or None if it is a local one."""
    resolved = folder.resolve()
    best: tuple[int, str, str] = (-1, "", "")
    for partition in psutil.disk_partitions(all=True):
        mount = Path(partition.mountpoint)
        # >= : of two mounts on one point the later one is seen.
        if (mount == resolved or mount in resolved.parents) and len(mount.parts) >= best[0]:
            best = (len(mount.parts), partition.fstype.lower(), partition.opts)
    _, kind, options = best
    if kind.removeprefix("fuse.") in _NETWORK_FILE_SYSTEMS:
        return kind
    # Windows calls every mapped drive NTFS, but says where it is.
    return "network drive" if "remote" in options.split(",") else None


def make_engine(path: Path, *, network: bool) -> Engine:
    """Return an engine on ``path`` with a write-ahead log, or a rollback journal on a network."""
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    journal = "DELETE" if network else "WAL"

    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        # The driver's own transaction handling would commit before DDL and never begin reads.
        connection.isolation_level = None
        cursor = connection.cursor()
        # The busy timeout does not cover the change of the journal.
        _wait_for(lambda: cursor.execute(f"PRAGMA journal_mode = {journal}"))
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        if connection.get_execution_options().get("activeft_write", False):
            _begin_write(connection)
        else:
            connection.exec_driver_sql("BEGIN")

    return engine


def _begin_write(connection: Connection) -> None:
    """Take the write lock; all other waiting is left to SQLite's busy timeout."""
    # The driver's own object: dozens of refusals in a row should cost no more than they must.
    driver: Any = connection.connection.driver_connection
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        _wait_for(lambda: driver.execute("BEGIN IMMEDIATE"))
    finally:
        driver.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000:.0f}")


def _wait_for(act: Callable[[], object]) -> None:
    """Repeat what another program's lock forbids, in turns short enough for everybody.

    SQLite's own waiting sleeps longer with every failure, up to 100 ms: between several busy
    programs whoever has waited longest is served last.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            act()
        except sqlite3.OperationalError as refusal:
            if "locked" not in str(refusal) or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.0002, 0.002))  # noqa: S311 - a pause is no secret
        else:
            return


APPLICATION_ID: Final = 0x61466D31
"""Marks a SQLite file as one of this program's."""


def mark_as_ours(connection: Connection) -> None:
    """Write the program's mark into the file."""
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")


def is_ours(connection: Connection) -> bool:
    """Say whether a file bears the program's mark."""
    return connection.exec_driver_sql("PRAGMA application_id").scalar() == APPLICATION_ID


def put_in_place(partial: Path, path: Path) -> None:
    """Give a finished file its name unless somebody took that meanwhile.

    Raises
    ------
    FileExistsError
        If there is a file of that name.
    """
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if path.exists():
            raise FileExistsError(path) from None
        partial.replace(path)
    partial.unlink(missing_ok=True)


def make_looking_engine(path: Path) -> Engine:
    """Return an engine that changes nothing of a file that may belong to another program.

    Even the choice of a journal is written into the file.
    """
    url = URL.create("sqlite", database=str(path))
    return create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS})


@contextmanager
def altering(engine: Engine) -> Iterator[Connection]:
    """Give a connection that may make tables anew; what it leaves is committed if the keys hold.

    To make a table anew is to drop it, which empties it first: SQLite would refuse that, or empty
    the tables that name it, unless its keys are off. They can only be turned off between
    transactions.
    """
    with engine.execution_options(**WRITE).connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA foreign_keys = OFF")
        try:
            with connection.begin():
                yield connection
                lost = orphans(connection)
                if lost:
                    raise StoreError(f"the upgrade was undone, because afterwards {lost[0]}")
        finally:
            driver.execute("PRAGMA foreign_keys = ON")


@contextmanager
def plain_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's refusals into sentences."""
    try:
        yield
    except DatabaseError as refusal:
        raise _sentence(path, str(refusal.orig)) from refusal
    except sqlite3.DatabaseError as refusal:
        raise _sentence(path, str(refusal)) from refusal


def _sentence(path: Path, cause: str) -> StoreError:
    if "constraint failed" in cause:
        return StoreError(
            f"a record does not fit the others in {path} ({cause}), nothing was saved: reload the "
            "project and try again"
        )
    if "locked" in cause or "busy" in cause:
        return StoreBusyError(
            f"another program has kept {path} locked for {BUSY_SECONDS:.0f} s: close other "
            "programs that use the project and try again"
        )
    if "readonly" in cause or "read-only" in cause:
        return ReadOnlyStoreError(
            f"{path} cannot be written ({cause}): make the folder writable or copy the project"
        )
    if "full" in cause:
        return ReadOnlyStoreError(
            f"the disk of {path} is full, nothing was saved: free some space and try again"
        )
    if "not a database" in cause:
        return NotAProjectError(f"{path} is no SQLite database: name a project's folder")
    if "malformed" in cause or "not a database" in cause:
        return DamagedDatabaseError(
            f"{path} is damaged ({cause}): restore the newest copy from the project's backups/ "
            "folder, or rescue what can be read with sqlite3's .recover"
        )
    return StoreError(
        f"{path} cannot be read or written ({cause}): free some space, check the disk and the "
        "folder's permissions, and try again"
    )


def back_up(path: Path, folder: Path, label: str, now: datetime) -> Path:
    """Copy a live database, consistent to the last commit, and return the copy's path."""
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / f"{path.stem}-{label}-{now:%Y%m%dT%H%M%S%f}{path.suffix}"
    partial = copy.with_suffix(".partial")
    source = sqlite3.connect(path, timeout=BUSY_SECONDS)
    target = sqlite3.connect(partial)
    try:
        source.backup(target)
    except BaseException:
        target.close()
        partial.unlink(missing_ok=True)
        raise
    finally:
        target.close()
        source.close()
    partial.replace(copy)
    return copy


def damaged_pages(connection: Connection) -> list[str]:
    """Return what SQLite's own check finds wrong with the file; an empty list is a healthy one."""
    rows = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
    return [str(row) for row in rows if row != "ok"]


def tells_of_damage(refusal: DatabaseError) -> bool:
    """Say whether a statement failed because the file is damaged, not because it was in use."""
    return "malformed" in str(refusal.orig)


def orphans(connection: Connection) -> list[str]:
    """Return the rows that name a row which is not there."""
    rows: list[Any] = list(connection.exec_driver_sql("PRAGMA foreign_key_check").all())
    return [f"row {row[1]} of {row[0]} names a missing row of {row[2]}" for row in rows]
