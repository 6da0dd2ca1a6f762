"""The pool as selectors see it, and draws that depend on names alone."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Candidates:
    """Rows of a pool, some of them free.

    Attributes
    ----------
    keys, groups, positions
        One entry per row: its stable name, its volume, its place in the volume.
    free
        Rows that may be chosen, in ascending order of their keys.
    labelled
        Rows that count as support.
    """

    keys: Sequence[str]
    groups: Sequence[int]
    positions: Sequence[int]
    free: list[int]
    labelled: frozenset[int]

    @classmethod
    def of(
        cls,
        keys: Sequence[str],
        groups: Sequence[int] | None,
        positions: Sequence[int] | None,
        labelled: Collection[int],
        forbidden: Collection[int],
    ) -> Candidates:
        """Check that the arrays belong together and return them as one.

        Raises
        ------
        ValueError
            If lengths differ, keys repeat, or a row is outside of the pool.
        """
        count = len(keys)
        groups = [0] * count if groups is None else groups
        positions = range(count) if positions is None else positions
        if len(groups) != count or len(positions) != count:
            raise ValueError(
                f"{count} keys, {len(groups)} groups and {len(positions)} positions were given: "
                "give one of each per row"
            )
        if len(set(keys)) != count:
            raise ValueError("two rows bear the same key: give each row a name of its own")
        taken = frozenset(labelled) | frozenset(forbidden)
        if taken and not 0 <= min(taken) <= max(taken) < count:
            raise ValueError(
                f"rows {min(taken)} to {max(taken)} were given as taken, the pool has rows 0 to "
                f"{count - 1}: give rows of this pool"
            )
        free = sorted((row for row in range(count) if row not in taken), key=keys.__getitem__)
        return cls(keys, groups, positions, free, frozenset(labelled))

    @cached_property
    def group_names(self) -> dict[int, str]:
        """The smallest key of each group: its number differs between projects, this does not."""
        names: dict[int, str] = {}
        for key, group in zip(self.keys, self.groups, strict=True):
            names[group] = min(key, names.get(group, key))
        return names

    def rows_by_group(self, rows: Collection[int]) -> list[list[int]]:
        """Return the rows of each group by position, the groups in the order of their names."""
        members: dict[int, list[int]] = {}
        for row in rows:
            members.setdefault(self.groups[row], []).append(row)
        for inside in members.values():
            inside.sort(key=lambda row: (self.positions[row], self.keys[row]))
        return [members[group] for group in sorted(members, key=self.group_names.__getitem__)]


def draw(seed: int, name: str) -> float:
    """Return a uniform number in [0, 1) that depends on seed and name alone."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64
