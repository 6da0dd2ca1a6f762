"""Slices that people choose themselves: asked beside those of the selection, or left out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select

from . import tables
from .catalogue import Catalogue, pool_checksum
from .masks import accepted_query
from .queue import Queue
from .records import NewRound

BY_HAND: Final = "by hand"
"""Selector of a round that people chose."""


@dataclass(frozen=True)
class HandCounts:
    """What became of slices that somebody chose.

    Attributes
    ----------
    changed
        Slices that are asked, or left out, from now on.
    unchanged
        Slices that were asked or left out before, or answered.
    """

    changed: int
    unchanged: int


class ByHand(Queue, Catalogue):
    """Lets people add to the queue, and keep slices out of every later selection."""

    def ask(self, slice_ids: Sequence[int], actor: str) -> HandCounts:
        """Queue slices after all that wait; those that were skipped or left out wait again."""
        return self._put(slice_ids, "open", None, ("skipped",), actor)

    def leave_out(self, slice_ids: Sequence[int], reason: str, actor: str) -> HandCounts:
        """Keep slices from being asked, now and by later selections; answered ones stay as is."""
        return self._put(slice_ids, "skipped", reason, ("open",), actor)

    def _put(
        self,
        slice_ids: Sequence[int],
        state: str,
        reason: str | None,
        movable: Sequence[str],
        actor: str,
    ) -> HandCounts:
        wanted = list(dict.fromkeys(slice_ids))
        checksum = pool_checksum(self.pool_slices())
        with self._write() as session:
            self._end_expired(session)
            known = {row.slice_id: row for row in session.scalars(select(tables.Query))}
            moved = [known[one] for one in wanted if one in known and known[one].state in movable]
            for query in moved:
                query.state, query.skip_reason = state, reason
            answered = {row[0] for row in session.execute(accepted_query())}
            new = [one for one in wanted if one not in known and one not in answered]
            if new:
                self._new_round(session, _round_of(new, checksum), state, reason)
            changed = len(moved) + len(new)
            if changed:
                verb = "ask" if state == "open" else "leave out"
                self._log(session, actor, verb, slices=changed, reason=reason)
        return HandCounts(changed, len(wanted) - changed)


def _round_of(slice_ids: list[int], checksum: str) -> NewRound:
    return NewRound(
        selector=BY_HAND,
        budget=len(slice_ids),
        seed=0,
        settings={},
        pool_checksum=checksum,
        report={},
        slice_ids=slice_ids,
    )
