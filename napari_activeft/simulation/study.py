"""The protocol of the older study, as far as it is known, and what else stands between its figures.

The study reported a mean Dice of 0.7515 for 20 % of the slices of ACDC after 4 epochs, and 0.7314
for 5 %, the best of 10 epochs. Its figures and ours are never equal things: `differences` says why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

TEST_SHARE = 0.1
"""Of the slices, drawn over all patients."""
REPORTED = (("20 % of the slices, 4 epochs", 0.7515), ("5 %, the best of 10 epochs", 0.7314))
"""What the study reported, and its Dice."""

_SLICES = 1841  # of the study's ACDC


def rows_to_test(count: int, seed: int) -> list[int]:
    """Return which of so many slices are tested: a tenth of them, drawn whatever their patient."""
    tested = max(1, math.floor(TEST_SHARE * count + 0.5))
    drawn = np.random.default_rng([seed, count]).permutation(count)
    return sorted(int(row) for row in drawn[:tested])


def steps_of(slices: int, epochs: int, batch: int) -> int:
    """Return the steps in which each of some slices comes ``epochs`` times."""
    return max(1, math.ceil(epochs * slices / batch))


def differences(cases: int, slices: int, epochs: int, starts: Sequence[str]) -> tuple[str, ...]:
    """Return in sentences all that is known to differ from the study, and from our own recipe.

    Parameters
    ----------
    cases, slices
        Of the pool that these figures come from, slices without a class left out.
    epochs
        That were trained.
    starts
        Where the weights came from, as the log of each cell says it.
    """
    began = "; ".join(dict.fromkeys(starts)) or "not known yet"
    return (
        "The split leaks patients: a tenth of the slices, drawn over all patients, is tested, so "
        "that neighbours of most tested slices were learnt from. Our own recipe tests on whole "
        "cases that no network saw; figures of the two are of different things.",
        f"Fewer patients: {cases} cases with {slices} slices that show a class, of the pool alone; "
        f"the study had {_SLICES} slices of all patients.",
        "Other initial weights: the study began with VMamba-S as learnt on ImageNet; here: "
        f"{began}.",
        "Slices without any class in the truth are left out before the choice, as the study did; "
        "who selects in earnest has no truth to leave them out by.",
        "A budget is a share of the slices that are not tested; the study's 20 % was of them all.",
        "A class in neither truth nor prediction has Dice 0, and the mean is over slices and "
        "classes; our own recipe leaves such a class out and measures whole volumes.",
        f"Each network takes {_epochs(epochs)} and its last weights are measured; the study's "
        "0.7314 at 5 % is the best of 10 epochs, chosen on the tested slices themselves.",
        "Steps follow from the epochs, so that a larger budget also trains longer; our own recipe "
        "takes equal steps at every budget.",
        "AdamW at 3e-4 in batches of 2 by cross entropy plus Dice is the study's; weight decay, a "
        "learning rate that stays as it is, no augmentation, and the size of slices are what this "
        "program takes for it.",
        "Grey values are brought to mean 0 and deviation 1 over each volume; the study stretched "
        "each slice to 0 to 1.",
        "The network has the study's layout without its faults: there, biases that the loaded "
        "weights did not hold stayed random inside the encoder, and norms behind it untrained.",
        "The study's selection was random inside its clusters by an error of its code; here each "
        "selector does what it says.",
        "The study reported one run of each; here every figure is the mean over the seeds.",
    )


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"
