"""What a simulation works on: slices that may be chosen, their label maps, and who is tested."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_activeft.annotation_db import SliceRow, VolumeRecord
from napari_activeft.errors import UserError
from napari_activeft.evaluation_sources import Truth, Truths
from napari_activeft.project import Project, content_hash
from napari_activeft.selection import SELECTORS
from napari_activeft.settings import EvaluateSettings
from napari_activeft.settings.simulation import SimulateSettings
from napari_activeft.simulation.study import rows_to_test
from napari_activeft.training.dataset import LabelledVolume
from napari_activeft.training.network_spec import ClassName
from napari_activeft.training_data import class_values, stacks
from napari_activeft.vectors import load_vectors
from napari_activeft.voxels import UNLABELLED

_TRUTH_BYTES = 1 << 30  # of label maps that are kept in memory


@dataclass(frozen=True, eq=False)
class Tested:
    """A volume that is predicted and measured.

    Attributes
    ----------
    stack
        The way to its slices.
    positions
        That are measured, each by itself; None measures the volume as a whole.
    """

    volume: VolumeRecord
    stack: LabelledVolume
    positions: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Division:
    """Who may be learnt from, and who is tested.

    Attributes
    ----------
    fold
        Which of the folds is tested; None where there are none.
    rows
        Of `Material.pool`: slices that may be chosen.
    tested
        What the networks are measured on.
    """

    fold: int | None
    rows: tuple[int, ...] = field(repr=False)
    tested: tuple[Tested, ...] = field(repr=False)


class Material:
    """All that a simulation reads of a project.

    Parameters
    ----------
    settings
        Of the simulation.

    Attributes
    ----------
    pool
        Slices of the pool whose volume has a label map; rows are places in this list.
    notes
        Sentences about what was left out.

    Raises
    ------
    UserError
        If there is no label map, no class, no vector where one is needed, or nobody to test.
    """

    def __init__(self, project: Project, settings: SimulateSettings) -> None:
        self._project, self._settings = project, settings
        self.notes: list[str] = []
        self.encoder = ""  # whose vectors, once they are read
        names = {record.value: record.name for record in project.store.classes()}
        self.classes = tuple(ClassName(value, names[value]) for value in class_values(project))
        self.volumes = {one.volume_id: one for one in project.store.volumes()}
        self._truths = Truths(
            project, EvaluateSettings(truth="labels", unlabelled=settings.unlabelled)
        )
        self._kept: dict[int, Truth] = {}
        self._kept_bytes = 0
        self._all_rows = project.store.pool_slices()
        self.pool = self._labelled_rows()
        self.divisions = self._divided()
        self.digest = self._digest()

    def truth(self, volume: VolumeRecord) -> Truth:
        """Return the label map of a volume, class values (h, w) by position."""
        known = self._kept.get(volume.volume_id)
        if known is not None:
            return known
        found = self._truths.of(volume)
        size = sum(mask.nbytes for mask in found.values())
        if self._kept_bytes + size <= _TRUTH_BYTES:
            self._kept[volume.volume_id] = found
            self._kept_bytes += size
        return found

    def whole_truth(self, volume: VolumeRecord) -> NDArray[np.uint16]:
        """Return the label map of a volume (d, h, w), `UNLABELLED` where there is no truth."""
        shape = (volume.slice_count, volume.slice_height, volume.slice_width)
        whole = np.full(shape, UNLABELLED, dtype=np.uint16)
        for position, mask in self.truth(volume).items():
            whole[position] = mask
        return whole

    def stack(self, volume_id: int) -> LabelledVolume:
        """Return the way to the slices of a volume, without masks."""
        return self._stacks[volume_id]

    def labelled(self, rows: Iterable[int]) -> list[LabelledVolume]:
        """Return volumes with the label maps of some rows as masks: what the annotator drew."""
        masks: dict[int, dict[int, NDArray[np.generic]]] = {}
        for row in rows:
            where = self.pool[row]
            truth = self.truth(self.volumes[where.volume_id])
            masks.setdefault(where.volume_id, {})[where.position] = truth[where.position]
        return [
            replace(self.stack(volume_id), masks=masks[volume_id]) for volume_id in sorted(masks)
        ]

    def about_values(self) -> list[str]:
        """Return what there is to know about the label maps that were read so far."""
        return self._truths.notes()

    @cached_property
    def vectors(self) -> NDArray[np.float32] | None:
        """What selectors see of the rows, (n, d); None where none of them needs it."""
        if not any(SELECTORS[name].needs_vectors for name in self._settings.selectors):
            return None
        embedding, vectors = load_vectors(self._project, self._all_rows, self._settings.encoder)
        self.encoder = f"{embedding.encoder}:{embedding.weight_hash}"
        place = {row.slice_id: at for at, row in enumerate(self._all_rows)}
        return np.asarray(vectors[[place[row.slice_id] for row in self.pool]])

    @cached_property
    def _stacks(self) -> dict[int, LabelledVolume]:
        records = list(self.volumes.values())
        made = stacks(self._project, records)
        return {one.volume_id: stack for one, stack in zip(records, made, strict=True)}

    def _labelled_rows(self) -> list[SliceRow]:
        """Return the rows that have truth; for the study those that show a class."""
        there = [row for row in self._all_rows if self.volumes[row.volume_id].label_file]
        if not there:
            raise UserError(
                "no volume of the pool has a label map, which acts as the annotator: add the "
                "folder again with --labels"
            )
        kept = [row for row in there if self._is_of_use(row)]
        if len(kept) < len(self._all_rows):
            why = "no class in their truth" if self._settings.recipe == "study" else "no truth"
            self.notes.append(
                f"Slices of the pool that may not be chosen, {len(self._all_rows) - len(kept)} of "
                f"{len(self._all_rows)}: they have no label map, or {why}."
            )
        if not kept:
            raise UserError(
                "no slice of the pool has truth in its label map: give the folder again with the "
                "right --labels"
            )
        return kept

    def _is_of_use(self, row: SliceRow) -> bool:
        mask = self.truth(self.volumes[row.volume_id]).get(row.position)
        if mask is None or self._settings.recipe != "study":
            return mask is not None
        return bool(np.isin(mask, [one.value for one in self.classes]).any())

    def _divided(self) -> list[Division]:
        settings = self._settings
        if settings.recipe == "study":
            return [self._by_slices()]
        if settings.folds is None:
            tested = [v for v in self.volumes.values() if v.split == settings.test_split]
            return [Division(None, tuple(range(len(self.pool))), self._whole(tested))]
        return [
            self._by_fold(fold, part)
            for fold, part in enumerate(self._folds(settings.folds))
            if settings.fold in (None, fold)
        ]

    def _folds(self, count: int) -> list[set[str]]:
        """Part the pool's cases, drawn by seed; parts differ by one case at most."""
        cases = sorted({row.case for row in self.pool})
        if len(cases) < count:
            raise UserError(
                f"{count} folds were asked of {len(cases)} cases with a label map: ask for at most "
                "as many folds as cases"
            )
        drawn = np.random.default_rng([self._settings.plan_seed, count]).permutation(len(cases))
        return [{cases[at] for at in drawn[fold::count]} for fold in range(count)]

    def _by_fold(self, fold: int, part: set[str]) -> Division:
        rows = tuple(at for at, row in enumerate(self.pool) if row.case not in part)
        held = {row.volume_id: None for row in self.pool if row.case in part}
        return Division(fold, rows, self._whole([self.volumes[one] for one in held]))

    def _by_slices(self) -> Division:
        """Draw the study's test slices over all patients of the pool."""
        held = rows_to_test(len(self.pool), self._settings.plan_seed)
        positions: dict[int, list[int]] = {}
        for row in held:
            where = self.pool[row]
            positions.setdefault(where.volume_id, []).append(where.position)
        tested = tuple(
            Tested(self.volumes[one], self.stack(one), tuple(sorted(at)))
            for one, at in positions.items()
        )
        left = set(held)
        return Division(None, tuple(r for r in range(len(self.pool)) if r not in left), tested)

    def _whole(self, volumes: Sequence[VolumeRecord]) -> tuple[Tested, ...]:
        """Return the volumes that have truth, to be measured as a whole."""
        with_truth = [one for one in volumes if one.label_file and self.truth(one)]
        if not with_truth:
            raise UserError(
                f"no volume of the split {self._settings.test_split} has a label map, and networks "
                "are measured on these: add cases to it, or measure inside the pool with --folds 5"
            )
        if len(with_truth) < len(volumes):
            self.notes.append(
                f"Tested volumes without truth, which are left out, "
                f"{len(volumes) - len(with_truth)}."
            )
        return tuple(Tested(one, self.stack(one.volume_id)) for one in with_truth)

    def _digest(self) -> str:
        """Return 12 digits of a hash of images, label maps, classes, and what selectors see."""
        summed = hashlib.sha256("\n".join(row.key for row in self.pool).encode())
        used = {row.volume_id for row in self.pool}
        used |= {one.volume.volume_id for division in self.divisions for one in division.tested}
        for volume in sorted((self.volumes[one] for one in used), key=lambda one: one.name):
            path = self._project.label_path(volume)
            labels = content_hash([path])[0] if path is not None else ""
            said = (volume.name, volume.case, volume.content_hash, volume.axis, labels)
            summed.update(repr(said).encode())
        summed.update(repr(self.classes).encode())
        if self.vectors is not None:
            summed.update(self.encoder.encode())
        return summed.hexdigest()[:12]
