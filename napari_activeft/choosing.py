"""A round: what the pool offers, what the selection takes of it, and how it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_activeft.annotation_db import NewRound, SliceRow, Store, pool_checksum
from napari_activeft.errors import OnProgress, UserError, no_progress
from napari_activeft.extras import need_map
from napari_activeft.interrupts import without_interrupts
from napari_activeft.project import Project
from napari_activeft.results import SelectResult
from napari_activeft.round_report import (
    BASELINES,
    DRAWN_BASELINES,
    MODEST,
    RoundPicture,
    measured,
    rendered,
    set_against_fresh,
    solver_notes,
    write_page,
)
from napari_activeft.select_arguments import select_arguments
from napari_activeft.selection import SELECTORS, Selection
from napari_activeft.selection import select as choose
from napari_activeft.settings import SelectSettings
from napari_activeft.slice_scores import scores_in_words, slice_scores
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
    scores
        How uncertain a run is of each slice, (n,); None where no run was named.
    """

    pool: Sequence[SliceRow]
    labelled: frozenset[int]
    forbidden: frozenset[int]
    embedding: Embedding | None
    vectors: NDArray[np.float32] | None
    scores: NDArray[np.float64] | None = None

    @property
    def free(self) -> int:
        """How many slices were not queried yet."""
        return len(self.pool) - len(self.labelled | self.forbidden)


def open_round(
    project: Project, settings: SelectSettings, on_progress: OnProgress = no_progress
) -> SelectResult:
    """Choose slices, measure the choice, and store it as a round of queries.

    Nothing is stored before the choice and its page are complete; a cancelled run leaves no round.
    What is left then is short, and Ctrl-C does not come between the round and its page.
    """
    asked_weight, settings = settings.activeft.uncertainty, settings.weighed
    offer, budget = offered(project, settings)
    selection = _chosen(offer, budget, settings, on_progress)
    scored = scores_in_words(settings, usual=settings.activeft.uncertainty != asked_weight)
    if scored:
        selection = replace(selection, report={**selection.report, "uncertainty": scored})
    labelled = sorted(offer.labelled)
    picture = _pictured(offer, selection, settings, on_progress)
    asked = _new_round(offer, selection, settings, picture)
    shown = (asked, settings, offer.pool, labelled, selection, offer.vectors, picture)
    number = len(project.store.rounds()) + 1
    html = rendered(project, number, *shown)
    with without_interrupts():
        stored = project.store.add_round(asked, project.actor)
        if stored.number != number:  # somebody else's round came between
            html = rendered(project, stored.number, *shown)
        page = write_page(project, stored.number, html)
    chosen = [offer.pool[row] for row in selection.rows]
    return SelectResult(
        round=stored.number,
        selector=settings.selector,
        seed=settings.seed,
        selected=budget,
        pool_slices=len(offer.pool),
        free_slices=offer.free,
        volumes=len({row.volume_id for row in chosen}),
        cases=len({row.case for row in chosen}),
        encoder=asked.encoder,
        random_weights=offer.embedding.random_weights if offer.embedding else False,
        rw1=picture.figures.rw1 if picture else None,
        rw1_beside=picture.rw1_beside if picture else None,
        against_fresh=picture.against_fresh if picture else None,
        notes=(
            *([f"Uncertainty counts: {scored}."] if scored else ()),
            *solver_notes(selection.report, settings),
            *(picture.remarks if picture else ()),
        ),
        page=page,
    )


def _new_round(
    offer: Offer, selection: Selection, settings: SelectSettings, picture: RoundPicture | None
) -> NewRound:
    """Return what the store is to keep of a choice."""
    report = dict(selection.report)
    if offer.embedding is not None:
        report["random_weights"] = offer.embedding.random_weights
    if picture is not None:
        report["coverage"] = picture.as_json()
        report["against_fresh"] = picture.against_fresh
    return NewRound(
        selector=settings.selector,
        budget=len(selection.rows),
        seed=settings.seed,
        settings=settings.model_dump(mode="json"),
        pool_checksum=pool_checksum(offer.pool),
        report=report | {"gains": selection.gains.tolist()},
        slice_ids=[offer.pool[row].slice_id for row in selection.rows],
        encoder=offer.embedding.encoder if offer.embedding else None,
        weight_hash=offer.embedding.weight_hash if offer.embedding else None,
    )


def offered(project: Project, settings: SelectSettings) -> tuple[Offer, int]:
    """Return what a round may be chosen from, and how many slices of it are wanted.

    Raises
    ------
    UserError
        If the pool is empty, the budget cannot be spent, the selector needs vectors or scores that
        are not there, or the map an extra that is not.
    """
    need_map(settings.map_by)
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
    scores = slice_scores(project, pool, settings)
    return Offer(pool, labelled, forbidden, embedding, vectors, scores), budget


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
        scores=offer.scores,
        labelled=offer.labelled,
        forbidden=offer.forbidden,
        on_progress=on_progress,
    )


def _pictured(
    offer: Offer, selection: Selection, settings: SelectSettings, on_progress: OnProgress
) -> RoundPicture | None:
    """Measure a choice against others of the same offer; None where there are no vectors."""
    if offer.vectors is None:
        return None
    rankings, remarks = _baselines(offer, len(selection.rows), settings, on_progress)
    picture = measured(
        offer.pool,
        offer.vectors,
        {"this selection": selection.rows} | rankings,
        sorted(offer.labelled),
        on_progress,
    )
    if offer.labelled:
        fresh, why_not = _fresh(offer, len(selection.rows), settings, on_progress)
        picture = set_against_fresh(picture, fresh, why_not, on_progress)
    return replace(picture, remarks=(*picture.remarks, *remarks))


def _baselines(
    offer: Offer, budget: int, settings: SelectSettings, on_progress: OnProgress
) -> tuple[dict[str, NDArray[np.int64]], list[str]]:
    """Let the baselines choose what the selection could have chosen, under the same caps.

    Returns
    -------
    rankings, remarks
        Rows by name, and a sentence for each baseline that could not choose.
    """
    rankings, remarks = {}, []
    names = BASELINES if len(offer.pool) * budget <= MODEST else DRAWN_BASELINES
    for name in names:
        if name == settings.selector:
            continue
        own = settings.model_copy(update={"selector": name})
        try:
            rankings[name] = _chosen(offer, budget, own, on_progress).rows
        except UserError as refusal:
            remarks.append(f"The baseline {name} is left out: {_reason(refusal)}.")
    return rankings, remarks


def _fresh(
    offer: Offer, budget: int, settings: SelectSettings, on_progress: OnProgress
) -> tuple[NDArray[np.int64] | None, str]:
    """Choose as many slices as are asked in all, as if none had been asked before.

    Returns
    -------
    rows, why_not
        None and the reason where that takes too long or cannot be done.
    """
    total = budget + len(offer.labelled)
    if len(offer.pool) * total > MODEST:
        return None, (
            f"{len(offer.pool):,} slices times {total:,} picks are more than {MODEST:,}, which "
            "takes too long"
        )
    try:
        unasked = replace(offer, labelled=frozenset())
        return _chosen(unasked, total, settings, on_progress).rows, ""
    except UserError as refusal:
        return None, _reason(refusal)


def _reason(refusal: UserError) -> str:
    """Return what a refusal says without its advice: nobody asked for what was refused."""
    said = str(refusal)
    return said.rpartition(": ")[0] or said


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
