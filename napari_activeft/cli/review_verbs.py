"""accept, reject, approve: what is proposed or submitted, and who stands by it."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_activeft.cli.app import JsonOption, ProjectOption, default, opened_project, report
from napari_activeft.settings import AcceptSettings, ApproveSettings, RejectSettings

VolumeOption = Annotated[
    list[str] | None, typer.Option("--volume", metavar="NAME", help="Only of it; repeatable.")
]
QueryOption = Annotated[
    list[int] | None, typer.Option("--query", metavar="N", help="Only its mask; repeatable.")
]
QueriesOption = Annotated[
    bool, typer.Option("--queries", help="Only on slices that were selected.")
]
ReviewerOption = Annotated[
    str | None,
    typer.Option(envvar="NAPARI_ACTIVEFT_ANNOTATOR", metavar="NAME", help="Who says so."),
]
AnnotatorOption = Annotated[
    str | None, typer.Option("--annotator", metavar="NAME", help="Only masks made by this person.")
]
RejectedOption = Annotated[
    bool, typer.Option("--rejected", help="Also those that were rejected before.")
]


def accept(
    run: Annotated[str, typer.Option(metavar="RUN", help="The run whose proposals are meant.")],
    queries: QueriesOption = default(AcceptSettings, "only_queried"),
    volume: VolumeOption = None,
    on_top: Annotated[
        bool, typer.Option("--on-top", help="Also where the slice has an accepted mask.")
    ] = default(AcceptSettings, "on_top"),
    rejected: RejectedOption = default(AcceptSettings, "rejected"),
    reviewer: ReviewerOption = default(AcceptSettings, "reviewer"),
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take what a run proposes as masks, where there is no accepted one."""
    settings = AcceptSettings.model_validate(
        {
            "run": run,
            "only_queried": queries,
            "volumes": volume or (),
            "on_top": on_top,
            "rejected": rejected,
            "reviewer": reviewer,
        }
    )
    from napari_activeft import terminal, workflow

    with opened_project(project) as opened, terminal.progress("accepting") as on_progress:
        result = workflow.accept(opened, settings, on_progress)
    report(result, as_json)


def reject(
    run: Annotated[
        str | None, typer.Option(metavar="RUN", help="The run whose proposals are meant.")
    ] = default(RejectSettings, "run"),
    annotator: AnnotatorOption = default(RejectSettings, "annotator"),
    queries: QueriesOption = default(RejectSettings, "only_queried"),
    query: QueryOption = None,
    volume: VolumeOption = None,
    comment: Annotated[
        str, typer.Option(metavar="TEXT", help="What is wrong, for whoever labels it again.")
    ] = default(RejectSettings, "comment"),
    reviewer: ReviewerOption = default(RejectSettings, "reviewer"),
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Refuse a run's proposals, or masks of people, whose slices are asked again then."""
    settings = RejectSettings.model_validate(
        {
            "run": run,
            "annotator": annotator,
            "only_queried": queries,
            "queries": query or (),
            "volumes": volume or (),
            "comment": comment,
            "reviewer": reviewer,
        }
    )
    from napari_activeft import terminal, workflow

    with opened_project(project) as opened, terminal.progress("rejecting") as on_progress:
        result = workflow.reject(opened, settings, on_progress)
    report(result, as_json)


def approve(
    annotator: AnnotatorOption = default(ApproveSettings, "annotator"),
    query: QueryOption = None,
    volume: VolumeOption = None,
    everything: Annotated[bool, typer.Option("--all", help="All that were submitted.")] = default(
        ApproveSettings, "everything"
    ),
    own: Annotated[
        bool, typer.Option("--own", help="Also masks that the reviewer made.")
    ] = default(ApproveSettings, "own"),
    rejected: RejectedOption = default(ApproveSettings, "rejected"),
    comment: Annotated[str, typer.Option(metavar="TEXT", help="Kept with the review.")] = default(
        ApproveSettings, "comment"
    ),
    reviewer: ReviewerOption = default(ApproveSettings, "reviewer"),
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stand by masks that somebody else submitted."""
    settings = ApproveSettings(
        annotator=annotator,
        queries=tuple(query or ()),
        volumes=tuple(volume or ()),
        everything=everything,
        own=own,
        rejected=rejected,
        comment=comment,
        reviewer=reviewer,
    )
    from napari_activeft import terminal, workflow

    with opened_project(project) as opened, terminal.progress("approving") as on_progress:
        result = workflow.approve(opened, settings, on_progress)
    report(result, as_json)
