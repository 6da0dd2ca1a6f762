"""Proposals and their uncertainty are told from those of other weights than the run has now."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from napari_activeft.models.checkpoint_files import weight_hash
from projectmaking import assert_sentence
from runmaking import make_run

from napari_activeft import workflow
from napari_activeft.errors import UserError
from napari_activeft.prediction.origins import FILE, read_origins
from napari_activeft.settings import (
    Budget,
    EvaluateSettings,
    ImportSettings,
    PredictSettings,
    SelectSettings,
)
from napari_activeft.trained_runs import run_folder
from napari_activeft.training.networks import build_network
from napari_activeft.training.run_files import SavedNetwork, write_weights


def predict(project, **settings):
    plain = {"tta": "none", "device": "cpu", "precision": "float32"}
    return workflow.predict(project, PredictSettings(**(plain | settings)))


def evaluate(project, run=1):
    settings = EvaluateSettings(run=run, split="pool", truth="labels")
    return workflow.evaluate(project, settings)


def go_on(project, seed=9):
    """Give run 1 other weights, as a resumed training does."""
    folder = run_folder(project, 1)
    saved = SavedNetwork.read(folder)
    weights = build_network(saved.spec.network, 1, saved.spec.outputs, seed=seed).state_dict()
    write_weights(folder, "best", weights)
    dataclasses.replace(saved, weight_hash=weight_hash(weights)).write()


@pytest.fixture
def predicted(project):
    make_run(project, temperature=1.0)
    predict(project)
    return project


def test_proposals_of_earlier_weights_are_not_measured_as_the_run(predicted):
    before = evaluate(predicted).summary
    go_on(predicted)

    with pytest.raises(UserError, match="before its weights changed"):
        evaluate(predicted)

    predict(predicted)
    assert evaluate(predicted).summary != before


def test_uncertainty_of_earlier_weights_chooses_nothing(predicted):
    settings = SelectSettings(budget=Budget(count=3), selector="entropy", uncertainty=1)
    go_on(predicted)
    with pytest.raises(UserError, match="before its weights changed") as refusal:
        workflow.select(predicted, settings)
    assert_sentence(str(refusal.value))
    assert predicted.store.rounds() == []

    predict(predicted)
    workflow.select(predicted, settings)
    assert len(predicted.store.queries()) == 3


def test_an_evaluation_says_what_is_not_of_the_run_alone(predicted):
    assert not any("not of its network alone" in note for note in evaluate(predicted).notes)
    make_run(predicted, temperature=1.0, seed=3)

    predict(predicted, runs=(1, 2), largest=True)

    (note,) = [one for one in evaluate(predicted).notes if "not of its network alone" in one]
    assert "run 1" in note
    assert "together with run 2, only the largest component of each class kept" in note


def test_a_run_that_was_stopped_predicts_with_a_word_about_it(project):
    make_run(project, temperature=1.0, state="cancelled")

    (note,) = predict(project, runs=(1,)).notes

    assert "Run 1 is cancelled" in note


def test_proposals_of_a_run_whose_weights_are_gone_can_still_be_measured(predicted):
    (run_folder(predicted, 1) / "network.json").unlink()
    assert evaluate(predicted).summary


def test_a_damaged_file_of_origins_is_named(predicted):
    path = run_folder(predicted, 1) / FILE
    assert set(read_origins(path.parent)) == {v.name for v in predicted.store.volumes()}
    for content in ("{", json.dumps([1]), json.dumps({"a": {"runs": 3}})):
        path.write_text(content)
        with pytest.raises(UserError, match="damaged") as refusal:
            evaluate(predicted)
        assert_sentence(str(refusal.value))


def test_a_class_that_nobody_labelled_is_never_predicted(project):
    make_run(project, temperature=1.0)
    predict(project)
    usual = {value for one in project.store.proposals(1) for value in _values(project, one)}
    assert usual >= {1, 2}

    make_run(project, temperature=1.0, unlearnt=(2,))
    predict(project, runs=(2,), probabilities=True, nifti=project.folder / "maps")

    found = {value for one in project.store.proposals(2) for value in _values(project, one)}
    assert found == usual - {2}


def _values(project, proposal):
    return np.unique(project.store.mask(proposal.revision_id)).tolist()


def test_val_masks_that_a_network_made_do_not_measure_it(tmp_path):
    from test_predict_verb import with_splits

    from napari_activeft.settings import AcceptSettings
    from napari_activeft.training_data import labelled_volumes

    with with_splits(tmp_path, patient1="val") as project:
        make_run(project, temperature=1.0)
        predict(project, splits=("val",))
        workflow.accept(project, AcceptSettings(run=1))
        assert len(labelled_volumes(project, ("val",))) == 1
        assert labelled_volumes(project, ("val",), by_people=True) == []

        workflow.import_labels(project, ImportSettings())
        pool = labelled_volumes(project, by_people=True)
        assert [volume.case for volume in pool] == ["patient2", "patient3"]
