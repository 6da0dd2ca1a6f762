"""What the store survives: locks, full disks, damage, several programs at once, and kill -9."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from napari_activeft.annotation_db import (
    CorruptMaskError,
    ReadOnlyStoreError,
    Store,
    StoreBusyError,
    StoreError,
    sqlite,
)
from storemaking import HandClock, a_mask, add_run, answer_next, make_store, raw_sql

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "annotations.sqlite"


def noise(side):
    """Return a mask that no compression makes small."""
    return np.random.default_rng(0).integers(0, 3, (side, side)).astype(np.uint8)


# Refusals in plain words


def test_a_database_locked_by_another_program_is_named_so(path, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.2)
    with make_store(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StoreBusyError, match="locked for 0 s: close other programs"):
            store.lease_next("ann")
        assert store.accepted() == [], "reading goes on"

        other.execute("COMMIT")
        assert store.lease_next("ann") is not None


def test_a_full_disk_is_named_so_and_the_submit_is_not_half_done(path):
    with make_store(path, size=(600, 600)) as store:
        lease = store.lease_next("ann")
        with store._engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 3}")

        with pytest.raises(ReadOnlyStoreError, match=r"disk of .* is full, nothing was saved"):
            store.submit(lease.token, noise(600))

        assert store.revisions(lease.slice_id) == []
        assert store.queries()[0].state == "leased"
        store._engine.dispose()  # the limit goes with its connection
        assert not store.submit(lease.token, noise(600)).conflict


def test_a_backup_that_cannot_be_written_says_so_and_leaves_no_half_copy(path, tmp_path):
    with make_store(path) as store:
        store._engine.dispose()
        path.write_bytes(b"overwritten by another program" * 1000)

        with pytest.raises(StoreError, match="no SQLite database"):
            store.back_up(tmp_path / "backups")

    assert list((tmp_path / "backups").iterdir()) == []


def test_a_record_that_does_not_fit_is_refused_in_a_sentence_and_nothing_changes(path):
    with make_store(path) as store:
        with pytest.raises(StoreError, match=r"does not fit the others .* nothing was saved"):
            store.append_strokes(999, "ann", [b"stroke"])
        with pytest.raises(StoreError, match="does not fit the others"):
            store.add_prediction(1, a_mask(), run_id=999, author="model")

        assert store.revisions(1) == []
        assert store.check() == []


# The database itself holds to the rules, whoever writes


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE queries SET state = 'lost' WHERE id = 1",
        "UPDATE queries SET rank = 2 WHERE id = 1",
        "UPDATE queries SET slice_id = 2 WHERE id = 1",
        "UPDATE queries SET slice_id = 999 WHERE id = 1",
        "UPDATE queries SET state = NULL WHERE id = 1",
        "INSERT INTO leases (query_id, annotator, token, taken_at, expires_at)"
        " SELECT query_id, 'bob', 'other', taken_at, expires_at FROM leases",
        "INSERT INTO leases (query_id, annotator, token, taken_at, expires_at, ended_at)"
        " SELECT query_id, 'bob', token, taken_at, expires_at, expires_at FROM leases",
        "UPDATE revisions SET source = 'guessed'",
        "UPDATE revisions SET slice_id = 999",
        "UPDATE revisions SET run_id = 999",
        "UPDATE revisions SET parent_id = 999",
        "UPDATE revisions SET payload = NULL",
        "DELETE FROM revisions",
        "DELETE FROM slices",
        "DELETE FROM leases",
        "UPDATE reviews SET verdict = 'maybe'",
        "UPDATE runs SET state = 'lost'",
        "INSERT INTO project SELECT 2, uid, name, settings, created_at FROM project",
        "INSERT INTO classes VALUES (0, 'background', '#000000')",
        "INSERT INTO classes VALUES (65535, 'top', '#000000')",
        "INSERT INTO classes VALUES (3, 'liver', '#000000')",
        "UPDATE cases SET split = 'train'",
        "UPDATE volumes SET axis = 3",
        "INSERT INTO slices (volume_id, position, emptiness) VALUES (1, 0, 0.5)",
    ],
)
def test_the_database_refuses(path, statement):
    with make_store(path) as store:
        _, revision = answer_next(store)
        store.review(revision, "approve", "rita")
        store.lease_next("ann")
        add_run(path)

    with raw_sql(path) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)


def test_a_query_may_have_many_ended_leases_but_one_that_lives(path):
    clock = HandClock()
    with make_store(path, queries=1, clock=clock) as store:
        for annotator in ("ann", "bob", "eva"):
            clock.pass_minutes(31)
            store.lease_next(annotator)
        with raw_sql(path) as connection:
            ends = connection.execute("SELECT ended_at IS NULL FROM leases ORDER BY id").fetchall()

    assert ends == [(0,), (0,), (1,)]


def test_a_revision_id_is_never_given_twice(path):
    with make_store(path) as store:
        _, first = answer_next(store)
        with raw_sql(path) as connection:
            connection.execute("DELETE FROM revisions")
        _, second = answer_next(store)

    assert second > first


# Damage, and the doctor


def test_a_damaged_mask_is_named_when_it_is_read_and_by_the_doctor(path):
    with make_store(path) as store:
        (_, good), (lease, bad) = answer_next(store), answer_next(store, seed=5)
        with raw_sql(path) as connection:
            (payload,) = connection.execute(
                "SELECT payload FROM revisions WHERE id = ?", (bad,)
            ).fetchone()
            damaged = payload[:-3] + bytes([payload[-3] ^ 4]) + payload[-2:]
            connection.execute("UPDATE revisions SET payload = ? WHERE id = ?", (damaged, bad))
        name = rf"revision {bad} \(slice {lease.slice_id}\) is damaged"

        with pytest.raises(CorruptMaskError, match=name):
            store.mask(bad)
        with pytest.raises(CorruptMaskError, match=name):
            store.accepted_masks(lease.volume_id)
        assert (store.mask(good) == a_mask()).all()
        progress = []
        (fault,) = store.check(lambda done, total: progress.append((done, total)))
        assert fault.subject == f"revision {bad}"
        assert "restore a backup" in fault.sentence
        assert progress == [(1, 2), (2, 2)]


def test_a_wrong_checksum_beside_the_mask_is_named_too(path):
    with make_store(path) as store:
        _, revision = answer_next(store)
        with raw_sql(path) as connection:
            connection.execute("UPDATE revisions SET checksum = replace(checksum, '0', '1')")

        assert [fault.subject for fault in store.check()] == [f"revision {revision}"]


def test_the_doctor_tells_of_damaged_pages_and_goes_on_with_the_others(path):
    with make_store(path, slices=60, size=(200, 200)) as store:
        for _ in range(30):
            store.submit(store.lease_next("ann").token, noise(200))
    whole, page = path.read_bytes(), 4096
    chance = random.Random(1)

    found = refused = 0
    for number in chance.sample(range(2, len(whole) // page), 25):
        rotten = bytearray(whole)
        rotten[number * page : (number + 1) * page] = chance.randbytes(page)
        path.write_bytes(rotten)
        try:
            with Store.open(path) as store:
                found += bool(store.check())
        except StoreError:
            refused += 1

    assert found + refused == 25, "no damage went unseen"
    assert found >= 20, "damage to the few pages of the schema alone may end the check"


def test_a_query_that_nobody_holds_is_found_and_put_back(path):
    with make_store(path) as store:
        store.lease_next("ann")
        answer_next(store, "bob")
        with raw_sql(path) as connection:
            connection.execute("UPDATE leases SET ended_at = taken_at")
            connection.execute("UPDATE queries SET state = 'submitted' WHERE id = 4")
        faults = {fault.subject: fault.sentence for fault in store.check()}
        assert faults.keys() == {"query 1", "query 4"}
        assert "nobody holds it" in faults["query 1"]
        assert "has no mask" in faults["query 4"]

        assert store.mend_queue() == 2
        assert store.check() == []
        assert store.mend_queue() == 0
        assert [query.state for query in store.queries()] == ["open", "submitted", "open", "open"]


def test_an_answered_query_with_no_mask_but_a_mere_prediction_is_found_too(path):
    with make_store(path) as store:
        add_run(path)
        store.add_prediction(1, a_mask(), run_id=1, author="model")
        with raw_sql(path) as connection:
            connection.execute("UPDATE queries SET state = 'approved' WHERE slice_id = 1")

        assert [fault.subject for fault in store.check()] == ["query 1"]


def test_a_backup_made_between_writes_holds_every_submit_so_far(path, tmp_path):
    with make_store(path) as store:
        made = [answer_next(store, seed=seed)[1] for seed in range(3)]
        copy = store.back_up(tmp_path / "backups")
        answer_next(store, seed=3)

    with Store.open(copy) as store:
        assert [record.revision_id for record in store.accepted()] == made
        assert store.check() == []


# Several programs


def label_all(path, annotator, failures):
    """Label until nothing is left; every error that reaches a caller is written down."""
    try:
        with Store.open(path) as store:
            while (lease := store.lease_next(annotator)) is not None:
                store.submit(lease.token, a_mask(lease.query_id))
    except Exception as error:
        failures.put(f"{annotator}: {error!r}")
        raise


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_four_programs_label_two_hundred_slices_without_losing_or_doubling_one(path, journal):
    make_store(path, volumes=4, slices=50).close()
    with raw_sql(path) as connection:
        # As a project that comes from a network drive: the first to open it turns it round.
        connection.execute(f"PRAGMA journal_mode = {journal}")
    failures = SPAWN.Queue()
    programs = [
        SPAWN.Process(target=label_all, args=(path, f"annotator {number}", failures))
        for number in range(4)
    ]
    for program in programs:
        program.start()
    for program in programs:
        program.join()

    assert failures.empty(), failures.get()
    with Store.open(path) as store:
        assert store.check() == []
        assert store.query_counts()["submitted"] == 200
        for query in store.queries():
            (revision,) = store.revisions(query.slice_id)
            assert not revision.conflict
            assert (store.mask(revision.revision_id) == a_mask(query.query_id)).all()
        with raw_sql(path) as connection:
            assert connection.execute("SELECT count(*) FROM leases").fetchone() == (200,)
    failures.close()


def test_whoever_opens_while_another_program_writes_waits_for_it(path):
    make_store(path).close()
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        # The change to a write-ahead log is refused at once then, whatever the busy timeout.
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN IMMEDIATE")
        writer = threading.Timer(0.3, other.execute, ["COMMIT"])
        writer.start()

        with Store.open(path) as store:
            assert store.lease_next("ann") is not None
        writer.join()


def submit_and_tell(path):
    """Submit until killed; print a line for every submit that was acknowledged."""
    with Store.open(Path(path)) as store:
        while (lease := store.lease_next("ann")) is not None:
            revision = store.submit(lease.token, a_mask(lease.query_id))
            told = json.dumps([lease.query_id, revision.revision_id, revision.checksum])
            os.write(1, f"{told}\n".encode())


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_every_acknowledged_submit_survives_a_kill(path):
    make_store(path, volumes=10, slices=100).close()
    chance, acknowledged = random.Random(7), {}
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, __file__, str(path)], stdout=subprocess.PIPE
        ) as program:
            first = program.stdout.readline()
            time.sleep(chance.uniform(0, 0.08))
            program.kill()
            lines = (first + program.stdout.read()).splitlines(keepends=True)
        for line in lines:
            if line.endswith(b"\n"):
                query_id, revision_id, checksum = json.loads(line)
                acknowledged[revision_id] = (query_id, checksum)

        with Store.open(path) as store:
            assert store.check() == []
            slices = {query.query_id: query.slice_id for query in store.queries()}
            accepted = {record.slice_id: record.revision_id for record in store.accepted()}
            for revision_id, (query_id, checksum) in acknowledged.items():
                assert accepted[slices[query_id]] == revision_id
                (revision,) = store.revisions(slices[query_id])
                assert revision.checksum == checksum

    assert len(acknowledged) >= 12


if __name__ == "__main__":
    submit_and_tell(sys.argv[1])
