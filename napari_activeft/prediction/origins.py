"""What made the proposals of a run, volume by volume: kept in the folder of the run.

A run that goes on has other weights than when it predicted, and several networks may have predicted
together under the name of the first: whoever reads proposals or their uncertainty asks here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from napari_activeft.errors import UserError
from napari_activeft.training.run_files import Which
from napari_activeft.training.whole_files import write_text

FILE = "predicted.json"


@dataclass(frozen=True)
class Origin:
    """How one volume was predicted.

    Attributes
    ----------
    runs, weights
        Whose networks predicted together, and the hashes of their weights; the first is the run
        under which the proposals are stored.
    which
        best or last weights.
    tta
        Test-time augmentation.
    largest, smallest_mm3
        The clean-up, see `cleaning.CleanUp`.
    """

    runs: tuple[int, ...]
    weights: tuple[str, ...]
    which: Which
    tta: str
    largest: bool = False
    smallest_mm3: float = 0.0

    @property
    def peculiarity(self) -> str:
        """What is not of the first network alone, in words; empty where all is."""
        said = []
        if len(self.runs) > 1:
            others = ", ".join(str(number) for number in self.runs[1:])
            said.append(f"together with run {others}")
        if self.largest:
            said.append("only the largest component of each class kept")
        if self.smallest_mm3:
            said.append(f"components below {self.smallest_mm3:g} mm3 dropped")
        return ", ".join(said)


def read_origins(folder: Path) -> dict[str, Origin]:
    """Return the origins by name of volume; empty where nothing was predicted.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return {str(volume): _origin(one) for volume, one in told.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as refusal:
        raise UserError(
            f"{path} is damaged: remove it, and run `napari-activeft predict` again"
        ) from refusal


def write_origins(folder: Path, origins: Mapping[str, Origin]) -> None:
    """Write the origins, whole or not at all."""
    told = {volume: asdict(one) for volume, one in sorted(origins.items())}
    write_text(folder / FILE, json.dumps(told, indent=1) + "\n", "predict again")


def _origin(told: Mapping[str, Any]) -> Origin:
    return Origin(
        runs=tuple(int(number) for number in told["runs"]),
        weights=tuple(str(one) for one in told["weights"]),
        which=told["which"],
        tta=str(told["tta"]),
        largest=bool(told["largest"]),
        smallest_mm3=float(told["smallest_mm3"]),
    )
