"""Slices beside their truth, their prediction and what is wrong with it, as HTML.

Every picture is the slice in its own pixels, enlarged by the browser; outlines are drawn over it.

Symbols: h w height and width of a slice in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_activeft.reports.overlays import area, outline
from napari_activeft.reports.png import data_address
from napari_activeft.reports.shell import number, text
from napari_activeft.voxels import UNLABELLED

COLOURS = ("#e69f00", "#56b4e9", "#00c08a", "#f0e442", "#e58fc0", "#ff7a33", "#7fa8ff")
"""Of classes over grey pictures: those of Okabe and Ito, the dark ones lightened."""
MISSED, INVENTED, CONFUSED = "#ffe14d", "#ff55d0", "#ffffff"
_LARGEST = 512  # pixels of a picture's side
_MARGIN = 0.35  # of what is shown around the classes, as a part of their size
_LEAST = 40  # pixels that are shown at least

STYLE = """
.rank{margin:26px 0 0;font-size:16px}
.slices{display:grid;grid-template-columns:repeat(4,minmax(0,1fr));gap:10px 12px;margin:10px 0 0}
.slices figure{margin:0}
.slices svg{background:#000;border-radius:8px;overflow:hidden}
.slices figcaption{font-size:12px;line-height:1.35;margin-top:4px}
.slices .which{grid-column:1/-1;margin:8px 0 -4px;font-size:13px}
.swatch{display:inline-block;width:14px;height:14px;border-radius:3px;margin-right:6px;
vertical-align:-2px;border:1px solid var(--line)}
@media(max-width:820px){.slices{grid-template-columns:repeat(2,minmax(0,1fr))}}
"""


@dataclass(frozen=True)
class ExampleSlice:
    """One slice to show.

    Attributes
    ----------
    image
        Grey (h, w) or RGB (h, w, 3); None where it could not be read.
    truth, prediction
        Class values (h, w); the truth may hold `UNLABELLED`.
    dice
        Mean over the classes; NaN where it is not defined.
    """

    position: int
    image: NDArray[np.uint8] | None = field(repr=False)
    truth: NDArray[Any] = field(repr=False)
    prediction: NDArray[Any] = field(repr=False)
    dice: float


@dataclass(frozen=True)
class Example:
    """One volume to show.

    Attributes
    ----------
    rank
        Such as "Best".
    dice
        Mean over the classes.
    spacing
        Millimetres per pixel down and across.
    """

    rank: str
    name: str
    dice: float
    spacing: tuple[float, float]
    slices: Sequence[ExampleSlice]


def class_colours(class_values: Sequence[int]) -> dict[int, str]:
    """Return a colour for each class; from the eighth on they repeat."""
    return {value: COLOURS[at % len(COLOURS)] for at, value in enumerate(class_values)}


def legend(class_names: Mapping[int, str]) -> str:
    """Return what the colours mean."""
    colours = class_colours(list(class_names))
    entries = [(colours[value], name) for value, name in class_names.items()]
    wrong = [
        (MISSED, "missed: a class that was not predicted"),
        (INVENTED, "invented: predicted where there is background"),
        (CONFUSED, "another class"),
    ]
    return _entries("Outlines:", entries) + _entries("Wrong pixels:", wrong)


def _entries(heading: str, entries: Sequence[tuple[str, str]]) -> str:
    inside = "".join(
        f'<span><i class="swatch" style="background:{colour}"></i>{text(name)}</span>'
        for colour, name in entries
    )
    return f'<div class="legend"><b>{text(heading)}</b>{inside}</div>'


def examples_html(examples: Sequence[Example], class_names: Mapping[int, str]) -> str:
    """Return the examples, one after the other; each slice is a row of four pictures."""
    colours = class_colours(list(class_names))
    parts = []
    for at, example in enumerate(examples):
        heading = f"{example.rank}: {example.name}, mean Dice {number(example.dice)}"
        box = _shown_box(example)
        rows = "".join(
            _row(f"example-{at}-{one.position}", one, box, example.spacing, colours)
            for one in example.slices
        )
        parts.append(f'<h3 class="rank">{text(heading)}</h3><div class="slices">{rows}</div>')
    return "".join(parts)


def _shown_box(example: Example) -> tuple[slice, slice]:
    """Return the part of the slices that is shown: around all classes, the same for all."""
    shape = example.slices[0].truth.shape
    there = np.zeros(shape, dtype=bool)
    for one in example.slices:
        there |= ((one.truth > 0) & (one.truth != UNLABELLED)) | (one.prediction > 0)
    if not there.any():
        return slice(0, shape[0]), slice(0, shape[1])
    sides = []
    for axis, length in enumerate(shape):
        found = np.flatnonzero(there.any(axis=1 - axis))
        first, last = int(found[0]), int(found[-1]) + 1
        size = min(max(round((last - first) * (1 + 2 * _MARGIN)), _LEAST), length)
        start = min(max((first + last - size) // 2, 0), length - size)
        sides.append(slice(start, start + size))
    return sides[0], sides[1]


def _row(
    name: str,
    one: ExampleSlice,
    box: tuple[slice, slice],
    spacing: tuple[float, float],
    colours: Mapping[int, str],
) -> str:
    truth, prediction = one.truth[box], one.prediction[box]
    known = truth != UNLABELLED
    view = _View(name, truth.shape, spacing, _picture(one, box))
    figures = (
        view.figure("image", "", first=True),
        view.figure("truth", _outlined(np.where(known, truth, 0), colours) + _unknown(known)),
        view.figure("prediction", _outlined(prediction, colours)),
        view.figure("wrong pixels", _wrong(truth, prediction, known), dim=True),
    )
    which = f"slice {one.position}, Dice {number(one.dice)}"
    return f'<p class="which soft">{text(which)}</p>' + "".join(figures)


def _picture(one: ExampleSlice, box: tuple[slice, slice]) -> str | None:
    if one.image is None:
        return None
    return data_address(np.ascontiguousarray(one.image[box]), _LARGEST)


@dataclass(frozen=True)
class _View:
    """The drawing of one slice; its picture stands in the page once, and is used four times."""

    name: str
    shape: tuple[int, ...]
    spacing: tuple[float, float]
    address: str | None

    def figure(self, caption: str, drawn: str, *, first: bool = False, dim: bool = False) -> str:
        """Return one picture; lengths are millimetres, so that pixels keep their proportions."""
        (height, width), (down, across) = self.shape, self.spacing
        opacity = ' opacity=".45"' if dim else ""
        if self.address is None:
            image = ""
        elif first:
            image = (
                f'<image id="{self.name}" width="{width}" height="{height}" '
                f'preserveAspectRatio="none" href="{self.address}"/>'
            )
        else:
            image = f'<use href="#{self.name}"{opacity}/>'
        return (
            f'<figure><svg viewBox="0 0 {width * across:.6g} {height * down:.6g}" role="img" '
            f'aria-label="{text(caption)}"><g transform="scale({across:.6g} {down:.6g})">'
            f"{image}{drawn}</g></svg><figcaption>{text(caption)}</figcaption></figure>"
        )


def _outlined(labels: NDArray[Any], colours: Mapping[int, str]) -> str:
    parts = []
    for value, colour in colours.items():
        mask = labels == value
        if mask.any():
            parts.append(
                f'<path d="{area(mask)}" fill="{colour}" opacity=".18"/>'
                f'<path d="{outline(mask)}" fill="none" stroke="{colour}" stroke-width="1.8" '
                'stroke-linecap="round" vector-effect="non-scaling-stroke"/>'
            )
    return "".join(parts)


def _unknown(known: NDArray[np.bool_]) -> str:
    """Cover what nobody labelled."""
    if known.all():
        return ""
    return f'<path d="{area(~known)}" fill="#777" opacity=".6"/>'


def _wrong(truth: NDArray[Any], prediction: NDArray[Any], known: NDArray[np.bool_]) -> str:
    wrong = known & (truth != prediction)
    kinds = (
        (MISSED, wrong & (prediction == 0)),
        (INVENTED, wrong & (truth == 0)),
        (CONFUSED, wrong & (truth > 0) & (prediction > 0)),
    )
    return "".join(
        f'<path d="{area(mask)}" fill="{colour}"/>' for colour, mask in kinds if mask.any()
    ) + _unknown(known)
