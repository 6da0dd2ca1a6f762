"""Which files under a folder make up volumes, and which label map belongs to each.

Names decide; no image is opened here, except that a DICOM folder is asked for its series.
Patterns are shell globs. One without a ``/`` is compared with the file's name, one with a ``/``
with its path below the folder, so that ``*_gt.nii.gz`` and ``labels/*.nii.gz`` both do what they
look like.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from napari_activeft.errors import Problem, UserError
from napari_activeft.folder_walk import walk
from napari_activeft.image_names import (
    DICOM,
    PICTURE,
    TIFF,
    is_image_name,
    may_hold_dicom_image,
    pictures_in,
    stem_of,
    suffix_of,
)
from napari_activeft.name_patterns import matches, stars_in
from napari_activeft.volume import Source, VolumeError, dicom_series


@dataclass(frozen=True)
class FoundVolume:
    """Files that make up one volume.

    Attributes
    ----------
    name
        Path below the folder without suffix, ``/`` between folders.
    source
        The files, as `volume.open_volume` takes them.
    label_file
        The label map that belongs to it, None if none was found.
    """

    name: str
    source: Source
    label_file: Path | None = None


@dataclass(frozen=True)
class FoundFiles:
    """What a folder holds.

    Attributes
    ----------
    root
        The folder that all names are relative to.
    volumes
        By name.
    problems
        Files that look like images or label maps but cannot be placed.
    other_files
        How many files are neither image nor label map.
    """

    root: Path
    volumes: list[FoundVolume]
    problems: list[Problem]
    other_files: int


def find_volumes(
    path: Path,
    *,
    labels: str | None = None,
    ignore: Sequence[str] = (),
    channels: Sequence[str] = (),
    stack: bool = False,
) -> FoundFiles:
    """Look through a folder, or at one file.

    Parameters
    ----------
    path
        A folder, which is searched to the bottom, or one image file.
    labels
        Glob of the files that are label maps and not images. What its ``*`` stand for is the name
        of the image; with no star in the file's name (``label.nii.gz``), a folder's only label map
        belongs to its only image.
    ignore
        Globs of files that are neither.
    channels
        One glob per channel, each with one ``*``; files whose ``*`` stands for the same text in
        the same folder are channels of one volume.
    stack
        Take each folder of 2-D pictures as one volume instead of a volume per picture.

    Raises
    ------
    UserError
        If there is nothing at ``path`` or a glob cannot be used.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"there is nothing at {path}: check the path")
    _check_globs(channels)
    root = path if path.is_dir() else path.parent
    files, problems = walk(path) if path.is_dir() else ([path], [])
    files = [file for file in files if not any(matches(file, root, glob) for glob in ignore)]
    label_files = [file for file in files if labels and matches(file, root, labels)]
    for glob in (*channels, *([labels] if labels else [])):
        if not any(matches(file, root, glob) for file in files):
            # What was meant as a label map must not become an image: nothing can take it back.
            raise UserError(f"no file in {path} fits {glob!r}, so nothing was added: correct it")
    rest = sorted(set(files) - set(label_files))
    images = [file for file in rest if is_image_name(file)]
    if path.is_file() and not images:
        problems.append(_no_image(path))
    volumes: list[FoundVolume] = []
    for found, trouble in (
        _channels(images, root, channels),
        _plain(_without(images, root, channels), root, stack=stack),
    ):
        volumes += found
        problems += trouble
    volumes, trouble = _pair(volumes, label_files, root, labels)
    problems += trouble
    problems.sort(key=lambda problem: problem.path)
    volumes.sort(key=lambda volume: volume.name)
    return FoundFiles(root, volumes, problems, len(rest) - len(images))


def _check_globs(channels: Sequence[str]) -> None:
    for glob in channels:
        if glob.count("*") != 1:
            raise UserError(
                f"the channel pattern {glob!r} was given, but it needs exactly one * that stands "
                "for the volume's name: write for example *_t1.nii.gz"
            )


def _no_image(path: Path) -> Problem:
    return Problem(
        str(path),
        f"{path.name} is no image by its name, and NIfTI, DICOM, NRRD, MHA, PNG, JPEG or TIFF is "
        "needed: convert it or name another file",
    )


def _name(path: Path, root: Path) -> str:
    below = path.relative_to(root).parent.as_posix()
    stem = stem_of(path) if path.is_file() else path.name
    return stem if below == "." else f"{below}/{stem}"


def _channels(
    images: Sequence[Path], root: Path, globs: Sequence[str]
) -> tuple[list[FoundVolume], list[Problem]]:
    """Join files that are channels of one volume."""
    groups: dict[tuple[Path, str], dict[str, Path]] = defaultdict(dict)
    for file in images:
        for glob in globs:
            stars = stars_in(file, root, glob)
            if stars:
                folder = root if "/" in glob else file.parent
                groups[folder, stars[0]][glob] = file
                break
    volumes, problems = [], []
    for (folder, star), files in groups.items():
        missing = [glob for glob in globs if glob not in files]
        if missing:
            one = next(iter(files.values()))
            sentence = (
                f"{len(files)} of {len(globs)} channels of {star} are there, "
                f"{missing[0].replace('*', star)} is missing: add it or change --channels"
            )
            problems.append(Problem(str(one), sentence))
            continue
        below = folder.relative_to(root).as_posix()
        name = star if below == "." else f"{below}/{star}"
        volumes.append(FoundVolume(name.rstrip("_-."), Source(tuple(files[g] for g in globs))))
    return volumes, problems


def _without(images: Sequence[Path], root: Path, globs: Sequence[str]) -> list[Path]:
    return [file for file in images if not any(matches(file, root, glob) for glob in globs)]


def _plain(
    images: Sequence[Path], root: Path, *, stack: bool
) -> tuple[list[FoundVolume], list[Problem]]:
    """Make one volume of each file, DICOM series and, on request, folder of pictures."""
    volumes: list[FoundVolume] = []
    problems: list[Problem] = []
    dicom_folders: dict[Path, list[Path]] = defaultdict(list)
    picture_folders: set[Path] = set()
    for file in images:
        suffix = suffix_of(file)
        if suffix in ("", *DICOM):
            dicom_folders[file.parent].append(file)
        elif stack and suffix in (*PICTURE, *TIFF):
            picture_folders.add(file.parent)
        else:
            volumes.append(FoundVolume(_name(file, root), Source((file,))))
    for folder, files in sorted(dicom_folders.items()):
        try:
            series = _series(folder, root)
        except VolumeError as refusal:
            problems.append(Problem(str(folder), str(refusal)))
        else:
            volumes += series
            problems += [] if series else [Problem(str(f), _NO_SERIES) for f in _damaged(files)]
    for folder in sorted(picture_folders):
        left_out = set(pictures_in(folder)) - set(images)
        if left_out:
            problems.append(Problem(str(folder), _not_whole(min(left_out))))
        else:
            volumes.append(FoundVolume(_folder_name(folder, root), Source((folder,))))
    return _told_apart(volumes), problems


_NO_SERIES = (
    "the DICOM file belongs to no series that can be read, it is cut off, damaged, protected or "
    "no DICOM: copy it again or remove it"
)


def _damaged(files: Sequence[Path]) -> list[Path]:
    """Return the DICOM files that should have been images."""
    damaged = []
    for file in files:
        with suppress(OSError):
            if not may_hold_dicom_image(file):
                continue
        damaged.append(file)
    return damaged


def _not_whole(left_out: Path) -> str:
    return (
        f"all pictures of the folder would make one volume, but {left_out.name} is ignored, a "
        "label map or a channel: move such files into another folder"
    )


def _series(folder: Path, root: Path) -> list[FoundVolume]:
    sources = dicom_series(folder)
    name = _folder_name(folder, root)
    if len(sources) == 1:
        return [FoundVolume(name, sources[0])]
    return [
        FoundVolume(f"{name}/series-{number}", source)
        for number, source in enumerate(sources, start=1)
    ]


def _folder_name(folder: Path, root: Path) -> str:
    below = folder.relative_to(root).as_posix()
    return folder.resolve().name if below == "." else below


def _told_apart(volumes: Iterable[FoundVolume]) -> list[FoundVolume]:
    """Give files that differ in their suffix only (a.png, a.nii) their full names."""
    by_name: dict[str, list[FoundVolume]] = defaultdict(list)
    for volume in volumes:
        by_name[volume.name].append(volume)
    named: list[FoundVolume] = []
    for name, same in by_name.items():
        if len(same) == 1:
            named += same
        else:
            parent = PurePosixPath(name).parent
            named += [
                replace(volume, name=str(parent / volume.source.paths[0].name)) for volume in same
            ]
    return named


def _pair(
    volumes: list[FoundVolume], label_files: Sequence[Path], root: Path, glob: str | None
) -> tuple[list[FoundVolume], list[Problem]]:
    """Give each label map to the one volume that it belongs to."""
    by_stem: dict[str, list[int]] = defaultdict(list)
    by_folder: dict[Path, list[int]] = defaultdict(list)
    for index, volume in enumerate(volumes):
        # Without suffix also where it is part of the name, to tell a.nii from a.png.
        by_stem[stem_of(Path(volume.name))].append(index)
        by_folder[volume.source.paths[0].parent].append(index)
    labels_in = Counter(file.parent for file in label_files)
    # Of label.nii.gz and */label.nii.gz no star stands in the name, so the folder must tell.
    bears_name = "*" in PurePosixPath(glob or "").name
    paired, problems = list(volumes), []
    for file in label_files:
        names = [stem_of(Path(star)) for star in stars_in(file, root, glob or "*")]
        star = next((name for name in names if name in by_stem), names[0])
        beside = by_folder[file.parent]
        near = by_stem.get(star, [])
        candidates = [index for index in near if index in beside] or near
        if not bears_name and labels_in[file.parent] == len(beside) == 1:
            # A folder of one image and one label map: patient/image.nii.gz, patient/label.nii.gz.
            candidates = beside
        if len(candidates) != 1:
            problems.append(Problem(str(file), _unpaired(star, len(candidates))))
        elif (taken := paired[candidates[0]].label_file) is not None:
            sentence = f"the image {star} has the label map {taken.name} already: remove one"
            problems.append(Problem(str(file), sentence))
        else:
            paired[candidates[0]] = replace(paired[candidates[0]], label_file=file)
    return paired, problems


def _unpaired(star: str, candidates: int) -> str:
    if candidates == 0:
        wanted = f"one named {star}" if star else "the only one beside it"
        return f"the label map has no image, {wanted} is needed: add it or change --labels"
    return (
        f"the label map fits {candidates} images named {star}: give them different names or put "
        "each label map beside its image"
    )
