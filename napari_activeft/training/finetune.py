"""Fine-tuning: a network, slices to learn from and slices to be watched by become weights.

The loop is in `loop`, what a run may go on from in `resuming`, its files in `run_files`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_activeft.errors import Cancelled, UserError
from napari_activeft.interrupts import held_back_interrupt
from napari_activeft.training.batches import Batches
from napari_activeft.training.launching import launch
from napari_activeft.training.learning import Learning, see_learning
from napari_activeft.training.loop import Course, Diverged, Loop, now
from napari_activeft.training.losses import SegmentationLoss
from napari_activeft.training.measuring import Score, pooled_dice
from napari_activeft.training.network_spec import NetworkSpec
from napari_activeft.training.networks import build_network
from napari_activeft.training.planning import see_classes
from napari_activeft.training.progress import OnCourse, OnLog, Progress, Trained, ignore
from napari_activeft.training.resuming import fingerprint, keep_state, take_state
from napari_activeft.training.run_files import (
    GO_ON,
    GRADIENTS,
    NETWORK,
    RESUME,
    SavedNetwork,
    write_curve,
    write_weights,
)
from napari_activeft.training.whole_files import write_text

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from napari_activeft.models.segmenter import Segmenter
    from napari_activeft.settings import TrainSettings
    from napari_activeft.training.cropping import Augment
    from napari_activeft.training.dataset import SliceDataset


Start = Callable[["Segmenter"], str]


def finetune(
    training: SliceDataset,
    monitoring: SliceDataset | None,
    spec: NetworkSpec,
    settings: TrainSettings,
    folder: Path,
    *,
    monitor: str = "val",
    start: Start | None = None,
    taught: Collection[str] | None = (),
    resume: bool = False,
    fabric: Fabric | None = None,
    on_progress: OnCourse = ignore,
    on_log: OnLog = ignore,
) -> Trained:
    """Train a network and keep its weights, the averaged ones, in a folder.

    On a CPU the same seed gives the same weights bit for bit, also where a run was stopped or
    killed and resumed.

    Parameters
    ----------
    training
        What is learnt from.
    monitoring
        What the best weights are chosen by; None takes the last ones.
    spec
        What the network is.
    settings
        How it learns. What of them chooses the slices was done by whoever made the data sets.
    folder
        Of the run's files, see `run_files`.
    monitor
        What ``monitoring`` is, for the record: val or folds.
    start
        Puts weights into the fresh network and says so in a sentence; None leaves them random.
    taught
        Cases whose labels taught those weights, for the record; None where nobody knows.
    resume
        Go on from where this run was stopped.
    fabric
        Launched; None launches one by the settings.
    on_progress
        Called after each step. Where it raises, the run is kept and can be resumed.
    on_log
        Told what a reader of the log should know.

    Raises
    ------
    UserError
        If the run cannot go on; what was kept stays.
    Cancelled
        On Ctrl-C, once the step is over and kept.
    """
    if not len(training):
        raise UserError("no labelled slice was given to learn from: label some and accept them")
    values = tuple(one.value for one in spec.classes)
    other = next((d for d in (training, monitoring) if d and d.class_values != values), None)
    if other is not None:
        raise UserError(
            f"the slices are labelled by the classes {other.class_values} and the network is to "
            f"tell {values}: take the same class table for both"
        )
    see_learning(settings, spec.outputs)
    fabric = fabric or launch(settings)
    watched_by = "none" if monitoring is None else monitor
    cases = None if taught is None else tuple(sorted({*training.cases, *taught}))
    if resume and (Path(folder) / NETWORK).is_file():
        cases = SavedNetwork.read(folder).cases  # what it began with may be gone by now
    run = _Run(training, monitoring, spec, settings, Path(folder), fabric, watched_by, cases)
    with torch.random.fork_rng([fabric.device] if fabric.device.type == "cuda" else []):
        return run.go(start, resume, on_progress, on_log)


@contextmanager
def _all_or_nothing(course: Course, row: dict[str, Any]) -> Iterator[None]:
    """Take back what was noted of a measurement if a stop comes in between."""
    noted, kept = dict(row), (course.best, course.best_step, course.since_best)
    try:
        yield
    except BaseException:
        row.clear()
        row.update(noted)
        course.best, course.best_step, course.since_best = kept
        raise


@dataclass
class _Run:
    """The parts of a run that stay as they are, and what it does besides its steps."""

    training: SliceDataset
    monitoring: SliceDataset | None
    spec: NetworkSpec
    settings: TrainSettings
    folder: Path
    fabric: Fabric
    monitor: str
    cases: tuple[str, ...] | None
    notes: list[str] = field(default_factory=list)
    unlearnt: tuple[int, ...] = ()

    def go(
        self, start: Start | None, resume: bool, on_progress: OnCourse, on_log: OnLog
    ) -> Trained:
        """Train from the first step, or from where it stopped, to the end."""
        self.log = self._noting(on_log)
        self.slices = fingerprint(self.training)
        learning = self._prepare(None if resume else start)
        settings = self.settings
        with Batches(
            self.training,
            settings.batch * settings.accumulate,
            seed=settings.seed,
            augmenter=self._augmenter,
            workers=settings.workers,
        ) as batches:
            loop = Loop(learning, batches, self._loss(), settings, self.fabric, self.log)
            if resume:
                take_state(loop, self.folder, self.spec, self.slices)
                self.log(f"goes on after step {loop.course.step}")
            elif self.fabric.global_rank == 0:
                self._saved(loop, 0.0, over=False).write(GO_ON)
            return self._train(loop, on_progress)

    def _augmenter(self) -> Augment | None:
        if self.settings.augmentation == "none":
            return None
        from napari_activeft.training.augmentation import augmenter

        return augmenter(self.settings.augmentation, self.spec.view, self.settings.turns)

    def _noting(self, on_log: OnLog) -> OnLog:
        def log(sentence: str) -> None:
            if self.fabric.global_rank == 0:
                self.notes.append(sentence)
                on_log(sentence)

        return log

    def _prepare(self, start: Start | None) -> Learning:
        """Build the network, give it its first weights, and set what of it learns."""
        network = build_network(
            self.spec.network,
            self.spec.channels,
            self.spec.outputs,
            scan=self.settings.scan_name,
            seed=self.settings.seed,
        )
        if start is not None:
            self.log(start(network))
        learning = Learning(network, self.settings)
        learns, every = learning.counts()
        if learns < every:
            self.log(f"{learns:,} of {every:,} weights learn")
        return learning

    def _loss(self) -> SegmentationLoss:
        """Make the loss, knowing which classes have labels."""
        settings = self.settings
        unseen = see_classes(self.training, self.spec, settings)
        labelled = [one not in unseen for one in self.spec.classes]
        self.unlearnt = tuple(one.value for one in unseen)
        missing = ", ".join(one.name for one in unseen)
        if missing:
            self.log(
                f"no pixel of {missing} is labelled: it is trained without, and will "
                "not be predicted"
            )
        if not any(labelled) and self.spec.classes:
            self.log("no labelled pixel shows any class: the network learns background only")
        many = self.fabric.world_size > 1
        return SegmentationLoss(
            self.spec.outputs,
            labelled,
            ce_weight=settings.ce_weight,
            dice_weight=settings.dice_weight,
            class_weights=settings.class_weights,
            over_batch=settings.dice_over == "batch",
            processes=self.fabric.world_size,
            gather=self._gather if many else None,
        )

    def _gather(self, part: torch.Tensor) -> torch.Tensor:
        every: Any = self.fabric.all_gather(part.contiguous(), sync_grads=part.requires_grad)
        joined: torch.Tensor = every.flatten(0, 1)
        return joined

    def _train(self, loop: Loop, on_progress: OnCourse) -> Trained:
        settings, course = self.settings, loop.course
        began, kept, score = now(), now(), None
        first, safe, whole = course.step, course.step, True

        def seconds() -> float:
            return course.seconds + now() - began

        with held_back_interrupt() as wants_stop:
            try:
                if self._is_due(course) and "val_dice" not in course.rows[-1]:
                    score = self._measured(loop, course.rows[-1])  # it was stopped in that
                stopped_early = self._has_had_enough(loop)
                while course.step < settings.steps and not stopped_early:
                    whole = False
                    row = loop.step()
                    whole = True
                    row["seconds"] = round(seconds(), 3)
                    due = self._is_due(course)
                    if due:
                        score = self._measured(loop, row)
                        stopped_early = self._has_had_enough(loop)
                    if due or now() - kept >= settings.checkpoint_every:
                        self._keep(loop, seconds())
                        kept, safe = now(), course.step
                    pace = (now() - began) / (course.step - first)
                    left = pace * (settings.steps - course.step)
                    on_progress(Progress(course.step, settings.steps, row["loss"], score, left))
                    if wants_stop():
                        raise Cancelled
            except (Cancelled, KeyboardInterrupt):
                if whole:  # half a step would not go on to the same weights
                    self._keep(loop, seconds())
                raise
            except Diverged as fault:
                # Weights that gave such a loss are kept only where there are no earlier ones.
                if not safe:
                    self._keep(loop, seconds())
                elif self.fabric.global_rank == 0:
                    write_curve(self.folder, course.rows)
                told = f"{fault} (the weights of step {safe or course.step} are kept)"
                raise Diverged(told) from None
        return self._finish(loop, seconds(), stopped_early)

    def _is_due(self, course: Course) -> bool:
        """Tell whether the weights of this step are to be measured."""
        every = self.settings.check_every
        return course.step > 0 and (course.step % every == 0 or course.step == self.settings.steps)

    def _measured(self, loop: Loop, row: dict[str, Any]) -> float | None:
        """Measure the averaged weights, note it, and keep them if none were better.

        Where that is stopped nothing is noted, so that the run measures again when it goes on.
        """
        if self.monitoring is None or not len(self.monitoring):
            return None
        network, course = loop.learning.network, loop.course
        network.eval()
        with loop.mean.inside(network):
            score = pooled_dice(
                network, self.monitoring, self.spec.outputs, self.fabric, self.settings.batch
            )
            best = -math.inf if course.best is None else course.best
            better = score.mean > best or score.mean == best == 0  # nothing found: go on learning
            if better:
                self._write("best", loop)
        with _all_or_nothing(course, row):
            row.update(self._figures(score))
            course.since_best = 0 if better else course.since_best + 1
            if better:
                course.best, course.best_step = score.mean, course.step
        return score.mean

    def _figures(self, score: Score) -> dict[str, float]:
        each = {
            f"val_dice_{one.value}": value
            for one, value in zip(self.spec.classes, score.per_class, strict=True)
        }
        return {"val_dice": score.mean, **each}

    def _has_had_enough(self, loop: Loop) -> bool:
        patience, course = self.settings.patience, loop.course
        enough = bool(patience) and course.best is not None and course.since_best >= patience
        if enough:
            self.log(
                f"stopped after step {course.step}: no better Dice than {course.best:.4f} of step "
                f"{course.best_step} in {patience} measurements"
            )
        return enough

    def _write(self, which: Any, loop: Loop) -> None:  # noqa: ANN401
        """Write the weights that are in the network now."""
        if self.fabric.global_rank == 0:
            write_weights(self.folder, which, loop.learning.plain_state())

    def _keep(self, loop: Loop, seconds: float) -> None:
        """Write all that a resumed run needs."""
        if self.fabric.global_rank != 0:
            return
        with loop.mean.inside(loop.learning.network):
            self._write("last", loop)
        keep_state(loop, self.folder, self.spec, self.slices, seconds)
        write_curve(self.folder, loop.course.rows)
        if loop.course.layers:
            told = [dataclasses.asdict(layer) for layer in loop.course.layers]
            write_text(self.folder / GRADIENTS, json.dumps(told, indent=1) + "\n", GO_ON)

    def _finish(self, loop: Loop, seconds: float, stopped_early: bool) -> Trained:
        course = loop.course
        if course.best is None:
            course.best_step = course.step
            with loop.mean.inside(loop.learning.network):
                self._write("best", loop)
        if self.fabric.global_rank == 0:
            self._saved(loop, seconds, over=True).write(GO_ON)
            (self.folder / RESUME).unlink(missing_ok=True)
        self.fabric.barrier()  # the others may read what the first has written
        learns, every = loop.learning.counts()
        return Trained(
            folder=self.folder,
            steps=course.step,
            best_step=course.best_step or course.step,
            score=course.best,
            seconds=seconds,
            part=course.part,
            learnt=learns,
            weights=every,
            stopped_early=stopped_early,
            notes=tuple(self.notes),
        )

    def _saved(self, loop: Loop, seconds: float, *, over: bool) -> SavedNetwork:
        """Return what ``network.json`` says; the hash of the weights when the run is over."""
        saved = SavedNetwork(
            spec=self.spec,
            folder=self.folder,
            seconds=seconds,
            steps=loop.course.best_step or loop.course.step,
            monitor=self.monitor,
            score=loop.course.best,
            settings=self.settings.model_dump(mode="json"),
            unlearnt=self.unlearnt,
            cases=self.cases,
        )
        if not over:
            return saved
        from napari_activeft.models.checkpoint_files import weight_hash

        return dataclasses.replace(saved, weight_hash=weight_hash(saved.weights()))
