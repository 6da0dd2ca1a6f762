"""`pretrain`: the slices of a project's pool adapt an encoder, without any label.

The result lies in ``encoders/NAME`` of the project and is an encoder like any other: `embed` takes
it by its name, `train` starts from it by ``start=encoder:NAME``.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.annotation_db import JobRecord, pool_checksum
from napari_activeft.embedding.engine import drawn
from napari_activeft.encoder_sources import (
    OwnEncoder,
    bundled_encoder,
    encoder_file,
    encoders_folder,
    known_encoders,
    own_encoders,
    read_encoder,
)
from napari_activeft.errors import OnProgress, Problem, UserError, no_progress
from napari_activeft.extras import need_compute
from napari_activeft.kept_weights import file_of
from napari_activeft.pool_stacks import stacks_of
from napari_activeft.project import Project
from napari_activeft.reports.pretraining_page import write_pretraining_page
from napari_activeft.results.pretraining import PretrainResult
from napari_activeft.settings import PretrainSettings
from napari_activeft.settings.learning import AUTO, ENCODER, RANDOM
from napari_activeft.training.pretrain_files import RECORD
from napari_activeft.training.progress import Progress, Watcher
from napari_activeft.training.run_files import RESUME
from napari_activeft.training.unlabelled import Pictures
from napari_activeft.training.whole_files import sole_process

if TYPE_CHECKING:
    from torch import nn

    from napari_activeft.embedding.quality import Quality

LOCK, PAGE = ".running", "report.html"
_GIVEN_ANEW = ("threads", "device", "scan")
"""Of one that goes on by its own settings: these change what computes, not what is learnt."""
_ITS_OWN = (*_GIVEN_ANEW, "name", "resume")


def pretrain_encoder(
    project: Project, settings: PretrainSettings, on_progress: OnProgress = no_progress
) -> PretrainResult:
    """Adapt an encoder to the pool, or go on with one that was stopped.

    Parameters
    ----------
    on_progress
        Called with (steps done, steps), before that with (slices read, slices to read). A
        `Watcher` also gets the loss and the log. Where it raises `Cancelled` the encoder is kept
        as far as it came, to be resumed.

    Raises
    ------
    UserError
        If the pool is empty, or the encoder cannot go on; what was kept stays.
    """
    need_compute("pre-training")
    settings = settings.absolute()
    if settings.resume:
        stopped = _stopped(project, settings.name)
        own = PretrainSettings.model_validate(stopped.record["settings"])
        known: dict[str, Any] = {"resume": True, "name": stopped.name}
        for name in _GIVEN_ANEW:
            if getattr(settings, name) != PretrainSettings.model_fields[name].default:
                known[name] = getattr(settings, name)
        settings = own.model_copy(update=known)
    else:
        settings = settings.model_copy(update={"name": _free_name(project, settings.name)})
    folder = encoders_folder(project.folder) / str(settings.name)
    with _sole_process(folder):
        pictures, problems = _pictures(project, settings, on_progress)
        return _learnt(project, settings, folder, pictures, problems, on_progress)


def encoder_of_job(project: Project, job: JobRecord) -> OwnEncoder | None:
    """Return the encoder that a job of `pretrain` began and did not end; None without one."""
    if job.started_at is None:
        return None
    for one in own_encoders(project.folder):
        told = one.record["settings"]
        alike = all(
            told.get(name) == value for name, value in job.settings.items() if name not in _ITS_OWN
        )
        if (
            _can_go_on(one)
            and alike
            and one.record.get("made_at", "") >= job.started_at.isoformat()
        ):
            return one
    return None


def _can_go_on(one: OwnEncoder) -> bool:
    return not one.over and (one.folder / RESUME).is_file()


def _stopped(project: Project, name: str | None) -> OwnEncoder:
    found = [one for one in own_encoders(project.folder) if name in (None, one.name)]
    waiting = [one for one in found if _can_go_on(one)]
    if waiting:
        return waiting[-1]
    which = f"{name} was" if name else "no pre-training of this project was"
    raise UserError(
        f"--resume was given, but {which} {'not ' if name else ''}stopped in the middle: leave it "
        "out to start one"
    )


def _free_name(project: Project, asked: str | None) -> str:
    folder, taken = encoders_folder(project.folder), known_encoders(project.folder)
    if asked is None:
        names = (f"own-{number}" for number in itertools.count(1))
        return next(name for name in names if not (folder / name / RECORD).exists())
    if asked in taken:
        raise UserError(
            f"an encoder is called {asked} already: choose another --name, or go on with a "
            "stopped one by --resume"
        )
    return asked


def _pictures(
    project: Project, settings: PretrainSettings, on_progress: OnProgress
) -> tuple[Pictures, tuple[Problem, ...]]:
    """Read slices spread over the pool as small pictures."""
    pool = project.store.pool_slices()
    if not pool:
        raise UserError("the pool is empty: add volumes with `napari-activeft add FOLDER`")
    stacks = stacks_of(project, pool)
    case_of = {row.key: row.case for row in pool}
    stack_of = {key: at for at, stack in enumerate(stacks) for key in stack.keys}
    values: list[NDArray[np.uint8]] = []
    keys: list[str] = []
    positions: list[int] = []
    problems: list[Problem] = []
    for piece in drawn(stacks, settings.size, settings.slices, settings.seed, on_progress):
        if piece.pictures is None:
            problems.append(Problem(piece.stack.name, str(piece.refusal)))
            continue
        values.append(np.rint(piece.pictures * 255).astype(np.uint8))
        keys += piece.keys
        positions += piece.stack.positions
    if not values:
        raise UserError(
            "no image of the pool could be read: `napari-activeft doctor` says how to mend them"
        )
    made = Pictures(
        np.concatenate(values),
        [stack_of[key] for key in keys],
        positions,
        [case_of[key] for key in keys],
    )
    return made, tuple(problems)


def _learnt(
    project: Project,
    settings: PretrainSettings,
    folder: Path,
    pictures: Pictures,
    problems: tuple[Problem, ...],
    on_progress: OnProgress,
) -> PretrainResult:
    from napari_activeft.training.pretrain import pretrain

    watcher = on_progress if isinstance(on_progress, Watcher) else None

    def course(progress: Progress, _: Quality | None) -> None:
        if watcher is not None:
            watcher.course(progress)
        on_progress(progress.step, progress.steps)

    about = _about(project, settings, folder, pictures)
    made = pretrain(
        pictures,
        _network(settings, about["channels"]),
        settings,
        folder,
        about,
        start=lambda network: _started(network, settings, project.folder),
        on_progress=course,
        on_log=watcher.say if watcher is not None else lambda _: None,
    )
    write_pretraining_page(folder, folder / PAGE)
    return PretrainResult(
        name=folder.name,
        folder=folder,
        network=settings.encoder,
        objective=settings.objective,
        weight_hash=made.weight_hash,
        slices=len(pictures),
        cases=len(set(pictures.cases)),
        steps=made.steps,
        seconds=made.seconds,
        before=made.before,
        after=made.after,
        notes=made.notes,
        page=folder / PAGE,
        problems=problems,
    )


def _about(
    project: Project, settings: PretrainSettings, folder: Path, pictures: Pictures
) -> dict[str, Any]:
    """Return what the record says of where the encoder comes from."""
    known = (folder / RECORD).is_file()
    made_at = read_encoder(folder).record.get("made_at") if known else None
    return {
        "name": folder.name,
        "network": settings.encoder,
        "channels": int(pictures.values.shape[1]),
        "slices": len(pictures),
        "cases": len(set(pictures.cases)),
        "pool": pool_checksum(project.store.pool_slices()),
        "made_at": made_at or datetime.now(UTC).isoformat(),
    }


def _network(settings: PretrainSettings, channels: int) -> nn.Module:
    import torch

    from napari_activeft.devices import pick_device
    from napari_activeft.embedding.network import input_channels
    from napari_activeft.models.registry import MODELS, build_model
    from napari_activeft.models.scan_backends import choose_scan

    card = MODELS.get(settings.encoder)
    if card is None or card.kind != "encoder":
        names = [name for name, one in MODELS.items() if one.kind == "encoder"]
        raise UserError(
            f"{settings.encoder!r} was to be pre-trained, but it is no network that embeds: take "
            f"one of {', '.join(names)}"
        )
    scan = None if settings.scan == AUTO else settings.scan
    try:
        choose_scan(scan, pick_device(settings.device), torch.float32)
        return build_model(
            settings.encoder,
            channels=input_channels(channels),
            classes=1,
            scan=scan,
            seed=settings.seed,
        )
    except (RuntimeError, ValueError) as refusal:
        raise UserError(str(refusal)) from refusal


def _started(network: nn.Module, settings: PretrainSettings, project: Path) -> str:
    """Put the first weights into the network and say which."""
    from napari_activeft.weights import load_weights

    asked = settings.start
    if asked == RANDOM:
        return "starts from random weights"
    if asked.startswith(ENCODER):
        named = asked.removeprefix(ENCODER)
        load_weights(network, encoder_file(named, project), settings.encoder)
        return f"starts from {named}"
    bundled = bundled_encoder()
    if file_of(settings.encoder).is_file():
        load_weights(network, file_of(settings.encoder), settings.encoder)
        return f"starts from the kept weights of {settings.encoder}"
    if bundled is not None and bundled.network == settings.encoder:
        load_weights(network, bundled.weights, settings.encoder)
        return f"starts from {bundled.name}, which comes with the program"
    return "starts from random weights"


@contextmanager
def _sole_process(folder: Path) -> Iterator[None]:
    """Keep a second program from working on the same encoder; leave nothing of a vain start."""
    try:
        with sole_process(folder, LOCK, "encoder"):
            yield
    finally:
        if not (folder / RECORD).is_file():
            shutil.rmtree(folder, ignore_errors=True)
