"""Where the weights of a run come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_activeft.errors import UserError
from napari_activeft.kept_weights import file_of
from napari_activeft.models.checkpoint_files import CheckpointError
from napari_activeft.models.encoder_start import load_encoder
from napari_activeft.settings.learning import AUTO, ENCODER, RUN
from napari_activeft.taken_weights import encoder_names
from napari_activeft.training.network_spec import NetworkSpec
from napari_activeft.training.networks import PlainUNet
from napari_activeft.training.run_files import FOLD, NETWORK, SavedNetwork, put_weights
from napari_activeft.weights import weights_path

if TYPE_CHECKING:
    from napari_activeft.models.segmenter import Segmenter
    from napari_activeft.settings import TrainSettings

RunFolder = Callable[[int], Path]
EncoderFile = Callable[[str], Path]
_RANDOM = "starts from random weights"


@dataclass(frozen=True)
class FirstWeights:
    """What a network begins with.

    Attributes
    ----------
    put
        Puts the weights into a fresh network and says so in a sentence; raises `UserError` where
        they do not fit.
    cases
        Cases whose labels taught them; None where nobody knows.
    before_refit
        The weights of the same run before it learnt from the cases that it had held back.
    """

    put: Callable[[Segmenter], str]
    cases: frozenset[str] | None = frozenset()
    before_refit: FirstWeights | None = None


RANDOM_WEIGHTS = FirstWeights(lambda _: _RANDOM)


def kept_file(named: str) -> Path:
    """Return a file of weights by its path, or that of the user's cache by the encoder's name."""
    return Path(named) if Path(named).is_file() else weights_path(named)


def starter(
    settings: TrainSettings,
    spec: NetworkSpec,
    run_folder: RunFolder,
    encoder_file: EncoderFile = kept_file,
) -> FirstWeights:
    """Return what the first weights of a run are, by its settings.

    Parameters
    ----------
    run_folder
        Gives the folder of a run of this project.
    encoder_file
        Gives the file of an encoder's weights by its name or path.
    """
    asked = "random" if settings.learns == "scratch" else settings.start
    if asked.startswith(RUN):
        number = int(asked.removeprefix(RUN))
        return _of_run(spec, number, run_folder(number))
    if asked.startswith(ENCODER):
        named = asked.removeprefix(ENCODER)
        return FirstWeights(lambda network: _from_encoder(network, named, encoder_file(named)))
    if asked == AUTO:
        return FirstWeights(lambda network: _from_what_is_kept(network) or _warned(settings))
    return FirstWeights(lambda _: _warned(settings))


def see_start(
    settings: TrainSettings,
    spec: NetworkSpec,
    run_folder: RunFolder,
    encoder_file: EncoderFile = kept_file,
) -> None:
    """See that the weights to start from are there, before anything is begun.

    Raises
    ------
    UserError
        If a run or an encoder is named that cannot be had.
    """
    if settings.learns == "scratch":
        return
    if settings.start.startswith(RUN):
        number = int(settings.start.removeprefix(RUN))
        _see_run(spec, number, run_folder(number))
    elif settings.start.startswith(ENCODER):
        encoder_file(settings.start.removeprefix(ENCODER))


def _warned(settings: TrainSettings) -> str:
    """Say that nothing was loaded, and what that means where the encoder does not learn."""
    if settings.learns in ("decoder", "lora"):
        return (
            f"{_RANDOM}, and learns={settings.learns} leaves the encoder so: give it weights by "
            "start=encoder:NAME or start=run:N"
        )
    return _RANDOM


def _from_encoder(network: Segmenter, named: str, path: Path) -> str:
    if isinstance(network, PlainUNet):
        raise UserError(
            f"the encoder weights {named} were given to a U-Net of MONAI, which has another "
            "encoder: take one of our networks, or start=random"
        )
    try:
        started = load_encoder(network, path)
    except CheckpointError as refusal:
        raise UserError(f"the encoder cannot start from {named}: {refusal}") from refusal
    return f"starts from {named}: {len(started.taken)} weights of the encoder"


def _from_what_is_kept(network: Segmenter) -> str | None:
    """Start from the first kept weights that fit; None where none do."""
    if isinstance(network, PlainUNet):
        return None
    for name in encoder_names():
        if not file_of(name).is_file():
            continue
        try:
            started = load_encoder(network, file_of(name))
        except CheckpointError:  # another size or generation
            continue
        return f"starts from the kept weights {name}: {len(started.taken)} weights of the encoder"
    return None


def _of_run(spec: NetworkSpec, number: int, folder: Path) -> FirstWeights:
    """Return the weights that a run ended with, and those of its fold if it had one."""

    def put(network: Segmenter, where: Path) -> str:
        saved = _see_run(spec, number, where)
        put_weights(network, saved.weights(), str(saved.weights_path), spec)
        when = "" if where == folder else ", as it was before it learnt from the cases it held back"
        other = "" if saved.view == spec.view else ", which saw slices at another scale or size"
        return f"starts from run {number}{when}{other}"

    ended, fold, before = _kept(folder), folder / FOLD, None
    # Another run's folder may hold a fold that was broken off.
    if ended is not None and ended.monitor == "folds" and (fold / NETWORK).is_file():
        before = FirstWeights(lambda network: put(network, fold), _cases_of(_kept(fold)))
    return FirstWeights(lambda network: put(network, folder), _cases_of(ended), before)


def _kept(folder: Path) -> SavedNetwork | None:
    """Read a run's network; None where it cannot be read, as a run that goes on need not."""
    try:
        return SavedNetwork.read(folder)
    except UserError:
        return None


def _cases_of(saved: SavedNetwork | None) -> frozenset[str] | None:
    """Return whose labels taught a network; None where nobody knows."""
    return None if saved is None or saved.cases is None else frozenset(saved.cases)


def _see_run(spec: NetworkSpec, number: int, folder: Path) -> SavedNetwork:
    """Return the network of a run that another one can start from."""
    if not folder.is_dir():
        raise UserError(f"run {number} is to be started from, but this project has no such run")
    saved = SavedNetwork.read(folder)
    before = saved.spec
    if [one.value for one in before.classes] != [one.value for one in spec.classes]:
        raise UserError(
            f"run {number} learnt the classes {_listed(before)}, and the project has "
            f"{_listed(spec)} now: start from random weights or from an encoder"
        )
    if (before.network, before.channels) != (spec.network, spec.channels):
        raise UserError(
            f"run {number} trained {before.network} with {before.channels} input channels, and "
            f"{spec.network} with {spec.channels} is to be trained: name the same network and "
            "context, or start from random weights"
        )
    return saved


def _listed(spec: NetworkSpec) -> str:
    return ", ".join(f"{one.value}={one.name}" for one in spec.classes) or "none"
