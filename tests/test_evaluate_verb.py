"""evaluate: predictions beside the truth, from the store, from networks, and from folders."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from imagemaking import write_nifti
from napari_activeft.annotation_db import UNLABELLED, UnknownRecordError
from projectmaking import (
    assert_sentence,
    label_array,
    make_project,
    read_json,
    run_python,
    write_folder,
    write_volume,
)
from runmaking import make_run

from napari_activeft import workflow
from napari_activeft.errors import Cancelled, UserError
from napari_activeft.geometry import Geometry
from napari_activeft.pool import take_slice
from napari_activeft.prediction.written import write_predicted
from napari_activeft.settings import (
    AcceptSettings,
    EvaluateSettings,
    ImportSettings,
    PredictSettings,
)
from napari_activeft.training.metrics import measure

SPACING = (5.0, 1.0, 1.5)


def evaluate(project, *, on_progress=lambda done, total: None, **settings):
    asked = {"split": "pool", "truth": "labels", "device": "cpu", "tta": "none", **settings}
    return workflow.evaluate(project, EvaluateSettings(**asked), on_progress)


def truth_of(project, volume):
    labels = label_array(project, volume.name)
    return np.stack([take_slice(labels, volume.axis, at) for at in range(volume.slice_count)])


def propose(project, change, volumes=None):
    """Let a run propose changed truths."""
    run = project.store.add_run("a run", {}, "tester").run_id
    project.store.end_run(run, "done")
    for volume in project.store.volumes() if volumes is None else volumes:
        masks = change(truth_of(project, volume))
        ids = [project.store.slice_id(volume.volume_id, at) for at in range(len(masks))]
        project.store.propose_masks(run, dict(zip(ids, masks, strict=True)))
    return run


def worse(labels):
    changed = labels.copy()
    changed[1:3, 3:6] = 0
    return changed


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# Where predictions come from


def test_proposals_of_a_run_are_measured_as_the_core_measures_them(project):
    propose(project, worse)
    result = evaluate(project)

    wanted = [
        measure(truth, worse(truth), (1, 2), SPACING)
        for truth in (truth_of(project, volume) for volume in project.store.volumes())
    ]
    assert (result.run, result.volumes, result.slices, result.cases) == (1, 3, 12, 3)
    assert result.level == "volumes"
    for which, value in (("1", 1), ("2", 2), ("all", 0)):
        for metric in ("dice", "hd95_mm", "volume_error_ml"):
            mean = result.summary[which][metric]["mean"]
            assert mean == pytest.approx(np.mean([each[value][metric] for each in wanted]))
    assert 0 < result.summary["1"]["dice"]["mean"] < 1


def test_what_was_not_predicted_yet_is_predicted_as_predict_would_and_not_stored(tmp_path):
    images = write_folder(tmp_path / "images", patients=1)
    with make_project(tmp_path / "p", images, labels="*_gt.nii.gz") as project:
        make_run(project)
        before = evaluate(project)
        assert project.store.proposals(1) == []

        workflow.predict(project, PredictSettings(tta="none", device="cpu"))
        assert len(project.store.proposals(1)) == 4
        after = evaluate(project)

    assert after.summary == before.summary
    assert any("predicted just now, 1:" in note for note in before.notes)
    assert not any("just now" in note for note in after.notes)


def test_label_maps_of_a_folder_are_measured_along_the_plane_of_the_project(tmp_path):
    images = write_folder(tmp_path / "images", patients=2)
    with make_project(tmp_path / "p", images, labels="*_gt.nii.gz", plane="x") as project:
        for volume in project.store.volumes():
            geometry = Geometry.from_json(volume.geometry)
            stem = volume.name.replace("/", "_")
            labels = truth_of(project, volume).astype(np.uint8)
            write_predicted(tmp_path / "out", stem, labels, volume.axis, geometry)
        result = evaluate(project, predictions=tmp_path / "out")

    assert (result.run, result.volumes, result.slices) == (None, 2, 22)
    assert result.summary["all"]["dice"]["mean"] == 1.0
    assert result.folder.name == "evaluation-out-pool"


def test_a_volume_without_a_prediction_is_listed_and_stops_no_other(project, tmp_path):
    volume = project.store.volumes()[0]
    geometry = Geometry.from_json(volume.geometry)
    labels = truth_of(project, volume).astype(np.uint8)
    # As the image itself is called, as most programs name what they make of it.
    write_predicted(tmp_path / "out", volume.name.split("/")[-1], labels, volume.axis, geometry)
    result = evaluate(project, predictions=tmp_path / "out")

    assert result.volumes == 1
    assert len(result.problems) == 2
    for problem in result.problems:
        assert_sentence(problem.sentence)
        assert ".nii.gz" in problem.sentence


def test_a_label_map_on_another_grid_is_listed(project, tmp_path):
    for volume in project.store.volumes():
        path = tmp_path / f"{volume.name.replace('/', '_')}.nii.gz"
        write_nifti(path, np.zeros((11, 9, 3), np.uint8), np.eye(4))
    with pytest.raises(UserError, match="could be measured") as refusal:
        evaluate(project, predictions=tmp_path)
    assert_sentence(str(refusal.value))


# What the truth is


def test_accepted_masks_are_the_truth_unless_label_maps_are_asked_for(project):
    propose(project, worse)
    with pytest.raises(UserError, match="import-labels") as refusal:
        evaluate(project, truth="masks")
    assert_sentence(str(refusal.value))

    workflow.import_labels(project, ImportSettings())
    assert evaluate(project, truth="masks").summary == evaluate(project).summary


def test_an_accepted_proposal_is_no_truth(project):
    run = propose(project, worse)
    first, *others = project.store.volumes()
    workflow.accept(project, AcceptSettings(run=run, volumes=(first.name,)))
    for volume in others:
        masks = dict(enumerate(truth_of(project, volume).astype(np.uint8)))
        project.store.import_masks(volume.volume_id, masks, "import")
    result = evaluate(project, truth="masks")

    assert (result.volumes, result.slices) == (2, 8)
    assert any("Slices left out, 4:" in note for note in result.notes)


def test_volumes_with_some_truth_are_measured_by_their_slices(project):
    propose(project, worse)
    first, second, _ = project.store.volumes()
    masks = truth_of(project, first).astype(np.uint8)
    project.store.import_masks(first.volume_id, {1: masks[1], 3: masks[3]}, "import")
    alone = evaluate(project, truth="masks")
    assert (alone.level, alone.volumes, alone.slices) == ("slices", 0, 2)
    assert any("some of their slices only, 1:" in note for note in alone.notes)

    whole = dict(enumerate(truth_of(project, second).astype(np.uint8)))
    project.store.import_masks(second.volume_id, whole, "import")
    both = evaluate(project, truth="masks")
    assert (both.level, both.volumes, both.slices) == ("volumes", 1, 6)


def test_pixels_that_nobody_labelled_do_not_count(project):
    propose(project, worse)
    volume = project.store.volumes()[0]
    masks = truth_of(project, volume).astype(np.uint16)
    masks[1:3, 3:6] = UNLABELLED
    masks[0] = UNLABELLED
    project.store.import_masks(volume.volume_id, dict(enumerate(masks)), "import")
    result = evaluate(project, truth="masks")

    assert (result.level, result.slices) == ("slices", 3)
    assert result.summary["all"]["dice"]["mean"] == 1.0
    rows = read_csv(result.folder / "slices.csv")
    assert {row["slice"] for row in rows if row["metric"] == "hd95_mm" and row["value"]} == {"3"}


def test_a_value_of_label_maps_can_stand_for_unlabelled(project):
    propose(project, lambda labels: np.where(labels == 2, 0, labels))
    plain = evaluate(project)
    assert plain.summary["2"]["dice"]["mean"] == 0.0
    without = evaluate(project, unlabelled=2)
    assert without.summary["1"]["dice"]["mean"] == 1.0
    assert without.summary["2"]["dice"]["mean"] is None


def test_values_of_label_maps_that_are_no_class_are_named(tmp_path):
    images = write_folder(tmp_path / "images", patients=1)
    with make_project(
        tmp_path / "p", images, labels="*_gt.nii.gz", classes=("1=bright",)
    ) as project:
        volume = project.store.volumes()[0]
        keep = truth_of(project, volume) == 1
        propose(project, lambda _: keep.astype(np.uint8))
        result = evaluate(project)
    assert any("hold 2, which" in note for note in result.notes)
    assert result.summary["1"]["dice"]["mean"] == 1.0


# Splits


def test_only_the_split_is_measured_and_has_a_folder_of_its_own(tmp_path):
    images = write_folder(tmp_path / "images", patients=4)
    with make_project(tmp_path / "p", images, labels="*_gt.nii.gz", test_share=0.5) as project:
        propose(project, worse)
        test, pool = evaluate(project, split="test"), evaluate(project)

    assert (test.volumes, pool.volumes) == (2, 2)
    assert test.folder.name == "evaluation-run-001"
    assert pool.folder.name == "evaluation-run-001-pool"
    assert not any("pool" in note for note in test.notes)
    assert any("on which networks train" in note for note in pool.notes)


# What is written


def test_files_hold_what_was_measured(project):
    propose(project, worse)
    result = evaluate(project)
    told = json.loads(
        (result.folder / "summary.json").read_text(encoding="utf-8"),
        parse_constant=lambda name: pytest.fail(f"{name} is no JSON"),
    )
    volumes = read_csv(result.folder / "metrics.csv")

    assert told["volumes"] == result.summary
    assert told["slices"]["1"]["dice"]["rows"] == 12
    values = [
        float(row["value"]) for row in volumes if (row["class"], row["metric"]) == ("1", "dice")
    ]
    assert np.mean(values) == pytest.approx(result.summary["1"]["dice"]["mean"])
    assert {row["case"] for row in volumes} == {v.case for v in project.store.volumes()}
    assert "<!DOCTYPE html>" in result.page.read_text(encoding="utf-8")
    assert sorted(path.name for path in result.folder.iterdir()) == [
        "index.html",
        "metrics.csv",
        "slices.csv",
        "summary.json",
    ]


def test_the_run_keeps_its_figures_by_split(project):
    run = propose(project, worse)
    result = evaluate(project)
    kept = project.store.run(run).metrics["evaluation_pool"]

    assert kept["figures"]["1"]["dice"] == result.summary["1"]["dice"]
    assert kept["figures"]["all"]["hd95_mm"] == result.summary["all"]["hd95_mm"]
    assert (kept["truth"], kept["of"]) == ("labels", "volumes")


def test_a_class_in_neither_is_left_out_or_counts_as_zero(project):
    def without_corner(labels):
        return np.where(labels == 2, 0, labels)

    propose(project, without_corner)
    for volume in project.store.volumes():
        masks = without_corner(truth_of(project, volume)).astype(np.uint8)
        project.store.import_masks(volume.volume_id, dict(enumerate(masks)), "import")
    plain = evaluate(project, truth="masks")
    zero = evaluate(project, truth="masks", absent_as_zero=True)

    assert plain.summary["2"]["dice"]["mean"] is None
    assert plain.summary["all"]["dice"]["mean"] == 1.0
    assert zero.summary["2"]["dice"]["mean"] == 0.0
    assert zero.summary["all"]["dice"]["mean"] == 0.5
    assert any("older" in note for note in zero.notes)


def test_a_stopped_evaluation_writes_nothing(project):
    propose(project, worse)

    def stop(done, total):
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        evaluate(project, on_progress=stop)
    assert not (project.folder / "reports").exists()
    assert project.store.run(1).metrics == {}


def test_progress_counts_slices_to_the_end(project):
    propose(project, worse)
    seen = []
    evaluate(project, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 12)
    assert seen[-1] == (12, 12)
    assert seen == sorted(seen)


def test_a_folder_that_cannot_be_written_is_named(project, tmp_path):
    propose(project, worse)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="choose another --out") as refusal:
        evaluate(project, out=tmp_path / "file" / "deeper")
    assert_sentence(str(refusal.value))


def test_an_image_that_went_missing_leaves_its_pictures_out(project, images):
    propose(project, worse)
    for path in images.rglob("*frame1.nii.gz"):
        path.unlink()
    result = evaluate(project)
    html = result.page.read_text(encoding="utf-8")
    assert result.volumes == 3
    assert "<image" not in html
    assert "<path" in html


# Refusals


def test_what_cannot_be_measured_is_refused_in_one_sentence(project, tmp_path):
    for settings, error, what in (
        ({}, UserError, "train"),
        ({"run": 3}, UnknownRecordError, "no run 3"),
        ({"predictions": tmp_path / "nowhere"}, UserError, "is no folder"),
        ({"split": "val"}, UserError, "no volume of the split val"),
    ):
        with pytest.raises(error, match=what) as refusal:
            evaluate(project, **settings)
        assert_sentence(str(refusal.value))


def test_a_project_without_classes_is_refused(tmp_path):
    write_volume(tmp_path / "images" / "a" / "one.nii.gz", labels=True)
    with (
        make_project(
            tmp_path / "p", tmp_path / "images", classes=(), labels="*_gt.nii.gz"
        ) as project,
        pytest.raises(UserError, match="no class"),
    ):
        evaluate(project)


def test_settings_that_contradict_each_other_are_refused(tmp_path):
    with pytest.raises(ValueError, match="one of them at a time"):
        EvaluateSettings(run=1, predictions=tmp_path)
    with pytest.raises(ValueError, match="--truth labels"):
        EvaluateSettings(unlabelled=4)


# The command line


def test_the_table_and_the_report_are_printed(project, command_line):
    propose(project, worse)
    shown = command_line("evaluate", "--split", "pool", "--truth", "labels")

    for word in ("bright", "corner", "all classes", "Dice", "95 % interval", "index.html"):
        assert word in shown.stdout
    told = command_line.json("evaluate", "--split", "pool", "--truth", "labels")
    dice = told["summary"]["1"]["dice"]["mean"]
    assert not math.isnan(dice)
    assert f"{dice:.3f}" in shown.stdout
    assert read_json(project.folder / "reports" / "evaluation-run-001-pool" / "summary.json")


def test_strict_exits_with_1_where_a_volume_was_passed_over(project, tmp_path, command_line):
    volume = project.store.volumes()[0]
    labels = truth_of(project, volume).astype(np.uint8)
    geometry = Geometry.from_json(volume.geometry)
    write_predicted(tmp_path / "out", volume.name.split("/")[-1], labels, volume.axis, geometry)
    arguments = ("evaluate", "--split", "pool", "--truth", "labels", "--predictions")
    command_line(*arguments, tmp_path / "out")
    assert (
        "2 volumes passed over"
        in command_line(*arguments, tmp_path / "out", "--strict", code=1).stderr
    )
    assert "both" not in command_line.refusal("evaluate", "--split", "all", code=2)


def test_measuring_proposals_needs_no_network_library(project):
    propose(project, worse)
    done = run_python(
        "-c",
        "import sys; from pathlib import Path; from napari_activeft import workflow; "
        "from napari_activeft.project import Project; "
        "from napari_activeft.settings import EvaluateSettings; "
        f"project = Project.open(Path({str(project.folder)!r})); "
        "workflow.evaluate(project, EvaluateSettings(split='pool', truth='labels')); "
        "assert 'torch' not in sys.modules; assert 'monai' not in sys.modules",
    )
    assert done.returncode == 0, done.stderr
