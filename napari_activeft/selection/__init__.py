"""Which slices to ask for next: rows of the pool, in the order in which they are worth it.

A selector sees the pool as arrays with one entry per row and returns rows, ranked. All selectors
share one interface, `select`, and one set of tests. Names, not positions, decide draws and ties:
the same slices in another order give the same picks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import UserError
from napari_activeft.selection.candidates import Candidates
from napari_activeft.selection.fixed_interval import fixed_interval
from napari_activeft.selection.random_draw import random_draw
from napari_activeft.selection.stratified_random import stratified_random

SELECTORS: dict[str, Callable[[Candidates, int, int], list[int]]] = {
    "random": random_draw,
    "stratified_random": stratified_random,
    "fixed_interval": fixed_interval,
}
"""Every selector by name: free rows, budget and seed to ranked rows."""


@dataclass(frozen=True)
class Selection:
    """What a selector chose.

    Attributes
    ----------
    rows
        int64 (k,): rows of the pool, the most valuable first.
    report
        What there is to say about the choice; always the selector's name and the counts.
    """

    rows: NDArray[np.int64]
    report: dict[str, Any] = field(default_factory=dict)


def select(
    budget: int,
    *,
    keys: Sequence[str],
    groups: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    labelled: Collection[int] = (),
    forbidden: Collection[int] = (),
    selector: str = "stratified_random",
    seed: int = 0,
) -> Selection:
    """Choose ``budget`` rows of a pool of n rows.

    Parameters
    ----------
    budget
        Rows to choose, 1 to the number of free rows.
    keys
        n distinct names, stable between projects and runs.
    groups
        n volume ids; all rows are one group by default.
    positions
        n positions of slices within their volumes; the row by default.
    labelled
        Rows that have a label or an open query: not chosen again, but counted as support.
    forbidden
        Rows that must not be chosen and are no support.
    selector
        A name in `SELECTORS`.
    seed
        Of the draws; the same seed gives the same rows.

    Returns
    -------
    Selection
        Exactly ``budget`` distinct free rows.

    Raises
    ------
    UserError
        If the selector is unknown or the budget cannot be spent.
    ValueError
        If the arrays do not belong together.
    """
    if selector not in SELECTORS:
        raise UserError(
            f"the selector {selector!r} is not known: choose one of {', '.join(SELECTORS)}"
        )
    candidates = Candidates.of(keys, groups, positions, labelled, forbidden)
    free = len(candidates.free)
    if not 1 <= budget <= free:
        raise UserError(
            f"a budget of {budget} was asked, but {free} slices of the pool are free: choose 1 to "
            f"{free}, or add volumes"
        )
    rows = np.asarray(SELECTORS[selector](candidates, budget, seed), dtype=np.int64)
    report = {"selector": selector, "pool": len(keys), "free": free, "labelled": len(set(labelled))}
    return Selection(rows, report)
