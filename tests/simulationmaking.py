"""Simulations of seconds: discs on noise, a tiny network, few steps."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from imagemaking import write_nifti

from napari_activeft.settings import Budget, SimulateSettings, TrainSettings
from napari_activeft.settings.simulation import RECIPES

SIDE, DEPTH = 32, 4
STEPS = 3
POOL, TEST = 6, 6  # cases, as the hash of their names parts them


def write_images(folder: Path, patients: int = POOL + TEST) -> Path:
    """Write bright discs (1) with a dark core (2) on noise; the last slice shows nothing."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for patient in range(1, patients + 1):
        labels = np.zeros((DEPTH, SIDE, SIDE), np.uint8)
        for at in range(DEPTH - 1):
            away = np.hypot(rows - rng.integers(12, 20), columns - rng.integers(12, 20))
            labels[at] = (away < 9).astype(np.uint8) + (away < 4)
        image = rng.normal(200, 30, labels.shape) + 300 * (labels == 1)
        affine = np.diag([1.0, 1.0, 5.0, 1.0])
        path = folder / f"patient{patient:02d}" / f"p{patient:02d}.nii.gz"
        path.parent.mkdir(parents=True)
        write_nifti(path, image.astype(np.int16).T, affine)
        write_nifti(path.with_name(f"p{patient:02d}_gt.nii.gz"), labels.T, affine)
    return folder


def recipe(kind: str = "ours", **changes: Any) -> TrainSettings:
    """Return how a network learns in seconds."""
    quick: dict[str, Any] = {
        "network": "vm_unet_nano",
        "steps": STEPS,
        "batch": 2,
        "size": 32,
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
        "workers": 0,
        "augmentation": "none",
        "start": "random",
    }
    return TrainSettings(**(RECIPES[kind] | quick | changes))


def asked(out: Path, **changes: Any) -> SimulateSettings:
    """Return two selectors, a budget and the ceiling, two seeds."""
    usual: dict[str, Any] = {
        "selectors": ("random", "stratified_random"),
        "reference": "random",
        "budgets": (Budget(count=4), Budget(share=1.0)),
        "seeds": 2,
        "train": recipe(),
        "out": out,
    }
    return SimulateSettings(**(usual | changes))


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def copied(made: Any, tmp_path: Path) -> Path:
    """Copy the tables of a simulation into another folder."""
    for name in ("cells.csv", "cases.csv", "picks.csv"):
        (tmp_path / name).write_bytes((made.folder / name).read_bytes())
    return tmp_path
