"""The database file: how it is built, upgraded, refused, locked, checked and mended."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from types import SimpleNamespace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from napari_activeft.annotation_db import (
    NewerDatabaseError,
    NotAProjectError,
    Store,
    StoreError,
    schema,
    sqlite,
    tables,
)
from napari_activeft.annotation_db import store as store_file
from storemaking import HandClock, a_mask, answer_next, make_store, raw_sql

ADD_COLUMN = 'op.add_column("volumes", sa.Column("scanner", sa.String(), nullable=True))'
# SQLite alters a table by making it anew: copy the rows, drop it, give the copy its name.
ANEW = """with op.batch_alter_table("{}", recreate="always") as batch:
        batch.add_column(sa.Column("note", sa.String(), nullable=True))"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "annotations.sqlite"


def with_second_migration(folder, body):
    """Copy the migrations into ``folder`` and add one that does ``body``."""
    shutil.copytree(schema.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "0003_second.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n\n"
        'revision = "0003"\ndown_revision = "0002"\nbranch_labels = None\ndepends_on = None\n\n\n'
        f"def upgrade() -> None:\n    {body}\n"
    )
    return folder


def upgrade(path, folder):
    engine = sqlite.make_engine(path, network=False)
    try:
        return schema.bring_up_to_date(engine, path, HandClock()(), "0003", folder)
    finally:
        engine.dispose()


def dump(path):
    with raw_sql(path) as connection:
        return list(connection.iterdump())


def digests(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def pragma(store, name):
    with store._engine.connect() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


# Versions


def test_the_migrations_build_exactly_the_mapped_tables(path):
    with make_store(path) as store, store._engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True, "render_as_batch": True}
        context = MigrationContext.configure(connection, opts=options)

        assert compare_metadata(context, tables.Base.metadata) == []


def test_the_migrations_build_the_same_checks_and_partial_indexes(path, tmp_path):
    make_store(path).close()
    engine = sqlite.make_engine(tmp_path / "mapped.sqlite", network=False)
    tables.Base.metadata.create_all(engine)
    engine.dispose()

    def statements(file):
        with raw_sql(file) as connection:
            rows = connection.execute(
                "SELECT sql FROM sqlite_master WHERE sql NOT NULL AND tbl_name != 'alembic_version'"
            )
            # The order of a table's constraints means nothing.
            return sorted(
                sorted(part.strip(" ,\t\n()") for part in row[0].split("\n")) for row in rows
            )

    assert statements(path) == statements(tmp_path / "mapped.sqlite")


def test_the_known_head_is_the_newest_migration_in_the_folder():
    assert max(schema.known_versions()) == schema.HEAD


def test_an_older_database_is_upgraded_after_a_backup_that_opens(path, tmp_path):
    with make_store(path) as store:
        _, revision = answer_next(store)
    before = dump(path)

    copy = upgrade(path, with_second_migration(tmp_path / "migrations", ADD_COLUMN))

    assert copy.parent == tmp_path / "backups"
    assert "-v0002-" in copy.name
    assert dump(copy) == before
    with Store.open(copy) as old:
        assert (old.mask(revision) == a_mask()).all()
    with raw_sql(path) as connection:
        assert connection.execute("SELECT scanner FROM volumes").fetchall() == [(None,)]
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0003",)


def test_opening_an_older_database_says_where_the_earlier_state_is(path, tmp_path, monkeypatch):
    make_store(path).close()
    folder = with_second_migration(tmp_path / "migrations", ADD_COLUMN)
    monkeypatch.setattr(schema.bring_up_to_date, "__defaults__", ("0003", folder))

    with Store.open(path) as store:
        (sentence,) = store.warnings
        assert "upgraded" in sentence
        assert str(tmp_path / "backups") in sentence
    with Store.open(path) as store:
        assert store.warnings == ()
    assert len(list((tmp_path / "backups").iterdir())) == 1


@pytest.mark.parametrize("table", ["slices", "queries", "leases", "rounds", "volumes", "cases"])
def test_a_migration_may_make_a_table_anew_that_others_name(path, tmp_path, table):
    with make_store(path) as store:
        answer_next(store)
        store.lease_next("bob")
        queries, accepted = store.queries(), store.accepted()

    upgrade(path, with_second_migration(tmp_path / "migrations", ANEW.format(table)))

    with Store(path, sqlite.make_engine(path, network=False), HandClock()) as store:
        assert (store.queries(), store.accepted(), store.check()) == (queries, accepted, [])
        assert pragma(store, "foreign_keys") == 1


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (ADD_COLUMN + '\n    op.execute("SELECT no_such_column FROM slices")', sqlite3.Error),
        (ADD_COLUMN + '\n    raise ValueError("half way")', ValueError),
        ('op.execute("DELETE FROM slices")', StoreError),
    ],
    ids=["bad statement", "error half way", "rows left without their slice"],
)
def test_a_failing_migration_leaves_the_database_as_it_was(path, tmp_path, body, refusal):
    with make_store(path) as store:
        answer_next(store)
    before = dump(path)

    with pytest.raises(Exception) as failure:  # noqa: PT011 - told apart below
        upgrade(path, with_second_migration(tmp_path / "migrations", body))

    assert isinstance(getattr(failure.value, "orig", failure.value), refusal)
    assert dump(path) == before
    with Store.open(path) as store:
        assert store.check() == []
        assert pragma(store, "foreign_keys") == 1


def test_two_programs_may_upgrade_one_database_one_after_the_other(path, tmp_path):
    make_store(path).close()
    folder = with_second_migration(tmp_path / "migrations", ADD_COLUMN)
    upgrade(path, folder)
    after = dump(path)

    engine = sqlite.make_engine(path, network=False)
    schema.migrate(engine, folder)  # what the slower of the two does
    engine.dispose()

    assert dump(path) == after


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_a_newer_database_is_refused_and_not_a_byte_of_it_changes(path, journal):
    make_store(path).close()
    with raw_sql(path) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = digests(path.parent)

    with pytest.raises(NewerDatabaseError, match=r"version 9999, .* up to 0002: upgrade"):
        Store.open(path)

    assert digests(path.parent) == before


# Files that are none of ours


@pytest.mark.parametrize("content", [b"\x89PNG" * 2000, b"SQLite format 3\0" + b"x" * 5000])
def test_a_garbage_file_is_refused_and_stays_as_it_is(path, content):
    path.write_bytes(content)

    with pytest.raises(NotAProjectError, match="no SQLite database: name a project's folder"):
        Store.open(path)

    assert path.read_bytes() == content


def test_an_empty_file_is_refused_and_stays_empty(path):
    path.touch()

    with pytest.raises(NotAProjectError):
        Store.open(path)

    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE cars (id INTEGER)",
        "CREATE TABLE project (id INTEGER)",
        "CREATE TABLE project (id INTEGER); CREATE TABLE alembic_version (version_num TEXT)",
    ],
)
def test_a_foreign_database_is_refused_and_not_a_byte_of_it_changes(path, statement):
    with raw_sql(path) as connection:
        connection.executescript(statement)
    before = digests(path.parent)

    with pytest.raises(NotAProjectError, match="not one of napari-activeft"):
        Store.open(path)

    assert digests(path.parent) == before


def test_a_missing_database_is_refused_and_none_is_made(path):
    with pytest.raises(NotAProjectError, match="make a project with `napari-activeft init`"):
        Store.open(path)

    assert not path.exists()


def test_a_second_project_in_one_place_is_refused(path):
    make_store(path).close()
    before = digests(path.parent)

    with pytest.raises(StoreError, match="exists already"):
        Store.create(path, "other", {})

    assert digests(path.parent) == before


def test_a_project_whose_making_was_cut_short_can_be_made_again(path):
    leftover = path.with_name(".12345678.partial")
    leftover.write_bytes(b"half a database")

    with make_store(path) as store:
        assert store.check() == []
    assert sorted(file.name for file in path.parent.iterdir()) == [leftover.name, path.name]


def test_of_two_programs_that_make_one_project_the_later_is_refused(path, monkeypatch):
    migrate = store_file.migrate

    def overtaken(engine):
        migrate(engine)
        monkeypatch.setattr(store_file, "migrate", migrate)
        make_store(path).close()
        with Store.open(path) as first:
            first.add_root("/images", None)

    monkeypatch.setattr(store_file, "migrate", overtaken)

    with pytest.raises(StoreError, match="exists already"):
        make_store(path)
    with Store.open(path) as store:
        assert [root.path for root in store.roots().values()] == ["/images"]
    assert [file.name for file in path.parent.iterdir() if "partial" in file.name] == []


@pytest.mark.parametrize("name", ["with spaces", "Müllerstraße äöü", "试验 ?#%25&", "it's 100 %"])
def test_a_folder_of_any_name_will_do(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    with make_store(folder / "annotations.sqlite") as store:
        _, revision = answer_next(store)
        copy = store.back_up(folder / "backups")
    with Store.open(copy) as store:
        assert (store.mask(revision) == a_mask()).all()
    assert {file.name for file in folder.iterdir()} == {"annotations.sqlite", "backups"}


# SQLite's settings


def mounts(folder, kind, opts="rw"):
    partition = SimpleNamespace(mountpoint=str(folder.resolve()), fstype=kind, opts=opts)
    root = SimpleNamespace(mountpoint=folder.anchor, fstype="ext4", opts="rw")
    return lambda **_: [root, partition]


def test_a_local_disk_gets_a_write_ahead_log_and_every_connection_its_safeguards(path):
    with make_store(path) as store:
        assert store.warnings == ()
        for _ in range(2):
            assert pragma(store, "journal_mode") == "wal"
            assert pragma(store, "foreign_keys") == 1
            assert pragma(store, "synchronous") == 2, "FULL"
            assert pragma(store, "busy_timeout") == 1000 * sqlite.BUSY_SECONDS
            store._engine.dispose()  # the next connection is a new one


@pytest.mark.parametrize("kind", ["nfs4", "CIFS", "fuse.sshfs", "9p"])
def test_a_network_file_system_gets_a_rollback_journal_and_a_warning(path, monkeypatch, kind):
    make_store(path).close()
    monkeypatch.setattr("psutil.disk_partitions", mounts(path.parent, kind))

    with Store.open(path) as store:
        (sentence,) = store.warnings
        assert f"network file system ({kind.lower()})" in sentence
        assert pragma(store, "journal_mode") == "delete"
        assert pragma(store, "synchronous") == 2, "FULL"
        answer_next(store)

    monkeypatch.undo()
    with Store.open(path) as store:
        assert (store.warnings, pragma(store, "journal_mode")) == ((), "wal")
        assert len(store.accepted()) == 1


def test_a_mapped_drive_is_a_network_drive_and_a_local_mount_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr("psutil.disk_partitions", mounts(tmp_path, "NTFS", "rw,remote"))
    assert sqlite.network_file_system(tmp_path / "project") == "network drive"
    monkeypatch.setattr("psutil.disk_partitions", mounts(tmp_path, "btrfs"))
    assert sqlite.network_file_system(tmp_path / "project") is None
    monkeypatch.setattr("psutil.disk_partitions", mounts(tmp_path / "else", "nfs"))
    assert sqlite.network_file_system(tmp_path / "project") is None
