"""Takes the files of a folder into a project: every file by itself, so that a bad one stops none.

Volumes are stored in small batches. Whoever cancels, or is killed, keeps all batches so far and
goes on by adding the same folder again.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from napari_activeft.annotation_db import MAX_SIDE, NewVolume, VolumeRecord
from napari_activeft.cases import CaseRule, SplitRule, case_rule, read_splits
from napari_activeft.errors import OnProgress, Problem, UserError
from napari_activeft.files import FoundFiles, FoundVolume, find_volumes
from napari_activeft.pool import SlicedVolume, slice_up
from napari_activeft.project import Project, content_hash
from napari_activeft.results import AddResult
from napari_activeft.settings import AddSettings
from napari_activeft.volume import Volume, open_volume, read_label_map
from napari_activeft.wording import counted

# Often enough that a kill costs little, rarely enough that the disk is not the brake.
_BATCH_SECONDS = 2.0
_LABEL_FOLDERS = {
    *("label", "labels", "labelstr", "labelsts", "mask", "masks", "gt"),
    *("segmentation", "segmentations"),
}
_LABEL_ENDING = re.compile(r"[-_](gt|seg|segmentation|label|labels|labelmap|mask)(\.\w+){1,2}$")


class Intake:
    """One run over the files of one folder.

    Attributes
    ----------
    added, known, moved, slices, label_maps
        Counts, see `results.AddResult`.
    cases
        New cases by split.
    volumes_of_case
        New volumes by case.
    label_like
        Names of new volumes whose files are called like label maps.
    problems
        Files that were passed over so far.
    """

    def __init__(
        self,
        project: Project,
        found: FoundFiles,
        case_of: CaseRule,
        splits: SplitRule,
    ) -> None:
        self._project, self._found = project, found
        self._case_of, self._rule = case_of, splits
        self._root_id = project.add_root(found.root)
        self._stored = project.store.volumes()
        self._by_hash = {volume.content_hash: volume for volume in self._stored}
        self._names = {volume.name for volume in self._stored}
        self._first = next(((one.name, one.channels) for one in self._stored), None)
        self._splits = project.store.case_splits()
        self._disputed: set[str] = set()
        self.label_like: list[str] = []
        self._waiting: dict[str, NewVolume] = {}
        self.added = self.known = self.moved = self.slices = self.label_maps = 0
        self.cases: Counter[str] = Counter()
        self.volumes_of_case: Counter[str] = Counter()
        self.problems = list(found.problems)

    def run(self, on_progress: OnProgress) -> None:
        """Take in every volume that was found; `Cancelled` raised by ``on_progress`` passes."""
        total = len(self._found.volumes)
        flushed = time.monotonic()
        try:
            for done, volume in enumerate(self._found.volumes, start=1):
                self._take(volume)
                if time.monotonic() - flushed > _BATCH_SECONDS:
                    self._flush()
                    flushed = time.monotonic()
                on_progress(done, total)
        finally:
            self._flush()

    def _take(self, found: FoundVolume) -> None:
        try:
            digest, size = content_hash(found.source.files)
            if digest in self._waiting:
                self._refuse(found, _duplicate(self._waiting[digest].name))
            elif digest in self._by_hash:
                self._again(found, self._by_hash[digest])
            else:
                self._new(found, digest, size)
        except OSError as refusal:
            cause = refusal.strerror or str(refusal)
            self._refuse(found, f"the file cannot be read ({cause}): check that it is there")
        except UserError as refusal:
            self._refuse(found, str(refusal))

    def _refuse(self, found: FoundVolume, sentence: str) -> None:
        self.problems.append(Problem(str(found.source.paths[0]), sentence))
        if found.label_file is not None and found.name not in self._names:
            sentence = "the label map's image was passed over, and so is the label map: see there"
            self.problems.append(Problem(str(found.label_file), sentence))

    # A volume that is stored already

    def _again(self, found: FoundVolume, stored: VolumeRecord) -> None:
        before = self._project.source(stored).paths
        here = found.source.paths
        same = [path.resolve() for path in before] == [path.resolve() for path in here]
        if not same and all(path.exists() for path in before):
            self._refuse(found, _duplicate(stored.name))
            return
        self._compare_split(found, stored.case, stored.split)
        label = self._label_of(found, open_volume(found.source)) if found.label_file else None
        if same:
            self.known += 1
        else:
            self.moved += 1
        if same and stored.root_id == self._root_id and label is not None:
            self._project.store.set_label_file(stored.volume_id, label)
        elif not same or label is not None:
            # The label map is known by its path below the root, so the root must be this one.
            self._move(found, stored, label)

    def _move(self, found: FoundVolume, stored: VolumeRecord, label: str | None) -> None:
        files = self._relative(found)
        self._project.store.move_volume(
            stored.volume_id,
            root_id=self._root_id,
            files=files,
            label_file=label,
            actor=self._project.actor,
        )
        # A second copy that this run comes across is a duplicate of this one.
        self._by_hash[stored.content_hash] = replace(stored, root_id=self._root_id, files=files)

    # A volume that is new

    def _new(self, found: FoundVolume, digest: str, size: int) -> None:
        case, split = self._placed(found)
        name = self._free_name(found)
        volume = open_volume(found.source)
        self._see_channels(found, volume)
        sliced = slice_up(volume, self._project.plane)
        if max(sliced.height, sliced.width) > MAX_SIDE:
            raise UserError(
                f"{found.source.paths[0]}: its slices are {sliced.height} x {sliced.width} pixels, "
                f"and a mask has at most {MAX_SIDE} along a side: cut it into tiles, or slice it "
                "along another plane in a new project"
            )
        label = self._label_of(found, volume) if found.label_file else None
        if case not in self._splits:
            self._splits[case] = split
            self.cases[split] += 1
        self._names.add(name)
        self._waiting[digest] = self._record(
            found, volume, sliced, case=case, name=name, label=label, digest=digest, size=size
        )
        self.added += 1
        self._first = self._first or (name, volume.channels)
        self.volumes_of_case[case] += 1
        self.slices += len(sliced.emptiness)
        if looks_like_a_label_map(found.source.paths[0].relative_to(self._found.root)):
            self.label_like.append(name)

    def _see_channels(self, found: FoundVolume, volume: Volume) -> None:
        """Refuse a volume that no network could learn from beside those that are there."""
        if self._first is None:
            return
        name, channels = self._first
        if volume.channels != channels:
            raise UserError(
                f"{found.source.paths[0]} has {counted(volume.channels, 'channel')}, but the "
                f"volumes of this project, such as {name}, have {channels}: add it to "
                "a project of its own (or make a new one without the others, by --ignore)"
            )

    def _record(
        self,
        found: FoundVolume,
        volume: Volume,
        sliced: SlicedVolume,
        *,
        case: str,
        name: str,
        label: str | None,
        digest: str,
        size: int,
    ) -> NewVolume:
        return NewVolume(
            case=case,
            split=self._splits[case],
            root_id=self._root_id,
            name=name,
            files=self._relative(found),
            series=found.source.series,
            label_file=label,
            content_hash=digest,
            byte_count=size,
            geometry=volume.geometry.to_json(),
            channels=volume.channels,
            intensity_range=[[low, high] for low, high in sliced.ranges],
            axis=sliced.axis,
            slice_height=sliced.height,
            slice_width=sliced.width,
            emptiness=sliced.emptiness,
        )

    def _placed(self, found: FoundVolume) -> tuple[str, str]:
        """Return case and split of a new volume, or refuse it: a guess might mix patients."""
        case = self._case_of(found.name)
        if not case:
            raise UserError(
                f"no case could be told from {found.name!r}: change --case so that it covers this "
                "file, or pass the file over with --ignore"
            )
        split = self._splits.get(case) or self._rule.split_of(case)
        if split is None:
            raise UserError(f"the case {case} is not in the split table: add a line for it")
        self._compare_split(found, case, split)
        return case, split

    def _compare_split(self, found: FoundVolume, case: str, split: str) -> None:
        """List a case, once, that the split table puts elsewhere than where it stays."""
        asked = None if self._rule.table is None else self._rule.table.get(case)
        if asked in (None, split) or case in self._disputed:
            return
        self._disputed.add(case)
        self._refuse(
            found,
            f"the split table puts the case {case} into {asked}, but it is {split} since it "
            "was added and stays so: correct the table, or split anew in a new project",
        )

    def _free_name(self, found: FoundVolume) -> str:
        name = found.name
        root = self._found.root.resolve()
        place = (found.source.series, *(root / file for file in self._relative(found)))
        if place in self._name_at:
            raise UserError(
                f"{found.source.paths[0]} changed since it was added as {self._name_at[place]}, "
                "and its masks belong to the old image: restore that, or add the new one under a "
                "new name"
            )
        if name in self._names:
            name = f"{self._found.root.resolve().name}/{name}"
        number = 2
        while name in self._names:
            name, number = f"{found.name} ({number})", number + 1
        return name

    @cached_property
    def _name_at(self) -> dict[tuple[str | Path | None, ...], str]:
        """The names of the volumes that were stored before, by series and files."""
        store = self._project.store
        roots = {n: self._project.root_folder(r).resolve() for n, r in store.roots().items()}
        return {
            (volume.series, *(roots[volume.root_id] / file for file in volume.files)): volume.name
            for volume in self._stored
        }

    def _label_of(self, found: FoundVolume, volume: Volume) -> str | None:
        """Return the path of a volume's label map if it fits; a bad one is listed, not fatal."""
        if found.label_file is None:
            return None
        try:
            read_label_map(found.label_file, volume.geometry)
            self.label_maps += 1
            return self._below_root(found.label_file)
        except UserError as refusal:
            self.problems.append(Problem(str(found.label_file), str(refusal)))
            return None

    def _relative(self, found: FoundVolume) -> list[str]:
        return [self._below_root(path) for path in found.source.paths]

    def _below_root(self, path: Path) -> str:
        return path.relative_to(self._found.root).as_posix()

    def _flush(self) -> None:
        if self._waiting:
            self._project.store.add_volumes(self._waiting.values(), self._project.actor)
            for volume in self._project.store.volumes_by_name(
                [new.name for new in self._waiting.values()]
            ):
                self._by_hash[volume.content_hash] = volume
            self._waiting.clear()


def looks_like_a_label_map(path: Path) -> bool:
    """Return whether a file is called as label maps often are: ``labels/a.nii``, ``a_gt.nii``."""
    folders = {part.lower() for part in path.parts[:-1]}
    return bool(folders & _LABEL_FOLDERS or _LABEL_ENDING.search(path.name.lower()))


def _duplicate(name: str) -> str:
    return f"the file has the same bytes as {name}, which is kept: remove one of the two files"


def take_folder(
    project: Project, path: Path, settings: AddSettings, on_progress: OnProgress
) -> AddResult:
    """Find the volumes of a folder, tell their cases apart, and take them in."""
    splits = SplitRule(
        None if settings.split is None else read_splits(settings.split),
        val_share=settings.val_share,
        test_share=settings.test_share,
        seed=settings.split_seed,
    )
    found = find_volumes(
        path,
        labels=settings.labels,
        ignore=settings.ignore,
        channels=settings.channels,
        stack=settings.stack,
    )
    case_of, rule_in_words = case_rule(settings.case, [volume.name for volume in found.volumes])
    intake = Intake(project, found, case_of, splits)
    intake.run(on_progress)
    largest, of_largest = max(
        intake.volumes_of_case.items(), key=lambda item: item[1], default=(None, 0)
    )
    return AddResult(
        added=intake.added,
        known=intake.known,
        moved=intake.moved,
        slices=intake.slices,
        cases=dict(intake.cases),
        case_rule=rule_in_words,
        largest_case=largest,
        largest_case_volumes=of_largest,
        label_maps=intake.label_maps,
        label_like=intake.label_like,
        other_files=found.other_files,
        problems=intake.problems,
    )
