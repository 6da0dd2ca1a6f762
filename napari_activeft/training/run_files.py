"""The folder of a run: which files it holds, how they are written whole, how they are read again.

``network.json`` says what the network is, ``best.safetensors`` and ``last.safetensors`` hold
averaged weights, ``resume.pt`` all that a stopped run needs to go on, ``curve.csv`` its course.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from napari_activeft.errors import UserError
from napari_activeft.training.network_spec import (
    ClassName,
    NetworkSpec,
    spec_from_json,
    spec_to_json,
)
from napari_activeft.training.view import View
from napari_activeft.training.whole_files import write_text, write_whole

if TYPE_CHECKING:
    from torch import Tensor

    from napari_activeft.models.segmenter import Segmenter

FORMAT = 1
NETWORK, RESUME, CURVE = "network.json", "resume.pt", "curve.csv"
GRADIENTS = "gradients.json"
PLAN = "plan.json"
"""What a run is watched by, so that it goes on by that after a stop."""
GO_ON = "go on with `napari-activeft train --resume`"
FOLD = "fold"  # the run that found the number of steps, inside the one that took them
Which = Literal["best", "last"]


@dataclass(frozen=True)
class SavedNetwork:
    """A network that a run kept.

    Attributes
    ----------
    spec
        What it is.
    folder, which
        Where it lies, and whether its best or its last weights are meant.
    seconds, steps
        That the training took.
    temperature
        That its logits are divided by so that its probabilities are calibrated; None where that was
        not measured, as it is for the best weights only.
    monitor
        What the best weights were chosen by: val, folds or none.
    score
        Mean foreground Dice there; None without a monitor.
    settings
        Of the training, as `TrainSettings` writes them.
    weight_hash
        Of the best weights; None while the run is not over.
    unlearnt
        Values of the classes of which no pixel was labelled; they are not predicted.
    cases
        Whose labels taught these weights, in this run and in those that it started from; None
        where nobody knows.
    """

    spec: NetworkSpec
    folder: Path
    which: Which = "best"
    seconds: float = 0.0
    steps: int = 0
    temperature: float | None = None
    monitor: str = "none"
    score: float | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weight_hash: str | None = None
    unlearnt: tuple[int, ...] = ()
    cases: tuple[str, ...] | None = None

    @classmethod
    def read(cls, folder: Path, which: Which = "best") -> Self:
        """Read what the folder of a run says of its network.

        Raises
        ------
        UserError
            If there is no run, or it was written by a newer program, or is damaged.
        """
        path = Path(folder) / NETWORK
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told["format"] != FORMAT:
                raise UserError(
                    f"{path} has format {told['format']}, but this program reads {FORMAT}: update "
                    "napari-activeft"
                )
            return cls(
                spec=spec_from_json(told),
                folder=Path(folder),
                which=which,
                seconds=float(told["seconds"]),
                steps=int(told["steps"]),
                temperature=told["temperature"] if which == "best" else None,
                monitor=str(told["monitor"]),
                score=told["score"],
                settings=dict(told["settings"]),
                weight_hash=told["weight_hash"],
                unlearnt=tuple(int(value) for value in told.get("unlearnt", ())),
                cases=None if (cases := told.get("cases")) is None else tuple(map(str, cases)),
            )
        except OSError as refusal:
            if isinstance(refusal, FileNotFoundError) and (Path(folder) / PLAN).is_file():
                raise UserError(
                    f"{Path(folder).name} kept no network yet, it was stopped before: {GO_ON}, or "
                    "name another run"
                ) from refusal
            raise UserError(
                f"{folder} holds no network ({refusal.strerror}): name the folder of a run that "
                "`napari-activeft train` wrote"
            ) from refusal
        except (ValueError, KeyError, TypeError) as refusal:
            raise UserError(
                f"{path} is damaged: restore it from a backup, or train again"
            ) from refusal

    @property
    def view(self) -> View:
        """How slices become the network's input."""
        return self.spec.view

    @property
    def classes(self) -> tuple[ClassName, ...]:
        """The classes in the order of the outputs; output 0 is the background."""
        return self.spec.classes

    @property
    def weights_path(self) -> Path:
        """The file of the weights."""
        return weights_file(self.folder, self.which)

    def weights(self) -> dict[str, Tensor]:
        """Read the weights, and see that they are those the run kept.

        Raises
        ------
        UserError
            If the file is missing, damaged, or another one.
        """
        from napari_activeft.models.checkpoint_files import (
            CheckpointError,
            load_checkpoint,
            weight_hash,
        )

        if not self.weights_path.is_file():
            raise UserError(self._without_weights())
        try:
            state = load_checkpoint(self.weights_path)
        except CheckpointError as refusal:
            raise UserError(
                f"the weights of {self.folder.name} cannot be read ({refusal}): restore "
                f"{self.weights_path} from a backup, or train again"
            ) from refusal
        known = self.weight_hash if self.which == "best" else None
        if known is not None and weight_hash(state) != known:
            raise UserError(
                f"{self.weights_path} does not hold the weights that this run ended with: it was "
                "replaced or changed, restore it or train again"
            )
        return state

    def hash_now(self) -> str:
        """Return the hash of the weights that lie there now, also of a run that is not over.

        Raises
        ------
        UserError
            If they cannot be read.
        """
        from napari_activeft.models.checkpoint_files import weight_hash

        if self.which == "best" and self.weight_hash is not None:
            return self.weight_hash
        return weight_hash(self.weights())

    def _without_weights(self) -> str:
        """Say what there is instead of the weights that are meant."""
        other: Which = "last" if self.which == "best" else "best"
        if weights_file(self.folder, other).is_file():
            return (
                f"{self.folder.name} kept no {self.which} weights, it was stopped before: take "
                f"which={other}, or {GO_ON}"
            )
        return f"{self.folder.name} kept no weights, it was stopped before: {GO_ON}"

    def build(self, scan: str | None = None) -> Segmenter:
        """Return the network in eval mode, with its weights, on the CPU.

        Raises
        ------
        UserError
            If the weights cannot be read or are those of another network.
        """
        from napari_activeft.training.networks import build_network

        network = build_network(
            self.spec.network, self.spec.channels, self.spec.outputs, scan=scan, seed=0
        )
        put_weights(network, self.weights(), str(self.weights_path), self.spec)
        return network.eval()

    def write(self, then: str = "run the command again") -> None:
        """Write ``network.json``.

        Parameters
        ----------
        then
            What a user does who has made room on a full disk.

        Raises
        ------
        UserError
            If the disk refuses; an earlier file stays.
        """
        told = {
            "format": FORMAT,
            **spec_to_json(self.spec),
            "seconds": round(self.seconds, 3),
            "steps": self.steps,
            "temperature": self.temperature,
            "monitor": self.monitor,
            "score": self.score,
            "settings": dict(self.settings),
            "weight_hash": self.weight_hash,
            "unlearnt": list(self.unlearnt),
            "cases": None if self.cases is None else list(self.cases),
        }
        write_text(self.folder / NETWORK, json.dumps(told, indent=2) + "\n", then)


def set_temperature(folder: Path, temperature: float | None) -> SavedNetwork:
    """Note by what the logits of a run's network are divided, and return it."""
    saved = dataclasses.replace(SavedNetwork.read(folder), temperature=temperature)
    saved.write()
    return saved


def put_weights(
    network: Segmenter, state: Mapping[str, Tensor], named: str, spec: NetworkSpec
) -> None:
    """Put weights into a network, all of them or none.

    Parameters
    ----------
    named
        Where they come from, for the message.

    Raises
    ------
    UserError
        If they are those of another network.
    """
    wanted = network.state_dict()
    missing = [key for key in wanted if key not in state]
    left_over = [key for key in state if key not in wanted]
    misshapen = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    if missing or left_over or misshapen:
        odd = [*missing, *left_over, *misshapen][0]
        raise UserError(
            f"{named} holds the weights of another network than {spec.network} with "
            f"{spec.channels} input channels and {spec.outputs} outputs ({len(missing)} missing, "
            f"{len(left_over)} left over, {len(misshapen)} of another shape, such as {odd}): take "
            "the file that belongs to it, or start from other weights"
        )
    network.load_state_dict(dict(state), strict=True)


def is_over(folder: Path) -> bool:
    """Tell whether a training in this folder came to its end."""
    return (folder / NETWORK).is_file() and SavedNetwork.read(folder).weight_hash is not None


def was_kept(folder: Path) -> bool:
    """Tell whether a run that was stopped in this folder has something to go on from."""
    return any((place / RESUME).is_file() or is_over(place) for place in (folder, folder / FOLD))


def weights_file(folder: Path, which: Which) -> Path:
    """Return where a run's weights lie."""
    return Path(folder) / f"{which}.safetensors"


def write_weights(folder: Path, which: Which, state: Mapping[str, Tensor]) -> None:
    """Write weights whole or not at all; the earlier file stays if the disk refuses."""
    from napari_activeft.models.checkpoint_files import CheckpointError, save_safetensors

    def save(part: Path) -> None:
        try:
            save_safetensors(state, part)
        except CheckpointError as refusal:
            raise OSError(str(refusal.__cause__ or refusal)) from refusal

    write_whole(weights_file(folder, which), save, GO_ON)


def write_resume(folder: Path, content: Mapping[str, Any]) -> None:
    """Write what a stopped run needs to go on, whole or not at all."""
    import torch

    write_whole(Path(folder) / RESUME, lambda part: torch.save(dict(content), part), GO_ON)


def read_resume(folder: Path) -> dict[str, Any]:
    """Read what a stopped run needs to go on.

    Raises
    ------
    UserError
        If there is nothing to go on from, or it is damaged.
    """
    import torch

    path = Path(folder) / RESUME
    if not path.is_file():
        raise UserError(f"{folder} holds no run that was stopped: start one without --resume")
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as refusal:  # a damaged pickle raises whatever its bytes happen to mean
        raise UserError(
            f"{path} is damaged: start the run again without --resume, its weights so far are in "
            "last.safetensors"
        ) from refusal
    return content


def write_curve(folder: Path, rows: Sequence[Mapping[str, float | int | None]]) -> None:
    """Write the course of a run as a table, one line a step that was noted."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    made = io.StringIO()
    table = csv.DictWriter(made, names, lineterminator="\n", restval="")
    table.writeheader()
    table.writerows({k: "" if v is None else v for k, v in row.items()} for row in rows)
    write_text(Path(folder) / CURVE, made.getvalue(), GO_ON)


def read_curve(folder: Path) -> list[dict[str, float | None]]:
    """Read the course of a run; empty where there is none."""
    path = Path(folder) / CURVE
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {name: float(text) if text else None for name, text in row.items()}
            for row in csv.DictReader(file)
        ]
