"""Every selector by name, what it needs and what it promises; each is loaded when it is called."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import cast

from napari_activeft.extras import need_compute
from napari_activeft.selection.candidates import Candidates, Choice


@dataclass(frozen=True)
class Selector:
    """A way to choose.

    Attributes
    ----------
    place
        Module in this package and name of the function in it, ``module:function``: called with
        the candidates, the budget and the seed.
    summary
        What it does, in half a sentence.
    needs_vectors, needs_scores
        It cannot choose without them.
    prefix_stable
        A larger budget extends a smaller one, unless a gap leaves nothing to spare.
    drawn
        The seed has an effect.
    """

    place: str
    summary: str
    needs_vectors: bool = True
    needs_scores: bool = False
    prefix_stable: bool = False
    drawn: bool = True

    def __call__(self, candidates: Candidates, budget: int, seed: int) -> Choice:
        """Choose ``budget`` rows."""
        module, function = self.place.split(":")
        if self.needs_vectors:
            need_compute(f"the selector {function}")
        chooser = getattr(import_module(f"napari_activeft.selection.{module}"), function)
        return cast(Choice, chooser(candidates, budget, seed))


SELECTORS: dict[str, Selector] = {
    "activeft": Selector(
        "activeft:activeft",
        "balanced optimal transport between pool and picks, improved by swaps",
    ),
    "activeft_cvpr2023": Selector(
        "activeft_cvpr2023:activeft_cvpr2023", "the objective published as ActiveFT in 2023"
    ),
    "maxherding": Selector(
        "maxherding:maxherding",
        "greedy coverage of the pool under a Gaussian kernel",
        prefix_stable=True,
        drawn=False,
    ),
    "energy": Selector(
        "energy:energy",
        "herding: each pick lowers the energy distance to the pool the most",
        prefix_stable=True,
        drawn=False,
    ),
    "kmeans": Selector("kmeans:kmeans", "the slice nearest to each centre of k-means"),
    "kcenter": Selector(
        "kcenter:kcenter",
        "always the slice furthest from all picks (CoreSet)",
        prefix_stable=True,
        drawn=False,
    ),
    "typiclust": Selector("typiclust:typiclust", "the most typical slice of each cluster"),
    "probcover": Selector("probcover:probcover", "greedy coverage by balls of one radius"),
    "random": Selector(
        "random_draw:random_draw", "uniform draws", needs_vectors=False, prefix_stable=True
    ),
    "stratified_random": Selector(
        "stratified_random:stratified_random",
        "draws spread over the volumes",
        needs_vectors=False,
        prefix_stable=True,
    ),
    "fixed_interval": Selector(
        "fixed_interval:fixed_interval",
        "every n-th slice",
        needs_vectors=False,
        drawn=False,
    ),
    "entropy": Selector(
        "uncertainty:highest_scores",
        "the slices whose predictions are least certain",
        needs_vectors=False,
        needs_scores=True,
        prefix_stable=True,
        drawn=False,
    ),
    "bald": Selector(
        "uncertainty:highest_scores",
        "the slices on which several predictions disagree most",
        needs_vectors=False,
        needs_scores=True,
        prefix_stable=True,
        drawn=False,
    ),
}
