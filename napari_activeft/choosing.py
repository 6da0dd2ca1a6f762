"""A round: what the pool offers, what the selection takes of it, and how it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_activeft.annotation_db import NewRound, SliceRow, Store, pool_checksum
from napari_activeft.errors import OnProgress, UserError, no_progress
from napari_activeft.project import Project
from napari_activeft.results import SelectResult
from napari_activeft.round_report import (
    MODEST,
    RoundPicture,
    fresh_notes,
    measured,
    rendered,
    solver_notes,
    write_page,
)
from napari_activeft.select_arguments import select_arguments
from napari_activeft.selection import SELECTORS, Selection
from napari_activeft.selection import select as choose
from napari_activeft.settings import SelectSettings
from napari_activeft.vectors import Embedding, load_vectors


@dataclass(frozen=True)
class Offer:
    """What a round may be chosen from.

    Attributes
    ----------
    pool
        All slices of the pool; rows below are places in this list.
    labelled
        Rows that have a mask or an open query: support, not chosen again.
    forbidden
        Rows that were skipped.
    embedding, vectors
        What the selector sees of the slices, (n, d); None where it needs nothing.
    """

    pool: Sequence[SliceRow]
    labelled: frozenset[int]
    forbidden: frozenset[int]
    embedding: Embedding | None
    vectors: NDArray[np.float32] | None

    @property
    def free(self) -> int:
        """How many slices were not queried yet."""
        return len(self.pool) - len(self.labelled | self.forbidden)


def open_round(
    project: Project, settings: SelectSettings, on_progress: OnProgress = no_progress
) -> SelectResult:
    """Choose slices, measure the choice, and store it as a round of queries.

    Nothing is stored before the choice is complete; a cancelled run leaves no round.
    """
    offer, budget = offered(project, settings)
    selection = _chosen(offer, budget, settings, on_progress)
    report = dict(selection.report)
    if offer.embedding is not None:
        report["random_weights"] = offer.embedding.random_weights
    picture: RoundPicture | None = None
    labelled = sorted(offer.labelled)
    if offer.vectors is not None:
        fresh = _fresh(offer, budget, settings, on_progress)
        picture = measured(offer.pool, offer.vectors, selection.rows, labelled, fresh, on_progress)
        report["coverage"] = picture.as_json()
        report["against_fresh"] = picture.against_fresh
    chosen = [offer.pool[row] for row in selection.rows]
    asked = NewRound(
        selector=settings.selector,
        budget=budget,
        seed=settings.seed,
        settings=settings.model_dump(mode="json"),
        pool_checksum=pool_checksum(offer.pool),
        report=report | {"gains": selection.gains.tolist()},
        slice_ids=[row.slice_id for row in chosen],
        encoder=offer.embedding.encoder if offer.embedding else None,
        weight_hash=offer.embedding.weight_hash if offer.embedding else None,
    )
    shown = (asked, offer.pool, labelled, selection, offer.vectors, picture)
    number = len(project.store.rounds()) + 1
    html = rendered(project, number, *shown)
    stored = project.store.add_round(asked, project.actor)
    if stored.number != number:  # somebody else's round came between
        html = rendered(project, stored.number, *shown)
    page = write_page(project, stored.number, html)
    return SelectResult(
        round=stored.number,
        selector=settings.selector,
        seed=settings.seed,
        selected=len(chosen),
        pool_slices=len(offer.pool),
        free_slices=offer.free,
        volumes=len({row.volume_id for row in chosen}),
        cases=len({row.case for row in chosen}),
        encoder=offer.embedding.encoder if offer.embedding else None,
        random_weights=offer.embedding.random_weights if offer.embedding else False,
        rw1=picture.figures.rw1 if picture else None,
        against_fresh=picture.against_fresh if picture else None,
        notes=tuple(solver_notes(report) + fresh_notes(picture, len(labelled))),
        page=page,
    )


def offered(project: Project, settings: SelectSettings) -> tuple[Offer, int]:
    """Return what a round may be chosen from, and how many slices of it are wanted.

    Raises
    ------
    UserError
        If the pool is empty, the budget cannot be spent, or the selector needs vectors that are
        not there.
    """
    pool = project.store.pool_slices()
    if not pool:
        raise UserError("the pool is empty: add volumes with `napari-activeft add FOLDER`")
    labelled, forbidden = _taken_rows(project.store, pool)
    budget = settings.budget.slices(len(pool), len(pool) - len(labelled | forbidden))
    embedding: Embedding | None = None
    vectors: NDArray[np.float32] | None = None
    entry = SELECTORS.get(settings.selector)
    if entry is not None and entry.needs_vectors:
        embedding, vectors = load_vectors(project, pool, settings.encoder)
    return Offer(pool, labelled, forbidden, embedding, vectors), budget


def _chosen(
    offer: Offer, budget: int, settings: SelectSettings, on_progress: OnProgress
) -> Selection:
    pool = offer.pool
    return choose(
        offer.vectors,
        budget,
        **select_arguments(settings, np.array([row.emptiness for row in pool])),
        keys=[row.key for row in pool],
        groups=[row.volume_id for row in pool],
        cases=[row.case for row in pool],
        positions=[row.position for row in pool],
        labelled=offer.labelled,
        forbidden=offer.forbidden,
        on_progress=on_progress,
    )


def _fresh(
    offer: Offer, budget: int, settings: SelectSettings, on_progress: OnProgress
) -> NDArray[np.int64] | None:
    """Choose as many slices as are asked in all, as if none had been asked before.

    None where none had, where that takes too long, or where the caps forbid it.
    """
    total = budget + len(offer.labelled)
    if not offer.labelled or len(offer.pool) * total > MODEST:
        return None
    try:
        unasked = replace(offer, labelled=frozenset())
        return _chosen(unasked, total, settings, on_progress).rows
    except UserError:
        return None


def _taken_rows(store: Store, pool: Sequence[SliceRow]) -> tuple[frozenset[int], frozenset[int]]:
    """Return the rows that are labelled or being asked, and those that were skipped."""
    row_of = {row.slice_id: index for index, row in enumerate(pool)}
    queries = store.queries()
    skipped = {query.slice_id for query in queries if query.state == "skipped"}
    asked = {query.slice_id for query in queries if query.state != "skipped"}
    asked |= {record.slice_id for record in store.accepted()}
    labelled = frozenset(row_of[slice_id] for slice_id in asked if slice_id in row_of)
    forbidden = frozenset(row_of[slice_id] for slice_id in skipped - asked if slice_id in row_of)
    return labelled, forbidden
