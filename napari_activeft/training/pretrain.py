"""Pre-training: an encoder and slices that nobody labelled become an encoder that knows them.

A folder holds ``weights.safetensors`` (the running mean, an encoder like any other),
``encoder.json`` (what it is), ``curve.csv`` (its course) and, while it is not over, ``resume.pt``.
On a CPU the same seed gives the same weights bit for bit, also where a run was stopped or killed.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from napari_activeft.devices import tried
from napari_activeft.embedding.network import normaliser
from napari_activeft.embedding.quality import Quality
from napari_activeft.errors import Cancelled, UserError
from napari_activeft.interrupts import held_back_interrupt
from napari_activeft.models.checkpoint_files import save_safetensors
from napari_activeft.models.checkpoints import feature_hash
from napari_activeft.training.averaging import RunningMean
from napari_activeft.training.batches import torch_seed
from napari_activeft.training.companions import Companions
from napari_activeft.training.launching import launch
from napari_activeft.training.looking import Looking
from napari_activeft.training.loop import Diverged, now
from napari_activeft.training.objective import Batch, Objective
from napari_activeft.training.objectives import OBJECTIVES
from napari_activeft.training.optimiser import learning_rate, make_optimiser
from napari_activeft.training.pretrain_files import GO_ON, RECORD, WEIGHTS
from napari_activeft.training.pretrained import Pretrained, State
from napari_activeft.training.progress import OnLog, Progress, ignore
from napari_activeft.training.run_files import RESUME, read_resume, write_curve
from napari_activeft.training.unlabelled import Pictures, Turns
from napari_activeft.training.whole_files import write_text, write_whole

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from napari_activeft.settings import PretrainSettings

_PACED: Final = 20
"""Steps after which the pace is known."""
_PATIENT: Final = 0.5
"""Share of the steps in which an encoder that tells nothing apart may still learn to: most give all
slices nearly the same vector for a while, before they find what sets them apart."""
_COMPANION: Final = 4
_FEWEST: Final = 4
_MAY_DIFFER: Final = {"threads", "checkpoint_every", "device", "scan", "resume", "name", "start"}

OnCourse = Callable[[Progress, Quality | None], None]


def pretrain(
    pictures: Pictures,
    network: nn.Module,
    settings: PretrainSettings,
    folder: Path,
    about: Mapping[str, Any],
    *,
    start: Callable[[nn.Module], str] | None = None,
    on_progress: OnCourse = lambda _, __: None,
    on_log: OnLog = ignore,
) -> Pretrained:
    """Let an encoder learn from slices without labels.

    Parameters
    ----------
    pictures
        What is learnt from, at least four.
    network
        With ``forward_features``; its weights change.
    settings
        How it learns; with ``resume`` it goes on from what the folder holds.
    folder
        Of the run's files.
    about
        What the record says of the slices and of the network besides.
    start
        Puts the first weights into the network and says so; not called where a run goes on.
    on_progress
        Called after each step, with what the vectors are worth where that was just looked at.
        Where it raises `Cancelled`, the run is kept and can be resumed.
    on_log
        Told what a reader of the log should know.

    Raises
    ------
    UserError
        If the run cannot go on, or the encoder collapses; the last sound weights are kept.
    """
    if len(pictures) < _FEWEST:
        raise UserError(
            f"{len(pictures)} slices were given to learn from, but an encoder needs at least "
            f"{_FEWEST}: add volumes to the pool"
        )
    fabric = launch(settings)
    with torch.random.fork_rng([fabric.device] if fabric.device.type == "cuda" else []):
        run = _Run(pictures, network, settings, folder, fabric, about, on_log)
        return run.go(start, on_progress)


class _Run:
    """A run: its parts, and what it does besides its steps."""

    def __init__(
        self,
        pictures: Pictures,
        network: nn.Module,
        settings: PretrainSettings,
        folder: Path,
        fabric: Fabric,
        about: Mapping[str, Any],
        on_log: OnLog,
    ) -> None:
        self._pictures, self._network, self._settings = pictures, network, settings
        self._folder, self._fabric, self._about = folder, fabric, about
        self.notes: list[str] = []
        self._on_log = on_log
        channels = pictures.values.shape[1]
        self._normalise = normaliser(channels, fabric.device)
        self._look = Looking(pictures, settings.view, settings.seed, fabric, self._normalise)
        self._kind = OBJECTIVES[settings.objective]
        across = self._kind.across
        self._companions = Companions(pictures, across=across) if settings.companions else None
        self._turns = Turns(pictures.stacks, self._kind.together, settings.seed)
        self.state = State(steps=settings.steps)
        self._between_steps = True

    def go(self, start: Callable[[nn.Module], str] | None, on_progress: OnCourse) -> Pretrained:
        """Train from the first step, or from where it stopped, to the end."""
        settings = self._settings
        if start is not None and not settings.resume:
            self._log(start(self._network))
        torch.manual_seed(torch_seed(settings.seed, 0, 0))
        self._objective = self._made()
        self._objective.to(self._fabric.device).train()
        fused = self._fabric.device.type in ("cpu", "cuda")
        self._optimiser = make_optimiser(self._objective, settings, fused=fused)
        self._mean = RunningMean(self._objective, settings.ema)
        if settings.resume:
            self._take()
        elif self.state.before is None:
            self.state.before = dataclasses.asdict(self._look(self._network))
            self._keep()  # from here on it can be resumed
        self._train(on_progress)
        return self._finished()

    def _made(self) -> Objective:
        width = self._network.forward_features(self._one()).pooled.shape[1]  # type: ignore[operator]
        return self._kind(self._network, width, self._settings, self._normalise)

    @torch.no_grad()
    def _one(self) -> Tensor:
        side = self._settings.view
        self._network.to(self._fabric.device)
        blank = torch.zeros(1, self._pictures.values.shape[1], side, side)
        return self._normalise(blank.to(self._fabric.device))

    def _log(self, sentence: str) -> None:
        self.notes.append(sentence)
        self._on_log(sentence)

    # Steps

    def _train(self, on_progress: OnCourse) -> None:
        state, settings = self.state, self._settings
        began, kept, first = now(), now(), state.step
        spent = state.seconds
        with held_back_interrupt() as wants_stop:
            try:
                while state.step < state.steps:
                    row = self._step()
                    state.seconds = spent + now() - began
                    row["seconds"] = round(state.seconds, 3)
                    found = None
                    if state.step % settings.check_every == 0 or state.step == state.steps:
                        found = self._checked(row)
                    if found or now() - kept >= settings.checkpoint_every:
                        self._keep()
                        kept = now()
                    pace = (now() - began) / (state.step - first)
                    self._set_pace(pace)
                    left = pace * (state.steps - state.step)
                    progress = Progress(state.step, state.steps, row["loss"], None, left)
                    on_progress(progress, found)
                    if wants_stop():
                        raise Cancelled
            except (Cancelled, KeyboardInterrupt):
                if self._between_steps:  # half a step would not go on to the same weights
                    self._keep()
                raise

    def _set_pace(self, pace: float) -> None:
        """Once the pace is known, take as many steps as fit into the minutes that were asked."""
        minutes, state = self._settings.minutes, self.state
        if minutes is not None and state.step == _PACED:
            fitting = round(60 * minutes / pace)
            state.steps = max(_PACED + 1, fitting)
            self._log(
                f"{fitting} steps fit into {minutes:g} minutes at {pace:.2f} s a step"
                + (f", too few: {state.steps} are taken" if fitting < state.steps else "")
            )

    def _step(self) -> dict[str, Any]:
        """Change the weights once."""
        state, settings = self.state, self._settings
        self._between_steps = False
        batch = self._batch()
        rate = learning_rate(
            state.step, settings.model_copy(update={"steps": max(state.steps, state.step + 1)})
        )
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        seed = torch_seed(settings.seed, state.step, 0)
        torch.manual_seed(seed)
        draw = torch.Generator().manual_seed(seed)
        self._optimiser.zero_grad(set_to_none=True)
        loss = self._gradient(batch, draw)
        norm = nn.utils.clip_grad_norm_(self._objective.parameters(), settings.clip or math.inf)
        if not math.isfinite(loss.item() + norm.item()):
            raise Diverged(
                f"the loss of step {state.step + 1} is {loss.item():.4g} and its gradient "
                f"{norm.item():.4g}, but finite ones are needed: lower the learning rate or take "
                "float32 (the last sound weights are kept)"
            )
        self._optimiser.step()
        self._mean.update(self._objective, state.step)
        state.step += 1
        row = {"step": state.step, "loss": loss.item(), "lr": rate, "norm": norm.item()}
        state.rows.append(row)
        self._between_steps = True
        return row

    def _gradient(self, batch: Batch, draw: torch.Generator) -> Tensor:
        """Compute the loss and its gradient."""
        state = self.state

        def work(_: int) -> Tensor:
            with self._fabric.autocast():
                loss = self._objective.loss(batch, draw, self._mean, state.step / state.steps)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        count = len(batch.pictures)
        made = tried(work, count)
        if made is None:
            raise UserError(
                f"a batch of {count} slices with views of {self._settings.view} pixels "
                f"does not fit into the memory of {self._fabric.device}: take a smaller --batch, "
                "a smaller --view or a smaller --encoder"
            )
        return made

    def _batch(self) -> Batch:
        """Return what the next step sees."""
        settings, step = self._settings, self.state.step
        rows = self._turns.rows(step * settings.batch, settings.batch)
        rng = np.random.default_rng([settings.seed, _COMPANION, step])
        others = rows if self._companions is None else self._companions.drawn(rows, rng)
        pictures, device = self._pictures, self._fabric.device
        alike = torch.from_numpy(pictures.alike(np.concatenate([rows, others])))
        return Batch(pictures.shown(rows, device), pictures.shown(others, device), alike)

    # What it is worth

    def _checked(self, row: dict[str, Any]) -> Quality:
        """Measure the running mean, keep its weights, and stop where it has collapsed."""
        with self._mean.inside(self._objective):
            found = self._look(self._network)
            told = dataclasses.asdict(found)
            row.update(told)
            if not found.collapsed:
                self._write_weights()
                self.state.sound, self.state.after = True, told
                return found
        if self.state.step < _PATIENT * self.state.steps:
            return found
        kept = "the last sound weights are kept" if self.state.sound else "nothing was kept"
        raise Diverged(
            f"after {self.state.step} steps the encoder gives nearly the same vector to every "
            f"slice (spread {found.spread:.2g}, effective rank {found.effective_rank:.1f}): lower "
            f"the learning rate, raise the batch or take another objective ({kept})"
        )

    # What is kept

    def _write_weights(self) -> None:
        state = {name: one.detach().cpu() for name, one in self._network.state_dict().items()}
        write_whole(
            self._folder / WEIGHTS,
            lambda part: save_safetensors(state, part, {"objective": self._settings.objective}),
            GO_ON,
        )

    def _write_record(self, *, over: bool) -> None:
        state = self.state
        told = {
            **self._about,
            "objective": self._settings.objective,
            "side": self._settings.view,
            "over": over,
            "steps": state.step,
            "seconds": round(state.seconds, 1),
            "before": state.before,
            "after": state.after,
            "settings": self._settings.model_dump(mode="json"),
            "notes": self.notes,
        }
        if over:
            told["weight_hash"] = self._hash
        write_text(self._folder / RECORD, json.dumps(told, indent=1) + "\n", GO_ON)

    def _keep(self) -> None:
        """Write all that a resumed run needs."""
        state = self.state
        content = {
            "settings": self._settings.model_dump(mode="json"),
            "pictures": self._pictures.fingerprint(),
            "state": dataclasses.asdict(state),
            "notes": self.notes,
            "objective": self._objective.state_dict(),
            "mean": self._mean.state(),
            "optimiser": self._optimiser.state_dict(),
        }
        write_whole(self._folder / RESUME, lambda part: torch.save(content, part), GO_ON)
        write_curve(self._folder, state.rows)
        self._write_record(over=False)

    def _take(self) -> None:
        """Put a run back to where it was stopped."""
        content = read_resume(self._folder)
        before, after = content["settings"], self._settings.model_dump(mode="json")
        other = [n for n in after if n not in _MAY_DIFFER and before.get(n) != after[n]]
        if other:
            raise UserError(
                f"the pre-training in {self._folder} was started with another {', '.join(other)}: "
                "resume it with the same settings, or start a new one"
            )
        if content["pictures"] != self._pictures.fingerprint():
            raise UserError(
                f"the pool has changed since the pre-training in {self._folder} was stopped: start "
                "a new one, which learns from all of it"
            )
        self._objective.load_state_dict(content["objective"])
        self._mean.load(content["mean"])
        self._optimiser.load_state_dict(content["optimiser"])
        self.state = State(**content["state"])
        self.notes = list(content["notes"])
        self._log(f"goes on after step {self.state.step}")

    def _finished(self) -> Pretrained:
        state = self.state
        if state.before is None or state.after is None:
            raise AssertionError("a run that came to its end was measured")
        with self._mean.inside(self._objective):
            self._hash = feature_hash(self._network.state_dict())
        write_curve(self._folder, state.rows)
        self._write_record(over=True)
        (self._folder / RESUME).unlink(missing_ok=True)
        return Pretrained(
            folder=self._folder,
            weight_hash=self._hash,
            steps=state.step,
            seconds=state.seconds,
            before=Quality(**state.before),
            after=Quality(**state.after),
            notes=tuple(self.notes),
        )
