"""What picks are worth with labels at hand: 1-NN and linear probe, trained on the picks alone.

    python benchmarks/selection_probes.py [--pools digits acdc-hog] [--budgets 0.02 0.05 0.1]

The label of a hippocampus slice is its content: which classes its label map holds there (nothing,
anterior, both, posterior); of an ACDC slice, nearly all of which hold all classes, the third of
the stack that it lies in (base, middle, apex); of a digit the digit. Accuracy is counted over all
slices of the pool that were not picked, balanced over the labels. The interval is a bootstrap over
seeds of the difference from stratified random draws.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from selection_pools import DATA, digits, image_pool

from napari_activeft.comparison_tables import paired_excess
from napari_activeft.feature_sets import FeatureSet
from napari_activeft.selection import select

SELECTORS = ("activeft", "maxherding", "energy", "kmeans", "typiclust", "kcenter", "random")
BASE = "stratified_random"
HERE = Path(__file__).parent


@cache
def _label_map(path: Path) -> NDArray[np.int64]:
    return np.asarray(nibabel.load(path).dataobj).astype(np.int64)


def contents(pool: FeatureSet, table: Path) -> NDArray[np.int64]:
    """Return the classes of each hippocampus slice as bits, (n,), from the shared label maps."""
    with table.open(newline="") as file:
        lines = {line["key"]: line for line in csv.DictReader(file)}
    shares = []
    for key in pool.keys:
        line = lines[key]
        path = DATA / "msd_hippocampus" / "labels" / f"{line['volume']}.nii.gz"
        mask = _label_map(path)[:, :, int(line["position"])]
        shares.append([float((mask == value).mean()) for value in (1, 2)])
    return contents_of(np.array(shares))


def contents_of(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the classes of each slice as bits, (n,), from the share of each, (n, classes)."""
    bits = 1 << np.arange(1, shares.shape[1] + 1)
    found: NDArray[np.int64] = ((shares > 0) * bits).sum(axis=1)
    return found


def thirds(pool: FeatureSet) -> NDArray[np.int64]:
    """Return the third of its stack, 0 to 2, that each slice lies in, (n,)."""
    positions, groups = np.asarray(pool.positions), np.asarray(pool.groups)
    depths = {group: positions[groups == group].max() + 1 for group in np.unique(groups)}
    return np.array([3 * at // depths[group] for at, group in zip(positions, groups, strict=True)])


def labelled_pools(folder: Path, wanted: list[str]) -> list[tuple[FeatureSet, NDArray[np.int64]]]:
    """Return pools and the labels of their slices."""
    from sklearn.datasets import load_digits

    made = []
    for name in ("acdc", "hippocampus"):
        for encoder in ("pixels_pca", "hog"):
            if wanted and f"{name}-{encoder}" not in wanted:
                continue
            pool = image_pool(name, encoder, folder)
            if pool is not None:
                table = folder / f"{name}-{encoder}.csv"
                made.append((pool, thirds(pool) if name == "acdc" else contents(pool, table)))
    if not wanted or "digits" in wanted:
        pool = digits()
        order = np.random.default_rng(0).permutation(1797)[360:]
        made.append((pool, load_digits().target[order].astype(np.int64)))
    return made


def accuracies(
    vectors: NDArray[np.float32], labels: NDArray[np.int64], picks: NDArray[np.int64]
) -> tuple[float, float]:
    """Return the balanced accuracy of 1-NN and of logistic regression on what was not picked."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rest = np.setdiff1d(np.arange(len(vectors)), picks)
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    found = []
    for probe in (KNeighborsClassifier(1), linear):
        if len(np.unique(labels[picks])) == 1:
            guess = np.full(len(rest), labels[picks][0])
        else:
            guess = probe.fit(vectors[picks], labels[picks]).predict(vectors[rest])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.append(float(balanced_accuracy_score(labels[rest], guess)))
    return found[0], found[1]


def main() -> None:
    """Print one line per pool, budget and selector."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=Path, default=HERE / "results" / "pools")
    parser.add_argument("--pools", nargs="*", default=[])
    parser.add_argument("--selectors", nargs="*", default=SELECTORS)
    parser.add_argument("--budgets", nargs="*", type=float, default=(0.02, 0.05, 0.1))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    print("| pool | slices | selector | 1-NN | over stratified | linear | over stratified |")
    print("|---|---|---|---|---|---|---|")
    for pool, labels in labelled_pools(options.features, options.pools):
        vectors = pool.vectors / np.linalg.norm(pool.vectors, axis=1, keepdims=True)
        about = {"keys": pool.keys, "groups": pool.groups, "cases": pool.cases}
        for share in options.budgets:
            budget = max(1, round(share * len(vectors)))
            base: NDArray[np.float64] | None = None
            for name in (BASE, *options.selectors):
                made = np.array(
                    [
                        accuracies(
                            vectors,
                            labels,
                            select(
                                vectors,
                                budget,
                                **about,
                                positions=pool.positions,
                                selector=name,
                                seed=seed,
                            ).rows,
                        )
                        for seed in range(options.seeds)
                    ]
                )
                base = made if base is None else base
                cells = []
                for column in (0, 1):
                    pairs = list(zip(made[:, column], base[:, column], strict=True))
                    excess, low, high = paired_excess(pairs)
                    cells.append(
                        f"{made[:, column].mean():.3f} | {100 * excess:+.1f} % "
                        f"({100 * low:+.1f} to {100 * high:+.1f})"
                    )
                print(f"| {pool.name} | {budget} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
