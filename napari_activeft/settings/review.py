"""How masks are reviewed: accept, reject, approve."""

from __future__ import annotations

from pydantic import Field, PositiveInt, model_validator

from napari_activeft.settings.base import Name, RunNumber, Settings


class AcceptSettings(Settings):
    """Which proposals of a run become masks.

    Attributes
    ----------
    run
        Number of the run.
    only_queried
        Only on slices that were selected.
    volumes
        Names of the volumes; all without any.
    on_top
        Also where the slice has an accepted mask, which is kept below.
    rejected
        Also proposals that were rejected before.
    reviewer
        Who stands by them; the login name by default.
    """

    run: RunNumber
    only_queried: bool = False
    volumes: tuple[Name, ...] = ()
    on_top: bool = False
    rejected: bool = False
    reviewer: Name | None = None


class RejectSettings(Settings):
    """Which masks count no longer: a run's proposals, or masks that people made.

    Attributes
    ----------
    run
        Number of the run whose proposals are meant; None for masks of people.
    annotator
        Whose masks; everybody's by default.
    only_queried
        Only proposals on slices that were selected.
    queries
        Numbers of queries whose masks are meant.
    volumes
        Names of the volumes; all without any.
    comment
        What is wrong; whoever labels the slice again reads it.
    reviewer
        Who says so; the login name by default.
    """

    run: RunNumber | None = None
    annotator: Name | None = None
    only_queried: bool = False
    queries: tuple[PositiveInt, ...] = ()
    volumes: tuple[Name, ...] = ()
    comment: str = Field(default="", max_length=2000)
    reviewer: Name | None = None

    @model_validator(mode="after")
    def _something_is_meant(self) -> RejectSettings:
        if self.run is None and not (self.annotator or self.queries or self.volumes):
            raise ValueError(
                "nothing was named: name a run with --run, or masks of people with --annotator, "
                "--query or --volume"
            )
        if self.run is not None and (self.annotator or self.queries):
            raise ValueError(
                "a run was named together with masks of people: give either --run, or --annotator "
                "and --query"
            )
        return self


class ApproveSettings(Settings):
    """Which masks of people a second person stands by.

    Attributes
    ----------
    annotator
        Whose masks; everybody's by default.
    queries
        Numbers of queries whose masks are meant.
    volumes
        Names of the volumes; all without any.
    everything
        All submitted masks, where nothing of the above is given.
    own
        Also masks that the reviewer made.
    rejected
        Also masks that were rejected before.
    comment
        Kept with the review.
    reviewer
        Who stands by them; the login name by default.
    """

    annotator: Name | None = None
    queries: tuple[PositiveInt, ...] = ()
    volumes: tuple[Name, ...] = ()
    everything: bool = False
    own: bool = False
    rejected: bool = False
    comment: str = Field(default="", max_length=2000)
    reviewer: Name | None = None

    @model_validator(mode="after")
    def _something_is_meant(self) -> ApproveSettings:
        if not (self.annotator or self.queries or self.volumes or self.everything):
            raise ValueError(
                "nothing was named: name masks with --annotator, --query or --volume, or take all "
                "with --all"
            )
        return self
