"""What there is to review: a run's proposals by how unsure it is, and masks of colleagues."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from napari_activeft.annotation_db import ProposalRecord, StandingRecord
from napari_activeft.prediction.uncertainty_table import read_uncertainty
from napari_activeft.project import Project
from napari_activeft.trained_runs import run_folder

Order = Literal["entropy", "disagreement", "queue"]


@dataclass(frozen=True)
class Proposal:
    """A mask that a run proposes.

    Attributes
    ----------
    revision_id, slice_id, volume_id, volume, position
        Which mask, of which slice.
    entropy, disagreement
        How unsure the run is of the slice, 0 to 1, and how far several networks disagree; NaN
        where that is not known.
    state
        new, accepted, rejected, or labelled: somebody made a mask of the slice since.
    queried
        Whether the slice was chosen to be labelled.
    """

    revision_id: int
    slice_id: int
    volume_id: int
    volume: str
    position: int
    entropy: float
    disagreement: float
    state: str
    queried: bool


@dataclass(frozen=True)
class Submitted:
    """A mask that somebody made.

    Attributes
    ----------
    revision_id, volume_id, volume, position, author, source
        Which mask, of which slice, by whom, and whether it was drawn, corrected or imported.
    state
        new, approved or rejected; by the newest review, whose author is the reviewer.
    """

    revision_id: int
    volume_id: int
    volume: str
    position: int
    author: str
    source: str
    state: str
    reviewer: str | None


def proposals(project: Project, run: int, order: Order = "entropy") -> list[Proposal]:
    """Return the proposals of a run, the least sure first.

    Parameters
    ----------
    order
        By entropy, by disagreement, or as the volumes stand in the pool.

    Raises
    ------
    UserError, StoreError
        If there is no such run, or its table is damaged.
    """
    told = read_uncertainty(run_folder(project, run))
    names = project.store.volume_names()
    found = []
    for one in project.store.proposals(run):
        doubt = told.get((names[one.volume_id], one.position))
        found.append(
            Proposal(
                one.revision_id,
                one.slice_id,
                one.volume_id,
                names[one.volume_id],
                one.position,
                math.nan if doubt is None else doubt.entropy,
                math.nan if doubt is None or doubt.bald is None else doubt.bald,
                _state(one),
                one.query_state is not None,
            )
        )
    if order == "queue":
        return sorted(found, key=lambda one: (not one.queried, one.volume, one.position))
    return sorted(found, key=lambda one: _least_sure(getattr(one, order)))


def _least_sure(doubt: float) -> float:
    return 1.0 if math.isnan(doubt) else -doubt


def _state(one: ProposalRecord) -> str:
    if one.standing_id == one.revision_id and one.verdict == "approve":
        return "accepted"
    if one.verdict == "reject":
        return "rejected"
    return "labelled" if (one.standing_id or 0) > one.revision_id else "new"


def masks_of_people(project: Project, but: str) -> list[Submitted]:
    """Return the masks that people other than one made, those nobody reviewed yet first."""
    names = project.store.volume_names()
    found = [
        Submitted(
            one.revision_id,
            one.volume_id,
            names[one.volume_id],
            one.position,
            one.author,
            one.source,
            _verdict(one),
            one.reviewer,
        )
        for one in project.store.standing()
        if one.source != "model" and one.author != but
    ]
    return sorted(found, key=lambda one: (one.state != "new", one.volume, one.position))


def _verdict(one: StandingRecord) -> str:
    return {None: "new", "approve": "approved", "reject": "rejected"}[one.verdict]
