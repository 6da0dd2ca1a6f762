"""Which encoder a name stands for: its network, its weights, the side of its pictures.

A network's weights are those of the user's cache (`weights`); one encoder comes with the program;
and ``pretrain`` leaves encoders of the project's own in its folder ``encoders``, one a folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from napari_activeft.embedding.encoder import WEIGHTLESS
from napari_activeft.errors import UserError
from napari_activeft.kept_weights import file_of
from napari_activeft.settings.learning import AUTO, ENCODER
from napari_activeft.training.pretrain_files import RECORD, WEIGHTS
from napari_activeft.weights import WeightEntry, list_weights, weights_path

BUNDLED: Final = "vmamba_micro_medical"
OFFICIAL: Final = "vmamba_small_s2l15"
WITH_THE_PROGRAM: Final = "comes with the program"
DEFAULT: Final = "hog"
"""What did best of all that needs no download, see the table of encoders in docs/benchmarks.md."""
_BUNDLED_FOLDER: Final = Path(__file__).parent / "bundled_encoder"


@dataclass(frozen=True)
class OwnEncoder:
    """An encoder that was pre-trained, and the folder that holds it.

    Attributes
    ----------
    name
        Of its folder.
    network
        A name in `models.registry.MODELS`.
    side
        Of the pictures that it embeds, in pixels.
    channels
        Of the pictures that it learnt from.
    over
        Whether its pre-training came to its end.
    record
        All that ``encoder.json`` says.
    """

    name: str
    folder: Path
    network: str
    side: int
    channels: int
    over: bool
    record: dict[str, Any] = field(repr=False)

    @property
    def weights(self) -> Path:
        """The file of its weights; it is there once it told any slices apart."""
        return self.folder / WEIGHTS


@dataclass(frozen=True)
class EncoderSource:
    """Where an encoder comes from.

    Attributes
    ----------
    name
        Under which its vectors are kept.
    network
        A name in `models.registry.MODELS`.
    weights
        A file; None for random ones.
    side
        Of its pictures; None for what networks usually take.
    """

    name: str
    network: str
    weights: Path | None
    side: int | None = None


def encoders_folder(project: Path) -> Path:
    """Return the folder of a project's own encoders."""
    return project / "encoders"


def own_encoders(project: Path) -> list[OwnEncoder]:
    """Return the encoders that were pre-trained in a project folder, the oldest first."""
    found = []
    for path in encoders_folder(project).glob(f"*/{RECORD}"):
        try:
            found.append(read_encoder(path.parent))
        except UserError:
            continue
    return sorted(found, key=lambda one: (one.record.get("made_at", ""), one.name))


def read_encoder(folder: Path) -> OwnEncoder:
    """Read what a folder says of its encoder.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    path = folder / RECORD
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return OwnEncoder(
            folder.name,
            folder,
            str(told["network"]),
            int(told["side"]),
            int(told["channels"]),
            bool(told["over"]),
            told,
        )
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise UserError(
            f"{path} is damaged ({fault}): remove the folder {folder} and pre-train again"
        ) from fault


def bundled_encoder() -> OwnEncoder | None:
    """Return the encoder that comes with the program; None where it was left out."""
    folder = _BUNDLED_FOLDER
    if not (folder / RECORD).is_file():
        return None
    return replace(read_encoder(folder), name=BUNDLED)


def listed_weights() -> list[WeightEntry]:
    """Return all encoders that can have weights: the one that comes with the program, the others.

    See Also
    --------
    napari_activeft.weights.list_weights
    """
    own = bundled_encoder()
    if own is None:
        return list_weights()
    entry = WeightEntry(
        name=BUNDLED,
        file=None,
        url=None,
        parameters=own.record.get("parameters"),
        top1=None,
        licence=own.record.get("licence"),
        present=True,
        path=own.weights,
        sha256=None,
        size=own.weights.stat().st_size,
        source=WITH_THE_PROGRAM,
    )
    return [entry, *list_weights()]


def settled(name: str) -> tuple[str, str]:
    """Return the encoder that ``auto`` stands for here, and why; any other name as it is."""
    if name != AUTO:
        return name, ""
    if file_of(OFFICIAL).is_file():
        return OFFICIAL, f"auto is {OFFICIAL}, whose weights are on this computer"
    return DEFAULT, (
        f"auto is {DEFAULT}: the weights of {OFFICIAL} are not on this computer (`napari-activeft "
        f"weights fetch {OFFICIAL}` gets them), and of what needs none it did best"
    )


def source_of(
    name: str, project: Path, *, weights: Path | None = None, random_weights: bool = False
) -> EncoderSource:
    """Return what a name stands for: an encoder of the project, the bundled one, or a network.

    Parameters
    ----------
    project
        The folder.
    weights
        A file to take for a network instead of those of the user's cache.
    random_weights
        Take none.

    Raises
    ------
    UserError
        If there is no such encoder, or its weights are not here.
    """
    own = _held(name, project)
    if own is None:
        _see_network(name, project)
        return EncoderSource(name, name, None if random_weights else weights or weights_path(name))
    if weights is not None or random_weights:
        raise UserError(
            f"{name} has weights of its own: leave out --weights and --random-weights, or name "
            f"its network, {own.network}"
        )
    if not own.weights.is_file():
        raise UserError(
            f"the pre-training of {name} was stopped before it had weights to keep: go on with "
            "`napari-activeft pretrain --resume`"
        )
    return EncoderSource(name, own.network, own.weights, own.side)


def encoder_file(named: str, project: Path | None = None) -> Path:
    """Return the file of weights that a path or a name stands for.

    Raises
    ------
    UserError
        If there is none.
    """
    if Path(named).is_file():
        return Path(named)
    own = _held(named, project)
    return own.weights if own is not None else weights_path(named)


def start_by_file(start: str, project: Path) -> str:
    """Return what a training starts from, the encoder that it names as a file."""
    if not start.startswith(ENCODER):
        return start
    return f"{ENCODER}{encoder_file(start.removeprefix(ENCODER), project).absolute()}"


def known_encoders(project: Path | None = None) -> list[str]:
    """Return the names of all encoders, those of a project first."""
    from napari_activeft.model_names import ENCODERS

    own = [] if project is None else [one.name for one in own_encoders(project)]
    return [*own, *(name for name in ENCODERS if name != BUNDLED or bundled_encoder() is not None)]


def _held(name: str, project: Path | None) -> OwnEncoder | None:
    if name == BUNDLED:
        return bundled_encoder()
    if project is None:
        return None
    return next((one for one in own_encoders(project) if one.name == name), None)


def _see_network(name: str, project: Path) -> None:
    from napari_activeft.models.registry import MODELS

    card = MODELS.get(name)
    if card is None or card.kind != "encoder":
        names = [one for one in known_encoders(project) if one not in (AUTO, *WEIGHTLESS)]
        raise UserError(
            f"no encoder is called {name!r}: take one of {', '.join((*WEIGHTLESS, *names))}"
        )
