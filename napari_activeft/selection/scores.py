"""How uncertain a model is of each slice, from the probabilities that it predicts.

Symbols: t predictions of one slice (by dropout, by several runs), n slices, c classes, any further
axes (h, w) are pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def entropy_scores(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return the entropy of what is predicted, in nats, the mean over the pixels of a slice.

    Parameters
    ----------
    probabilities
        (n, c, ...): of each class, sums over c are 1.

    Returns
    -------
    scores
        (n,), 0 to log(c).
    """
    given = _checked(probabilities, class_axis=1, shape="(n, c, ...)")
    return _mean_of_pixels(_entropy(given, axis=1))


def bald_scores(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return the mutual information between a prediction and the model, in nats.

    The entropy of the mean prediction less the mean entropy of the predictions (Houlsby et al.
    2011): high where predictions are sure of themselves and differ. The mean over the pixels.

    Parameters
    ----------
    probabilities
        (t, n, c, ...): t predictions, of each class, sums over c are 1.

    Returns
    -------
    scores
        (n,), 0 to log(min(t, c)).
    """
    given = _checked(probabilities, class_axis=2, shape="(t, n, c, ...)")
    of_mean = _entropy(given.mean(axis=0), axis=1)
    mean_of = np.mean([_entropy(one, axis=1) for one in given], axis=0)
    return _mean_of_pixels(np.maximum(of_mean - mean_of, 0.0))


def _checked(probabilities: ArrayLike, *, class_axis: int, shape: str) -> NDArray[np.float64]:
    given = np.asarray(probabilities, dtype=np.float64)
    if given.ndim <= class_axis or 0 in given.shape:
        raise ValueError(
            f"probabilities of shape {given.shape} were given: give {shape}, none of them 0"
        )
    if not ((given >= 0).all() and np.allclose(given.sum(axis=class_axis), 1.0, atol=1e-3)):
        raise ValueError(
            f"probabilities of one pixel must be at least 0 and sum to 1 over the classes, axis "
            f"{class_axis} of {shape}: apply a softmax first"
        )
    return given


def _entropy(probabilities: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    # p log p is 0 at 0; the tiny number keeps the logarithm finite there.
    terms = probabilities * np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    entropy: NDArray[np.float64] = np.maximum(-terms.sum(axis=axis), 0.0)
    return entropy


def _mean_of_pixels(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = scores.reshape(len(scores), -1).mean(axis=1)
    return means
