"""What `init`, `add`, `classes` and `embed` hand back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_activeft.annotation_db import ClassRecord
from napari_activeft.errors import Problem


@dataclass(frozen=True)
class InitResult:
    """A project that was made."""

    folder: Path
    name: str
    plane: str


@dataclass(frozen=True)
class AddResult:
    """What became of the files of a folder.

    Attributes
    ----------
    added, known, moved
        Volumes that are new, that were there already, and that were found again at another place.
    slices
        Of the new volumes.
    cases
        Of the new volumes, by split.
    case_rule
        How cases were told apart, in words.
    largest_case, largest_case_volumes
        The case with the most new volumes, and how many these are: a wrong rule shows here first.
    label_maps
        New or known volumes that have a label map now.
    label_like
        Names of new volumes whose files are called as label maps are.
    other_files
        Files that are neither image nor label map.
    problems
        Files that were passed over, and why.
    """

    added: int
    known: int
    moved: int
    slices: int
    cases: dict[str, int]
    case_rule: str
    largest_case: str | None
    largest_case_volumes: int
    label_maps: int
    label_like: list[str]
    other_files: int
    problems: list[Problem]

    @property
    def nothing(self) -> bool:
        """Whether no image was found that could be taken."""
        return not (self.added or self.known or self.moved)


@dataclass(frozen=True)
class AddAllResult:
    """What became of the files of several folders, by path."""

    paths: dict[str, AddResult]

    @property
    def nothing(self) -> bool:
        """Whether no folder held an image."""
        return all(one.nothing for one in self.paths.values())

    @property
    def added(self) -> int:
        """New volumes."""
        return sum(one.added for one in self.paths.values())

    @property
    def problems(self) -> list[Problem]:
        """Files that were passed over, and why."""
        return [problem for one in self.paths.values() for problem in one.problems]


@dataclass(frozen=True)
class ClassesResult:
    """The class table as it is now."""

    classes: list[ClassRecord]


@dataclass(frozen=True)
class EmbedResult:
    """The vectors of the pool.

    Attributes
    ----------
    folder
        Where they lie, and what the encoder's name and weights were.
    size
        Numbers in a vector.
    pool_slices, embedded, computed
        Slices in the pool, those that have a vector now, and those that got it just now.
    seconds
        Spent just now.
    scan
        Which selective scan computed; None where none did.
    out
        The file the vectors were also written to.
    why
        Why this encoder was taken, where the program chose it; else empty.
    """

    encoder: str
    weight_hash: str
    random_weights: bool
    folder: Path
    size: int
    pool_slices: int
    embedded: int
    computed: int
    seconds: float
    device: str | None
    precision: str | None
    scan: str | None
    out: Path | None
    problems: list[Problem]
    why: str
