"""The store as a whole, done to at random and compared with a plain model of what it must do."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from napari_activeft.annotation_db import (
    ImportCounts,
    StaleSubmitError,
    Store,
    StoreError,
    pack,
)
from storemaking import Expected, HandClock, Held, Rev, a_mask, add_run, make_store

ANNOTATORS = ("ann", "bob", "eva")
SLICES, QUERIES = 4, 3  # the last slice is never asked


@cache
def template():
    """Make the store that every run of the machine starts from, once."""
    path = Path(tempfile.mkdtemp()) / "template.sqlite"
    make_store(path, slices=SLICES, queries=QUERIES, clock=HandClock()).close()
    add_run(path)
    return path.read_bytes()


class QueueMachine(RuleBasedStateMachine):
    """Does to a store and to the plain model whatever annotators, reviewers and time may do."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        path = self.folder / "p.sqlite"
        path.write_bytes(template())
        self.clock = HandClock()
        self.store = Store.open(path, self.clock)
        self.ids = [row.slice_id for row in self.store.pool_slices()]
        self.run_id = 1
        self.model = Expected(self.ids)
        self.queries = {query.query_id: query.slice_id for query in self.store.queries()}
        self.model.state = dict.fromkeys(self.queries.values(), "open")

    def teardown(self):
        self.store.close()
        shutil.rmtree(self.folder)

    # What annotators do

    @rule(annotator=st.sampled_from(ANNOTATORS), another=st.booleans())
    def next_query(self, annotator, another):
        now = self.clock()
        self.model.end_expired(now)
        held = [
            token
            for token, lease in self.model.leases.items()
            if lease.annotator == annotator and not lease.ended
        ]
        given = self.store.lease_next(annotator, another=another)
        if held and not another:
            assert given.token == held[0]
            self.model.leases[held[0]].expires = given.expires_at
            return
        wanted = [s for s in self.queries.values() if self.model.state[s] == "rejected"]
        wanted += [s for s in self.queries.values() if self.model.state[s] == "open"]
        if not wanted:
            assert given is None
            return
        assert given.slice_id == wanted[0]
        assert given.token not in self.model.leases
        parent = self.model.standing(given.slice_id)
        assert given.parent_revision_id == parent
        self.model.leases[given.token] = Held(
            given.query_id, given.slice_id, annotator, parent, given.expires_at
        )
        self.model.state[given.slice_id] = "leased"

    def a_token(self, data):
        return data.draw(st.sampled_from(list(self.model.leases)))

    @precondition(lambda self: self.model.leases)
    @rule(data=st.data(), seed=st.integers(0, 2), on_top=st.booleans())
    def submit(self, data, seed, on_top):
        token, mask, model = self.a_token(data), a_mask(seed), self.model
        lease = model.leases[token]
        standing = model.standing(lease.slice_id)
        same = [
            number
            for number, rev in model.revs.items()
            if rev.lease == token and np.array_equal(rev.mask, mask)
        ]
        before = same[-1] if same else None
        sent = before is not None and not model.revs[before].conflict
        if sent and (not on_top or before == standing):
            assert self.store.submit(token, mask, on_top=on_top).revision_id == before
            return
        if on_top or (standing == lease.parent and model.lives(token)):
            revision = self.store.submit(token, mask, on_top=on_top)
            self.note(revision.revision_id, lease, mask, standing, token)
            model.state[lease.slice_id] = "submitted"
            for other in model.leases.values():
                other.ended = other.ended or other.slice_id == lease.slice_id
            return
        with pytest.raises(StaleSubmitError) as refusal:
            self.store.submit(token, mask)
        if before is not None and not sent:
            assert refusal.value.revision_id == before
        else:
            self.note(refusal.value.revision_id, lease, mask, lease.parent, token, conflict=True)

    def note(self, number, lease, mask, parent, token, conflict=False):
        assert number not in self.model.revs, "an id is never given twice"
        source = "drawn" if parent is None else "corrected"
        self.model.revs[number] = Rev(
            lease.slice_id, mask, lease.annotator, source, parent, token, conflict
        )

    @precondition(lambda self: self.model.leases)
    @rule(data=st.data(), what=st.sampled_from(("renew", "hand back", "skip")))
    def tend_lease(self, data, what):
        token = self.a_token(data)
        lease = self.model.leases[token]
        act = {
            "renew": self.store.renew,
            "hand back": self.store.hand_back,
            "skip": lambda token: self.store.skip(token, "blurred"),
        }[what]
        if not self.model.lives(token):
            with pytest.raises(StoreError, match="has ended"):
                act(token)
            return
        answer = act(token)
        if what == "renew":
            lease.expires = answer.expires_at
        elif what == "hand back":
            lease.given_up = self.clock() < lease.expires
            self.model.free(lease)
        else:
            lease.ended, self.model.state[lease.slice_id] = True, "skipped"

    @rule(minutes=st.sampled_from((5, 20, 31)))
    def time_passes(self, minutes):
        self.clock.pass_minutes(minutes)

    # What comes from elsewhere

    @rule(positions=st.sets(st.integers(0, SLICES - 1), min_size=1), seed=st.integers(3, 4))
    def import_masks(self, positions, seed):
        model = self.model
        model.end_expired(self.clock())
        accepted = model.accepted()
        kept = [p for p in positions if self.ids[p] in accepted]
        leased = [
            p for p in positions if p not in kept and model.state.get(self.ids[p]) == "leased"
        ]
        new = [p for p in positions if p not in kept and p not in leased]
        masks = {position: a_mask(seed) for position in positions}

        counts = self.store.import_masks(1, masks, "importer")

        assert counts == ImportCounts(len(new), len(kept), len(leased))
        for position in new:
            slice_id = self.ids[position]
            number = self.store.revisions(slice_id)[-1].revision_id
            parent = model.standing(slice_id)
            model.revs[number] = Rev(slice_id, a_mask(seed), "importer", "imported", parent)
            if model.state.get(slice_id) in ("open", "skipped", "rejected"):
                model.state[slice_id] = "submitted"

    @rule(position=st.integers(0, SLICES - 1), seed=st.integers(5, 6))
    def predict(self, position, seed):
        slice_id, mask = self.ids[position], a_mask(seed)
        parent = self.model.standing(slice_id)
        number = self.store.add_prediction(slice_id, mask, run_id=self.run_id, author="model")
        self.model.revs[number] = Rev(slice_id, mask, "model", "model", parent)

    @precondition(lambda self: self.model.revs)
    @rule(data=st.data(), verdict=st.sampled_from(("approve", "reject")))
    def review(self, data, verdict):
        number = data.draw(st.sampled_from(list(self.model.revs)))
        rev = self.model.revs[number]
        before = self.model.standing(rev.slice_id)
        if rev.conflict or (rev.source != "model" and number != before):
            with pytest.raises(StoreError, match="does not count for its slice"):
                self.store.review(number, verdict, "rita")
            return
        self.store.review(number, verdict, "rita")
        rev.verdict = verdict
        state = self.model.state.get(rev.slice_id)
        counts = number in (before, self.model.standing(rev.slice_id))
        if counts and state is not None and state != "leased":
            self.model.state[rev.slice_id] = self.model.answered(rev.slice_id)

    @rule()
    def open_again(self):
        path = self.store.path
        self.store.close()
        self.store = Store.open(path, self.clock)

    # What must hold whatever was done

    @invariant()
    def no_query_has_two_living_leases(self):
        with closing(sqlite3.connect(self.store.path)) as raw:
            living = raw.execute("SELECT query_id FROM leases WHERE ended_at IS NULL").fetchall()
        assert len(living) == len(set(living))

    @invariant()
    def the_queue_shows_what_the_model_expects(self):
        shown = {q.slice_id: (q.state, q.annotator) for q in self.store.queries()}
        expected = self.model.shown(self.clock())
        assert shown == expected
        found = [state for state, _ in expected.values()]
        counts = self.store.query_counts()
        assert {s: n for s, n in counts.items() if n} == {s: found.count(s) for s in found}

    @invariant()
    def accepted_is_what_its_definition_says(self):
        accepted = {row.slice_id: row.revision_id for row in self.store.accepted()}
        assert accepted == self.model.accepted()

    @invariant()
    def no_revision_vanishes_or_changes(self):
        for slice_id in self.ids:
            found = {row.revision_id: row for row in self.store.revisions(slice_id)}
            expected = {n: rev for n, rev in self.model.revs.items() if rev.slice_id == slice_id}
            assert found.keys() == expected.keys()
            for number, rev in expected.items():
                row = found[number]
                assert row.checksum == pack(rev.mask).checksum
                assert (row.author, row.source) == (rev.author, rev.source)
                assert (row.conflict, row.parent_id) == (rev.conflict, rev.parent)

    @invariant()
    def the_doctor_finds_nothing(self):
        assert self.store.check() == []


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
