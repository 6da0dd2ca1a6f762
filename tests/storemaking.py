"""Makes small stores for the tests of the store, and says in plain Python what a store must do."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from napari_activeft.annotation_db import (
    ClassRecord,
    LeaseRecord,
    NewRound,
    NewVolume,
    Store,
    pool_checksum,
)
from napari_activeft.annotation_db.database import Clock, utc_now

HEIGHT, WIDTH = 6, 5
CLASSES = (ClassRecord(1, "liver", "#ff0000"), ClassRecord(2, "spleen", "#00ff00"))


class HandClock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_minutes(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)


def new_volume(number: int, slices: int, root_id: int, **changes) -> NewVolume:
    """Return a volume; what its content would be depends on its number only."""
    fields = {
        "case": f"case{number}",
        "split": "pool",
        "root_id": root_id,
        "name": f"case{number}/volume{number}",
        "files": [f"volume{number}.nii.gz"],
        "series": None,
        "label_file": None,
        "content_hash": hashlib.sha256(f"volume {number}".encode()).hexdigest(),
        "byte_count": 1000 + number,
        "geometry": {"spacing": [1.0, 1.0, 1.0]},
        "channels": 1,
        "intensity_range": [[0.0, 255.0]],
        "axis": 0,
        "slice_height": HEIGHT,
        "slice_width": WIDTH,
        "emptiness": [0.0] * slices,
    }
    return NewVolume(**(fields | changes))


def new_round(slice_ids: list[int], **changes) -> NewRound:
    """Return a selection of these slices in this order."""
    fields = {
        "selector": "random",
        "budget": len(slice_ids),
        "seed": 0,
        "settings": {},
        "pool_checksum": "0" * 64,
        "report": {},
        "slice_ids": slice_ids,
    }
    return NewRound(**(fields | changes))


def make_store(
    path: Path,
    *,
    volumes: int = 1,
    slices: int = 4,
    queries: int | None = None,
    clock: Clock = utc_now,
    size: tuple[int, int] = (HEIGHT, WIDTH),
) -> Store:
    """Make a store with volumes of ``slices`` slices each and one round on the first of them.

    ``queries`` slices are asked: all if None, and there is no round if 0.
    """
    store = Store.create(path, "test project", {"split_seed": 1}, clock)
    store.set_classes(CLASSES, "maker")
    root_id = store.add_root("/images", "../images")
    shape = {"slice_height": size[0], "slice_width": size[1]}
    store.add_volumes(
        (new_volume(number, slices, root_id, **shape) for number in range(1, volumes + 1)), "maker"
    )
    pool = store.pool_slices()
    asked = [row.slice_id for row in pool[:queries]]
    if asked:
        store.add_round(new_round(asked, pool_checksum=pool_checksum(pool)), "maker")
    return store


def a_mask(seed: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """Return a mask of the classes 0, 1, 2; another seed (0 to 10,000) is another mask."""
    mask = np.zeros(size, np.uint8)
    # In base three, so that no two seeds make one mask.
    digits = np.base_repr(seed, 3).zfill(9)[-9:]
    mask.flat[: len(digits)] = [int(digit) for digit in digits]
    return mask


def answer_next(store: Store, annotator: str = "ann", seed: int = 0) -> tuple[LeaseRecord, int]:
    """Lease the next query, submit a mask, return the lease and the revision's id."""
    lease = store.lease_next(annotator)
    assert lease is not None
    return lease, store.submit(lease.token, a_mask(seed)).revision_id


@contextmanager
def raw_sql(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection past the store; what it does is committed, keys are checked."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = ON")
        yield connection


def add_run(path: Path, name: str = "run") -> int:
    """Write a fine-tuning run past the store and return its id."""
    with raw_sql(path) as connection:
        cursor = connection.execute(
            "INSERT INTO runs (name, settings, state, metrics, created_at)"
            " VALUES (?, '{}', 'done', '{}', '2024-02-29 12:00:00')",
            (name,),
        )
        return int(cursor.lastrowid)


@dataclass
class Rev:
    """A revision in the plain model."""

    slice_id: int
    mask: np.ndarray
    author: str
    source: str
    parent: int | None
    lease: str | None = None
    conflict: bool = False
    verdict: str | None = None


@dataclass
class Held:
    """A lease in the plain model."""

    query_id: int
    slice_id: int
    annotator: str
    parent: int | None
    expires: datetime
    ended: bool = False
    given_up: bool = False


class Expected:
    """What the store must do, in plain Python: revisions, leases in the order taken, states."""

    def __init__(self, slice_ids):
        self.slice_ids = slice_ids
        self.revs: dict[int, Rev] = {}
        self.leases: dict[str, Held] = {}
        self.state: dict[int, str] = {}  # by slice id

    def standing(self, slice_id):
        stood = [
            number
            for number, rev in self.revs.items()
            if rev.slice_id == slice_id
            and not rev.conflict
            and (rev.source != "model" or rev.verdict == "approve")
        ]
        return max(stood, default=None)

    def accepted(self):
        found = {slice_id: self.standing(slice_id) for slice_id in self.slice_ids}
        return {s: r for s, r in found.items() if r and self.revs[r].verdict != "reject"}

    def answered(self, slice_id):
        rev = self.revs.get(self.standing(slice_id))
        if rev is None:
            return "open"
        return {None: "submitted", "approve": "approved", "reject": "rejected"}[rev.verdict]

    def free(self, lease):
        lease.ended = True
        state = self.answered(lease.slice_id)
        if self.standing(lease.slice_id) == lease.parent and state != "rejected":
            state = "open"
        self.state[lease.slice_id] = state

    def end_expired(self, now):
        for lease in self.leases.values():
            if not lease.ended and lease.expires <= now:
                self.free(lease)

    def lives(self, token):
        """Say whether a lease is alive or may be revived, and revive it."""
        lease = self.leases[token]
        if lease.ended:
            newest = [t for t, one in self.leases.items() if one.slice_id == lease.slice_id][-1]
            free = self.state[lease.slice_id] in ("open", "rejected")
            if (
                lease.given_up
                or not free
                or newest != token
                or self.standing(lease.slice_id) != lease.parent
            ):
                return False
            lease.ended, self.state[lease.slice_id] = False, "leased"
        return True

    def shown(self, now):
        """Map slice id to (state, annotator) as the queue shows it."""
        shown = {}
        for slice_id, state in self.state.items():
            held = [
                lease.annotator
                for lease in self.leases.values()
                if lease.slice_id == slice_id and not lease.ended and lease.expires > now
            ]
            if state == "leased" and not held:
                state = "rejected" if self.answered(slice_id) == "rejected" else "open"
            shown[slice_id] = (state, held[0] if held else None)
        return shown
