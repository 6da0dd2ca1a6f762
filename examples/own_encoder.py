"""An encoder that learns from the images themselves, and a network that starts from it.

    python examples/own_encoder.py FOLDER
    python examples/own_encoder.py FOLDER --minutes 10 --steps 1500

adapts a small encoder to the images that come with the program, without any label, lets it choose
the slices, and fine-tunes a network from its weights. The defaults only show the way: minutes, not
seconds, make an encoder and a network worth having.
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
    ImportSettings,
    PredictSettings,
    PretrainSettings,
    SelectSettings,
    TrainSettings,
)

IMAGES = Path(napari_activeft.__file__).parent / "sample_data" / "hippocampus"


def main() -> None:
    """Go through the steps and print what each hands back."""
    parser = argparse.ArgumentParser(description="An encoder of the project's own.")
    parser.add_argument("folder", type=Path, help="where to make the project")
    parser.add_argument("--minutes", type=float, help="for the encoder; a few steps by default")
    parser.add_argument("--steps", type=int, default=4, help="of the network's fine-tuning")
    asked = parser.parse_args()
    workflow.init(asked.folder)
    with Project.open(asked.folder) as project:
        workflow.add(project, IMAGES, AddSettings(labels="labels/*.nii.gz"))
        workflow.classes(project, ["anterior", "posterior"])
        learnt = workflow.pretrain(
            project,
            PretrainSettings(
                encoder="vmamba_nano", steps=4, minutes=asked.minutes, size=64, view=32, batch=8
            ),
        )
        before, after = learnt.before.retrieval, learnt.after.retrieval
        if before is not None and after is not None:  # there are other cases to be found in
            print(
                f"{learnt.name}: the nearest slice of another case lies at the same place for "
                f"{after:.0%} (before {before:.0%})"
            )
        workflow.embed(project, EmbedSettings(encoder=learnt.name))
        workflow.select(project, SelectSettings(budget=Budget.parse("5%"), seed=1))
        # In real life annotators answer; label maps that exist already can stand in for them.
        workflow.import_labels(project, ImportSettings(only_queried=True))
        trained = workflow.train(
            project,
            TrainSettings(
                network="vm_unet_detail_nano",
                start=f"encoder:{learnt.name}",
                steps=asked.steps,
                turns="none",
            ),
        )
        print(f"run {trained.run} learnt from {trained.slices} slices")
        for note in trained.notes:
            print(f"  {note}")
        proposed = workflow.predict(project, PredictSettings(tta="none"))
        print(f"{proposed.slices} slices proposed, to be corrected in napari")


if __name__ == "__main__":
    main()
