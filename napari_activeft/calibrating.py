"""Calibrates the network of a run once, on slices that it did not learn from."""

from __future__ import annotations

import dataclasses

import numpy as np

from napari_activeft.errors import UserError
from napari_activeft.prediction.predictor import Predictor
from napari_activeft.project import Project
from napari_activeft.training.dataset import SliceDataset
from napari_activeft.training.run_files import SavedNetwork, set_temperature
from napari_activeft.training_data import labelled_volumes

MOST_SLICES = 200
"""Spread evenly over the labelled slices of `val` cases: enough for one number."""


def calibrated(
    project: Project, saved: SavedNetwork, device: str = "auto", precision: str = "auto"
) -> tuple[SavedNetwork, str]:
    """Return a network with its temperature, fitted and noted in its folder if it had none.

    Fitted on the masks that people made of `val` cases, from which no network learns.

    Returns
    -------
    saved, why_not
        Why it has no temperature still, as a sentence; empty where it has one.
    """
    if saved.temperature is not None:
        return saved, ""
    uncalibrated = f"The probabilities of {saved.folder.name} are not calibrated"
    volumes = labelled_volumes(project, ("val",), by_people=True)
    if not volumes:
        return saved, f"{uncalibrated}: no `val` case has a mask made by people to fit them to."
    values = [one.value for one in saved.classes]
    try:
        examples = SliceDataset(volumes, saved.view, values, training=False).examples
        taken = np.unique(np.linspace(0, len(examples) - 1, MOST_SLICES).round().astype(int))
        predictor = Predictor.load(saved, device=device, precision=precision)
        found = predictor.calibration_of(predictor.members[0], [examples[at] for at in taken])
    except UserError as refusal:  # such as a missing image, which stops no prediction
        return saved, f"{uncalibrated}: {refusal}."
    if saved.which == "best":  # what the folder says is about these
        set_temperature(saved.folder, found.temperature)
    return dataclasses.replace(saved, temperature=found.temperature), ""
