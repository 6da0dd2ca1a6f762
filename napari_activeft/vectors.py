"""The vectors that a project holds: which there are, and how they are read."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_activeft.annotation_db import SliceRow
from napari_activeft.embedding.encoder import WEIGHTLESS
from napari_activeft.embedding.feature_file import FeatureFile, damaged, read_about
from napari_activeft.encoder_sources import known_encoders
from napari_activeft.errors import Problem, UserError
from napari_activeft.extras import missing_compute
from napari_activeft.project import Project
from napari_activeft.settings.learning import AUTO


@dataclass(frozen=True)
class Embedding:
    """A folder of vectors and what made them.

    Attributes
    ----------
    folder
        Below the project's ``embeddings``.
    encoder, weight_hash
        Name, and SHA-256 of what it learnt.
    random_weights
        The network was never trained.
    size
        Numbers in a vector, d.
    slices
        That have a vector.
    side
        Height and width of the pictures.
    used_at
        When it was made or completed last, ISO 8601 in UTC.
    device, precision, scan
        With which this run computed; None where that is not known or does not apply.
    seconds
        Spent on computing, reading included.
    computed
        Slices that got their vector in this run.
    problems
        Volumes that could not be read.
    why
        Why this encoder was taken, where the program chose it.
    """

    folder: Path
    encoder: str
    weight_hash: str
    random_weights: bool
    size: int
    slices: int
    side: int
    used_at: str
    device: str | None = None
    precision: str | None = None
    scan: str | None = None
    seconds: float = 0.0
    computed: int = 0
    problems: tuple[Problem, ...] = ()
    why: str = ""


def embeddings(project: Project) -> list[Embedding]:
    """List the embeddings of a project, the one used last first; damaged ones are left out."""
    found = []
    for path in embeddings_folder(project).glob("*/embedding.json"):
        try:
            found.append(_embedding(path.parent))
        except UserError:
            continue  # `damaged_embeddings` names it; the others are as good as before
    return sorted(found, key=lambda one: (one.used_at, one.folder.name), reverse=True)


def damaged_embeddings(project: Project) -> list[Problem]:
    """List the folders of vectors that do not say what they hold, and what to do."""
    problems = []
    for path in sorted(embeddings_folder(project).glob("*/embedding.json")):
        try:
            _embedding(path.parent)
        except UserError as refusal:
            problems.append(Problem(str(path.parent), str(refusal)))
    return problems


def _embedding(folder: Path) -> Embedding:
    about = read_about(folder)
    try:
        return Embedding(
            folder=folder,
            encoder=about["encoder"],
            weight_hash=about["weight_hash"],
            random_weights=about["random_weights"],
            size=about["size"],
            slices=len(FeatureFile.open(folder).keys),
            precision=about["precision"],
            side=about["side"],
            used_at=about.get("used_at", about["created_at"]),
        )
    except KeyError as missing:
        raise damaged(folder, f"it lacks {missing}") from missing


def load_vectors(
    project: Project, pool: Sequence[SliceRow], encoder: str | None = None, *, l2: bool = False
) -> tuple[Embedding, NDArray[np.float32]]:
    """Return the vectors of the pool's slices in their order, (n, d), mapped from the disk.

    Parameters
    ----------
    encoder
        Whose vectors; those made last by default.
    l2
        Divide each vector by its length; the result then lies in memory.

    Raises
    ------
    UserError
        If there are none, or not for every slice.
    """
    keys = [row.key for row in pool]
    there = embeddings(project)
    made = [one for one in there if encoder in (None, one.encoder)]
    if not made:
        raise UserError(
            _not_embedded(project, encoder, list(dict.fromkeys(one.encoder for one in there)))
        )
    named = [one for one in made if one.encoder == made[0].encoder]
    files = [FeatureFile.open(one.folder) for one in named]
    lacking = [len(set(keys) - set(file.keys)) for file in files]
    if min(lacking):
        raise UserError(
            f"{lacking[0]} of {len(pool)} slices have no vector by {made[0].encoder} yet: run "
            f"`napari-activeft embed --encoder {made[0].encoder}` again"
        )
    # The one used last may be of an earlier pool, such as a basis that another pool was fitted to.
    chosen = lacking.index(0)
    vectors = files[chosen].rows_of(keys)
    return named[chosen], unit_length(vectors) if l2 else vectors


def _not_embedded(project: Project, encoder: str | None, there: Sequence[str]) -> str:
    """Return why there are no vectors by an encoder, where there are some by others."""
    if encoder is None:
        never = "the slices of this project were not embedded yet: run `napari-activeft embed`"
        other = ", or take --selector stratified_random, which needs no vectors"
        return never + other if missing_compute() else never
    known = _known_encoders(project)
    if encoder in known:
        return (
            f"the slices of this project were not embedded yet by {encoder}: run `napari-activeft "
            f"embed --encoder {encoder}`"
            + (f", or choose {', '.join(there)}, by which they were" if there else "")
        )
    near = get_close_matches(encoder, [*there, *known], 3, cutoff=0.5)
    meant = f" (did you mean {' or '.join(dict.fromkeys(near))}?)" if near else ""
    if there:
        return (
            f"no encoder is called {encoder!r}{meant}: this project was embedded by "
            f"{', '.join(there)}; name one of these with --encoder, or leave it out"
        )
    return (
        f"no encoder is called {encoder!r}{meant}: run `napari-activeft embed`, with --encoder for "
        f"one of {', '.join(known)}"
    )


def _known_encoders(project: Project) -> list[str]:
    """Return every encoder that `embed` can run here."""
    if find_spec("torch") is None:
        return list(WEIGHTLESS)
    return [one for one in known_encoders(project.folder) if one != AUTO]


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide each vector of (n, d) by its Euclidean length; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = np.divide(
        vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0
    )
    return scaled


def write_vectors(project: Project, path: Path, embedding: Embedding, *, l2: bool) -> int:
    """Write the pool's vectors as ``.npy`` and what each row is as ``.csv`` beside it.

    Returns
    -------
    rows
        Slices of the pool that have a vector; the others are left out.
    """
    file = FeatureFile.open(embedding.folder)
    there = set(file.keys)
    pool = [row for row in project.store.pool_slices() if row.key in there]
    vectors = file.rows_of([row.key for row in pool])
    names = project.store.volume_names()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            np.save(out, unit_length(vectors) if l2 else vectors)
        with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as table:
            writer = csv.writer(table)
            writer.writerow(["row", "case", "volume", "position", "key", "emptiness"])
            for at, row in enumerate(pool):
                where = (row.case, names[row.volume_id], row.position, row.key)
                writer.writerow([at, *where, row.emptiness])
    except OSError as refusal:
        raise UserError(
            f"{path} cannot be written ({refusal.strerror}): choose another --out"
        ) from refusal
    return len(pool)


def embeddings_folder(project: Project) -> Path:
    """Return the folder below which all vectors of a project lie."""
    return project.folder / "embeddings"
