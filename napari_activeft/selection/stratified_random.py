"""Random draws spread over the volumes in proportion to their size: hard to beat, and cheap.

Systematic sampling: the j-th draw of a volume of n slices stands at (j + u) / n, with one uniform
u per volume, and draws are taken in the order in which they stand. So there is one share t for
every prefix so that each volume of n slices has given t n of them, rounded up or down at random;
volumes of one size never differ by more than one pick. A row that the caps forbid gives its draw
to the next row of its volume.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from napari_activeft.selection.candidates import Candidates, Choice, draw
from napari_activeft.selection.room import Room


def stratified_random(candidates: Candidates, budget: int, seed: int) -> Choice:
    """Draw free rows so that every prefix is spread over the volumes.

    Labelled rows count as draws that their volume had already.
    """
    keys, labelled = candidates.keys, candidates.labelled
    room = Room(candidates, budget)
    sizes: dict[int, int] = {}
    standing: list[tuple[float, int, float, list[int]]] = []
    for group in candidates.rows_by_group([*candidates.free, *labelled]):
        offset = draw(seed, f"volume {candidates.group_names[candidates.groups[group[0]]]}")
        waiting = [row for row in group if row not in labelled]
        waiting.sort(key=lambda row: (draw(seed, keys[row]), row), reverse=True)
        had = len(group) - len(waiting)
        standing.append(((had + offset) / len(group), group[0], had + offset, waiting))
        sizes[group[0]] = len(group)
    heapify(standing)
    picks: list[int] = []
    while len(picks) < budget:
        _, volume, had_now, waiting = heappop(standing)
        while waiting and not room.fits(waiting[-1]):
            waiting.pop()
        if waiting:
            room.take(waiting[-1])
            picks.append(waiting.pop())
            heappush(standing, ((had_now + 1.0) / sizes[volume], volume, had_now + 1.0, waiting))
    return Choice.drawn(picks)
