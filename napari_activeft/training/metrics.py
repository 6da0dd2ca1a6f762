"""How near a predicted label map comes to the true one: per class, in a volume or in one slice.

Symbols: t and p are the voxels of one class in truth and prediction; d slices of h x w pixels.

========================  ===========================================================
``dice``, ``iou``         2|t & p| / (|t| + |p|) and |t & p| / |t | p|, 0 to 1
``sensitivity``           the part of t that is in p
``specificity``           the part of what is not in t that is not in p either
``accuracy``              the part of all pixels that are in both or in neither; of all
                          classes together, the part of pixels with the right class
``ssim``                  structural similarity of the masks t and p as pictures of 0 and
                          1, not of grey values: windows of 7 x 7 pixels, mean over a
                          slice; in a volume the mean over the slices that hold the class
``hd95_mm``               95th percentile of the distance from each surface to the other,
                          the larger of the two directions
``assd_mm``               mean distance of both surfaces' voxels to the other surface
``volume_error_ml``       |p| - |t| in millilitres: above 0 where too much is predicted
``volume_error_percent``  the same, of |t|
``truth_ml``              |t|; ``predicted_ml`` is |p|
========================  ===========================================================

A surface is made of the voxels that share a face with a voxel outside of the class or with the rim
of the array; an axis of one voxel has no rim, so a single slice has outlines. All of it is as MONAI
defines it, in voxel centres and millimetres.

**Where a class is absent.** A figure is NaN where there is nothing to compare, and tables leave it
out and say how many they left out. A class in neither truth nor prediction has no Dice, IoU,
sensitivity, SSIM, distance or per cent; its specificity and accuracy are 1 and its volume error is
0 ml. A class in one of both has Dice, IoU 0 and no distance: there is no surface to measure to, and
any number put there would be an invention. With ``absent_as_zero`` a class in neither has Dice,
IoU and sensitivity 0; older studies count so, which punishes a network for slices that hold
nothing.

**Where nobody labelled.** Pixels of the truth that are `UNLABELLED` count neither for nor against.
Where there are such, only what counts pixels is given: SSIM, distances and volumes need to know the
whole outline and are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.training.surfaces import surface_distances
from napari_activeft.voxels import LABEL_LIMIT, UNLABELLED

Measured = dict[int, dict[str, float]]
"""Figures by name by class value; under `TOGETHER` the means over the classes."""

TOGETHER = 0
"""The key of all classes together: no class has the value of the background."""

_WINDOW = 7
_RIM = _WINDOW // 2


@dataclass(frozen=True)
class Metric:
    """What a figure is called, and how it is read.

    Attributes
    ----------
    unit
        mm, ml, % or nothing.
    best
        The value of a perfect prediction; None where there is none to name.
    digits
        After the point, for people.
    """

    heading: str
    unit: str = ""
    best: float | None = 1.0
    digits: int = 3


METRICS: dict[str, Metric] = {
    "dice": Metric("Dice"),
    "iou": Metric("IoU"),
    "sensitivity": Metric("Sensitivity"),
    "specificity": Metric("Specificity", digits=4),
    "accuracy": Metric("Pixel accuracy", digits=4),
    "ssim": Metric("SSIM of masks"),
    "hd95_mm": Metric("HD95", "mm", 0.0, 2),
    "assd_mm": Metric("Surface distance", "mm", 0.0, 2),
    "volume_error_ml": Metric("Volume error", "ml", 0.0, 2),
    "volume_error_percent": Metric("Volume error", "%", 0.0, 1),
    "truth_ml": Metric("True volume", "ml", None, 2),
    "predicted_ml": Metric("Predicted volume", "ml", None, 2),
}
"""Every figure by its name, in the order of tables."""


@dataclass(frozen=True)
class Compared:
    """A predicted volume beside its truth.

    Attributes
    ----------
    volume
        Figures of the volume as a whole; None where some of its slices have no truth.
    slices
        Figures by position, of the slices that have truth.
    """

    volume: Measured | None
    slices: dict[int, Measured]


def compare_volume(
    truth: Mapping[int, NDArray[Any]],
    prediction: NDArray[Any],
    class_values: Sequence[int],
    spacing: Sequence[float],
    *,
    absent_as_zero: bool = False,
) -> Compared:
    """Measure a volume and each slice of it that has truth.

    Parameters
    ----------
    truth
        By position: class values (h, w), `UNLABELLED` where nobody labelled.
    prediction
        Class values (d, h, w).
    class_values
        That are measured, 1 to 65534.
    spacing
        Millimetres from slice to slice, per pixel down, and across.
    absent_as_zero
        See this file's head.

    Raises
    ------
    ValueError
        If a slice of the truth has another shape than the prediction, or lies beyond it.
    """
    depth = len(prediction)
    beyond = [position for position in truth if not 0 <= position < depth]
    if beyond:
        raise ValueError(
            f"truth is given for slice {beyond[0]}, and {depth} slices are predicted: give both "
            "of one volume"
        )
    slices = {
        position: measure(
            truth[position][np.newaxis],
            prediction[position][np.newaxis],
            class_values,
            spacing,
            absent_as_zero=absent_as_zero,
        )
        for position in sorted(truth)
    }
    if len(truth) < depth:
        return Compared(None, slices)
    whole = np.stack([truth[position] for position in range(depth)])
    made = measure(whole, prediction, class_values, spacing, absent_as_zero=absent_as_zero)
    return Compared(made, slices)


def measure(
    truth: NDArray[Any],
    prediction: NDArray[Any],
    class_values: Sequence[int],
    spacing: Sequence[float],
    *,
    absent_as_zero: bool = False,
) -> Measured:
    """Return the figures of each class, and of all together.

    Parameters
    ----------
    truth, prediction
        Class values (d, h, w) as whole numbers; the truth may hold `UNLABELLED`.
    class_values
        That are measured, 1 to 65534; any other value counts as none of them.
    spacing
        Millimetres from slice to slice, per pixel down, and across.
    absent_as_zero
        See this file's head.

    Raises
    ------
    ValueError
        If shapes differ, or there is no class, or one is out of range.
    """
    _see_fit(truth, prediction, class_values, spacing)
    lookup = np.full(LABEL_LIMIT + 1, len(class_values) + 1, dtype=np.min_scalar_type(LABEL_LIMIT))
    lookup[[0, *class_values]] = range(len(class_values) + 1)
    t, p = lookup[truth], lookup[prediction]
    known = truth != UNLABELLED
    is_whole = bool(known.all())
    counts = _crossed(t, p, None if is_whole else known, len(class_values) + 2)
    boxes = _boxes(t, p, len(class_values)) if is_whole else []
    made: Measured = {}
    for index, value in enumerate(class_values, start=1):
        figures = _overlap(counts, index, absent_as_zero=absent_as_zero)
        if is_whole:
            figures |= _volumes(counts, index, spacing)
            figures |= _shapes(t, p, index, boxes[index - 1], spacing)
        made[value] = {name: figures.get(name, math.nan) for name in METRICS}
    together = {
        name: mean_of_defined([made[value][name] for value in class_values]) for name in METRICS
    }
    right = (truth == prediction)[known]
    together["accuracy"] = float(right.mean()) if right.size else math.nan
    return {TOGETHER: together, **made}


def _see_fit(
    truth: NDArray[Any],
    prediction: NDArray[Any],
    class_values: Sequence[int],
    spacing: Sequence[float],
) -> None:
    if truth.shape != prediction.shape or truth.ndim != 3:
        raise ValueError(
            f"the truth is {truth.shape} and the prediction {prediction.shape}: give both on one "
            "grid of (slices, height, width)"
        )
    if len(spacing) != 3 or not all(mm > 0 for mm in spacing):
        raise ValueError(
            f"a spacing of {tuple(spacing)} mm was given: give three lengths above 0, from slice "
            "to slice, down and across"
        )
    if not class_values or len(set(class_values)) < len(class_values):
        raise ValueError(f"the classes {list(class_values)} were given: name one, each once")
    strange = [value for value in class_values if not 1 <= value < UNLABELLED]
    if strange:
        raise ValueError(f"class {strange[0]} was given: classes lie from 1 to {UNLABELLED - 1}")
    if any(labels.dtype.kind not in "iu" for labels in (truth, prediction)):
        raise ValueError(
            f"label maps of {truth.dtype} and {prediction.dtype} were given: give whole numbers"
        )


def _crossed(
    t: NDArray[Any], p: NDArray[Any], known: NDArray[np.bool_] | None, size: int
) -> NDArray[np.int64]:
    """Return how many pixels have each pair of class indices, (truth, prediction)."""
    pairs = t.astype(np.intp) * size + p
    pairs = pairs.ravel() if known is None else pairs[known]
    return np.bincount(pairs, minlength=size * size).reshape(size, size)


def _overlap(counts: NDArray[np.int64], index: int, *, absent_as_zero: bool) -> dict[str, float]:
    """Return what follows from counts of pixels."""
    both = int(counts[index, index])
    in_truth, in_prediction = int(counts[index].sum()), int(counts[:, index].sum())
    every = int(counts.sum())
    either = in_truth + in_prediction - both
    figures = {
        "dice": _share(2 * both, in_truth + in_prediction),
        "iou": _share(both, either),
        "sensitivity": _share(both, in_truth),
        "specificity": _share(every - either, every - in_truth),
        "accuracy": _share(every - either + both, every),
    }
    if absent_as_zero and every and not either:
        figures |= dict.fromkeys(("dice", "iou", "sensitivity"), 0.0)
    return figures


def _volumes(counts: NDArray[np.int64], index: int, spacing: Sequence[float]) -> dict[str, float]:
    millilitres = math.prod(spacing) / 1000
    truth = int(counts[index].sum()) * millilitres
    predicted = int(counts[:, index].sum()) * millilitres
    return {
        "volume_error_ml": predicted - truth,
        "volume_error_percent": 100 * _share(predicted - truth, truth),
        "truth_ml": truth,
        "predicted_ml": predicted,
    }


def _boxes(
    t: NDArray[Any], p: NDArray[Any], classes: int
) -> list[tuple[slice, slice, slice] | None]:
    """Return the smallest box around each class in both; None where neither holds it."""
    from scipy.ndimage import find_objects

    joined: list[tuple[slice, slice, slice] | None] = []
    for pair in zip(*(find_objects(labels, classes) for labels in (t, p)), strict=True):
        found = [box for box in pair if box is not None]
        if not found:
            joined.append(None)
            continue
        sides = [
            slice(min(side.start for side in along), max(side.stop for side in along))
            for along in zip(*found, strict=True)
        ]
        joined.append((sides[0], sides[1], sides[2]))
    return joined


def _shapes(
    t: NDArray[Any],
    p: NDArray[Any],
    index: int,
    box: tuple[slice, slice, slice] | None,
    spacing: Sequence[float],
) -> dict[str, float]:
    """Return what follows from where the pixels of one class lie."""
    if box is None:
        return {}
    truth, predicted = t[box] == index, p[box] == index
    figures = {"ssim": _similarity(t, p, index, box)}
    # An axis of one voxel is no direction that a surface could face.
    axes = [axis for axis, side in enumerate(t.shape) if side > 1]
    if truth.any() and predicted.any():
        flat = tuple(slice(None) if axis in axes else 0 for axis in range(3))
        steps = np.array([spacing[axis] for axis in axes])
        there, back = surface_distances(truth[flat], predicted[flat], steps)
        figures["hd95_mm"] = float(max(np.percentile(there, 95), np.percentile(back, 95)))
        figures["assd_mm"] = float(np.concatenate([there, back]).mean())
    return figures


def _similarity(
    t: NDArray[Any], p: NDArray[Any], index: int, box: tuple[slice, slice, slice]
) -> float:
    """Return the mean SSIM of the slices that hold a class; NaN where a side is below a window."""
    height, width = t.shape[1:]
    if min(height, width) < _WINDOW:
        return math.nan
    values = []
    for position in range(box[0].start, box[0].stop):
        truth, predicted = t[position] == index, p[position] == index
        if truth.any() or predicted.any():
            values.append(_slice_similarity(truth, predicted, box[1:]))
    return mean_of_defined(values)


def _slice_similarity(
    truth: NDArray[np.bool_], predicted: NDArray[np.bool_], box: tuple[slice, ...]
) -> float:
    """Return the mean SSIM over a slice, computed around the class: it is 1 everywhere else."""
    from skimage.metrics import structural_similarity

    cut, counted = [], []
    for side, length in zip(box, truth.shape, strict=True):
        start, stop = max(side.start - 2 * _RIM, 0), min(side.stop + 2 * _RIM, length)
        # Windows that would reach over the rim of the slice do not count.
        first, last = max(side.start - _RIM, _RIM), min(side.stop + _RIM, length - _RIM)
        start, stop = max(min(start, stop - _WINDOW), 0), max(stop, min(_WINDOW, length))
        cut.append(slice(start, stop))
        counted.append(slice(first - start, max(last, first) - start))
    around = tuple(cut)
    _, similar = structural_similarity(  # type: ignore[no-untyped-call]
        truth[around].astype(np.float64),
        predicted[around].astype(np.float64),
        win_size=_WINDOW,
        data_range=1.0,
        full=True,
    )
    near = similar[tuple(counted)]
    every = math.prod(length - 2 * _RIM for length in truth.shape)
    return float((near.sum() + every - near.size) / every)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def mean_of_defined(values: Sequence[float]) -> float:
    """Return the mean of the values that are defined."""
    defined = [value for value in values if value == value]
    return sum(defined) / len(defined) if defined else math.nan
