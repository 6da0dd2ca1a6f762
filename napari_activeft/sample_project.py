"""The images that come with the program, and a project made of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final, Literal

from napari_activeft import workflow
from napari_activeft.errors import UserError
from napari_activeft.project import Project
from napari_activeft.settings import AddSettings, Budget, InitSettings, SelectSettings

SAMPLES: Final = Path(__file__).parent / "sample_data"
Sample = Literal["hippocampus", "nuclei"]
_CLASSES: Final[dict[Sample, tuple[str, ...]]] = {
    "hippocampus": ("anterior", "posterior"),
    "nuclei": ("nucleus",),
}
_FIRST_SLICES: Final = 10


def sample_images(sample: Sample) -> list[Path]:
    """Return the image files of a sample, in the order of their names."""
    return sorted((SAMPLES / sample / "images").iterdir())


def sample_labels(image: Path) -> Path:
    """Return the label map that belongs to an image of a sample."""
    return image.parents[1] / "labels" / image.name


def make_sample_project(folder: Path, sample: Sample = "hippocampus") -> Path:
    """Make a project of a sample in a new folder, with a few slices to label, and return it.

    The images are copied, so that the project outlives this installation. The slices are drawn
    over the volumes: that needs nothing but the base installation.

    Raises
    ------
    UserError
        If the folder is there already, or cannot be made.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already: choose another place, or open it")
    try:
        shutil.copytree(SAMPLES / sample, folder / "images")
    except OSError as refusal:
        why = refusal.strerror or "not every file"
        raise UserError(
            f"the sample cannot be copied to {folder} ({why}): choose another place"
        ) from refusal
    made = workflow.init(folder, InitSettings(name=f"{sample} sample"))
    with Project.open(made.folder) as project:
        workflow.add(
            project, folder / "images", AddSettings(labels="labels/*", case="file", test_share=0.2)
        )
        workflow.classes(project, _CLASSES[sample])
        workflow.select(
            project,
            SelectSettings(budget=Budget(count=_FIRST_SLICES), selector="stratified_random"),
        )
    return made.folder
