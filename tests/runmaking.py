"""Runs of a project for tests: networks with fresh weights, kept as training keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from napari_activeft.models.checkpoint_files import weight_hash

from napari_activeft.project import Project
from napari_activeft.trained_runs import run_folder
from napari_activeft.training.network_spec import ClassName, NetworkSpec
from napari_activeft.training.networks import build_network
from napari_activeft.training.run_files import SavedNetwork, write_weights
from napari_activeft.training.view import View

# Fresh weights of ours begin with hardly any contrast, so that all slices look alike to them.
NETWORK = "basic_unet"
VIEW = View(2.0, (32, 32))


def make_run(
    project: Project,
    *,
    classes: Sequence[tuple[int, str]] = ((1, "bright"), (2, "corner")),
    view: View = VIEW,
    seed: int = 0,
    state: str = "done",
    **about: Any,
) -> SavedNetwork:
    """Note a run in the store and keep a network of random weights for it."""
    run = project.store.add_run("a run", {}, "tester")
    folder = run_folder(project, run.run_id)
    spec = NetworkSpec(
        NETWORK, view.input_channels, tuple(ClassName(*each) for each in classes), view
    )
    weights = build_network(NETWORK, spec.channels, spec.outputs, seed=seed).state_dict()
    write_weights(folder, "best", weights)
    saved = SavedNetwork(spec, folder, weight_hash=weight_hash(weights), **about)
    saved.write()
    if state != "running":
        project.store.end_run(run.run_id, state)
    return saved
