"""How many cases a stratified draw would reach, and picks that reach as many.

Transport sees vectors alone. Two slices of one patient are worth less than two of two patients,
whatever their vectors say; so `activeft` never reaches fewer cases than the cheap baseline.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_activeft.selection.account import Account
from napari_activeft.selection.candidates import Candidates

_TABLE_NUMBERS = 4_000_000


def cases_of_a_draw(candidates: Candidates, budget: int) -> int:
    """Return how many cases a stratified draw reaches with the labelled ones, rounded up.

    A volume of m of all n slices gets m t draws on average, t the share drawn of all: one or none
    where that is below 1. Volumes of one case draw independently.
    """
    rows = np.concatenate([candidates.free_rows, candidates.support])
    sizes = np.bincount(candidates.groups[rows], minlength=int(candidates.groups.max()) + 1)
    share = (budget + len(candidates.support)) / len(rows)
    missed = 1.0 - np.minimum(1.0, share * sizes)
    missed[np.unique(candidates.groups[candidates.support])] = 0.0
    case_of = np.zeros(len(sizes), dtype=np.int64)
    case_of[candidates.groups] = candidates.cases
    none = np.ones(int(candidates.cases.max()) + 1)
    np.multiply.at(none, case_of, missed)
    return int(np.ceil((1.0 - none).sum() - 1e-9))


def reach_cases(
    candidates: Candidates,
    vectors: NDArray[np.float32],
    account: Account,
    picks: NDArray[np.int64],
    least: int,
) -> NDArray[np.int64]:
    """Exchange picks of cases that have several for the nearest rows of cases that have none.

    Parameters
    ----------
    picks
        Int64, shape (k,); exchanged in the account as well.
    least
        Cases to reach; as many as the caps allow, if that is fewer.
    """
    picks, before = picks.copy(), -1
    while before < account.reached < least:
        before = account.reached
        spare = np.flatnonzero(account.in_case[candidates.cases[picks]] > 1)
        rows = candidates.free_rows
        rows = rows[account.in_case[candidates.cases[rows]] == 0]
        if not len(spare) or not len(rows):
            break
        rows = rows[:: -(-len(rows) * len(spare) // _TABLE_NUMBERS)]
        near = vectors[picks[spare]] @ vectors[rows].T
        _exchange(account, picks, spare, rows, near, least)
    return picks


def _exchange(
    account: Account,
    picks: NDArray[np.int64],
    spare: NDArray[np.int64],
    rows: NDArray[np.int64],
    near: NDArray[np.float32],
    least: int,
) -> None:
    """Exchange nearest pairs first, as long as the caps and the picks' cases allow it."""
    cases = account.cases
    while account.reached < least:
        at, to = divmod(int(near.argmax()), len(rows))
        pick, row = int(picks[spare[at]]), int(rows[to])
        if near[at, to] == -np.inf:
            return
        if account.in_case[cases[pick]] == 1:
            near[at] = -np.inf
        elif not account.may_replace(pick, rows[to : to + 1])[0]:
            near[at, to] = -np.inf
        else:
            account.replace(pick, row)
            picks[spare[at]] = row
            near[at] = -np.inf
            near[:, cases[rows] == cases[row]] = -np.inf
