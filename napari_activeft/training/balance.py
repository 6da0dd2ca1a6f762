"""How many pixels and slices of each class there are to learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from napari_activeft.wording import counted


@dataclass(frozen=True)
class ClassShare:
    """How much of one class there is.

    Attributes
    ----------
    value
        Of the class; 0 is the background.
    pixels, slices
        That show it.
    """

    value: int
    pixels: int
    slices: int


@dataclass(frozen=True)
class Balance:
    """How much of each class there is, counted on the masks as they are stored.

    Attributes
    ----------
    classes
        The background, then the classes in their order.
    unlabelled_pixels
        Pixels in these slices that nobody labelled.
    slices, partly_labelled
        All slices, and those of them with such pixels.
    cases
        They are from.
    """

    classes: Sequence[ClassShare]
    unlabelled_pixels: int
    slices: int
    partly_labelled: int
    cases: int

    @property
    def never_labelled(self) -> list[int]:
        """Values of the classes without a pixel, the background among them."""
        return [share.value for share in self.classes if not share.pixels]

    def told(self, names: Mapping[int, str]) -> str:
        """Return a sentence for the log.

        Parameters
        ----------
        names
            Of the classes by value; one that is not there is told by its value.
        """
        labelled = max(sum(share.pixels for share in self.classes), 1)
        names = {0: "background", **names}
        shares = ", ".join(
            f"{names.get(share.value, str(share.value))} {share.pixels / labelled:.2%} in "
            f"{share.slices} slices"
            if share.pixels
            else f"{names.get(share.value, str(share.value))} never"
            for share in self.classes
        )
        partly = f", {self.partly_labelled} of them in part" if self.partly_labelled else ""
        slices, cases = counted(self.slices, "slice"), counted(self.cases, "case")
        return f"{slices} of {cases}{partly}: {shares}"
