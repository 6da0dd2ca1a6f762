"""Hands a query to an annotator: the lease, the files, and what happens when these fail."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from napari_activeft.annotation_db import LeaseRecord
from napari_activeft.errors import Problem, UserError
from napari_activeft.project import Project
from napari_activeft.settings import NextSettings
from napari_activeft.ticket import write_query

# So many unreadable images in a row are no accident of a single file.
_MOST_UNREADABLE: Final = 25


@dataclass(frozen=True)
class HandedOut:
    """A query and its files; no lease where nothing could be handed out.

    Attributes
    ----------
    volume
        Name of the volume.
    ticket, image
        Files that were written.
    problems
        Images that could not be read, whose queries went back into the queue.
    """

    lease: LeaseRecord | None = None
    volume: str | None = None
    ticket: Path | None = None
    image: Path | None = None
    problems: list[Problem] = field(default_factory=list)


def hand_out(project: Project, settings: NextSettings) -> HandedOut:
    """Lease the first query whose image can be read, and write its files.

    Raises
    ------
    UserError
        If the files cannot be written; the query is free again then.
    """
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
    except OSError as refusal:
        raise UserError(
            f"the folder {settings.out} cannot be made ({refusal.strerror}): choose another --out"
        ) from refusal
    lease, problems = first_readable(
        project, settings.annotator, another=settings.another, minutes=settings.minutes
    )
    if lease is None:
        return HandedOut(problems=problems)
    return _written(project, settings.out, lease, problems)


def first_readable(
    project: Project, annotator: str, *, another: bool, minutes: float
) -> tuple[LeaseRecord | None, list[Problem]]:
    """Lease the first query whose image can be read, which is then in the project's cache.

    Returns
    -------
    lease
        None if none is free.
    problems
        Images that could not be read, whose queries went back into the queue.
    """
    store = project.store
    problems: list[Problem] = []
    # Held until one is found: a query that goes back at once would be the next one again.
    with ExitStack() as unreadable:
        while len(problems) < _MOST_UNREADABLE:
            lease = store.lease_next(annotator, another=another, minutes=minutes)
            if lease is None:
                break
            try:
                project.cache.volume(lease.volume_id)
            except UserError as refusal:
                unreadable.callback(store.hand_back, lease.token)
                problems.append(Problem(store.volume(lease.volume_id).name, str(refusal)))
                another = True
                continue
            except BaseException:
                store.hand_back(lease.token)
                raise
            return lease, problems
    return None, problems


def _written(project: Project, out: Path, lease: LeaseRecord, problems: list[Problem]) -> HandedOut:
    store, parent = project.store, lease.parent_revision_id
    try:
        record = store.volume(lease.volume_id)
        ticket, image = write_query(
            out,
            project_uid=store.project().uid,
            lease=lease,
            record=record,
            volume=project.cache.volume(lease.volume_id),
            classes=store.classes(),
            previous=None if parent is None else store.mask(parent),
        )
    except BaseException as refusal:
        store.hand_back(lease.token)
        if isinstance(refusal, OSError):
            raise UserError(
                f"the query cannot be written to {out} ({refusal.strerror}): free some space or "
                "choose another --out"
            ) from refusal
        raise
    return HandedOut(lease, record.name, ticket, image, problems)
