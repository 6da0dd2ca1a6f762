"""The database's version: built by migrations, upgraded after a backup, refused when newer."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, inspect

from .errors import NewerDatabaseError, NotAProjectError
from .sqlite import altering, back_up, is_ours, make_looking_engine, mark_as_ours

HEAD: Final = "0002"
"""The newest migration, so that opening a project need not load alembic; a test compares."""

MIGRATIONS: Final = Path(__file__).parent / "migrations"


def version_of(path: Path) -> str:
    """Return the migration that the database stands at, without changing a byte of it.

    Raises
    ------
    NotAProjectError
        If the database was not made by this program.
    """
    if path.stat().st_size == 0:
        raise NotAProjectError(
            f"{path} is empty (0 bytes): restore the newest copy from the project's backups/ folder"
        )
    with make_looking_engine(path).connect() as connection:
        version = None
        if is_ours(connection) and inspect(connection).has_table("alembic_version"):
            query = "SELECT version_num FROM alembic_version"
            version = connection.exec_driver_sql(query).scalar()
    if version is None:
        raise NotAProjectError(
            f"{path} is a database, but not one of napari-activeft: name a project's folder"
        )
    return str(version)


def migrate(engine: Engine, folder: Path = MIGRATIONS) -> None:
    """Run every migration that the database has not seen, in one transaction."""
    # Here, because alembic takes longer to load than a project takes to open.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    with altering(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        mark_as_ours(connection)


def bring_up_to_date(
    engine: Engine,
    path: Path,
    now: datetime,
    head: str = HEAD,
    folder: Path = MIGRATIONS,
) -> Path | None:
    """Upgrade an older database and return its backup copy; leave a current one as it is.

    Raises
    ------
    NewerDatabaseError
        If the database was made by a newer version of the program; it is left untouched.
    """
    version = version_of(path)
    if version == head:
        return None
    if version not in known_versions(folder):
        raise NewerDatabaseError(
            f"{path} has database version {version}, this program knows versions up to {head}: "
            "upgrade the program (`pip install --upgrade napari-activeft`)"
        )
    copy = back_up(path, path.parent / "backups", f"v{version}", now)
    migrate(engine, folder)
    return copy


def known_versions(folder: Path = MIGRATIONS) -> set[str]:
    """Return the numbers of the migrations that this program carries."""
    return {file.name[:4] for file in (folder / "versions").glob("[0-9][0-9][0-9][0-9]_*.py")}
