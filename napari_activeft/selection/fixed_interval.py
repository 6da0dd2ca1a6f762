"""Every n-th slice: what people do by hand when they have no tool."""

from __future__ import annotations

from napari_activeft.selection.candidates import Candidates, Choice
from napari_activeft.selection.room import Room


def fixed_interval(candidates: Candidates, budget: int, seed: int) -> Choice:
    """Take free rows at equal intervals through all volumes laid end to end.

    Nothing is drawn, the seed has no effect. The rows are ranked by bit reversal (van der Corput),
    so that whoever stops early has still gone through the whole pool. Where the caps forbid a
    slice, the nearest one that they allow takes its place.
    """
    del seed
    in_order = [row for group in candidates.rows_by_group(candidates.free) for row in group]
    interval = len(in_order) / budget
    places = [int((index + 0.5) * interval) for index in range(budget)]
    bits = max(budget - 1, 1).bit_length()
    room = Room(candidates, budget)
    picks: list[int] = []
    for index in sorted(range(budget), key=lambda index: _reversed(index, bits)):
        row = _nearest_that_fits(room, in_order, places[index])
        room.take(row)
        picks.append(row)
    return Choice.drawn(picks)


def _nearest_that_fits(room: Room, in_order: list[int], place: int) -> int:
    """Walk from a place to both sides; `Room` promises that something fits."""
    for step in range(len(in_order)):
        for at in (place + step, place - step):
            if 0 <= at < len(in_order) and room.fits(in_order[at]):
                return in_order[at]
    raise AssertionError("the room has no row left that fits, though budget is left")


def _reversed(number: int, bits: int) -> int:
    return int(f"{number:0{bits}b}"[::-1], 2)
