"""The same steps as the command line, from Python: for pipelines and notebooks.

    python examples/headless.py FOLDER

makes a project in FOLDER, queues 5 % of the slices, answers them from label maps and exports them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import napari_activeft
from napari_activeft import workflow
from napari_activeft.project import Project
from napari_activeft.settings import (
    AddSettings,
    Budget,
    EmbedSettings,
    ExportSettings,
    ImportSettings,
    SelectSettings,
)

IMAGES = Path(napari_activeft.__file__).parent / "sample_data" / "hippocampus"


def main() -> None:
    """Go through the steps and print what each hands back."""
    parser = argparse.ArgumentParser(description="The steps of a project, from Python.")
    parser.add_argument("folder", type=Path, help="where to make the project")
    folder = parser.parse_args().folder
    workflow.init(folder)
    with Project.open(folder) as project:
        added = workflow.add(project, IMAGES, AddSettings(labels="labels/*.nii.gz"))
        print(f"{added.added} volumes, {added.slices} slices, {len(added.problems)} problems")
        workflow.classes(project, ["anterior", "posterior"])
        made = workflow.embed(project, EmbedSettings(encoder="hog"))
        print(f"{made.embedded} slices as vectors of {made.size} numbers")
        chosen = workflow.select(project, SelectSettings(budget=Budget.parse("5%"), seed=1))
        print(f"round {chosen.round}: {chosen.selected} slices from {chosen.volumes} volumes")
        # In real life annotators answer; label maps that exist already can stand in for them.
        workflow.import_labels(project, ImportSettings(only_queried=True))
        for record in project.store.accepted()[:3]:
            mask = project.store.mask(record.revision_id)
            print(f"slice {record.position} of volume {record.volume_id}: {mask.shape} pixels")
        exported = workflow.export(project, ExportSettings(format="nnunet"))
        print(f"{exported.slices} slices exported to {exported.folder.name}")


if __name__ == "__main__":
    main()
