"""Runs an encoder over the slices that have no vector yet.

One thread reads and scales pictures while the encoder computes; what is done reaches the disk every
few seconds, so that a stopped run goes on where it was.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_activeft.embedding.encoder import Encoder
from napari_activeft.embedding.feature_file import FeatureFile
from napari_activeft.embedding.pictures import pictures
from napari_activeft.errors import OnProgress, Problem, UserError, no_progress

# Between two writes: what a killed process loses at most.
_SECONDS, _ROWS = 5.0, 4096
_READ_AHEAD = 2
# Of one piece as it is read: large pictures come in smaller pieces, whatever the batch.
_PIECE_BYTES = 64 << 20


@dataclass(frozen=True)
class Stack:
    """Slices of one volume that are to be embedded.

    Attributes
    ----------
    name
        Of the volume, for messages.
    keys
        Stable names of the slices.
    positions
        Of the slices in the volume.
    shape
        Channels, height and width of a slice.
    spacing
        Millimetres per pixel down and across.
    read
        Takes some positions and returns those slices, (m, c, h, w) in 0..1; it may raise
        `UserError` if the image cannot be read.
    """

    name: str
    keys: Sequence[str]
    positions: Sequence[int]
    shape: tuple[int, int, int]
    spacing: tuple[float, float]
    read: Callable[[Sequence[int]], NDArray[np.float32]] = field(repr=False)


class Piece(NamedTuple):
    """A few slices of one stack, read and scaled, or why they could not be."""

    stack: Stack
    keys: Sequence[str]
    pictures: NDArray[np.float32] | None
    refusal: UserError | None


def embed(
    stacks: Sequence[Stack],
    encoder: Encoder,
    into: FeatureFile,
    *,
    batch: int,
    on_progress: OnProgress = no_progress,
) -> list[Problem]:
    """Add the vectors of all slices that have none yet.

    Parameters
    ----------
    stacks
        The pool, volume by volume.
    encoder
        Applied to ``batch`` slices at once, of several volumes if need be.
    into
        Open for writing.
    on_progress
        Called with (slices that have a vector, slices); what is done stays if it raises
        `Cancelled`.

    Returns
    -------
    problems
        Volumes that could not be read, whole or in part.
    """
    known = set(into.keys)
    todo = [left for stack in stacks if (left := _without(stack, known)).keys]
    total = sum(len(stack.keys) for stack in stacks)
    missing = sum(len(stack.keys) for stack in todo)
    problems: dict[str, Problem] = {}
    done = total - missing
    on_progress(done, total)
    with _Writer(into) as writer:
        for keys, block in _batches(_pieces(todo, encoder.side, batch), batch, problems):
            writer.add(keys, encoder.embed(block))
            done += len(keys)
            on_progress(done, total)
    return list(problems.values())


def sample(
    stacks: Sequence[Stack], side: int, count: int, seed: int, on_progress: OnProgress = no_progress
) -> tuple[NDArray[np.float32], bool]:
    """Return about ``count`` pictures spread evenly over the pool, and whether all could be read.

    Volumes are drawn by the seed and their slices' keys, not by their order; unreadable ones are
    passed over.

    Returns
    -------
    pictures
        Shape (n, c, side, side).
    whole
        Whether no drawn volume was passed over.

    Raises
    ------
    UserError
        If none could be read.
    """
    found: list[NDArray[np.float32]] = []
    whole = True
    for piece in drawn(stacks, side, count, seed, on_progress):
        if piece.pictures is None:
            whole = False
        else:
            found.append(piece.pictures)
    if not found:
        raise UserError(
            "no image of the pool could be read: `napari-activeft doctor` says how to mend them"
        )
    return np.concatenate(found), whole


def drawn(
    stacks: Sequence[Stack], side: int, count: int, seed: int, on_progress: OnProgress = no_progress
) -> Iterator[Piece]:
    """Read about ``count`` pictures spread evenly over the pool, piece by piece.

    Volumes are drawn by the seed and their slices' keys, not by their order.
    """
    order = np.random.default_rng(seed).permutation(len(stacks))
    by_key = sorted(stacks, key=lambda stack: stack.keys[0])
    each = max(-(-count // max(len(stacks), 1)), 2)
    parts, planned = [], 0
    for index in order:
        if planned >= count:
            break
        stack = by_key[index]
        rows = np.unique(np.linspace(0, len(stack.keys) - 1, each).round().astype(int))
        parts.append(_part(stack, rows.tolist()))
        planned += len(rows)
    done = 0
    for piece in _pieces(parts, side, batch=64):
        yield piece
        done += len(piece.keys)
        on_progress(done, planned)


class _Writer:
    """Collects vectors and appends them every few seconds, and whatever happens at the end."""

    def __init__(self, into: FeatureFile) -> None:
        self._into = into
        self._keys: list[str] = []
        self._vectors: list[NDArray[np.float32]] = []
        self._written_at = time.monotonic()

    def add(self, keys: Sequence[str], vectors: NDArray[np.float32]) -> None:
        self._keys.extend(keys)
        self._vectors.append(vectors)
        if len(self._keys) >= _ROWS or time.monotonic() - self._written_at > _SECONDS:
            self._write()

    def _write(self) -> None:
        keys, vectors = self._keys, self._vectors
        self._keys, self._vectors = [], []  # what cannot be written is not tried again
        if keys:
            self._into.append(keys, np.concatenate(vectors))
        self._written_at = time.monotonic()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()


def _without(stack: Stack, known: set[str]) -> Stack:
    return _part(stack, [row for row, key in enumerate(stack.keys) if key not in known])


def _part(stack: Stack, rows: Sequence[int]) -> Stack:
    keys = [stack.keys[row] for row in rows]
    positions = [stack.positions[row] for row in rows]
    return dataclasses.replace(stack, keys=keys, positions=positions)


def _pieces(stacks: Sequence[Stack], side: int, batch: int) -> Iterator[Piece]:
    """Read the stacks piece by piece, a few pieces ahead of who takes them."""
    jobs = (
        _part(stack, range(start, min(start + step, len(stack.keys))))
        for stack in stacks
        for step in (max(min(batch, _PIECE_BYTES // (4 * math.prod(stack.shape))), 1),)
        for start in range(0, len(stack.keys), step)
    )
    # One reader: it keeps the volume it is at in memory, two would read each volume twice.
    reader = ThreadPoolExecutor(1, thread_name_prefix="slices")
    waiting: deque[Future[Piece]] = deque()
    try:
        for part in jobs:
            waiting.append(reader.submit(_read, part, side))
            if len(waiting) > _READ_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        reader.shutdown(cancel_futures=True)


def _read(part: Stack, side: int) -> Piece:
    try:
        slices = part.read(part.positions)
    except UserError as refusal:
        return Piece(part, part.keys, None, refusal)
    return Piece(part, part.keys, pictures(slices, part.spacing, side), None)


def _batches(
    pieces: Iterable[Piece], batch: int, problems: dict[str, Problem]
) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    """Join pieces to batches of one size; the last one may be smaller."""
    keys: list[str] = []
    held: list[NDArray[np.float32]] = []
    for piece in pieces:
        if piece.pictures is None:
            problems[piece.stack.name] = Problem(piece.stack.name, str(piece.refusal))
            continue
        keys.extend(piece.keys)
        held.append(piece.pictures)
        while len(keys) >= batch:
            block = np.concatenate(held) if len(held) > 1 else held[0]
            yield keys[:batch], block[:batch]
            keys, held = keys[batch:], [block[batch:]]
    if keys:
        yield keys, np.concatenate(held)
