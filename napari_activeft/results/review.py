"""What `accept`, `reject` and `approve` hand back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AcceptResult:
    """What became of a run's proposals.

    Attributes
    ----------
    proposals
        That were meant.
    accepted
        That count from now on.
    before
        That were accepted already.
    kept
        Whose slice has an accepted mask, which stays.
    leased
        Whose slice somebody is labelling just now.
    rejected
        That were rejected before, which stays.
    outdated
        That are older than a mask which somebody made of the slice meanwhile.
    waiting
        Queries that are still free.
    """

    run: int
    proposals: int
    accepted: int
    before: int
    kept: int
    leased: int
    rejected: int
    outdated: int
    waiting: int


@dataclass(frozen=True)
class RejectResult:
    """Masks that were rejected.

    Attributes
    ----------
    run
        Whose proposals they are; None for masks of people.
    masks
        That were meant.
    rejected
        That were rejected just now.
    counted
        Of these, those that counted as their slice's mask until now.
    before
        That were rejected already.
    leased
        Whose slice somebody is labelling just now.
    waiting
        Queries that are free now.
    """

    run: int | None
    masks: int
    rejected: int
    counted: int
    before: int
    leased: int
    waiting: int


@dataclass(frozen=True)
class ApproveResult:
    """Masks of people that were approved.

    Attributes
    ----------
    masks
        That were meant.
    approved
        That were approved just now.
    before
        That were approved already.
    own
        That the reviewer made and so cannot approve.
    rejected
        That were rejected before, which stays.
    leased
        Whose slice somebody is labelling just now.
    """

    reviewer: str
    masks: int
    approved: int
    before: int
    own: int
    rejected: int
    leased: int
