"""A round: what the pool offers, what the selection takes of it, and how it is stored."""

from __future__ import annotations

from collections.abc import Sequence

from napari_activeft.annotation_db import NewRound, SliceRow, Store, pool_checksum
from napari_activeft.errors import UserError
from napari_activeft.project import Project
from napari_activeft.results import SelectResult
from napari_activeft.selection import select as choose
from napari_activeft.settings import SelectSettings


def open_round(project: Project, settings: SelectSettings) -> SelectResult:
    """Choose slices and store them as a round of queries."""
    pool = project.store.pool_slices()
    if not pool:
        raise UserError("the pool is empty: add volumes with `napari-activeft add FOLDER`")
    labelled, forbidden = _taken_rows(project.store, pool)
    free = len(pool) - len(labelled | forbidden)
    budget = settings.budget.slices(len(pool), free)
    selection = choose(
        budget,
        keys=[row.key for row in pool],
        groups=[row.volume_id for row in pool],
        positions=[row.position for row in pool],
        labelled=labelled,
        forbidden=forbidden,
        selector=settings.selector,
        seed=settings.seed,
    )
    chosen = [pool[row] for row in selection.rows]
    stored = project.store.add_round(
        NewRound(
            selector=settings.selector,
            budget=budget,
            seed=settings.seed,
            settings=settings.model_dump(mode="json"),
            pool_checksum=pool_checksum(pool),
            report=selection.report,
            slice_ids=[row.slice_id for row in chosen],
        ),
        project.actor,
    )
    return SelectResult(
        round=stored.number,
        selector=settings.selector,
        seed=settings.seed,
        selected=len(chosen),
        pool_slices=len(pool),
        free_slices=free,
        volumes=len({row.volume_id for row in chosen}),
        cases=len({row.case for row in chosen}),
    )


def _taken_rows(store: Store, pool: Sequence[SliceRow]) -> tuple[set[int], set[int]]:
    """Return the rows that are labelled or being asked, and those that were skipped."""
    row_of = {row.slice_id: index for index, row in enumerate(pool)}
    queries = store.queries()
    skipped = {query.slice_id for query in queries if query.state == "skipped"}
    asked = {query.slice_id for query in queries if query.state != "skipped"}
    asked |= {record.slice_id for record in store.accepted()}
    labelled = {row_of[slice_id] for slice_id in asked if slice_id in row_of}
    forbidden = {row_of[slice_id] for slice_id in skipped - asked if slice_id in row_of}
    return labelled, forbidden
