"""What a window lists of a project: proposals, masks, tallies, the pool, runs; without a window."""

from __future__ import annotations

import math

import numpy as np
import pytest
from napari_activeft.annotation_db import UNLABELLED, StoreError
from projectmaking import (
    assert_sentence,
    filled,
    make_project,
    select,
    without_privileges,
    write_volume,
)
from storemaking import raw_sql

from napari_activeft.embedding.feature_file import FeatureFile
from napari_activeft.errors import UserError
from napari_activeft.pool_map import write_map
from napari_activeft.prediction.uncertainty_table import SliceUncertainty, write_uncertainty
from napari_activeft.session.outlook import Kind, coverage_in_words, outlook
from napari_activeft.session.pool_list import pool_rows
from napari_activeft.session.review_list import masks_of_people, proposals
from napari_activeft.session.tally import USUAL_SECONDS, Tallies, seconds_a_slice
from napari_activeft.session.training_view import (
    course_of_job,
    course_of_run,
    growth,
    run_views,
)
from napari_activeft.settings import TrainSettings
from napari_activeft.trained_runs import run_folder
from napari_activeft.training.run_files import FOLD, write_curve
from napari_activeft.vectors import embeddings_folder


def propose(project, *, values=None, doubts=True, run=None):
    """Propose one mask for every slice of the first two volumes; entropy rises with the slice."""
    store = project.store
    run = run or store.add_run("a run", {"network": "basic_unet"}, "tester").run_id
    masks, told = {}, []
    for volume in store.volumes()[:2]:
        for position in range(volume.slice_count):
            masks[store.slice_id(volume.volume_id, position)] = filled(1, position)
            entropy = (volume.volume_id + position * 3) % 8 / 10
            bald = None if position == 0 else 0.9 - entropy
            told.append(SliceUncertainty(volume.name, position, entropy, bald, 2))
    store.propose_masks(run, masks)
    if doubts:
        write_uncertainty(run_folder(project, run), {}, told)
    return run


# Proposals to review


def test_proposals_come_with_their_doubt_and_the_least_sure_first(project):
    run = propose(project)

    listed = proposals(project, run)

    assert len(listed) == 8
    entropies = [one.entropy for one in listed]
    assert entropies == sorted(entropies, reverse=True)
    assert entropies[0] > entropies[-1]
    names = {volume.volume_id: volume.name for volume in project.store.volumes()}
    for one in listed:
        assert one.volume == names[one.volume_id]
        assert one.slice_id == project.store.slice_id(one.volume_id, one.position)
        assert one.entropy == pytest.approx((one.volume_id + one.position * 3) % 8 / 10)
        assert (project.store.mask(one.revision_id) == filled(1, one.position)).all()


def test_slices_whose_doubt_is_not_known_come_last(project):
    run = propose(project)

    by_disagreement = [one.disagreement for one in proposals(project, run, "disagreement")]

    known = [one for one in by_disagreement if not math.isnan(one)]
    assert known == sorted(known, reverse=True)
    assert len(known) == 6
    assert all(math.isnan(one) for one in by_disagreement[6:])


def test_a_run_without_a_table_of_doubts_is_listed_all_the_same(project):
    run = propose(project, doubts=False)

    listed = proposals(project, run)

    assert len(listed) == 8
    assert all(math.isnan(one.entropy) and math.isnan(one.disagreement) for one in listed)


def test_by_the_queue_the_slices_that_were_chosen_come_first(project):
    wanted = project.store.pool_slices()[6].slice_id
    project.store.ask([wanted], "ann")
    run = propose(project)

    listed = proposals(project, run, "queue")

    assert [one.slice_id for one in listed if one.queried] == [wanted]
    assert listed[0].slice_id == wanted
    places = [(one.volume, one.position) for one in listed[1:]]
    assert places == sorted(places)


def test_the_state_of_a_proposal_says_what_became_of_it(project):
    store = project.store
    store.add_mask(store.pool_slices()[4].slice_id, filled(2), "eva", started_from=None)
    run = propose(project)
    rows = sorted(proposals(project, run), key=lambda one: one.revision_id)
    accepted, rejected, corrected, taken_back, older, *_ = rows
    store.review(accepted.revision_id, "approve", "ann")
    store.review(rejected.revision_id, "reject", "ann")
    store.add_mask(corrected.slice_id, filled(2), "ann", started_from=corrected.revision_id)
    store.review(taken_back.revision_id, "approve", "ann")
    store.review(taken_back.revision_id, "reject", "ann")

    now = {one.revision_id: one.state for one in proposals(project, run)}

    assert now[accepted.revision_id] == "accepted"
    assert now[rejected.revision_id] == now[taken_back.revision_id] == "rejected"
    assert now[corrected.revision_id] == "labelled"
    assert now[older.revision_id] == "new", "a mask that was there before does not settle it"

    store.add_mask(accepted.slice_id, filled(2), "ann", started_from=accepted.revision_id)
    again = {one.revision_id: one.state for one in proposals(project, run)}
    assert again[accepted.revision_id] == "labelled"


def test_proposals_of_no_run_or_of_a_damaged_table_are_refused(project):
    run = propose(project)
    (run_folder(project, run) / "uncertainty.csv").write_text("volume\nx\n")

    with pytest.raises(UserError, match="is damaged") as refusal:
        proposals(project, run)
    assert_sentence(str(refusal.value))
    with pytest.raises(StoreError, match="no run 7"):
        proposals(project, 7)


def test_masks_of_others_are_listed_and_those_nobody_reviewed_come_first(project):
    store, slices = project.store, project.store.pool_slices()
    made = [
        store.add_mask(slices[at].slice_id, filled(1), author, started_from=None).revision_id
        for at, author in [(0, "bob"), (1, "eva"), (2, "ann"), (9, "bob"), (4, "bob")]
    ]
    store.review(made[0], "approve", "rita")
    store.review(made[1], "reject", "rita")
    store.review(propose_one(project, slices[6].slice_id), "approve", "bob")

    listed = masks_of_people(project, "ann")

    assert [(one.revision_id, one.state, one.reviewer) for one in listed] == [
        (made[4], "new", None),
        (made[3], "new", None),
        (made[0], "approved", "rita"),
        (made[1], "rejected", "rita"),
    ]
    assert {one.source for one in listed} == {"drawn"}
    assert len(masks_of_people(project, "nobody")) == 5


def propose_one(project, slice_id):
    run = project.store.add_run("a run", {}, "tester").run_id
    return project.store.add_prediction(slice_id, filled(1), run_id=run, author="model")


# What is labelled


def test_the_tally_counts_slices_cases_and_pixels_of_each_class(project):
    store, slices = project.store, project.store.pool_slices()
    tallies = Tallies(project)
    assert [(c.slices, c.cases, c.pixels) for c in tallies.count().classes] == [(0, 0, 0)] * 2
    for at, mask in [(0, filled(1, 0)), (1, filled(1)), (4, filled(UNLABELLED)), (8, filled(2, 3))]:
        store.add_mask(slices[at].slice_id, mask, "ann", started_from=None)

    told = tallies.count()

    assert (told.slices, told.cases) == (4, 3)
    first, second = told.classes
    assert (first.value, first.name, first.slices, first.cases, first.pixels) == (
        1,
        "bright",
        2,
        1,
        11 + 99,
    )
    assert (second.slices, second.cases, second.pixels) == (1, 1, 11)
    assert first.colour == store.classes()[0].colour


def test_the_tally_follows_corrections_and_rejections_and_reads_each_mask_once(
    project, monkeypatch
):
    store, slice_id = project.store, project.store.pool_slices()[0].slice_id
    tallies, read = Tallies(project), []
    unspied = store.mask
    monkeypatch.setattr(store, "mask", lambda one: read.append(one) or unspied(one))
    first = store.add_mask(slice_id, filled(1), "ann", started_from=None)
    tallies.count()
    second = store.add_mask(slice_id, filled(2), "ann", started_from=first.revision_id)

    for _ in range(3):
        one, two = tallies.count().classes
    assert (one.pixels, two.pixels) == (0, 99)
    assert read == [first.revision_id, second.revision_id]

    store.review(second.revision_id, "reject", "eva")
    assert tallies.count().slices == 0


def test_a_damaged_mask_counts_for_no_class(project):
    slice_id = project.store.pool_slices()[0].slice_id
    project.store.add_mask(slice_id, filled(1), "ann", started_from=None)
    with raw_sql(project.store.path) as connection:
        connection.execute("UPDATE revisions SET payload = x'00'")

    assert [one.pixels for one in Tallies(project).count().classes] == [0, 0]


def test_the_time_of_a_slice_is_usual_until_a_few_masks_were_timed(project):
    slices = project.store.pool_slices()
    for number, row in enumerate(slices[:5], start=1):
        assert seconds_a_slice(project) == (USUAL_SECONDS, False)
        author = "ann" if number % 2 else "bob"
        project.store.add_mask(
            row.slice_id, filled(1), author, started_from=None, seconds_spent=10.0 * number
        )
    # Somebody who imports masks took no time that says anything.
    project.store.add_mask(slices[7].slice_id, filled(1), "import", started_from=None)

    assert seconds_a_slice(project) == (pytest.approx(30.0), True)


# What a selection has before it


def keep_vectors(project):
    """Keep vectors as `embed` does, without an encoder."""
    about = {"encoder": "hog", "weight_hash": "", "random_weights": False, "precision": "float32"}
    about |= {"side": 8, "created_at": "2024-02-29T12:00:00"}
    vectors = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    with FeatureFile.writing(embeddings_folder(project) / "hog-1", 5, about) as file:
        file.append([row.key for row in project.store.pool_slices()], vectors)
        write_map(file)


def kinds_of(project):
    found = outlook(project)
    return {row.slice_id: Kind(kind) for row, kind in zip(found.pool, found.kinds, strict=True)}


def test_the_outlook_says_of_every_slice_what_it_is_to_the_selection(project):
    store = project.store
    select(project, "3", selector="random")
    answered = store.lease_next("ann")
    store.submit(answered.token, filled(1))
    skipped = store.lease_next("ann")
    store.skip(skipped.token, "blurred")
    (third,) = [one.slice_id for one in store.queries() if one.state == "open"]
    assert kinds_of(project)[third] is Kind.PICKED

    select(project, "2", selector="random")

    kinds = kinds_of(project)
    newest = {one.slice_id for one in store.queries() if one.round_number == 2}
    assert {one for one, kind in kinds.items() if kind is Kind.PICKED} == newest
    assert (kinds[answered.slice_id], kinds[skipped.slice_id]) == (Kind.LABELLED, Kind.LEFT_OUT)
    assert kinds[third] is Kind.ASKED
    assert outlook(project).free == 12 - 5
    assert outlook(project).round_number == 2


def test_what_people_leave_out_or_ask_does_not_pass_for_the_newest_round(project):
    select(project, "2", selector="random")
    picked = {one.slice_id for one in project.store.queries()}
    free = [row.slice_id for row in project.store.pool_slices() if row.slice_id not in picked]
    project.store.leave_out(free[:1], "blurred", "ann")
    project.store.ask(free[1:2], "ann")

    kinds = kinds_of(project)

    assert {one for one, kind in kinds.items() if kind is Kind.PICKED} == picked
    assert (kinds[free[0]], kinds[free[1]]) == (Kind.LEFT_OUT, Kind.ASKED)
    assert outlook(project).round_number == 1


def test_a_slice_that_was_skipped_and_labelled_after_all_is_labelled(project):
    slice_id = project.store.pool_slices()[0].slice_id
    project.store.leave_out([slice_id], "blurred", "ann")
    project.store.add_mask(slice_id, filled(1), "ann", started_from=None)
    assert kinds_of(project)[slice_id] is Kind.LABELLED


def test_the_outlook_of_a_new_project_has_nothing_and_says_so(tmp_path):
    with make_project(tmp_path / "p", classes=()) as project:
        found = outlook(project)

    assert (len(found.pool), found.free, found.layout, found.embedded) == (0, 0, None, ())
    assert (found.round_number, found.figures, found.runs) == (None, {}, ())
    assert coverage_in_words(found) == "Nothing was selected yet."


def test_the_outlook_names_encoders_runs_and_how_well_a_round_stands_for_the_pool(project):
    keep_vectors(project)
    for state in ("done", "failed", "done"):
        run = project.store.add_run("a run", {}, "tester").run_id
        project.store.end_run(run, state)
    select(project, "3", selector="random")
    drawn = outlook(project)
    assert coverage_in_words(drawn) == "Round 1 was drawn without looking at the images."

    select(project, "3", selector="kcenter")
    found = outlook(project)

    assert found.embedded == ("hog",)
    assert found.layout.points.shape == (12, 2)
    assert found.runs == (3, 1)
    told = coverage_in_words(found)
    assert told.startswith("Round 2, with all that was asked before: distance to the pool (W1) ")
    assert f"{found.figures['coverage']['rw1']:.3f}" in told
    assert f"{found.figures['coverage']['rw1_beside']:.3f} of random additions." in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5", "5 slices of 12: about 8 minutes of work, if a slice takes a minute and a half"),
        ("1", "1 slice of 12: about 2 minutes of work, if a slice takes a minute and a half"),
        ("50%", "6 slices of 12: about 9 minutes of work, if a slice takes a minute and a half"),
    ],
)
def test_a_budget_is_told_in_slices_and_time(project, text, said):
    assert outlook(project).budget_in_words(text) == said


def test_a_budget_is_told_by_the_times_that_were_measured(project):
    for row in project.store.pool_slices()[:6]:
        project.store.add_mask(
            row.slice_id, filled(1), "ann", started_from=None, seconds_spent=3600.0
        )
    said = outlook(project).budget_in_words("3")
    assert said == "3 slices of 12: about 3.0 hours of work, as people took so far"


@pytest.mark.parametrize("text", ["", "many", "0", "-3", "13", "200%", "0.0001", "1e400"])
def test_a_budget_that_cannot_be_spent_is_told_in_a_sentence(project, text):
    assert_sentence(outlook(project).budget_in_words(text))


# Training


def add_run(project, state, network="basic_unet", **metrics):
    run = project.store.add_run("a run", {"network": network, "steps": 7}, "tester").run_id
    if state != "running":
        project.store.end_run(run, state, metrics=metrics)
    return run


def test_runs_are_listed_the_newest_first_with_what_came_out(project):
    add_run(project, "done", slices=8, score=0.75, monitor="folds")
    add_run(project, "failed", "dynunet", reason="memory ran out")
    add_run(project, "running")

    third, second, first = run_views(project)

    assert [one.run for one in (third, second, first)] == [3, 2, 1]
    assert (first.network, first.slices, first.score) == ("basic_unet", 8, 0.75)
    assert (first.state, first.monitor, first.reason) == ("done", "folds", "")
    assert (second.state, second.reason, second.score) == ("failed", "memory ran out", None)
    assert (third.state, third.slices) == ("running", None)


def test_growth_is_dice_over_slices_of_the_runs_that_are_done_by_network(project):
    for slices, score in [(20, 0.8), (5, 0.5), (10, 0.7)]:
        add_run(project, "done", slices=slices, score=score)
    add_run(project, "done", "dynunet", slices=5, score=0.6)
    add_run(project, "done", slices=30, score=None)
    add_run(project, "cancelled", slices=40, score=0.9)

    assert growth(run_views(project)) == {
        "basic_unet": [(5.0, 0.5), (10.0, 0.7), (20.0, 0.8)],
        "dynunet": [(5.0, 0.6)],
    }


def curve(folder, *rows):
    folder.mkdir(parents=True, exist_ok=True)
    write_curve(folder, [dict(zip(("step", "loss", "val_dice"), row, strict=True)) for row in rows])


def test_the_course_of_a_run_is_that_of_its_fold_until_its_own_begins(project):
    run = add_run(project, "running")
    folder = run_folder(project, run)
    empty = course_of_run(project, run)
    assert (empty.loss, empty.dice, empty.before) == ([], [], False)

    curve(folder / FOLD, (1, 0.9, None), (2, 0.8, 0.5))
    before = course_of_run(project, run)
    assert (before.run, before.before) == (run, True)
    assert before.loss == [(1, 0.9), (2, 0.8)]
    assert before.dice == [(2, 0.5)]

    curve(folder, (1, 0.7, None))
    after = course_of_run(project, run)
    assert (after.before, after.loss) == (False, [(1, 0.7)])
    assert after.dice == [(2, 0.5)], "it is measured on nothing: the cases held back before are"

    curve(folder, (1, 0.7, 0.1), (3, 0.6, None))
    assert course_of_run(project, run).dice == [(1, 0.1)]


def test_the_course_of_a_job_is_that_of_the_run_that_it_began(project):
    settings = TrainSettings(network="basic_unet", steps=7)
    job = project.store.add_job("train", settings.model_dump(mode="json"), "ann")
    assert course_of_job(project, job).run is None
    project.store.begin_job(job.job_id, 1)
    begun = project.store.job(job.job_id)
    assert course_of_job(project, begun).run is None

    run = add_run(project, "running")
    curve(run_folder(project, run), (1, 0.7, None))

    assert course_of_job(project, begun).run == run
    assert course_of_job(project, begun).loss == [(1, 0.7)]


# The pool as a list


def test_volumes_are_listed_with_size_spacing_and_a_missing_image(project, images):
    first, second, _ = project.store.volumes()
    project.source(second).paths[0].unlink()

    rows = pool_rows(project)

    assert [row.volume.name for row in rows] == [v.name for v in project.store.volumes()]
    assert rows[0].volume == first
    assert (rows[0].size, rows[0].spacing) == ("4 x 9 x 11", "5 x 1 x 1.5")
    assert [row.problem for row in rows] == ["", "image missing", ""]


def test_images_in_a_folder_that_may_not_be_read_are_missing():
    with without_privileges() as folder:
        write_volume(folder / "images" / "one.nii.gz")
        with make_project(folder / "p", folder / "images", classes=()) as project:
            (folder / "images").chmod(0o000)
            (row,) = pool_rows(project)
        assert row.problem == "image missing"
