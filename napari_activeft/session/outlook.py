"""What a selection has before it: the pool, what of it is free, and where every slice lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.annotation_db import BY_HAND, QueryRecord, SliceRow
from napari_activeft.encoder_sources import own_encoders
from napari_activeft.errors import UserError
from napari_activeft.pool_map import PoolMap, read_map
from napari_activeft.project import Project
from napari_activeft.session.tally import seconds_a_slice
from napari_activeft.settings import Budget
from napari_activeft.vectors import embeddings
from napari_activeft.wording import counted


class Kind(IntEnum):
    """What a slice is to the selection."""

    POOL = 0
    LABELLED = 1
    ASKED = 2
    PICKED = 3
    LEFT_OUT = 4


@dataclass(frozen=True)
class Outlook:
    """The pool as the next selection finds it.

    Attributes
    ----------
    pool
        n slices.
    kinds
        What each of them is, uint8 (n,), see `Kind`.
    layout
        Where they lie; None where nothing was embedded yet.
    names
        Of the volumes by id.
    embedded
        Names of encoders with vectors, the one used last first.
    seconds, measured
        That a slice takes to label, and whether that was measured here.
    round_number, figures
        The newest round that was selected, and what was measured of it; None and empty without.
    runs
        Numbers of the runs that are done, the newest first.
    own_encoders
        Names of the encoders that were pre-trained here, the oldest first.
    """

    pool: Sequence[SliceRow] = field(repr=False)
    kinds: NDArray[np.uint8] = field(repr=False)
    layout: PoolMap | None = field(repr=False)
    names: dict[int, str] = field(repr=False)
    embedded: tuple[str, ...]
    seconds: float
    measured: bool
    round_number: int | None
    figures: dict[str, Any]
    runs: tuple[int, ...]
    own_encoders: tuple[str, ...] = ()

    @property
    def free(self) -> int:
        """Slices that can be chosen."""
        return int((self.kinds == Kind.POOL).sum())

    def budget_in_words(self, text: str) -> str:
        """Say how many slices a budget is, and how long they will take."""
        try:
            count = Budget.parse(text).slices(len(self.pool), self.free)
        except UserError as refusal:
            return str(refusal)
        hours = count * self.seconds / 3600
        time = f"{hours:.1f} hours" if hours >= 1.5 else f"{hours * 60:.0f} minutes"
        how = "as people took so far" if self.measured else "if a slice takes a minute and a half"
        return f"{counted(count, 'slice')} of {len(self.pool)}: about {time} of work, {how}"


def outlook(project: Project) -> Outlook:
    """Look at the pool of a project."""
    store = project.store
    pool, rounds = store.pool_slices(), store.rounds()
    seconds, measured = seconds_a_slice(project)
    chosen = [one for one in rounds if one.selector != BY_HAND]
    newest = chosen[-1].number if chosen else None
    accepted = {one.slice_id for one in store.accepted()}
    kinds = _kinds(pool, store.queries(), accepted, newest)
    return Outlook(
        pool=pool,
        kinds=kinds,
        layout=read_map(project, pool),
        names=store.volume_names(),
        embedded=tuple(dict.fromkeys(one.encoder for one in embeddings(project))),
        seconds=seconds,
        measured=measured,
        round_number=newest,
        figures=chosen[-1].report if chosen else {},
        runs=tuple(run.run_id for run in reversed(store.runs()) if run.state == "done"),
        own_encoders=tuple(
            one.name for one in own_encoders(project.folder) if one.over and one.weights.is_file()
        ),
    )


def _kinds(
    pool: Sequence[SliceRow],
    queries: Sequence[QueryRecord],
    accepted: set[int],
    newest: int | None,
) -> NDArray[np.uint8]:
    kind_of = dict.fromkeys(accepted, Kind.LABELLED)
    for query in queries:
        if query.state == "skipped":
            kind_of.setdefault(query.slice_id, Kind.LEFT_OUT)
        elif query.slice_id not in accepted:
            kind_of[query.slice_id] = Kind.PICKED if query.round_number == newest else Kind.ASKED
    kinds = [kind_of.get(row.slice_id, Kind.POOL) for row in pool]
    return np.array(kinds, dtype=np.uint8)


def coverage_in_words(found: Outlook) -> str:
    """Say how well the newest selection stands for the pool."""
    if found.round_number is None:
        return "Nothing was selected yet."
    coverage = found.figures.get("coverage")
    if not coverage:
        return f"Round {found.round_number} was drawn without looking at the images."
    told = [f"Round {found.round_number}, with all that was asked before:"]
    ratio = coverage.get("rw1")
    if ratio is not None:
        told.append(
            f"distance to the pool (W1) {ratio:.3f} of that of random draws of the same size"
            + (" (below 1 is better)." if ratio < 1 else ", no better than those.")
        )
    beside = coverage.get("rw1_beside")
    if beside is not None:
        told.append(f"Beside what was labelled before, {beside:.3f} of random additions.")
    return " ".join(told)
