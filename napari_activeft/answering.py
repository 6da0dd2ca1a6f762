"""Answers a query: from a ticket and a mask to a revision in the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_activeft.annotation_db import UNLABELLED
from napari_activeft.errors import UserError
from napari_activeft.label_maps import with_unlabelled
from napari_activeft.project import Project
from napari_activeft.results import SubmitResult
from napari_activeft.settings import SubmitSettings
from napari_activeft.ticket import Ticket, read_ticket
from napari_activeft.volume import read_mask
from napari_activeft.voxels import LabelMap


def answer_query(project: Project, settings: SubmitSettings) -> SubmitResult:
    """Store the mask of a leased query, or note why there is none.

    Raises
    ------
    UserError
        If the ticket or the mask cannot be taken, or belong to another project.
    """
    ticket = read_ticket(settings.ticket)
    store = project.store
    if ticket.project != store.project().uid:
        raise UserError(
            f"{settings.ticket} belongs to another project than {project.folder}: name the right "
            "one with --project"
        )
    if settings.skip is not None:
        store.skip(ticket.token, settings.skip)
        return SubmitResult(ticket.query, "skipped", None, {}, store.waiting_count())
    if settings.hand_back:
        store.hand_back(ticket.token)
        return SubmitResult(ticket.query, "handed back", None, {}, store.waiting_count())
    mask = _answer(ticket, settings.mask, settings.unlabelled)
    revision = store.submit(
        ticket.token, mask, seconds_spent=settings.seconds, on_top=settings.on_top
    )
    counts = np.bincount(mask.ravel())
    names = {record.value: record.name for record in store.classes()} | {UNLABELLED: "unlabelled"}
    pixels = {names[v]: int(counts[v]) for v in np.flatnonzero(counts).tolist() if v}
    answer = "mask" if pixels else "empty"
    return SubmitResult(ticket.query, answer, revision.revision_id, pixels, store.waiting_count())


def _answer(ticket: Ticket, mask: Path | None, unlabelled: int | None) -> LabelMap:
    if mask is None:
        return np.zeros(ticket.shape, dtype=np.uint8)
    return with_unlabelled(read_mask(mask, ticket.shape), unlabelled)
