"""Pools to select from."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from napari_activeft.selection import Caps, Selection, select
from napari_activeft.selection.candidates import draw

KINDS = ("spread", "copies", "constant")


class Pool:
    """Volumes of these many slices, two volumes a case; keys look like those of the store.

    ``kind`` says what the vectors are: all different, each several times, or all the same.
    """

    def __init__(self, *sizes: int, kind: str = "spread", size: int = 5) -> None:
        self.groups = [group for group, size in enumerate(sizes) for _ in range(size)]
        self.cases = [f"case {group // 2}" for group in self.groups]
        self.positions = [position for size in sizes for position in range(size)]
        self.keys = [
            f"{draw(7, str(group))}:0:{position}"
            for group, position in zip(self.groups, self.positions, strict=True)
        ]
        self.sizes = sizes
        rng = np.random.default_rng(sum(sizes))
        drawn = rng.normal(size=(len(self.keys), size)).astype(np.float32)
        of = {
            "spread": np.arange(len(self.keys)),
            "copies": rng.integers(max(1, len(self.keys) // 3), size=len(self.keys)),
            "constant": np.zeros(len(self.keys), dtype=int),
        }[kind]
        self.vectors = drawn[of]
        self.scores = rng.random(len(self.keys))

    def __len__(self) -> int:
        return len(self.keys)

    def choose(self, budget: int, order: list[int] | None = None, **ask) -> Selection:
        """Select with the rows in some order; rows are numbered by it."""
        order = list(range(len(self))) if order is None else order
        place = {row: index for index, row in enumerate(order)}
        for name in ("labelled", "forbidden"):
            if name in ask:
                ask[name] = [place[row] for row in ask[name]]
        given = {
            "keys": [self.keys[row] for row in order],
            "groups": [self.groups[row] for row in order],
            "cases": [self.cases[row] for row in order],
            "positions": [self.positions[row] for row in order],
            "scores": self.scores[order],
        }
        return select(ask.pop("embeddings", self.vectors[order]), budget, **given, **ask)

    def select(self, budget: int, order: list[int] | None = None, **ask) -> list[int]:
        """Select with the rows in some order and return what they are in the plain order."""
        picks = self.choose(budget, order, **ask).rows.tolist()
        return picks if order is None else [order[row] for row in picks]


@st.composite
def asks(draw_, kinds: tuple[str, ...] = KINDS):
    """Draw a pool, rows that are taken, and a budget that can be spent."""
    sizes = draw_(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    rows = st.integers(0, sum(sizes) - 1)
    labelled = draw_(st.sets(rows, max_size=sum(sizes) // 2))
    forbidden = draw_(st.sets(rows, max_size=sum(sizes) // 3))
    free = sum(sizes) - len(labelled | forbidden)
    if not free:
        labelled, forbidden, free = set(), set(), sum(sizes)
    budget = draw_(st.integers(1, free))
    pool = Pool(*sizes, kind=draw_(st.sampled_from(kinds)))
    return pool, budget, sorted(labelled), sorted(forbidden), draw_(st.integers(0, 3))


@st.composite
def some_caps(draw_) -> Caps:
    """Draw caps, tight ones too."""
    limits = st.none() | st.integers(1, 6)
    return Caps(draw_(limits), draw_(limits), draw_(st.integers(1, 4)))
