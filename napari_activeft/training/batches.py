"""Which crops make a step: a function of seed and step, so that a stopped run needs no memory.

All slices are passed through in a new order before the first comes again. A crop's randomness is
that of (seed, step, place in the step), whatever process or thread makes it and in however many
parts the step is worked on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from napari_activeft.training.cropping import Augment, Crop
    from napari_activeft.training.dataset import SliceDataset

_ORDER, _CROP, _TORCH = 1, 2, 3  # keep the streams apart


class Batches:
    """The crops of every step of a run.

    Parameters
    ----------
    dataset
        Where they come from.
    slices
        In a step, over all processes.
    seed
        Of the run.
    augmenter
        Makes an augmentation; each thread has its own.
    workers
        Threads that make the next step's crops meanwhile; 0 makes them in turn.
    """

    def __init__(
        self,
        dataset: SliceDataset,
        slices: int,
        *,
        seed: int,
        augmenter: Callable[[], Augment | None],
        workers: int,
    ) -> None:
        self._dataset, self._slices, self._seed = dataset, slices, seed
        self._augmenter, self._mine = augmenter, threading.local()
        self._threads = ThreadPoolExecutor(workers, "crops") if workers else None
        self._ahead: dict[tuple[int, ...], list[Future[Crop]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def crops(self, step: int, places: Sequence[int], *, last: bool) -> tuple[Tensor, Tensor]:
        """Return images (b, k, h, w) and targets (b, h, w), int64, of some places of a step.

        Parameters
        ----------
        places
            Places in the step, 0 to ``slices`` - 1.
        last
            No step follows, so nothing is made ahead.
        """
        if self._threads is None:
            made = [self._crop(step, place) for place in places]
        else:
            futures = self._ahead.pop((step, *places), None)
            if futures is None:
                futures = self._begin(self._threads, step, places)
            if not last:
                self._ahead[step + 1, *places] = self._begin(self._threads, step + 1, places)
            made = [future.result() for future in futures]
        images = np.stack([image for image, _ in made])
        targets = np.stack([target for _, target in made]).astype(np.int64)
        return torch.from_numpy(images), torch.from_numpy(targets)

    def _begin(
        self, threads: ThreadPoolExecutor, step: int, places: Sequence[int]
    ) -> list[Future[Crop]]:
        return [threads.submit(self._crop, step, place) for place in places]

    def _crop(self, step: int, place: int) -> Crop:
        if not hasattr(self._mine, "augment"):
            self._mine.augment = self._augmenter()
        rng = np.random.default_rng([self._seed, _CROP, step, place])
        index = order(self._seed, len(self._dataset), step * self._slices + place)
        return self._dataset.crop(index, rng, self._mine.augment)


def order(seed: int, size: int, position: int) -> int:
    """Return which of ``size`` slices comes at a position of the endless row of slices."""
    turn, at = divmod(position, size)
    return int(_shuffled(seed, size, turn)[at])


@lru_cache(maxsize=4)  # a step asks for many places of one turn, or of two
def _shuffled(seed: int, size: int, turn: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, _ORDER, turn]).permutation(size)


def torch_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed of what torch draws in a step (drop path) in one process."""
    return int(np.random.SeedSequence([seed, _TORCH, step, rank]).generate_state(1)[0])


def parts_of(places: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Cut places into parts of at most a size."""
    for start in range(0, len(places), size):
        yield places[start : start + size]
