"""Reviews masks: a run's proposals become masks or not, and people's masks get a second opinion.

One transaction a volume. A mask that a person stands by is never replaced unasked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from napari_activeft.annotation_db import ProposalRecord, StandingRecord
from napari_activeft.errors import OnProgress, UserError
from napari_activeft.project import Project
from napari_activeft.results import AcceptResult, ApproveResult, RejectResult
from napari_activeft.settings import AcceptSettings, ApproveSettings, RejectSettings
from napari_activeft.volume_choice import chosen_volumes


class _InVolume(Protocol):
    @property
    def revision_id(self) -> int: ...
    @property
    def volume_id(self) -> int: ...


Mask = TypeVar("Mask", bound=_InVolume)


def accept_proposals(
    project: Project, settings: AcceptSettings, on_progress: OnProgress
) -> AcceptResult:
    """Accept what a run proposes for slices that have no accepted mask.

    Raises
    ------
    UserError
        If the run proposed nothing, or nothing where it was asked for.
    """
    meant = _proposals(project, settings.run, settings.volumes, settings.only_queried)
    fate = {one.revision_id: _fate(one, settings) for one in meant}
    chosen = [one for one in meant if fate[one.revision_id] == "accepted"]
    _review(project, chosen, "approve", settings.reviewer, "", on_progress)
    counts = Counter(fate.values())
    return AcceptResult(
        run=settings.run,
        proposals=len(meant),
        accepted=counts["accepted"],
        before=counts["before"],
        kept=counts["kept"],
        leased=counts["leased"],
        rejected=counts["rejected"],
        outdated=counts["outdated"],
        waiting=project.store.waiting_count(),
    )


def _fate(one: ProposalRecord, settings: AcceptSettings) -> str:
    """Say what is to become of a proposal, in the words of `AcceptResult`."""
    standing = one.standing_id
    if one.verdict == "approve" and standing == one.revision_id:
        return "before"
    if one.verdict == "reject" and not settings.rejected:
        return "rejected"
    if one.query_state == "leased":
        return "leased"
    if standing is not None and not one.standing_rejected and not settings.on_top:
        return "kept"
    # The newest mask counts: an older one would be approved in vain.
    return "outdated" if standing is not None and standing > one.revision_id else "accepted"


def reject_masks(
    project: Project, settings: RejectSettings, on_progress: OnProgress
) -> RejectResult:
    """Reject a run's proposals or people's masks; slices that lose their mask are asked again.

    Raises
    ------
    UserError
        If no mask is meant.
    """
    if settings.run is None:
        masks = _masks_of_people(project, settings)
        counting = {one.revision_id for one in masks if one.verdict != "reject"}
        verdicts: Mapping[int, str | None] = {one.revision_id: one.verdict for one in masks}
        leased = {one.revision_id for one in masks if one.leased}
        meant: Sequence[_InVolume] = masks
    else:
        proposals = _proposals(project, settings.run, settings.volumes, settings.only_queried)
        verdicts = {one.revision_id: one.verdict for one in proposals}
        counting = {p.revision_id for p in proposals if p.standing_id == p.revision_id}
        # To reject what nobody accepted takes nothing from whoever is labelling the slice.
        leased = {p.revision_id for p in proposals if p.query_state == "leased"} & counting
        meant = proposals
    before = {number for number, verdict in verdicts.items() if verdict == "reject"}
    chosen = [one for one in meant if one.revision_id not in before | leased]
    _review(project, chosen, "reject", settings.reviewer, settings.comment, on_progress)
    return RejectResult(
        run=settings.run,
        masks=len(meant),
        rejected=len(chosen),
        counted=sum(one.revision_id in counting for one in chosen),
        before=len(before),
        leased=len(leased - before),
        waiting=project.store.waiting_count(),
    )


def approve_masks(
    project: Project, settings: ApproveSettings, on_progress: OnProgress
) -> ApproveResult:
    """Approve masks that other people submitted or corrected.

    Raises
    ------
    UserError
        If no mask is meant.
    """
    reviewer = settings.reviewer or project.actor
    meant = _masks_of_people(project, settings)

    def fate(one: StandingRecord) -> str:
        if one.verdict == "approve":
            return "before"
        if one.author == reviewer and not settings.own:
            return "own"
        if one.verdict == "reject" and not settings.rejected:
            return "rejected"
        return "leased" if one.leased else "approved"

    fates = {one.revision_id: fate(one) for one in meant}
    chosen = [one for one in meant if fates[one.revision_id] == "approved"]
    _review(project, chosen, "approve", reviewer, settings.comment, on_progress)
    counts = Counter(fates.values())
    return ApproveResult(
        reviewer=reviewer,
        masks=len(meant),
        approved=counts["approved"],
        before=counts["before"],
        own=counts["own"],
        rejected=counts["rejected"],
        leased=counts["leased"],
    )


def _review(
    project: Project,
    chosen: Sequence[_InVolume],
    verdict: str,
    reviewer: str | None,
    comment: str,
    on_progress: OnProgress,
) -> None:
    by_volume: dict[int, list[int]] = {}
    for one in chosen:
        by_volume.setdefault(one.volume_id, []).append(one.revision_id)
    for done, revisions in enumerate(by_volume.values(), start=1):
        project.store.review(revisions, verdict, reviewer or project.actor, comment)
        on_progress(done, len(by_volume))


def _proposals(
    project: Project, run: int, volumes: Sequence[str], only_queried: bool
) -> list[ProposalRecord]:
    """Return the proposals of a run that are meant, at least one."""
    found = project.store.proposals(run)
    if not found:
        raise UserError(
            f"run {run} proposed no masks: let it predict first, with `napari-activeft predict`"
        )
    meant = _of_volumes(project, found, volumes)
    if only_queried:
        meant = [one for one in meant if one.query_state is not None]
    if not meant:
        what = "selected slices" if only_queried else "slices"
        where = f" of {', '.join(volumes)}" if volumes else ""
        raise UserError(
            f"run {run} proposed no masks for {what}{where}, and {len(found)} for others: leave "
            f"{'--queries' if only_queried else '--volume'} out, or predict those too"
        )
    return meant


def _masks_of_people(
    project: Project, settings: RejectSettings | ApproveSettings
) -> list[StandingRecord]:
    """Return the masks that people made and that are meant, at least one."""
    made = [one for one in project.store.standing() if one.source != "model"]
    if not made:
        raise UserError(
            "nobody submitted a mask yet: `napari-activeft next` hands out the slices to label"
        )
    _see_known("query", settings.queries, (query.query_id for query in project.store.queries()))
    meant = _of_volumes(project, made, settings.volumes)
    if settings.annotator:
        authors = {one.author for one in made}
        _see_known("annotator with masks", [settings.annotator], authors)
        meant = [one for one in meant if one.author == settings.annotator]
    if settings.queries:
        meant = [one for one in meant if one.query_id in settings.queries]
    if not meant:
        raise UserError(
            f"none of the {len(made)} masks that people made is meant by all that was named: name "
            "less at once"
        )
    return meant


def _of_volumes(project: Project, masks: Sequence[Mask], names: Sequence[str]) -> list[Mask]:
    if not names:
        return list(masks)
    meant = {volume.volume_id for volume in chosen_volumes(project, (), names)}
    return [one for one in masks if one.volume_id in meant]


def _see_known(what: str, named: Iterable[object], known: Iterable[object]) -> None:
    there = list(known)
    strange = [one for one in named if one not in there]
    if strange:
        listed = ", ".join(str(one) for one in there[:10]) or "none"
        more = f" and {len(there) - 10} more" if len(there) > 10 else ""
        raise UserError(
            f"there is no {what} {strange[0]} in this project: choose one of {listed}{more}"
        )
