"""What the caps leave room for while picks are made, and whether a budget fits at all.

Symbols: n rows, g the gap between two picks of one volume.

Caps per case and per volume alone never lead into a dead end. A gap can: the middle one of three
slices shuts out the two at its sides. So `Room` knows how many picks still fit at most, and where
none is to spare it refuses a row that would shut out two.

How many fit: on the line of one volume, taking the first free position and then always the first
one at least g further is the most there is; volumes and cases then cap the sums.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import UserError
from napari_activeft.selection.candidates import NO_CAPS, Candidates, Caps

_NO_LIMIT = np.iinfo(np.int64).max // 4


def check_caps(candidates: Candidates, budget: int) -> None:
    """See that a budget can be spent under the caps.

    Raises
    ------
    UserError
        If it cannot; it says by how many slices and which caps to loosen.
    """
    caps = candidates.caps
    if _most(candidates, caps) >= budget:
        return
    set_caps = [
        (f"{_slices(caps.per_case)} per case", Caps(per_case=caps.per_case)),
        (f"{_slices(caps.per_volume)} per volume", Caps(per_volume=caps.per_volume)),
        (f"a gap of {caps.gap} positions", Caps(gap=caps.gap)),
    ]
    set_caps = [(name, cap) for name, cap in set_caps if cap != NO_CAPS]
    most = _most(candidates, caps)
    given = " and ".join(name for name, _ in set_caps)
    counted = ", labelled ones counted," if candidates.labelled else ""
    raise UserError(
        f"a budget of {budget} was asked, but caps of {given}{counted} leave at most {most} of "
        f"{len(candidates.free)} free slices{_blame(candidates, set_caps, budget)}, "
        f"{budget - most} too few: "
        + (f"lower the budget to {most} or loosen these caps" if most else "loosen these caps")
    )


def _slices(count: int | None) -> str:
    return "1 slice" if count == 1 else f"{count} slices"


def _blame(candidates: Candidates, set_caps: list[tuple[str, Caps]], budget: int) -> str:
    """Say which of several caps is too tight by itself."""
    if len(set_caps) == 1:
        return ""
    alone = [(name, _most(candidates, cap)) for name, cap in set_caps]
    tight = [f"with {name} alone {most}" for name, most in alone if most < budget]
    return f" ({', '.join(tight)})" if tight else " (each of them alone leaves enough)"


def _most(candidates: Candidates, caps: Caps) -> int:
    return _Account(candidates, caps).most()


class _Account:
    """What is taken and shut out, per row, volume and case."""

    def __init__(self, candidates: Candidates, caps: Caps) -> None:
        self.groups, self.cases = candidates.groups, candidates.cases
        self.positions, self.gap = candidates.positions, caps.gap
        groups, cases = int(self.groups.max()) + 1, int(self.cases.max()) + 1
        self.case_of = np.zeros(groups, dtype=np.int64)
        self.case_of[self.groups] = self.cases
        self.volume_left = np.full(
            groups, _NO_LIMIT if caps.per_volume is None else caps.per_volume
        )
        self.case_left = np.full(cases, _NO_LIMIT if caps.per_case is None else caps.per_case)
        self.free = np.zeros(len(candidates), dtype=bool)
        self.free[candidates.free_rows] = True
        self.shut = np.zeros(len(candidates), dtype=np.int64)
        by_volume = np.lexsort((self.positions, self.groups))
        starts = np.searchsorted(self.groups[by_volume], np.arange(groups + 1))
        self.members = [by_volume[a:b] for a, b in pairwise(starts)]
        by_case = np.argsort(self.case_of, kind="stable")
        starts = np.searchsorted(self.case_of[by_case], np.arange(cases + 1))
        self.volumes_of_case = [by_case[a:b] for a, b in pairwise(starts)]
        self.open = np.zeros(len(candidates), dtype=bool)
        self._see_open(np.arange(len(candidates)))
        for row in candidates.support:
            self.move(int(row), +1)

    def move(self, row: int, by: int) -> None:
        """Count a row as taken (+1) or as given back (-1)."""
        group, case = self.groups[row], self.cases[row]
        had = self.volume_left[group] > 0, self.case_left[case] > 0
        self.volume_left[group] -= by
        self.case_left[case] -= by
        members = self.members[group]
        touched = np.array([row])
        if self.gap > 1:
            places, place = self.positions[members], self.positions[row]
            low = np.searchsorted(places, place - self.gap, side="right")
            high = np.searchsorted(places, place + self.gap, side="left")
            touched = members[low:high]
            self.shut[touched] += by
        if had[0] != (self.volume_left[group] > 0):
            touched = members
        if had[1] != (self.case_left[case] > 0):
            touched = np.concatenate([self.members[one] for one in self.volumes_of_case[case]])
        self._see_open(touched)

    def _see_open(self, rows: NDArray[np.int64]) -> None:
        """Note which of these rows no cap forbids by itself."""
        self.open[rows] = (
            self.free[rows]
            & (self.shut[rows] == 0)
            & (self.volume_left[self.groups[rows]] > 0)
            & (self.case_left[self.cases[rows]] > 0)
        )

    def most_of_line(self, group: int) -> int:
        """How many more rows of one volume keep the gap, whatever the other caps are."""
        members = self.members[group]
        rows = members[self.free[members] & (self.shut[members] == 0)]
        return len(rows) if self.gap == 1 else len(_chain(self.positions[rows], self.gap))

    def most(self) -> int:
        """How many more rows fit under all caps together."""
        lines = np.array([self.most_of_line(group) for group in range(len(self.members))])
        return int(self.most_of_cases(lines).sum())

    def most_of_cases(self, lines: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many more rows of each case fit, given how many of each volume keep the gap."""
        found: NDArray[np.int64] = np.minimum(
            np.maximum(self.case_left, 0), self.sum_of_cases(lines)
        )
        return found

    def sum_of_cases(self, lines: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the same before the cap per case."""
        volumes = np.minimum(np.maximum(self.volume_left, 0), lines)
        return np.bincount(self.case_of, volumes, minlength=len(self.case_left)).astype(np.int64)


class Room:
    """Keeps account of the caps while a selector takes rows, and gives some back.

    As long as budget is left, at least one row fits.

    Parameters
    ----------
    budget
        Rows that will be taken in all.

    Raises
    ------
    UserError
        If the caps leave fewer.
    """

    def __init__(self, candidates: Candidates, budget: int) -> None:
        check_caps(candidates, budget)
        self._account = _Account(candidates, candidates.caps)
        self._left = budget
        self._lines = np.array(
            [self._account.most_of_line(group) for group in range(len(self._account.members))]
        )
        # A pick lowers what fits in all, itself included, by one at most: a bound to go by until
        # it is used up.
        self._to_spare = int(self._account.most_of_cases(self._lines).sum()) - budget
        self._stale: set[int] = set()
        # Only looked at when nothing is to spare.
        self._costly = np.zeros(len(candidates), dtype=bool)
        self._costly_stale = set(range(len(self._lines)))
        self._strict = np.zeros(len(self._lines), dtype=bool)

    def fits(self, row: int) -> bool:
        """Whether a row may be taken now."""
        return bool(self.mask(np.array([row]))[0])

    def mask(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of these rows may be taken now, bool of the shape of ``rows`` (m,)."""
        account = self._account
        found: NDArray[np.bool_] = account.open[rows] & (self._left > 0)
        if account.gap > 1 and self._nothing_to_spare():
            found &= ~(self._costly[rows] & self._strict[account.groups[rows]])
        return found

    def take(self, row: int) -> None:
        """Take a row that fits.

        Raises
        ------
        ValueError
            If it does not.
        """
        if not self.fits(row):
            raise ValueError(f"row {row} does not fit under the caps: ask fits() first")
        self._move(row, +1)
        self._to_spare -= self._account.gap > 1

    def release(self, row: int) -> None:
        """Give back a row that was taken."""
        self._move(row, -1)

    def take_first(self, rows: Iterable[int]) -> list[int]:
        """Take what fits in this order until the budget is spent, and return it.

        A row that does not fit now never will: one walk is enough.
        """
        taken: list[int] = []
        for row in rows:
            if not self._left:
                break
            if self.fits(row):
                self.take(row)
                taken.append(row)
        return taken

    def _move(self, row: int, by: int) -> None:
        self._account.free[row] = by < 0
        self._account.move(row, by)
        self._left -= by
        self._stale.add(int(self._account.groups[row]))

    def _nothing_to_spare(self) -> bool:
        if self._to_spare > 0:
            return False
        if self._stale or self._costly_stale:
            account = self._account
            for group in self._stale:
                self._lines[group] = account.most_of_line(group)
            self._costly_stale |= self._stale
            self._stale.clear()
            self._to_spare = int(account.most_of_cases(self._lines).sum()) - self._left
            if self._to_spare > 0:
                return False
            for group in self._costly_stale:
                self._find_costly(group)
            self._costly_stale.clear()
            # A volume or case that is capped below what its lines hold can afford a loss.
            enough = account.sum_of_cases(self._lines) > account.case_left
            self._strict = (self._lines <= account.volume_left) & ~enough[account.case_of]
        return True

    def _find_costly(self, group: int) -> None:
        """Mark the rows of a volume that shut out two where its line could hold both."""
        account = self._account
        members = account.members[group]
        open_ = members[account.free[members] & (account.shut[members] == 0)]
        places = account.positions[open_]
        # Chains from either end count the most on both sides of a row.
        before = _chain(places, account.gap)
        after = -_chain(-places[::-1], account.gap)[::-1]
        left = np.searchsorted(before, places - account.gap, side="right")
        right = len(after) - np.searchsorted(after, places + account.gap, side="left")
        self._costly[open_] = left + right + 1 < self._lines[group]


def _chain(places: NDArray[np.int64], gap: int) -> NDArray[np.int64]:
    """Return the first place and then always the next one at least ``gap`` further."""
    line = places.tolist()
    found: list[int] = []
    at = 0
    while at < len(line):
        found.append(line[at])
        at = bisect_left(line, line[at] + gap, at + 1)
    return np.asarray(found, dtype=np.int64)
