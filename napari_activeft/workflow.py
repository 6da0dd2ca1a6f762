"""The verbs of the program, in the order in which a project goes through them.

``init add classes embed select compare next submit import-labels export info doctor``: a verb, a
project, one settings object; each hands back a result of `results`. The command line and the viewer
call these and nothing below them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_activeft.annotation_db import (
    ImportCounts,
    StoreError,
)
from napari_activeft.cases import SplitRule, case_rule, read_splits
from napari_activeft.choosing import open_round
from napari_activeft.class_table import changed_classes, classes_for
from napari_activeft.comparison import compare as run_comparison
from napari_activeft.comparison_pools import feature_sets
from napari_activeft.comparison_tables import Comparison
from napari_activeft.errors import OnProgress, Problem, UserError, no_progress
from napari_activeft.examination import image_faults
from napari_activeft.exports import ClassLabel, LabelledVolume
from napari_activeft.exports import export as write_export
from napari_activeft.files import find_volumes
from napari_activeft.geometry import Geometry
from napari_activeft.handing_out import hand_out
from napari_activeft.intake import Intake
from napari_activeft.label_maps import import_volume, label_values
from napari_activeft.overview import overview
from napari_activeft.pool_features import embed_pool
from napari_activeft.project import Project
from napari_activeft.results import (
    AddResult,
    ClassesResult,
    DoctorResult,
    EmbedResult,
    ExportResult,
    ImportResult,
    InfoResult,
    InitResult,
    NextResult,
    SelectResult,
    SubmitResult,
)
from napari_activeft.settings import (
    AddSettings,
    CompareSettings,
    DoctorSettings,
    EmbedSettings,
    ExportSettings,
    ImportSettings,
    InitSettings,
    NextSettings,
    SelectSettings,
    SubmitSettings,
)
from napari_activeft.ticket import Ticket, read_ticket
from napari_activeft.vectors import write_vectors
from napari_activeft.volume import read_mask
from napari_activeft.whole_folder import whole_folder


def init(folder: Path, settings: InitSettings = InitSettings()) -> InitResult:
    """Make a project in a folder."""
    with Project.create(folder, settings.name, {"plane": settings.plane}) as project:
        return InitResult(project.folder, project.store.project().name, settings.plane)


def add(
    project: Project,
    path: Path,
    settings: AddSettings = AddSettings(),
    on_progress: OnProgress = no_progress,
) -> AddResult:
    """Take a folder's volumes into the pool; adding it again takes what is new.

    Parameters
    ----------
    path
        A folder, or one image file.
    on_progress
        Called with (volumes done, volumes found); what was stored stays if it raises `Cancelled`.
    """
    splits = SplitRule(
        None if settings.split is None else read_splits(settings.split),
        val_share=settings.val_share,
        test_share=settings.test_share,
        seed=settings.split_seed,
    )
    found = find_volumes(
        path,
        labels=settings.labels,
        ignore=settings.ignore,
        channels=settings.channels,
        stack=settings.stack,
    )
    case_of, rule_in_words = case_rule(settings.case, [volume.name for volume in found.volumes])
    intake = Intake(project, found, case_of, splits)
    intake.run(on_progress)
    largest, of_largest = max(
        intake.volumes_of_case.items(), key=lambda item: item[1], default=(None, 0)
    )
    return AddResult(
        added=intake.added,
        known=intake.known,
        moved=intake.moved,
        slices=intake.slices,
        cases=dict(intake.cases),
        case_rule=rule_in_words,
        largest_case=largest,
        largest_case_volumes=of_largest,
        label_maps=intake.label_maps,
        other_files=found.other_files,
        problems=intake.problems,
    )


def classes(
    project: Project,
    written: Sequence[str] = (),
    *,
    remove: Sequence[int] = (),
    from_labels: bool = False,
    on_progress: OnProgress = no_progress,
) -> ClassesResult:
    """Show the class table, or change it first.

    Parameters
    ----------
    written, remove
        Classes to add or change, and values to remove; see `class_table.changed_classes`.
    from_labels
        Also give every value that occurs in a label map a class, called "class N".
    """
    before = project.store.classes()
    after = changed_classes(before, written, remove)
    if from_labels:
        values = label_values(project, on_progress)
        after = changed_classes(after, classes_for(values, after))
    if after != before:
        project.store.set_classes(after, project.actor)
    return ClassesResult(after)


def embed(
    project: Project,
    settings: EmbedSettings = EmbedSettings(),
    on_progress: OnProgress = no_progress,
) -> EmbedResult:
    """Give every slice of the pool its vector; what has one keeps it.

    A volume that cannot be read is listed and stops no other.

    Parameters
    ----------
    on_progress
        Called with (slices that have a vector, slices); what is done stays if it raises
        `Cancelled`.
    """
    made = embed_pool(project, settings, on_progress)
    if settings.out is not None:
        write_vectors(project, settings.out, made, l2=settings.l2)
    return EmbedResult(
        encoder=made.encoder,
        weight_hash=made.weight_hash,
        random_weights=made.random_weights,
        folder=made.folder,
        size=made.size,
        pool_slices=len(project.store.pool_slices()),
        embedded=made.slices,
        computed=made.computed,
        seconds=made.seconds,
        device=made.device,
        precision=made.precision,
        scan=made.scan,
        out=settings.out,
        problems=list(made.problems),
    )


def select(
    project: Project,
    settings: SelectSettings = SelectSettings(),
    on_progress: OnProgress = no_progress,
) -> SelectResult:
    """Choose the slices to label next, queue them, and write a report.

    Slices that were queried, or that have an accepted mask, are not chosen again; they count as
    support. Nothing is queued if ``on_progress`` raises `Cancelled`.
    """
    return open_round(project, settings, on_progress)


def compare(
    project: Project | None,
    settings: CompareSettings = CompareSettings(),
    on_progress: OnProgress = no_progress,
) -> Comparison:
    """Set selectors against each other on the project's vectors, or on those of files.

    Nothing is queued. Runs that an earlier comparison in the same folder holds are not repeated.
    """
    out = settings.out
    if out is None:
        out = Path("comparison") if project is None else project.folder / "reports" / "comparison"
    return run_comparison(
        feature_sets(project, settings),
        settings.selectors,
        settings.budgets,
        range(settings.seeds),
        out,
        reference=settings.reference,
        draws=settings.draws,
        settings=settings.choice,
        on_progress=on_progress,
    )


def next_query(project: Project, settings: NextSettings) -> NextResult:
    """Lease the next query to an annotator and write its picture and ticket.

    A query whose image cannot be read is listed and goes back into the queue; the next one is
    taken in its place.
    """
    handed = hand_out(project, settings)
    waiting = project.store.waiting_count()
    if handed.lease is None:
        return NextResult(None, None, None, None, None, None, waiting, handed.problems)
    return NextResult(
        query=handed.lease.query_id,
        volume=handed.volume,
        position=handed.lease.position,
        ticket=handed.ticket,
        image=handed.image,
        expires_at=handed.lease.expires_at,
        waiting=waiting,
        problems=handed.problems,
    )


def submit(project: Project, settings: SubmitSettings) -> SubmitResult:
    """Answer a query with a mask, or say why there is none."""
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
    mask = _answer(ticket, settings.mask)
    revision = store.submit(
        ticket.token, mask, seconds_spent=settings.seconds, on_top=settings.on_top
    )
    counts = np.bincount(mask.ravel())
    names = {record.value: record.name for record in store.classes()}
    pixels = {names[v]: int(counts[v]) for v in np.flatnonzero(counts).tolist() if v}
    answer = "mask" if pixels else "empty"
    return SubmitResult(ticket.query, answer, revision.revision_id, pixels, store.waiting_count())


def _answer(ticket: Ticket, mask: Path | None) -> np.ndarray[Any, Any]:
    if mask is None:
        return np.zeros(ticket.shape, dtype=np.uint8)
    return read_mask(mask, ticket.shape)


def import_labels(
    project: Project,
    settings: ImportSettings = ImportSettings(),
    on_progress: OnProgress = no_progress,
) -> ImportResult:
    """Turn the label maps that `add` found into accepted masks.

    Masks that people made stay; a label map that does not fit is listed and stops no other.
    """
    store = project.store
    queried: dict[int, set[int]] = {}
    for query in store.queries():
        queried.setdefault(query.volume_id, set()).add(query.position)
    if settings.only_queried and not queried:
        raise UserError(
            "no slice was selected yet, and only selected ones were to be imported: select some "
            "with `napari-activeft select`"
        )
    volumes = [v for v in store.volumes() if not settings.only_queried or v.volume_id in queried]
    with_labels = [volume for volume in volumes if volume.label_file]
    if not with_labels:
        raise UserError(
            "none of these volumes has a label map: add their folder again with --labels, for "
            "example `napari-activeft add FOLDER --labels '*_gt.nii.gz'`"
        )
    counts, problems = ImportCounts(0, 0, 0), []
    for done, volume in enumerate(with_labels, start=1):
        positions = queried[volume.volume_id] if settings.only_queried else None
        try:
            counts += import_volume(project, volume, positions, settings.author)
        except (UserError, StoreError) as refusal:
            problems.append(Problem(str(project.label_path(volume)), str(refusal)))
        on_progress(done, len(with_labels))
    return ImportResult(
        label_maps=len(with_labels) - len(problems),
        stored=counts.stored,
        kept=counts.kept,
        leased=counts.leased,
        without_label_map=len(volumes) - len(with_labels),
        problems=problems,
    )


def export(
    project: Project,
    settings: ExportSettings = ExportSettings(),
    on_progress: OnProgress = no_progress,
) -> ExportResult:
    """Write the accepted masks as a data set of another tool.

    The folder appears only when it is complete; an earlier export stays until then.
    """
    out = settings.out or project.folder / "exports" / settings.format
    with whole_folder(out, overwrite=settings.overwrite) as staging:
        report = write_export(
            settings.format,
            _labelled_volumes(project),
            [ClassLabel(c.value, c.name, c.colour) for c in project.store.classes()],
            staging,
            name=project.store.project().name,
            on_progress=on_progress,
        )
    return ExportResult(
        settings.format, out, report.volumes, report.slices, report.files, list(report.notes)
    )


def _labelled_volumes(project: Project) -> list[LabelledVolume]:
    accepted = {record.volume_id for record in project.store.accepted()}
    return [
        LabelledVolume(
            case=volume.case,
            name=volume.name,
            split=volume.split,
            source=project.source(volume),
            geometry=Geometry.from_json(volume.geometry),
            axis=volume.axis,
            masks=partial(project.store.accepted_masks, volume.volume_id),
            intensity_range=tuple((low, high) for low, high in volume.intensity_range),
        )
        for volume in project.store.volumes()
        if volume.volume_id in accepted
    ]


def info(project: Project | None) -> InfoResult:
    """Say what a project holds and what the program is; without a project only the latter."""
    return overview(project)


def doctor(
    project: Project,
    settings: DoctorSettings = DoctorSettings(),
    on_progress: OnProgress = no_progress,
) -> DoctorResult:
    """Check database, masks and image files, and say how to mend what is wrong.

    Nothing is changed unless ``mend`` or ``backup`` is set. A damaged database is neither mended
    nor copied: the copy would be the newest backup, and as damaged.
    """
    store = project.store
    faults = store.check(on_progress)
    if any(fault.subject == "database" for fault in faults):
        return DoctorResult(project.folder, 0, 0, faults, 0, None)
    backup = store.back_up(project.folder / "backups") if settings.backup else None
    mended = store.mend_queue() if settings.mend else 0
    volumes = store.volumes()
    if mended:
        faults = store.check()
    masks = store.mask_count()
    for done, volume in enumerate(volumes, start=1):
        faults += image_faults(project, volume, quick=settings.quick)
        on_progress(masks + done, masks + len(volumes))
    return DoctorResult(project.folder, masks, len(volumes), faults, mended, backup)
