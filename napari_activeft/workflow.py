"""The verbs of the program, in the order in which a project goes through them.

``init add classes pretrain embed select compare next submit import-labels train predict accept
reject approve evaluate simulate export info doctor``: a verb, a project, one settings object; each
hands back a result of `results`. The command line and the viewer call these and nothing below them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_activeft.answering import answer_query
from napari_activeft.choosing import open_round
from napari_activeft.class_table import changed_classes, classes_for
from napari_activeft.comparison import compare as run_comparison
from napari_activeft.comparison_pools import feature_sets
from napari_activeft.comparison_tables import Comparison
from napari_activeft.errors import OnProgress, no_progress
from napari_activeft.evaluating import evaluate_predictions
from napari_activeft.examination import examine_project
from napari_activeft.exporting import export_project
from napari_activeft.handing_out import hand_out
from napari_activeft.intake import take_folder
from napari_activeft.label_maps import label_values
from napari_activeft.labels_import import import_label_maps
from napari_activeft.overview import overview
from napari_activeft.pool_features import embed_pool
from napari_activeft.predicting import predict_volumes
from napari_activeft.pretraining import pretrain_encoder
from napari_activeft.project import Project
from napari_activeft.results import (
    AcceptResult,
    AddAllResult,
    AddResult,
    ApproveResult,
    ClassesResult,
    DoctorResult,
    EmbedResult,
    EvaluateResult,
    ExportResult,
    ImportResult,
    InfoResult,
    InitResult,
    NextResult,
    PredictResult,
    PretrainResult,
    RejectResult,
    SelectResult,
    SimulateResult,
    SubmitResult,
    TrainResult,
)
from napari_activeft.reviewing import accept_proposals, approve_masks, reject_masks
from napari_activeft.settings import (
    AcceptSettings,
    AddAllSettings,
    AddSettings,
    ApproveSettings,
    CompareSettings,
    DoctorSettings,
    EmbedSettings,
    EvaluateSettings,
    ExportSettings,
    ImportSettings,
    InitSettings,
    NextSettings,
    PredictSettings,
    PretrainSettings,
    RejectSettings,
    SelectSettings,
    SimulateSettings,
    SubmitSettings,
    TrainSettings,
)
from napari_activeft.simulation.running import simulate_project
from napari_activeft.training_round import train_run
from napari_activeft.vectors import write_vectors


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
    return take_folder(project, path, settings, on_progress)


def add_all(
    project: Project, settings: AddAllSettings, on_progress: OnProgress = no_progress
) -> AddAllResult:
    """Take several folders or files into the pool, each as `add` does.

    Parameters
    ----------
    on_progress
        Called with (paths done and parts of the next, in thousandths of a path; all of them).
    """
    common = AddSettings(**settings.model_dump(exclude={"paths"}))
    taken: dict[str, AddResult] = {}
    paths = list(dict.fromkeys(settings.paths))
    for at, path in enumerate(paths):

        def part(done: int, total: int, at: int = at) -> None:
            on_progress(1000 * at + 1000 * done // max(total, 1), 1000 * len(paths))

        taken[str(path)] = add(project, path, common, part)
    return AddAllResult(taken)


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


def pretrain(
    project: Project,
    settings: PretrainSettings = PretrainSettings(),
    on_progress: OnProgress = no_progress,
) -> PretrainResult:
    """Adapt an encoder to the pool without any label, and keep it in the project.

    Where ``on_progress`` raises `Cancelled` it is kept as far as it came: with
    ``settings.resume`` it goes on from there.
    """
    return pretrain_encoder(project, settings, on_progress)


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
        why=made.why,
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
    return answer_query(project, settings)


def import_labels(
    project: Project,
    settings: ImportSettings = ImportSettings(),
    on_progress: OnProgress = no_progress,
) -> ImportResult:
    """Turn the label maps that `add` found into accepted masks.

    Masks that people made stay; a label map that does not fit is listed and stops no other.
    """
    return import_label_maps(project, settings, on_progress)


def train(
    project: Project,
    settings: TrainSettings = TrainSettings(),
    on_progress: OnProgress = no_progress,
) -> TrainResult:
    """Train a network on the accepted masks and keep it as a run.

    Where ``on_progress`` raises `Cancelled` the run is kept as far as it came: with
    ``settings.resume`` it goes on from there.
    """
    return train_run(project, settings, on_progress)


def predict(
    project: Project,
    settings: PredictSettings = PredictSettings(),
    on_progress: OnProgress = no_progress,
) -> PredictResult:
    """Predict volumes by trained networks, propose the masks, and keep how uncertain each slice is.

    A volume that cannot be read is listed and stops no other; what is done stays if
    ``on_progress`` raises `Cancelled`.
    """
    return predict_volumes(project, settings, on_progress)


def accept(
    project: Project, settings: AcceptSettings, on_progress: OnProgress = no_progress
) -> AcceptResult:
    """Take what a run proposes as masks; masks that count already stay unless that is asked."""
    return accept_proposals(project, settings, on_progress)


def reject(
    project: Project, settings: RejectSettings, on_progress: OnProgress = no_progress
) -> RejectResult:
    """Refuse a run's proposals or people's masks; slices without a mask are asked again."""
    return reject_masks(project, settings, on_progress)


def approve(
    project: Project, settings: ApproveSettings, on_progress: OnProgress = no_progress
) -> ApproveResult:
    """Stand by masks that other people submitted; nobody approves his own unless that is asked."""
    return approve_masks(project, settings, on_progress)


def evaluate(
    project: Project,
    settings: EvaluateSettings = EvaluateSettings(),
    on_progress: OnProgress = no_progress,
) -> EvaluateResult:
    """Measure predictions against the truth, and write tables and a page.

    A volume that cannot be measured is listed and stops no other; nothing is written if
    ``on_progress`` raises `Cancelled`.
    """
    return evaluate_predictions(project, settings, on_progress)


def simulate(
    project: Project,
    settings: SimulateSettings = SimulateSettings(),
    on_progress: OnProgress = no_progress,
) -> SimulateResult:
    """Try selectors, budgets and networks on label maps that are there, and write learning curves.

    Nothing is stored in the project; the trainings that were done stay if ``on_progress`` raises
    `Cancelled`, and another call goes on from there.
    """
    return simulate_project(project, settings, on_progress)


def export(
    project: Project,
    settings: ExportSettings = ExportSettings(),
    on_progress: OnProgress = no_progress,
) -> ExportResult:
    """Write the accepted masks as a data set of another tool.

    The folder appears only when it is complete; an earlier export stays until then.
    """
    return export_project(project, settings, on_progress)


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
    return examine_project(project, settings, on_progress)
