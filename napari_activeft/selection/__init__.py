"""Which slices to ask for next: rows of the pool, in the order in which they are worth it.

A selector sees the pool as arrays with one entry per row and returns rows, ranked. All selectors
share one interface, `select`, and one set of tests. Names, not positions, decide draws and ties:
the same slices in another order give the same picks.

Symbols: n rows of the pool, d numbers in a vector, k picks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_activeft.errors import OnProgress, UserError, no_progress
from napari_activeft.selection.candidates import NO_CAPS, Candidates, Caps, Choice
from napari_activeft.selection.gathering import Rows, numbered
from napari_activeft.selection.registry import SELECTORS, Selector
from napari_activeft.selection.room import check_caps
from napari_activeft.selection.scores import bald_scores, entropy_scores
from napari_activeft.settings import ActiveFTSettings

__all__ = [
    "SELECTORS",
    "Candidates",
    "Caps",
    "Choice",
    "Selection",
    "Selector",
    "bald_scores",
    "entropy_scores",
    "select",
]


@dataclass(frozen=True)
class Selection:
    """What a selector chose.

    Attributes
    ----------
    rows
        int64 (k,): rows of the pool, the most valuable first.
    gains
        float64 (k,): what each pick added in the selector's own objective, at least 0; zeros for
        draws.
    report
        What there is to say about the choice, fit for JSON; always the selector's name, the
        seed, the counts, the caps and the seconds.
    """

    rows: NDArray[np.int64]
    gains: NDArray[np.float64]
    report: dict[str, Any] = field(default_factory=dict)


def select(
    embeddings: ArrayLike | None,
    budget: int,
    *,
    keys: Sequence[str],
    weights: ArrayLike | None = None,
    groups: Sequence[int] | None = None,
    cases: Sequence[int] | Sequence[str] | None = None,
    positions: Sequence[int] | None = None,
    costs: ArrayLike | None = None,
    scores: ArrayLike | None = None,
    labelled: Collection[int] = (),
    forbidden: Collection[int] = (),
    caps: Caps = NO_CAPS,
    selector: str = "activeft",
    seed: int = 0,
    device: str = "cpu",
    options: ActiveFTSettings | None = None,
    on_progress: OnProgress = no_progress,
) -> Selection:
    """Choose ``budget`` rows of a pool of n rows.

    Parameters
    ----------
    embeddings
        One vector per row, (n, d) of any kind of numbers, in memory or on the disk; only their
        directions count. None for selectors that need none, see `SELECTORS`.
    budget
        Rows to choose, 1 to the number of free rows.
    keys
        n distinct names, stable between projects and runs.
    weights
        n masses, at least 0, not all 0: how much of the pool each row stands for; equal by
        default.
    groups
        n volume ids; all rows are one volume by default.
    cases
        n case ids; the volume by default.
    positions
        n positions of slices within their volumes; the row by default.
    costs
        n relative efforts of labelling a row, above 0.
    scores
        n uncertainties, at least 0; see `entropy_scores` and `bald_scores`.
    labelled
        Rows that have a label or an open query: not chosen again, but counted as support.
    forbidden
        Rows that must not be chosen and are no support.
    caps
        What may not be taken too much of.
    selector
        A name in `SELECTORS`.
    seed
        Of the draws; the same seed gives the same rows.
    device
        Where to compute, a name that `devices.pick_device` knows.
    options
        Settings of `activeft`; its defaults where none are given.
    on_progress
        Called with (steps done, steps in all); it may raise `Cancelled`.

    Returns
    -------
    Selection
        Exactly ``budget`` distinct free rows under the caps.

    Raises
    ------
    UserError
        If the selector is unknown, the budget cannot be spent, or a vector is unusable.
    ValueError
        If the arrays do not belong together.
    """
    started = perf_counter()
    entry = _entry(selector, embeddings is not None, scores is not None)
    rows = Rows.of(keys)
    whereabouts = _whereabouts(rows, groups, cases, positions)
    support, shut = rows.taken(labelled), rows.taken(forbidden)
    candidates = Candidates(
        rows.keys,
        *whereabouts,
        free=sorted(set(range(len(rows))) - support - shut),
        labelled=support,
        weights=_shares(rows, weights),
        vectors=rows.vectors(embeddings) if entry.needs_vectors else None,
        costs=rows.amounts("costs", costs, least="above 0"),
        scores=rows.amounts("scores", scores, least="of 0 or more"),
        caps=caps,
        device=device,
        on_progress=on_progress,
        options=options,
    )
    _see_spendable(candidates, budget)
    choice = entry(candidates, budget, seed)
    about = {"selector": selector, "seed": seed, **_counts(candidates), **choice.report}
    about["seconds"] = round(perf_counter() - started, 3)
    chosen = rows.order[np.asarray(choice.rows, dtype=np.int64)]
    return Selection(chosen, np.asarray(choice.gains, dtype=np.float64), about)


def _entry(selector: str, has_vectors: bool, has_scores: bool) -> Selector:
    if selector not in SELECTORS:
        raise UserError(
            f"the selector {selector!r} is not known: choose one of {', '.join(SELECTORS)}"
        )
    entry = SELECTORS[selector]
    for needed, given, what, how in (
        (entry.needs_vectors, has_vectors, "embeddings", "run `napari-activeft embed` first"),
        (entry.needs_scores, has_scores, "scores", "train and predict first"),
    ):
        if needed and not given:
            raise UserError(
                f"the selector {selector} needs {what} and none were given: {how}, or choose a "
                "selector that needs none, such as stratified_random"
            )
    return entry


def _whereabouts(
    rows: Rows,
    groups: Sequence[int] | None,
    cases: Sequence[int] | Sequence[str] | None,
    positions: Sequence[int] | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return volume, case and position of each row in the order of the keys."""
    count = len(rows)
    group_of = numbered(rows.column("groups", [0] * count if groups is None else groups))
    case_of = group_of if cases is None else numbered(rows.column("cases", cases))
    places = rows.column("positions", range(count) if positions is None else positions)
    first = np.unique(group_of, return_index=True)[1]
    other = case_of != case_of[first][group_of]
    if other.any():
        raise ValueError(
            f"the volume of {rows.keys[int(np.argmax(other))]!r} lies in two cases: give all rows "
            "of a volume one case"
        )
    return group_of, case_of, places.astype(np.int64)


def _shares(rows: Rows, weights: ArrayLike | None) -> NDArray[np.float64]:
    masses = rows.amounts("weights", weights, least="of 0 or more")
    if masses is None:
        return np.full(len(rows), 1.0 / len(rows))
    if not masses.any():
        raise ValueError("all weights are 0: give at least one row a mass above 0")
    masses /= masses.max()  # so that the sum does not overflow
    masses /= masses.sum()
    return masses


def _see_spendable(candidates: Candidates, budget: int) -> None:
    free = len(candidates.free)
    if isinstance(budget, bool) or not isinstance(budget, (int, np.integer)):
        raise UserError(
            f"a budget of {budget!r} was asked: give a whole number of slices, 1 to {free}"
        )
    if not free:
        raise UserError(
            f"a budget of {budget} was asked, but every slice of the pool is labelled, asked or "
            "forbidden: add volumes"
        )
    if not 1 <= budget <= free:
        raise UserError(
            f"a budget of {budget} was asked, but {free} slices of the pool are free: choose 1 to "
            f"{free}, or add volumes"
        )
    check_caps(candidates, budget)


def _counts(candidates: Candidates) -> dict[str, Any]:
    return {
        "pool": len(candidates),
        "free": len(candidates.free),
        "labelled": len(candidates.labelled),
        "caps": asdict(candidates.caps),
        "device": "cpu" if candidates.vectors is None else str(candidates.tensor.device),
    }
