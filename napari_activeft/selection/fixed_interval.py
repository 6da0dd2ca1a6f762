"""Every n-th slice: what people do by hand when they have no tool."""

from __future__ import annotations

from napari_activeft.selection.candidates import Candidates


def fixed_interval(candidates: Candidates, budget: int, seed: int) -> list[int]:
    """Take free rows at equal intervals through all volumes laid end to end.

    Nothing is drawn, the seed has no effect. The rows are ranked by bit reversal (van der Corput),
    so that whoever stops early has still gone through the whole pool.
    """
    del seed
    in_order = [row for group in candidates.rows_by_group(candidates.free) for row in group]
    interval = len(in_order) / budget
    taken = [in_order[int((index + 0.5) * interval)] for index in range(budget)]
    bits = max(budget - 1, 1).bit_length()
    return [taken[i] for i in sorted(range(budget), key=lambda i: _reversed(i, bits))]


def _reversed(number: int, bits: int) -> int:
    return int(f"{number:0{bits}b}"[::-1], 2)
