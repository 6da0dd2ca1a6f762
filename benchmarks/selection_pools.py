"""The pools that selectors are measured on, made once in a folder and read again from there.

ACDC and hippocampus (slices of volumes), nuclei (2-D pictures) from the shared data folder beside
the repository, scikit-learn's digits, and a synthetic pool with patient structure. Features of the
image pools are those of `napari-activeft embed`; pixels_pca and hog always, networks when asked.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_activeft import workflow
from napari_activeft.feature_sets import FeatureSet
from napari_activeft.project import Project
from napari_activeft.settings import AddSettings, EmbedSettings, InitSettings

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FOLDERS = {
    "acdc": ("acdc", AddSettings(labels="*_gt.nii.gz", ignore=("*_scribble.nii.gz",))),
    "hippocampus": ("msd_hippocampus/images", AddSettings(case="file")),
    "nuclei": ("dsb2018_nuclei/images", AddSettings(case="file", ignore=("histo*",))),
}


def image_pool(name: str, encoder: str, folder: Path) -> FeatureSet | None:
    """Return one image pool through one encoder; None where the data is not here."""
    source, adding = FOLDERS[name]
    if not (DATA / source).exists():
        return None
    path = folder / f"{name}-{encoder}.npy"
    if not path.exists():
        home = folder / f"{name}-project"
        if not home.exists():
            workflow.init(home, InitSettings())
        trained = encoder in ("pixels_pca", "hog")
        with Project.open(home) as project:
            workflow.add(project, DATA / source, adding)
            workflow.embed(
                project, EmbedSettings(encoder=encoder, out=path, random_weights=not trained)
            )
    pool = FeatureSet.read(path)
    return _acdc_split(pool) if name == "acdc" else pool


def _acdc_split(pool: FeatureSet) -> FeatureSet:
    """Return the 35 patients of the role pool; the slices of the other 10 are its outside."""
    with (DATA / "acdc" / "manifest.csv").open(newline="") as file:
        inside = {line["patient"] for line in csv.DictReader(file) if line["role"] == "pool"}
    rows = [row for row, case in enumerate(pool.cases) if case in inside]
    others = [row for row, case in enumerate(pool.cases) if case not in inside]
    return pool.part(pool.name, rows, others)


def digits() -> FeatureSet:
    """Return scikit-learn's digits: 1,797 pictures of 8 x 8; a fifth of them is the outside."""
    from sklearn.datasets import load_digits

    pixels = load_digits().data.astype(np.float32)
    order = np.random.default_rng(0).permutation(len(pixels))
    return FeatureSet.of("digits", pixels[order[360:]], outside=pixels[order[:360]])


def synthetic(cases: int = 60, d: int = 64, seed: int = 0) -> FeatureSet:
    """Return slices of patients: each patient a cloud, each volume a curve through it.

    Volumes are of unequal length (6 to 30 slices), a few patients lie far off, and slices at the
    ends of a volume drift towards one common "empty" direction. A sixth of the patients is the
    outside.
    """
    rng = np.random.default_rng(seed)
    scale = 1.0 / np.sqrt(1 + np.arange(d))
    empty = rng.normal(size=d) * scale
    rows, cases_of, groups, positions = [], [], [], []
    for case in range(cases):
        centre = rng.normal(size=d) * scale * (2.5 if rng.random() < 0.1 else 1.0)
        for volume in range(2):
            length = int(rng.integers(6, 31))
            t = np.linspace(-1, 1, length)[:, None]
            bend = rng.normal(size=(2, d)) * scale * 0.6
            slices = centre + t * bend[0] + t**2 * bend[1]
            slices += rng.normal(size=slices.shape) * scale * 0.15
            ends = np.clip(np.abs(t) - 0.7, 0, None) / 0.3
            rows.append((1 - ends) * slices + ends * (empty + 0.2 * slices))
            cases_of += [f"case{case:03d}"] * length
            groups += [2 * case + volume] * length
            positions += range(length)
    vectors = np.concatenate(rows)
    pool = FeatureSet.of(
        "synthetic",
        vectors,
        keys=[f"{g:04d}:{p:02d}" for g, p in zip(groups, positions, strict=True)],
        groups=groups,
        cases=cases_of,
        positions=positions,
    )
    inside = [row for row, group in enumerate(groups) if group < 2 * cases * 5 // 6]
    others = [row for row, group in enumerate(groups) if group >= 2 * cases * 5 // 6]
    return pool.part("synthetic", inside, others)


def pools(folder: Path, networks: list[str]) -> list[FeatureSet]:
    """Return every pool whose data is here."""
    folder.mkdir(parents=True, exist_ok=True)
    found: list[FeatureSet | None] = [
        image_pool("acdc", encoder, folder) for encoder in ("pixels_pca", "hog", *networks)
    ]
    found += [image_pool("nuclei", encoder, folder) for encoder in ("pixels_pca", "hog")]
    found += [digits(), synthetic(), replace(synthetic(seed=1), name="synthetic-2")]
    # The largest last.
    found += [image_pool("hippocampus", encoder, folder) for encoder in ("pixels_pca", "hog")]
    return [pool for pool in found if pool is not None]
