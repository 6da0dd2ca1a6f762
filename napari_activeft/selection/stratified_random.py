"""Random draws spread over the volumes in proportion to their size: hard to beat, and cheap.

Systematic sampling: the j-th draw of a volume of n slices stands at (j + u) / n, with one uniform
u per volume, and draws are taken in the order in which they stand. So there is one share t for
every prefix so that each volume of n slices has given t n of them, rounded up or down at random;
volumes of one size never differ by more than one pick.
"""

from __future__ import annotations

from napari_activeft.selection.candidates import Candidates, draw


def stratified_random(candidates: Candidates, budget: int, seed: int) -> list[int]:
    """Draw free rows so that every prefix is spread over the volumes.

    Labelled rows count as draws that their volume had already.
    """
    keys, labelled = candidates.keys, candidates.labelled
    standing: list[tuple[float, str, int]] = []
    for group in candidates.rows_by_group([*candidates.free, *labelled]):
        name = candidates.group_names[candidates.groups[group[0]]]
        offset = draw(seed, f"volume {name}")
        free = [row for row in group if row not in labelled]
        free.sort(key=lambda row: (draw(seed, keys[row]), keys[row]))
        had = len(group) - len(free)
        standing += [
            ((had + turn + offset) / len(group), keys[row], row) for turn, row in enumerate(free)
        ]
    return [row for _, _, row in sorted(standing)[:budget]]
