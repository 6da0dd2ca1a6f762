"""Choose among vectors of your own: no project, no images, no database.

    python examples/own_vectors.py FOLDER
    python examples/own_vectors.py FOLDER --vectors features.npy --budget 20

writes FOLDER/picks.csv and prints how well each selector's picks stand for all rows. Without
--vectors it makes some: a common kind of slice, and kinds that get rarer and rarer.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from napari_activeft.selection import select
from napari_activeft.selection.coverage import coverage

COMPARED = ("activeft", "kmeans", "random")


def made_up(seed: int) -> np.ndarray:
    """Return vectors (n, 16) in twelve groups, each three quarters as large as the one before."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, 16))
    sizes = (400 * 0.75 ** np.arange(12)).astype(int)
    return np.concatenate(
        [
            centre + rng.normal(0, 0.3, (size, 16))
            for centre, size in zip(centres, sizes, strict=True)
        ]
    )


def main() -> None:
    """Choose, compare and write."""
    parser = argparse.ArgumentParser(description="The selection on any vectors.")
    parser.add_argument("folder", type=Path, help="where to write picks.csv")
    parser.add_argument("--vectors", type=Path, help="an array (n, d) in a .npy file")
    parser.add_argument("--budget", type=int, default=24, help="rows to choose")
    asked = parser.parse_args()
    vectors = made_up(0) if asked.vectors is None else np.load(asked.vectors)
    # Names decide draws and ties: the same rows in another order give the same choice.
    names = [f"row-{number:06d}" for number in range(len(vectors))]
    print(f"{asked.budget} of {len(vectors)} rows; 1.0 is as far from the pool as random draws are")
    chosen = {}
    for selector in COMPARED:
        chosen[selector] = select(vectors, asked.budget, keys=names, selector=selector, seed=0)
        figures = coverage(vectors, chosen[selector].rows)
        print(f"{selector:<9} W1 against random {figures.rw1:.3f}")
    asked.folder.mkdir(parents=True, exist_ok=True)
    path = asked.folder / "picks.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", "name"])
        rows = chosen["activeft"].rows
        writer.writerows([rank, names[row]] for rank, row in enumerate(rows, start=1))
    print(f"the picks of activeft, the most valuable first: {path}")


if __name__ == "__main__":
    main()
