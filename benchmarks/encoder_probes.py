"""What encoders are worth to the selection: probes of what is in a slice, and coverage by picks.

    python benchmarks/encoder_probes.py [--pools acdc hippocampus] [--encoders hog own ...]

Encoders: ``pixels_pca``, ``hog``, ``random`` (vmamba_micro that was never trained), the bundled
one, and ``own``: vmamba_micro pre-trained on the very pool for ``--minutes``, by each objective
asked (``own`` by position, ``own-masked``, ``own-distill``). Of ACDC the 35 patients of the role
pool take part. All probes leave whole cases out: five parts of the cases, each told from the other
four; vectors of length 1.

- content: which classes are in a slice (sets that at least 2 % of the slices have), balanced
  accuracy of five nearest neighbours and of logistic regression;
- third: of ACDC, whether the slice is basal, middle or apical, the same two;
- area: share of each class in the slice, R2 of ridge regression;
- place: share of slices whose nearest slice of another case lies at the same place of its stack;
- rank: effective rank; rW1: of activeft's 5 % picks in the encoder's own space, 1 is random;
- 1-NN of picks: content (ACDC: third) told from the 5 % picks alone, balanced accuracy.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from selection_pools import DATA, FOLDERS
from selection_probes import accuracies, contents_of

from napari_activeft import workflow
from napari_activeft.comparison import choose_by
from napari_activeft.embedding.quality import places_in, quality
from napari_activeft.encoder_sources import BUNDLED
from napari_activeft.feature_sets import FeatureSet
from napari_activeft.project import Project
from napari_activeft.selection.coverage import CoverageMeter
from napari_activeft.settings import EmbedSettings, InitSettings, PretrainSettings

HERE = Path(__file__).parent
ENCODERS = ("random", "pixels_pca", "hog", BUNDLED, "own", "own-masked", "own-distill")
_LABELS = {
    "acdc": "acdc/{case}/{name}_gt.nii.gz",
    "hippocampus": "msd_hippocampus/labels/{name}.nii.gz",
}
_FEWEST = 0.02
_SEEDS = 3


def project_of(pool: str, folder: Path) -> Path:
    """Return the project of a pool, made if it is not there; of ACDC 35 patients."""
    home = folder / f"{pool}-probes"
    if not home.exists():
        workflow.init(home, InitSettings())
        source, adding = FOLDERS[pool]
        if pool == "acdc":
            table = folder / "acdc-split.csv"
            with (DATA / "acdc" / "manifest.csv").open(newline="") as file:
                roles = {line["patient"]: line["role"] for line in csv.DictReader(file)}
            lines = [
                f"{case},{'pool' if role == 'pool' else 'test'}" for case, role in roles.items()
            ]
            table.write_text("case,split\n" + "\n".join(lines) + "\n")
            adding = adding.model_copy(update={"split": table})
        with Project.open(home) as project:
            workflow.add(project, DATA / source, adding)
    return home


def vectors_of(pool: str, encoder: str, folder: Path, asked: argparse.Namespace) -> FeatureSet:
    """Return the vectors of a pool by an encoder, pre-trained if need be."""
    path = folder / f"{pool}-probes-{encoder}.npy"
    with Project.open(project_of(pool, folder)) as project:
        if encoder.startswith("own") and not (project.folder / "encoders" / encoder).exists():
            objective = encoder.partition("-")[2] or "position"
            settings = PretrainSettings(
                objective=objective, minutes=asked.minutes, name=encoder, threads=asked.threads
            )
            made = workflow.pretrain(project, settings)
            print(f"{pool}, {encoder}: {made.steps} steps in {made.seconds:.0f} s", flush=True)
        if not path.exists():
            random = encoder == "random"
            name = "vmamba_micro" if random else encoder
            size = 96 if random else None
            threads = {} if encoder in ("pixels_pca", "hog") else {"threads": asked.threads}
            workflow.embed(
                project,
                EmbedSettings(encoder=name, random_weights=random, size=size, out=path, **threads),
            )
    return FeatureSet.read(path)


def areas(pool: str, table: Path) -> NDArray[np.float64]:
    """Return the share of every class in each slice, (n, classes)."""
    with table.open(newline="") as file:
        lines = list(csv.DictReader(file))
    held: dict[str, NDArray[np.int64]] = {}
    found = []
    for line in lines:
        if line["volume"] not in held:
            name = Path(line["volume"]).name
            path = DATA / _LABELS[pool].format(case=line["case"], name=name)
            held[line["volume"]] = np.asarray(nibabel.load(path).dataobj).astype(np.int64)
        mask = held[line["volume"]][:, :, int(line["position"])]
        found.append([float((mask == value).mean()) for value in range(1, 4)])
    return np.array(found)


def probe(features: FeatureSet, shares: NDArray[np.float64], pool: str) -> dict[str, float]:
    """Return every figure of one pool by one encoder."""
    vectors = features.vectors / np.linalg.norm(features.vectors, axis=1, keepdims=True)
    cases = np.asarray(features.cases)
    places = places_in(features.positions, features.groups)
    content = contents_of(shares)
    told: dict[str, float] = {}
    thirds = np.minimum(2, np.nan_to_num(3 * places).astype(int))
    for name, labels in (("content", content), ("third", thirds)):
        if name == "third" and pool != "acdc":
            continue
        told |= {f"{name} {how}": value for how, value in _told(vectors, labels, cases).items()}
    told["area R2"] = _area(vectors, shares, cases)
    seen = quality(features.vectors, list(features.cases), places)
    told |= {"place": seen.retrieval or 0.0, "rank": seen.effective_rank}
    budget = max(1, round(0.05 * len(vectors)))
    meter = CoverageMeter(features.vectors, groups=features.groups, cases=features.cases,
                          positions=features.positions)  # fmt: skip
    rows = [choose_by("activeft")(features, budget, seed) for seed in range(_SEEDS)]
    told["rW1"] = float(np.mean([meter.figures(picks).rw1 for picks in rows]))
    target = thirds if pool == "acdc" else content
    told["1-NN of picks"] = float(
        np.mean([accuracies(vectors, target, np.asarray(p))[0] for p in rows])
    )
    return told


def _told(
    vectors: NDArray[np.float32], labels: NDArray[np.int64], cases: NDArray[np.str_]
) -> dict[str, float]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    often = [value for value in np.unique(labels) if (labels == value).mean() >= _FEWEST]
    rows = np.isin(labels, often)
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    return {
        name: float(
            balanced_accuracy_score(
                labels[rows],
                cross_val_predict(
                    one, vectors[rows], labels[rows], groups=cases[rows], cv=GroupKFold(5)
                ),
            )
        )
        for name, one in (("5-NN", KNeighborsClassifier(5)), ("linear", linear))
    }


def _area(
    vectors: NDArray[np.float32], shares: NDArray[np.float64], cases: NDArray[np.str_]
) -> float:
    from sklearn.linear_model import RidgeCV
    from sklearn.metrics import r2_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    shown = shares[:, shares.any(axis=0)]
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(1, 6, 11)))
    told = cross_val_predict(ridge, vectors, shown, groups=cases, cv=GroupKFold(5))
    return float(r2_score(shown, told))


def main() -> None:
    """Print one line per pool and encoder."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pools", nargs="*", default=["acdc", "hippocampus"])
    parser.add_argument("--encoders", nargs="*", default=ENCODERS)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--features", type=Path, default=HERE / "results" / "pools")
    asked = parser.parse_args()
    asked.features.mkdir(parents=True, exist_ok=True)
    for pool in asked.pools:
        head: list[str] = []
        for encoder in asked.encoders:
            features = vectors_of(pool, encoder, asked.features, asked)
            shares = areas(pool, asked.features / f"{pool}-probes-{encoder}.csv")
            told = probe(features, shares, pool)
            if not head:
                head = list(told)
                print(f"| {pool} | {' | '.join(head)} | d |\n|{'---|' * (len(head) + 2)}")
            cells = [
                f"{told[name]:.0f}" if name == "rank" else f"{told[name]:.3f}" for name in head
            ]
            size = features.vectors.shape[1]
            print(f"| {encoder} | {' | '.join(cells)} | {size} |", flush=True)


if __name__ == "__main__":
    main()
