"""How uncertain a run's predictions are of the pool's slices, as scores for a later round."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_activeft.annotation_db import SliceRow
from napari_activeft.errors import UserError
from napari_activeft.prediction.uncertainty_table import read_uncertainty
from napari_activeft.project import Project
from napari_activeft.selection import SELECTORS
from napari_activeft.settings import SelectSettings
from napari_activeft.trained_runs import run_folder, stale_volumes

BALD = "bald"


def slice_scores(
    project: Project, pool: Sequence[SliceRow], settings: SelectSettings
) -> NDArray[np.float64] | None:
    """Return the uncertainty of the pool's slices, (n,); None where settings name no run.

    For the selector `bald` it is how far several networks disagree, else entropy.

    Raises
    ------
    UserError
        If the selector needs a run and none is named, or the run lacks slices.
    """
    run = settings.uncertainty
    if run is None:
        entry = SELECTORS.get(settings.selector)
        if entry is not None and entry.needs_scores:
            raise UserError(
                f"the selector {settings.selector} needs the uncertainty of predictions, and no "
                "run was named: train and predict, then name the run with --uncertainty RUN"
            )
        return None
    told = read_uncertainty(run_folder(project, run))
    if not told:
        raise UserError(
            f"run {run} predicted no slice yet, and its uncertainty was asked for: run "
            f"`napari-activeft predict --run {run}` first"
        )
    names = project.store.volume_names()
    places = [(names[row.volume_id], row.position) for row in pool]
    lacking = [place for place in places if place not in told]
    if lacking:
        volume, position = lacking[0]
        raise UserError(
            f"run {run} predicted {len(pool) - len(lacking)} of the {len(pool)} slices of the "
            f"pool, slice {position} of {volume} is not among them: run `napari-activeft predict "
            f"--run {run}` again, and restore the images that it lists"
        )
    stale = sorted(stale_volumes(project, run) & {volume for volume, _ in places})
    if stale:
        raise UserError(
            f"run {run} predicted {stale[0]} before its weights changed, and its uncertainty is of "
            f"the ones before: run `napari-activeft predict --run {run}` again, then select"
        )
    if settings.selector != BALD:
        return np.array([told[place].entropy for place in places])
    return np.array([_disagreement(told[place].bald, run) for place in places])


def _disagreement(bald: float | None, run: int) -> float:
    if bald is None:
        raise UserError(
            f"run {run} predicted alone, and {BALD} is about several networks that disagree: run "
            f"`napari-activeft predict --run {run} --run OTHER`, or choose the selector entropy"
        )
    return bald


def scores_in_words(settings: SelectSettings, *, usual: bool) -> str:
    """Return whose uncertainty a choice followed and how far; empty where none.

    Parameters
    ----------
    usual
        The weight was not set, so that the usual one was taken.
    """
    if settings.uncertainty is None:
        return ""
    what = "disagreement" if settings.selector == BALD else "entropy"
    said = f"{what} of the predictions of run {settings.uncertainty}"
    if settings.selector != "activeft":
        return said
    why = ", the usual one as none was set" if usual else ""
    return f"{said}, with a weight of {settings.activeft.uncertainty:g}{why}"
