"""predict, and the uncertainty that it leaves to later rounds."""

from __future__ import annotations

import csv
import dataclasses

import nibabel as nib
import numpy as np
import pytest
from napari_activeft.annotation_db import UnknownRecordError
from projectmaking import (
    assert_sentence,
    make_project,
    run_python,
    select,
    write_folder,
    write_volume,
)
from runmaking import make_run

from napari_activeft import workflow
from napari_activeft.errors import Cancelled, UserError
from napari_activeft.pool import take_slice
from napari_activeft.prediction.predictor import Predictor
from napari_activeft.prediction.uncertainty_table import FILE, read_uncertainty
from napari_activeft.settings import (
    EmbedSettings,
    ImportSettings,
    PredictSettings,
    SelectSettings,
)
from napari_activeft.training.run_files import SavedNetwork
from napari_activeft.training.view import View
from napari_activeft.training_data import stacks
from napari_activeft.volume import open_volume

PLAIN = {"tta": "none", "device": "cpu", "precision": "float32"}


def predict(project, *, on_progress=lambda done, total: None, **settings):
    return workflow.predict(project, PredictSettings(**(PLAIN | settings)), on_progress)


def proposed(project, run=1):
    """Return the proposed masks by volume id and position."""
    return {
        (one.volume_id, one.position): project.store.mask(one.revision_id)
        for one in project.store.proposals(run)
    }


def with_splits(folder, **splits):
    """Make a project of three patients of which some are kept apart, ``patient1="val"``."""
    images = write_folder(folder / "images")
    table = folder / "splits.csv"
    rows = [f"{case},{splits.get(case, 'pool')}" for case in ("patient1", "patient2", "patient3")]
    table.write_text("\n".join(["case,split", *rows]) + "\n")
    return make_project(folder / "p", images, labels="*_gt.nii.gz", split=table)


@pytest.fixture
def trained(project):
    make_run(project, temperature=1.5)
    return project


# Masks


def test_every_slice_of_the_pool_gets_the_mask_that_the_network_predicts(trained):
    result = predict(trained)

    assert (result.runs, result.volumes, result.slices, result.proposed) == ((1,), 3, 12, 12)
    assert (result.notes, result.problems) == ((), [])
    masks = proposed(trained)
    of = Predictor.load(
        SavedNetwork.read(trained.folder / "runs" / "run-001"), device="cpu", precision="float32"
    )
    wanted = {}
    for volume, stack in zip(trained.store.volumes(), stacks(trained), strict=True):
        for one in of.volume(stack.read, stack.depth, stack.shape, stack.spacing):
            wanted[volume.volume_id, one.position] = one.labels
    assert masks.keys() == wanted.keys()
    for place, mask in masks.items():
        np.testing.assert_array_equal(mask, wanted[place])
    assert len({mask.tobytes() for mask in masks.values()}) > 3
    assert trained.store.accepted() == []


def test_the_threads_that_are_asked_for_compute(trained, command_line, monkeypatch):
    import torch

    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    command_line("predict", "--device", "cpu", "--tta", "none")
    assert asked == []
    command_line("predict", "--device", "cpu", "--tta", "none", "--threads", "3")
    assert asked == [3]


def test_the_same_prediction_twice_is_proposed_once(trained):
    predict(trained)
    count = trained.store.mask_count()
    assert predict(trained).proposed == 12
    assert trained.store.mask_count() == count


def test_only_the_volumes_that_are_named_or_of_the_split_are_predicted(tmp_path):
    with with_splits(tmp_path, patient2="test") as project:
        make_run(project, temperature=1.0)
        first, test, _ = project.store.volumes()

        assert predict(project, splits=("test",)).volumes == 1
        assert {volume for volume, _ in proposed(project)} == {test.volume_id}
        assert predict(project, volumes=(first.name, test.name)).volumes == 2
        assert predict(project, splits=("pool", "test"), volumes=("*",)).volumes == 3
        assert predict(project).volumes == 2


def test_small_components_are_cleaned_from_the_whole_volume(trained):
    predict(trained)
    before = proposed(trained)
    predict(trained, smallest_mm3=1e6)
    after = proposed(trained)

    assert any(mask.any() for mask in before.values())
    assert not any(mask.any() for mask in after.values())


def test_label_maps_have_the_geometry_of_their_images_byte_for_byte(tmp_path):
    write_volume(tmp_path / "images" / "a" / "one.nii.gz", (5, 9, 11), spacing=(1.0, 4.0, 1.5))
    with make_project(tmp_path / "p", tmp_path / "images") as project:
        make_run(project)
        out = tmp_path / "deep" / "out"

        result = predict(project, nifti=out, probabilities=True)

        (volume,) = project.store.volumes()
        assert (volume.axis, result.nifti) == (1, out)
        label_map = nib.load(next(out.glob("*one.nii.gz")))
        source = open_volume(project.source(volume)).geometry
        written = open_volume(next(out.glob("*one.nii.gz"))).geometry
        assert not written.difference(source)
        assert written.nifti_header[40:56] == source.nifti_header[40:56]
        assert written.nifti_header[252:328] == source.nifti_header[252:328]
        values = np.asarray(label_map.dataobj).T
        for (_, position), mask in proposed(project).items():
            np.testing.assert_array_equal(take_slice(values, 1, position), mask)
        told = [
            np.asarray(nib.load(next(out.glob(f"*probability-{value}.nii.gz"))).dataobj).T
            for value in (0, 1, 2)
        ]
        np.testing.assert_allclose(sum(told), 1.0, atol=1e-5)
        np.testing.assert_array_equal(np.argmax(told, axis=0), values)


@pytest.mark.parametrize(
    ("learnt", "tta"),
    [
        ({}, "flips"),
        ({"augmentation": "strong", "turns": "full"}, "flips"),
        ({"augmentation": "none"}, "none"),
        ({"augmentation": "light", "turns": "none"}, "none"),
    ],
)
def test_slices_are_flipped_by_default_where_training_flipped_them(project, learnt, tta):
    make_run(project, temperature=0.1, settings=learnt)

    workflow.predict(project, PredictSettings(device="cpu", precision="float32"))

    told = read_uncertainty(project.folder / "runs" / "run-001")
    predict(project, tta=tta)
    assert read_uncertainty(project.folder / "runs" / "run-001") == told
    predict(project, tta="none" if tta == "flips" else "flips")
    assert read_uncertainty(project.folder / "runs" / "run-001") != told


# What goes wrong


def test_a_volume_whose_image_is_missing_is_listed_and_stops_no_other(trained):
    volume = trained.store.volumes()[1]
    trained.source(volume).paths[0].unlink()

    result = predict(trained)

    assert (result.volumes, result.slices) == (2, 8)
    (problem,) = result.problems
    assert problem.path == volume.name
    assert_sentence(problem.sentence)
    assert volume.volume_id not in {volume_id for volume_id, _ in proposed(trained)}


def test_what_was_done_when_it_is_stopped_stays_whole(trained):
    def stop(done, total):
        if done == 6:  # in the middle of the second volume
            raise Cancelled

    with pytest.raises(Cancelled):
        predict(trained, on_progress=stop, batch=1)

    first = trained.store.volumes()[0]
    assert {volume_id for volume_id, _ in proposed(trained)} == {first.volume_id}
    assert {volume for volume, _ in read_uncertainty(trained.folder / "runs" / "run-001")} == {
        first.name
    }


# Without a network, whose libraries take seconds to load.
KILLED = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from napari_activeft import predicting, workflow
from napari_activeft.annotation_db import Store
from napari_activeft.prediction.stacking import PredictedVolume
from napari_activeft.project import Project

append, calls = Store._append, []

def counted(self, *given, **named):
    calls.append(1)
    if len(calls) == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return append(self, *given, **named)

def stacked(predictor, slices, on_slice, **keep):
    return PredictedVolume(np.ones((4, 9, 11), np.uint8), [(0.5, None)] * 4, None)

Store._append = counted
predicting.stacked = stacked
predicting.Predictor.load = lambda *_, **__: SimpleNamespace(members=[None])
with Project.open(Path(sys.argv[1])) as project:
    workflow.predict(project)
"""


def test_a_prediction_that_is_killed_while_it_writes_leaves_no_half_volume(trained, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)

    done = run_python(script, trained.folder)

    assert done.returncode == -9, done.stderr
    first = trained.store.volumes()[0]
    assert sorted(proposed(trained)) == [(first.volume_id, position) for position in range(4)]
    assert len(read_uncertainty(trained.folder / "runs" / "run-001")) == 4
    assert predict(trained).proposed == 12


def test_a_project_without_a_run_that_is_done_says_what_to_do(project):
    with pytest.raises(UserError, match="no run in this project yet") as refusal:
        predict(project)
    assert_sentence(str(refusal.value))
    make_run(project, state="failed")
    with pytest.raises(UserError, match=r"none of the 1 runs.*the last one is failed"):
        predict(project)
    assert predict(project, runs=(1,)).proposed == 12
    with pytest.raises(UnknownRecordError, match="no run 7"):
        predict(project, runs=(7,))


def test_the_newest_run_that_is_done_predicts(trained):
    make_run(trained, seed=1)
    make_run(trained, state="cancelled")
    assert predict(trained).runs == (2,)


def test_classes_that_the_project_does_not_know_are_refused_and_other_names_noted(project):
    make_run(project, classes=[(1, "bright"), (9, "ninth")])
    with pytest.raises(UserError, match=r"knows class 9 \(ninth\), which this project") as refusal:
        predict(project)
    assert_sentence(str(refusal.value))

    make_run(project, classes=[(1, "dark")], temperature=1.0)
    notes = " ".join(predict(project).notes)
    assert "Class 1 is called bright now and was called dark" in notes
    assert "Class 2 (corner) is never predicted" in notes


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"volumes": ("p1_frame",)}, "no volume is called 'p1_frame': name one"),
        ({"splits": ("val",)}, "no volume of the split val: add"),
        ({"splits": ("test",), "volumes": ("*",)}, "split test among those named"),
    ],
)
def test_no_volume_to_predict_is_said(trained, settings, said):
    with pytest.raises(UserError, match=said.replace("*", r"\*")) as refusal:
        predict(trained, **settings)
    assert_sentence(str(refusal.value))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"probabilities": True}, "give one with --nifti"),
        ({"runs": (1, 1)}, "name each of them once"),
        ({"runs": (0,)}, "greater than or equal to 1"),
        ({"overlap": 1.0}, "less than or equal to 0.9"),
    ],
)
def test_settings_that_cannot_act_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        PredictSettings(**settings)


# Calibration


def test_a_network_is_calibrated_once_on_the_accepted_masks_of_val_cases(tmp_path):
    with with_splits(tmp_path, patient1="val") as project:
        saved = make_run(project)
        (note,) = predict(project).notes
        assert "of run-001 are not calibrated: no `val` case has a mask made by people" in note
        assert SavedNetwork.read(saved.folder).temperature is None

        workflow.import_labels(project, ImportSettings())
        result = predict(project)

        found = SavedNetwork.read(saved.folder).temperature
        assert result.notes == ()
        assert result.temperature == (found,)
        assert 0.05 <= found <= 20
        assert found != 1.0
        dataclasses.replace(saved, temperature=3.0).write()
        assert predict(project).temperature == (3.0,)


def test_a_val_image_that_is_missing_stops_no_prediction(tmp_path):
    with with_splits(tmp_path, patient1="val") as project:
        make_run(project)
        workflow.import_labels(project, ImportSettings())
        (val,) = (v for v in project.store.volumes() if v.split == "val")
        project.source(val).paths[0].unlink()

        result = predict(project)

        assert result.volumes == 2
        (note,) = result.notes
        assert "are not calibrated: " in note
        assert val.name in note


# Uncertainty


def test_each_slice_has_its_uncertainty_in_the_folder_of_the_run(trained):
    result = predict(trained)

    with result.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert result.table == trained.folder / "runs" / "run-001" / FILE
    assert len(rows) == 12
    assert {row["volume"] for row in rows} == {v.name for v in trained.store.volumes()}
    entropies = [float(row["entropy"]) for row in rows]
    assert all(0 < value <= 1 for value in entropies)
    assert result.uncertainty == pytest.approx(np.mean(entropies), rel=1e-4)
    assert {(row["bald"], row["networks"]) for row in rows} == {("", "1")}


def test_several_runs_predict_together_and_say_where_they_disagree(trained):
    make_run(trained, seed=1, view=View(None, (32, 32), context=1), temperature=1.0)

    result = predict(trained, runs=(2, 1))

    assert result.runs == (2, 1)
    assert len(proposed(trained, 2)) == 12
    assert proposed(trained, 1) == {}
    rows = read_uncertainty(trained.folder / "runs" / "run-002").values()
    assert all(0 < row.bald < row.entropy for row in rows)
    assert {row.networks for row in rows} == {2}


def test_runs_of_other_classes_do_not_predict_together(trained):
    make_run(trained, classes=[(1, "bright")])
    with pytest.raises(UserError, match="run-002 has other classes than run-001"):
        predict(trained, runs=(1, 2))


def test_the_selector_entropy_takes_the_slices_of_which_the_run_is_least_certain(trained):
    predict(trained)
    told = read_uncertainty(trained.folder / "runs" / "run-001")
    wanted = sorted(told.values(), key=lambda row: -row.entropy)[:3]

    result = select(trained, "3", selector="entropy", uncertainty=1)

    names = {v.volume_id: v.name for v in trained.store.volumes()}
    queries = trained.store.queries()
    assert [(names[q.volume_id], q.position) for q in queries] == [row.place for row in wanted]
    assert result.notes[0] == "Uncertainty counts: entropy of the predictions of run 1."
    page = result.page.read_text(encoding="utf-8")
    assert "entropy of the predictions of run 1" in page
    assert "--selector entropy --uncertainty 1</code>" in page


def test_the_selector_bald_needs_several_networks(trained):
    predict(trained)
    with pytest.raises(UserError, match="run 1 predicted alone") as refusal:
        select(trained, "3", selector="bald", uncertainty=1)
    assert_sentence(str(refusal.value))

    make_run(trained, seed=1)
    predict(trained, runs=(1, 2))
    told = read_uncertainty(trained.folder / "runs" / "run-001")
    wanted = max(told.values(), key=lambda row: row.bald)
    select(trained, "1", selector="bald", uncertainty=1)
    (query,) = trained.store.queries()
    assert (trained.store.volume(query.volume_id).name, query.position) == wanted.place


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        ({}, "with a weight of 0.3, the usual one as none was set."),
        ({"activeft": {"uncertainty": 0.9}}, "with a weight of 0.9."),
    ],
)
def test_activeft_weighs_slices_by_uncertainty_and_says_how_far(trained, weight, said):
    workflow.embed(trained, EmbedSettings())
    predict(trained)

    result = select(trained, "3", selector="activeft", uncertainty=1, **weight)

    assert result.notes[0].endswith(said)
    (stored,) = trained.store.rounds()
    assert stored.settings["uncertainty"] == 1
    assert stored.settings["activeft"]["uncertainty"] == float(said.split()[4].strip(",.") or 0)
    assert stored.report["uncertainty"] in result.notes[0]


def test_a_run_that_lacks_slices_of_the_pool_gives_no_scores(trained):
    for said in ("run 1 predicted no slice yet", "predicted 4 of the 12 slices of the pool, slice"):
        with pytest.raises(UserError, match=said) as refusal:
            select(trained, "3", selector="entropy", uncertainty=1)
        assert_sentence(str(refusal.value))
        predict(trained, volumes=(trained.store.volumes()[0].name,))


def test_uncertainty_without_a_run_and_a_run_without_use_are_refused(trained):
    with pytest.raises(UserError, match="no run was named: train and predict") as refusal:
        select(trained, "3", selector="entropy")
    assert_sentence(str(refusal.value))
    with pytest.raises(ValueError, match="for the selector kmeans, which does not read it"):
        SelectSettings(selector="kmeans", uncertainty=1)


# The command line


def test_predict_prints_what_it_did_and_goes_by_names_of_runs(trained, command_line):
    options = ("--tta", "none", "--device", "cpu")
    shown = command_line("predict", "--run", "run-001", *options).stdout
    assert "predicted 12 slices of 3 volumes by run 1: 12 masks proposed" in shown
    told = command_line.json("predict", "--run", "1", *options, "--volume", "*p2*")
    assert (told["runs"], told["volumes"], told["precision"] != "") == ([1], 1, True)
    command_line("select", "--budget", "2", "--selector", "entropy", "--uncertainty", "run-001")


def test_predict_is_strict_about_volumes_only_on_request(trained, command_line):
    trained.source(trained.store.volumes()[0]).paths[0].unlink()
    options = ("--tta", "none", "--device", "cpu")
    assert "1 volume passed over" in command_line("predict", *options).stderr
    command_line("predict", *options, "--strict", code=1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tta", "most"), "--tta: "),
        (("--run", "first"), "write a number, such as 1"),
        (("--split", "training"), "--splits: "),
    ],
)
def test_wrong_usage_of_predict_is_one_line(trained, command_line, options, said):
    assert said in command_line("predict", *options, code=2).stderr
