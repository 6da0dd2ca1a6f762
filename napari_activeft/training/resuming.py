"""What a stopped run needs to go on as if it had not stopped, and whether it may."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_activeft.errors import UserError
from napari_activeft.training.learning import LayerGradient
from napari_activeft.training.network_spec import NetworkSpec, spec_from_json, spec_to_json
from napari_activeft.training.run_files import read_resume, write_resume

if TYPE_CHECKING:
    from napari_activeft.settings import TrainSettings
    from napari_activeft.training.dataset import SliceDataset
    from napari_activeft.training.loop import Loop

# What changes how a run is computed, but not what comes out.
_MAY_DIFFER = {"threads", "workers", "checkpoint_every", "device", "scan", "start", "resume", "run"}


def fingerprint(dataset: SliceDataset | None) -> int:
    """Return a checksum over slices and their labels."""
    total = 0
    for one in [] if dataset is None else dataset.examples:
        total = zlib.crc32(f"{one.volume.name} {one.position} {one.target.shape}".encode(), total)
        total = zlib.crc32(one.target.tobytes(), total)
    return total


def keep_state(loop: Loop, folder: Path, spec: NetworkSpec, slices: int, seconds: float) -> None:
    """Write ``resume.pt``.

    Parameters
    ----------
    slices
        The `fingerprint` of what is trained on.
    seconds
        Spent so far.
    """
    course = dataclasses.asdict(loop.course) | {"seconds": seconds}
    content = {
        "spec": spec_to_json(spec),
        "settings": loop.settings.model_dump(mode="json"),
        "slices": slices,
        "course": course,
        "frozen": sorted(loop.learning.frozen),
        "network": loop.learning.network.state_dict(),
        "mean": loop.mean.state(),
        "optimiser": loop.optimiser.state_dict(),
        "precision": loop.fabric._precision.state_dict(),
        "probe": loop.probe.state(),
    }
    write_resume(folder, content)


def take_state(loop: Loop, folder: Path, spec: NetworkSpec, slices: int) -> None:
    """Put a run back to where ``resume.pt`` left it.

    Raises
    ------
    UserError
        If there is none, or it is of another network, other settings or other labels.
    """
    content = read_resume(folder)
    _see_same(content, loop.settings, spec, slices, folder)
    loop.freeze(list(content["frozen"]))
    loop.learning.network.load_state_dict(content["network"])
    loop.mean.load(content["mean"])
    loop.optimiser.load_state_dict(content["optimiser"])
    if content["precision"]:
        loop.fabric._precision.load_state_dict(content["precision"])
    loop.probe.load(content["probe"])
    course = dict(content["course"])
    course["layers"] = [LayerGradient(**layer) for layer in course["layers"]]
    loop.course = type(loop.course)(**course)


def _see_same(
    content: Mapping[str, Any],
    settings: TrainSettings,
    spec: NetworkSpec,
    slices: int,
    folder: Path,
) -> None:
    if not spec_from_json(content["spec"]).is_like(spec):
        raise UserError(
            f"{folder} holds a run of another network, {content['spec']['network']}, or of other "
            f"classes than this one of {spec.network}: start a new run without --resume"
        )
    before, after = content["settings"], settings.model_dump(mode="json")
    other = [n for n in after if n not in _MAY_DIFFER and before.get(n) != after[n]]
    if other:
        raise UserError(
            f"the run in {folder} was started with another {', '.join(other)}: resume it with the "
            "same settings, or start a new run"
        )
    see_same_labels(content["slices"] == slices, folder)


def see_same_labels(same: bool, folder: Path) -> None:
    """Refuse to go on with a run whose labels have changed.

    Raises
    ------
    UserError
        If they are not the same.
    """
    if not same:
        raise UserError(
            f"the labels have changed since the run in {folder} was stopped: start a new run, "
            "which takes them all"
        )
