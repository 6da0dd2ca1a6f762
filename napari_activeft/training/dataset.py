"""Accepted masks and their slices, as a network learns from them.

Symbols: c channels of the image, k channels of the network's input, h w height and width of a
slice as stored, H W after resampling, b crops in a batch.

Targets are class indices: 0 the background, 1 and on the classes in the order given, -1 where
nobody labelled.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from napari_activeft.errors import OnProgress, UserError, no_progress
from napari_activeft.training.balance import Balance, ClassShare
from napari_activeft.training.cropping import IGNORED, Augment, Crop, cut, place
from napari_activeft.training.planes import Planes
from napari_activeft.training.view import (
    UNLABELLED,
    Read,
    View,
    neighbours,
    prepare_mask,
    see_one_number_of_channels,
    with_neighbours,
)

if TYPE_CHECKING:
    from torch import Tensor

TRAINING_SPLIT = "pool"
_CACHE_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class LabelledVolume:
    """A volume and what is labelled of it, which may be nothing.

    Attributes
    ----------
    name, case
        Of the volume, unique, and of the patient or examination.
    split
        ``"pool"``, which trains, ``"val"`` or ``"test"``.
    spacing
        Millimetres per pixel down and across.
    shape
        Channels, height and width of a slice.
    depth
        Slices in the volume.
    read
        Takes some positions and returns those slices, (m, c, h, w) in 0..1.
    masks
        By position: class values (h, w), 0 the background, `view.UNLABELLED` where nobody labelled.
    by_network
        Positions whose mask is what a network proposed and somebody accepted as it was: learnt
        from, but no truth to measure a network by.
    """

    name: str
    case: str
    split: str
    spacing: tuple[float, float]
    shape: tuple[int, int, int]
    depth: int
    read: Read = field(repr=False)
    masks: Mapping[int, NDArray[Any]] = field(default_factory=dict, repr=False)
    by_network: frozenset[int] = frozenset()


class _Labelled(NamedTuple):
    """One slice: its target (H, W) and the count of each index on the stored grid, -1 first."""

    volume: LabelledVolume
    position: int
    target: NDArray[np.signedinteger[Any]]
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class Example:
    """One labelled slice; its image is put together when it is asked for.

    Attributes
    ----------
    volume, case, position
        Where it is from.
    target
        Class indices (H, W), int16, see the head of this file.
    """

    volume: LabelledVolume
    position: int
    target: NDArray[np.int16] = field(repr=False)
    _planes: Planes = field(repr=False)

    @property
    def case(self) -> str:
        """The patient or examination it is from."""
        return self.volume.case

    @property
    def by_people(self) -> bool:
        """Whether its mask is no accepted proposal of a network."""
        return self.position not in self.volume.by_network

    @property
    def image(self) -> NDArray[np.float32]:
        """The network's input, (k, H, W)."""
        depth, context = self.volume.depth, self._planes.view.context
        planes = self._planes.of(self.volume, neighbours(self.position, depth, context))
        return with_neighbours(planes, self.position, depth, context)


class SliceDataset:
    """The labelled slices of some volumes, prepared for a network.

    Parameters
    ----------
    volumes
        Those without a mask are passed over.
    view
        How the network sees slices.
    class_values
        Of the classes, 1 to 65534, in the order of the network's outputs.
    training
        A network will learn from them, so no case may be kept for validation or test.
    cache_bytes
        Of the prepared slices that are kept in memory, see `planes.Planes`.
    on_progress
        Called with (volumes read, volumes).

    Attributes
    ----------
    notes
        Sentences about slices that were left out.

    Raises
    ------
    UserError
        If a case may not be learnt from, a mask does not fit its slice or the classes, no slice
        has a labelled pixel, or an image cannot be read.
    """

    def __init__(
        self,
        volumes: Sequence[LabelledVolume],
        view: View,
        class_values: Sequence[int],
        *,
        training: bool,
        cache_bytes: int = _CACHE_BYTES,
        on_progress: OnProgress = no_progress,
    ) -> None:
        if training:
            _refuse_kept_apart(volumes)
        labelled = [volume for volume in volumes if volume.masks]
        if not labelled:
            raise UserError(
                f"none of {len(volumes)} volumes has an accepted mask, and a network learns from "
                "them: label a slice and accept it first"
            )
        _check_volumes(labelled, view)
        self.view, self.class_values = view, tuple(class_values)
        self.notes: list[str] = []
        self._slices: list[_Labelled] = []
        table = _index_table(class_values)
        for volume in labelled:
            self._add(volume, table)
        if not self._slices:
            raise UserError(
                f"no pixel of {sum(len(v.masks) for v in labelled)} accepted masks is labelled, "
                "and a network learns from those that are: label some first"
            )
        self._planes = Planes(view, cache_bytes)
        self._planes.fill(
            [
                (volume, [one.position for one in self._slices if one.volume is volume])
                for volume in dict.fromkeys(one.volume for one in self._slices)
            ],
            on_progress,
        )

    def __len__(self) -> int:
        return len(self._slices)

    @property
    def examples(self) -> list[Example]:
        """All labelled slices, whole, volume by volume and in their order there."""
        return [self._example(one) for one in self._slices]

    @property
    def cases(self) -> list[str]:
        """The cases that the slices are from, each once."""
        return list(dict.fromkeys(one.volume.case for one in self._slices))

    @property
    def kept_bytes(self) -> int:
        """Bytes of the prepared slices that are kept in memory."""
        return self._planes.kept_bytes

    def subset(self, cases: Collection[str], *, by_people: bool = False) -> Self:
        """Return the slices of some of the cases; what is in memory is shared.

        Parameters
        ----------
        by_people
            Leave out accepted proposals of networks.

        Raises
        ------
        UserError
            If there is none.
        """
        unknown = sorted(set(cases) - set(self.cases))
        if unknown or not cases:
            raise UserError(
                f"no slice of {unknown[0]} is labelled: choose among {', '.join(self.cases)}"
                if unknown
                else f"no case was named: choose among {', '.join(self.cases)}"
            )
        part = object.__new__(type(self))
        part.__dict__.update(self.__dict__)
        part.notes = []
        part._slices = [
            one
            for one in self._slices
            if one.volume.case in cases
            and not (by_people and one.position in one.volume.by_network)
        ]
        return part

    def balance(self) -> Balance:
        """Return how many pixels and slices of each class there are, on the stored masks."""
        counts = np.stack([one.counts for one in self._slices])
        pixels, slices = counts.sum(0).tolist(), (counts > 0).sum(0).tolist()
        shares = [
            ClassShare(value, pixels[index], slices[index])
            for index, value in enumerate((0, *self.class_values), start=1)
        ]
        return Balance(shares, pixels[0], len(self), slices[0], len(self.cases))

    def crop(self, index: int, rng: np.random.Generator, augment: Augment | None = None) -> Crop:
        """Return a part of a slice of the view's size: image (k, h, w), target (h, w), int16.

        Where it lies is told by `cropping.place`. Beyond the slice the image is its minimum and the
        target -1.

        Parameters
        ----------
        rng
            Where the crop lies and how it is augmented; the same state gives the same crop.
        augment
            As `augmentation.augmenter` makes them.
        """
        example = self._example(self._slices[index])
        window = place(example.target, self.view.size, rng)
        image = example.image
        if augment is not None:
            return augment(image, example.target, rng, window)
        return cut(image, example.target, window)

    def batch(
        self, indices: Sequence[int], rng: np.random.Generator, augment: Augment | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return a crop of each of some slices: (b, k, h, w) and (b, h, w), int64."""
        import torch

        crops = [self.crop(index, rng, augment) for index in indices]
        images = torch.from_numpy(np.stack([image for image, _ in crops]))
        return images, torch.from_numpy(np.stack([target for _, target in crops])).long()

    def _example(self, one: _Labelled) -> Example:
        return Example(one.volume, one.position, one.target.astype(np.int16), self._planes)

    def _add(self, volume: LabelledVolume, table: NDArray[np.int32]) -> None:
        """Turn the masks of a volume to targets; those without a labelled pixel become a note."""
        shape = self.view.shape_of(volume.shape[1:], volume.spacing)
        small = np.int8 if len(self.class_values) <= np.iinfo(np.int8).max else np.int16
        for position, mask in sorted(volume.masks.items()):
            indices = _indices(volume, position, mask, table)
            counts = np.bincount(indices.ravel() + 1, minlength=len(self.class_values) + 2)
            target: NDArray[np.signedinteger[Any]] = prepare_mask(indices, shape).astype(small)
            if counts[0] == indices.size or target.max() < 0:
                self.notes.append(
                    f"slice {position} of {volume.name} has no labelled pixel and was left out"
                )
                continue
            self._slices.append(_Labelled(volume, position, target, counts))


def _refuse_kept_apart(volumes: Sequence[LabelledVolume]) -> None:
    kept = next((volume for volume in volumes if volume.split != TRAINING_SPLIT), None)
    if kept is not None:
        raise UserError(
            f"case {kept.case} (volume {kept.name}) is kept for {kept.split}, and only cases of "
            f"{TRAINING_SPLIT} may be learnt from: leave it out"
        )


def _check_volumes(volumes: Sequence[LabelledVolume], view: View) -> None:
    see_one_number_of_channels(volumes)
    if volumes[0].shape[0] != view.channels:
        raise UserError(
            f"{volumes[0].name} has {volumes[0].shape[0]} channels and the network takes images of "
            f"{view.channels}: train a new network on these volumes"
        )
    names = [volume.name for volume in volumes]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{twice} was given twice, and each volume is needed once: leave one out")


def _index_table(class_values: Sequence[int]) -> NDArray[np.int32]:
    """Return the index of every value a mask can hold; those outside of the classes become -2."""
    wrong = [value for value in class_values if not 0 < value < UNLABELLED]
    if wrong or len(set(class_values)) < len(class_values) or not class_values:
        raise UserError(
            f"the classes {', '.join(map(str, class_values)) or 'of an empty table'} were given, "
            f"and different values from 1 to {UNLABELLED - 1} are needed: correct the class table"
        )
    table = np.full(UNLABELLED + 1, -2, dtype=np.int32)
    table[[0, UNLABELLED]] = 0, IGNORED
    table[list(class_values)] = np.arange(1, len(class_values) + 1)
    return table


def _indices(
    volume: LabelledVolume, position: int, mask: NDArray[Any], table: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Return the class indices of a mask, (h, w), once it is seen to fit."""
    if not 0 <= position < volume.depth:
        raise UserError(
            f"{volume.name} has a mask at slice {position}, and its slices are 0 to "
            f"{volume.depth - 1}: run `napari-activeft doctor`"
        )
    if mask.shape != volume.shape[1:]:
        raise UserError(
            f"the mask of slice {position} of {volume.name} is {_by(mask.shape)} pixels and the "
            f"slice {_by(volume.shape[1:])}: label it again on the image"
        )
    indices: NDArray[np.int32] = table[mask.astype(np.uint16, copy=False)]
    if indices.min() < IGNORED:
        strange = np.unique(mask[indices < IGNORED]).tolist()
        raise UserError(
            f"the mask of slice {position} of {volume.name} holds {', '.join(map(str, strange))}, "
            "which the class table lacks: add it with `napari-activeft classes`, or label the "
            "slice again"
        )
    return indices


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
