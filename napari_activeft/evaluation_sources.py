"""What `evaluate` sets side by side: where the truth of a volume comes from, and its prediction.

Symbols: d slices of h x w pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from napari_activeft.annotation_db import VolumeRecord
from napari_activeft.calibrating import calibrated
from napari_activeft.devices import use_threads
from napari_activeft.errors import UserError
from napari_activeft.exports.names import safe_file_names
from napari_activeft.extras import need_compute
from napari_activeft.geometry import Geometry
from napari_activeft.label_maps import with_unlabelled
from napari_activeft.pool import take_slice
from napari_activeft.prediction.origins import read_origins
from napari_activeft.prediction.predictor import Predictor
from napari_activeft.prediction.stacking import stacked
from napari_activeft.project import Project
from napari_activeft.settings import EvaluateSettings
from napari_activeft.trained_runs import (
    known_turns,
    notes_on_classes,
    run_folder,
    saved_networks,
    stale_volumes,
)
from napari_activeft.training.run_files import SavedNetwork
from napari_activeft.training_data import accepted_places, stacks
from napari_activeft.volume import read_label_map
from napari_activeft.voxels import UNLABELLED, LabelMap

Truth = dict[int, LabelMap]
"""Class values (h, w) by position, `UNLABELLED` where nobody labelled; nothing wholly so."""
OnSlice = Callable[[int], None]


class Truths:
    """The truth of volumes: masks that people stand by, or the label maps beside the images."""

    def __init__(self, project: Project, settings: EvaluateSettings) -> None:
        self._project, self._settings = project, settings
        self._strange: set[int] = set()
        self._from_models = 0

    def of(self, volume: VolumeRecord) -> Truth:
        """Return what is known of a volume.

        Raises
        ------
        UserError
            If its label map cannot be read or does not fit the image.
        CorruptMaskError
            If a stored mask is damaged.
        """
        found = self._masks(volume) if self._settings.truth == "masks" else self._labels(volume)
        return {at: mask for at, mask in sorted(found.items()) if np.any(mask != UNLABELLED)}

    def notes(self) -> list[str]:
        """Return what there is to know about the truths so far."""
        notes = []
        if self._from_models:
            notes.append(
                f"Slices left out, {self._from_models}: their mask is an accepted proposal, and a "
                "network would be compared with itself."
            )
        if self._strange:
            values = ", ".join(str(value) for value in sorted(self._strange)[:10])
            notes.append(
                f"The label maps hold {values}, which the project does not list as a class: such "
                "pixels count as none of the classes."
            )
        return notes

    def _masks(self, volume: VolumeRecord) -> Truth:
        masks = self._project.store.accepted_masks(volume.volume_id)
        own = self._people.get(volume.volume_id, set())
        people = {at: mask for at, mask in masks.items() if at in own}
        self._from_models += len(masks) - len(people)
        return people

    @cached_property
    def _people(self) -> dict[int, set[int]]:
        return accepted_places(self._project, by_people=True)

    def _labels(self, volume: VolumeRecord) -> Truth:
        path = self._project.label_path(volume)
        if path is None:
            return {}
        read = read_label_map(path, Geometry.from_json(volume.geometry))
        labels = with_unlabelled(read, self._settings.unlabelled)
        held = set(np.flatnonzero(np.bincount(labels.ravel())).tolist())
        self._strange |= held - self._known
        return {at: take_slice(labels, volume.axis, at) for at in range(volume.slice_count)}

    @cached_property
    def _known(self) -> set[int]:
        return {0, UNLABELLED, *(record.value for record in self._project.store.classes())}


class Predictions(Protocol):
    """Where predictions come from."""

    def of(self, volume: VolumeRecord, positions: Collection[int], on_slice: OnSlice) -> LabelMap:
        """Return a volume's label map (d, h, w), right at least in these positions.

        Raises
        ------
        UserError
            If there is none to be had.
        """

    def notes(self) -> list[str]:
        """Return what there is to know about the predictions so far."""


class RunPredictions:
    """What a run proposed, or else what its network predicts now.

    Raises
    ------
    UnknownRecordError
        If there is no such run.
    """

    def __init__(self, project: Project, run: int, settings: EvaluateSettings) -> None:
        self._project, self._run, self._settings = project, run, settings
        self._proposed: dict[int, dict[int, int]] = {}
        self._computed = 0
        self._origins = read_origins(run_folder(project, run))
        self._peculiar: dict[str, int] = {}
        for one in project.store.proposals(run):
            self._proposed.setdefault(one.volume_id, {})[one.position] = one.revision_id

    def of(self, volume: VolumeRecord, positions: Collection[int], on_slice: OnSlice) -> LabelMap:
        """Return a volume's label map (d, h, w), right at least in these positions."""
        revisions = self._proposed.get(volume.volume_id, {})
        if not set(positions) <= revisions.keys():
            self._computed += 1
            (stack,) = stacks(self._project, [volume])
            return stacked(self._predictor, stack, on_slice).labels
        self._see_its_own(volume)
        shape = (volume.slice_count, volume.slice_height, volume.slice_width)
        labels = np.zeros(shape, dtype=np.uint16)
        for at in positions:
            labels[at] = self._project.store.mask(revisions[at])
        return labels

    def _see_its_own(self, volume: VolumeRecord) -> None:
        """See that the weights which proposed a volume's masks are still those of the run.

        Raises
        ------
        UserError
            If the run went on since.
        """
        if volume.name in self._stale:
            raise UserError(
                f"run {self._run} predicted {volume.name} before its weights changed: run "
                f"`napari-activeft predict --run {self._run}` again, then evaluate"
            )
        origin = self._origins.get(volume.name)
        if origin is not None and origin.peculiarity:
            self._peculiar[origin.peculiarity] = self._peculiar.get(origin.peculiarity, 0) + 1

    def notes(self) -> list[str]:
        """Return what there is to know about the predictions so far."""
        notes = notes_on_classes(self._project, self._saved) if self._has_network else []
        notes += [
            f"Volumes of which the proposals of run {self._run} are not of its network alone, "
            f"{count}: {how}."
            for how, count in self._peculiar.items()
        ]
        if self._computed:
            notes.append(
                f"Volumes predicted just now, {self._computed}: run {self._run} had proposed no "
                "masks of them. Nothing of that is stored; `napari-activeft predict` stores it."
            )
        return notes

    @cached_property
    def _stale(self) -> set[str]:
        return stale_volumes(self._project, self._run)

    @cached_property
    def _has_network(self) -> bool:
        try:
            return bool(self._saved.classes)
        except UserError:  # proposals can be measured without the network that made them
            return False

    @cached_property
    def _saved(self) -> SavedNetwork:
        (saved,) = saved_networks(self._project, [self._project.store.run(self._run)])
        return saved

    @cached_property
    def _predictor(self) -> Predictor:
        need_compute("predicting")
        settings = self._settings
        use_threads(settings.threads)
        saved, _ = calibrated(self._project, self._saved, settings.device)
        tta = known_turns([saved]) if settings.tta == "auto" else settings.tta
        return Predictor.load(saved, device=settings.device, tta=tta)


class FolderPredictions:
    """Label maps of a folder, one a volume.

    Raises
    ------
    UserError
        If the folder is none.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder: give the one that holds the label maps")
        self._folder = folder
        self._names = safe_file_names(volume.name for volume in project.store.volumes())

    def of(self, volume: VolumeRecord, positions: Collection[int], on_slice: OnSlice) -> LabelMap:
        """Return a volume's label map (d, h, w)."""
        del positions, on_slice
        stems = dict.fromkeys((self._names[volume.name], volume.name.rpartition("/")[2]))
        paths = [self._folder / f"{stem}{end}" for stem in stems for end in (".nii.gz", ".nii")]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise UserError(
                f"{self._folder} holds no label map of {volume.name}: call it {paths[0].name}"
            )
        labels = read_label_map(path, Geometry.from_json(volume.geometry))
        return np.moveaxis(labels, volume.axis, 0)

    def notes(self) -> list[str]:
        """Return what there is to know about the predictions so far."""
        return []
