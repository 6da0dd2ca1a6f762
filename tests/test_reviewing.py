"""accept, reject, approve: what people say of proposals and of each other's masks."""

from __future__ import annotations

import numpy as np
import pytest
from projectmaking import SHAPE, assert_sentence, make_project, select, states, take_next

from napari_activeft import workflow
from napari_activeft.errors import Cancelled, UserError
from napari_activeft.settings import (
    AcceptSettings,
    ApproveSettings,
    NextSettings,
    RejectSettings,
    SubmitSettings,
)

ALL = AcceptSettings(run=1, reviewer="rita")


def mask(value):
    return np.full(SHAPE[1:], value, np.uint8)


def proposed(project, value=1, name="net"):
    """Let a run propose the same class everywhere; return its number."""
    run = project.store.add_run(name, {}, "ann").run_id
    for volume in project.store.volumes():
        at = {n: project.store.slice_id(volume.volume_id, n) for n in range(SHAPE[0])}
        project.store.propose_masks(run, dict.fromkeys(at.values(), mask(value)))
    return run


def answer(project, tmp_path, annotator="ann", value=2):
    """Submit a mask for the next query and return the query."""
    taken = take_next(project, tmp_path / "out", annotator)
    np.save(tmp_path / "mask.npy", mask(value))
    workflow.submit(project, SubmitSettings(ticket=taken.ticket, mask=tmp_path / "mask.npy"))
    return taken.query


def accepted_values(project):
    """Return how often each value is the first pixel of an accepted mask."""
    values = [int(project.store.mask(one.revision_id)[0, 0]) for one in project.store.accepted()]
    return {value: values.count(value) for value in set(values)}


@pytest.fixture
def asked(project):
    """Five of the twelve slices were selected."""
    select(project, "5", seed=1)
    return project


# Proposals


def test_accepting_a_run_gives_every_slice_without_a_mask_its_proposal(asked, tmp_path):
    answer(asked, tmp_path)
    held = take_next(asked, tmp_path / "held", "bob")
    proposed(asked)
    told = []

    result = workflow.accept(asked, ALL, lambda done, total: told.append((done, total)))

    assert (result.proposals, result.accepted, result.kept, result.leased) == (12, 10, 1, 1)
    assert accepted_values(asked) == {1: 10, 2: 1}
    assert sorted(states(asked)) == ["approved"] * 3 + ["leased", "submitted"]
    assert (told[-1], result.waiting, held.query is not None) == ((3, 3), 0, True)
    again = workflow.accept(asked, ALL)
    assert (again.accepted, again.before, again.kept, again.leased) == (0, 10, 1, 1)


def test_only_the_selected_slices_or_some_volumes_are_accepted(asked):
    proposed(asked)
    name = asked.store.volumes()[0].name

    result = workflow.accept(asked, AcceptSettings(run=1, only_queried=True))
    assert (result.proposals, result.accepted) == (5, 5)
    assert states(asked) == ["approved"] * 5
    in_one = workflow.accept(asked, AcceptSettings(run=1, volumes=(name,)))

    assert in_one.accepted + in_one.before == 4
    first = {one.volume_id for one in asked.store.accepted()}
    assert asked.store.volumes()[0].volume_id in first
    assert len(asked.store.accepted()) == 5 + in_one.accepted


def test_a_drawn_mask_gives_way_to_a_newer_proposal_only_when_that_is_asked(asked, tmp_path):
    answer(asked, tmp_path)
    run = proposed(asked)
    answer(asked, tmp_path, value=2)  # newer than the proposal of its slice

    result = workflow.accept(asked, AcceptSettings(run=run, on_top=True))

    assert (result.accepted, result.outdated, result.kept) == (11, 1, 0)
    assert accepted_values(asked) == {1: 11, 2: 1}
    assert asked.store.mask_count() == 14


def test_a_rejected_mask_makes_room_for_a_newer_proposal_and_not_for_an_older_one(asked, tmp_path):
    old = proposed(asked)
    query = answer(asked, tmp_path)
    workflow.reject(asked, RejectSettings(queries=(query,), comment="too small", reviewer="rita"))

    only = AcceptSettings(run=old, only_queried=True)
    assert (workflow.accept(asked, only).accepted, states(asked).count("rejected")) == (4, 1)
    assert workflow.accept(asked, only).outdated == 1
    assert workflow.accept(asked, AcceptSettings(run=proposed(asked, 2, "newer"))).accepted == 8
    assert states(asked) == ["approved"] * 5


def test_rejected_proposals_do_not_count_and_may_be_accepted_after_all(asked):
    run = proposed(asked)
    workflow.accept(asked, AcceptSettings(run=run, only_queried=True))

    result = workflow.reject(asked, RejectSettings(run=run, comment="all wrong"))

    assert (result.masks, result.rejected, result.counted, result.waiting) == (12, 12, 5, 5)
    assert (asked.store.accepted(), states(asked)) == ([], ["open"] * 5)
    assert asked.store.mask_count() == 12
    assert workflow.reject(asked, RejectSettings(run=run)).before == 12
    assert workflow.accept(asked, ALL).rejected == 12
    assert workflow.accept(asked, AcceptSettings(run=run, rejected=True)).accepted == 12


def test_an_accepted_proposal_of_a_slice_being_labelled_is_not_taken_away(asked, tmp_path):
    run = proposed(asked)
    workflow.accept(asked, AcceptSettings(run=run, only_queried=True))
    workflow.reject(asked, RejectSettings(run=run))
    workflow.accept(asked, AcceptSettings(run=run, rejected=True))
    workflow.reject(asked, RejectSettings(run=run, volumes=(asked.store.volumes()[0].name,)))
    taken = take_next(asked, tmp_path / "out")

    again = workflow.accept(asked, AcceptSettings(run=run, rejected=True))

    assert (taken.query is not None, again.leased) == (True, 1)


def test_a_run_without_proposals_says_to_predict(project):
    project.store.add_run("net", {}, "ann")
    for verb, settings in ((workflow.accept, ALL), (workflow.reject, RejectSettings(run=1))):
        with pytest.raises(UserError, match="run 1 proposed no masks: let it predict") as refusal:
            verb(project, settings)
        assert_sentence(str(refusal.value))


def test_a_scope_without_proposals_says_where_there_are_some(project):
    proposed(project)
    with pytest.raises(UserError, match="no masks for selected slices, and 12 for others"):
        workflow.accept(project, AcceptSettings(run=1, only_queried=True))
    with pytest.raises(UserError, match=r"no volume is called .nowhere.: name one") as refusal:
        workflow.accept(project, AcceptSettings(run=1, volumes=("nowhere",)))
    assert_sentence(str(refusal.value))


def test_whole_volumes_are_accepted_until_somebody_cancels(project):
    proposed(project)

    def stop(done, total):
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        workflow.accept(project, ALL, stop)
    assert len(project.store.accepted()) == 8
    assert workflow.accept(project, ALL).accepted == 4


# Masks of people


def test_nobody_approves_a_mask_of_his_own_unless_he_says_so(asked, tmp_path):
    for annotator in ("ann", "bob", "ann"):
        answer(asked, tmp_path, annotator)
    everything = {"everything": True, "reviewer": "ann"}

    result = workflow.approve(asked, ApproveSettings(**everything))

    assert (result.masks, result.approved, result.own) == (3, 1, 2)
    assert sorted(states(asked)) == ["approved", "open", "open", "submitted", "submitted"]
    own = workflow.approve(asked, ApproveSettings(**everything, own=True))
    assert (own.approved, own.before, own.own) == (2, 1, 0)
    assert states(asked).count("approved") == 3


def test_a_rejected_mask_is_asked_again_with_the_comment(asked, tmp_path):
    query = answer(asked, tmp_path)
    rejected = workflow.reject(
        asked, RejectSettings(annotator="ann", comment="the apex is missing", reviewer="rita")
    )
    assert (rejected.run, rejected.rejected, rejected.counted) == (None, 1, 1)
    assert asked.store.accepted() == []

    lease = asked.store.lease_next("bob")
    assert (lease.query_id, lease.review_comment) == (query, "the apex is missing")
    assert workflow.reject(asked, RejectSettings(queries=(query,))).before == 1
    asked.store.hand_back(lease.token)
    assert workflow.approve(asked, ApproveSettings(queries=(query,), reviewer="r")).rejected == 1
    mended = ApproveSettings(queries=(query,), reviewer="r", rejected=True)
    assert workflow.approve(asked, mended).approved == 1
    assert len(asked.store.accepted()) == 1


def test_a_mask_that_is_being_corrected_is_not_reviewed(asked, tmp_path):
    query = answer(asked, tmp_path)
    workflow.reject(asked, RejectSettings(queries=(query,)))
    workflow.next_query(asked, NextSettings(annotator="bob", out=tmp_path / "bob"))
    again = ApproveSettings(queries=(query,), rejected=True, reviewer="rita")

    assert workflow.approve(asked, again).leased == 1


def test_masks_are_chosen_by_person_query_and_volume_and_what_is_not_there_is_named(
    asked, tmp_path
):
    with pytest.raises(UserError, match="nobody submitted a mask yet") as refusal:
        workflow.approve(asked, ApproveSettings(everything=True))
    assert_sentence(str(refusal.value))
    first, second = answer(asked, tmp_path, "ann"), answer(asked, tmp_path, "bob")
    for named, sentence in (
        ({"annotator": "eve"}, "no annotator with masks eve in this project: choose one of"),
        ({"queries": (99,)}, "no query 99 in this project"),
        ({"queries": (first,), "annotator": "bob"}, "none of the 2 masks"),
    ):
        with pytest.raises(UserError, match=sentence) as refusal:
            workflow.approve(asked, ApproveSettings(**named))
        assert_sentence(str(refusal.value))

    result = workflow.approve(asked, ApproveSettings(queries=(second,), reviewer="rita"))
    assert (result.masks, result.approved) == (1, 1)


# The command line


def test_the_three_verbs_on_the_command_line(command_line, images, tmp_path):
    with make_project(tmp_path / "project", images, labels="*_gt.nii.gz") as project:
        select(project, "5", seed=1)
        answer(project, tmp_path)
        run = proposed(project)

    accepted = command_line("accept", "--run", f"run-{run:03d}", "--queries").stdout
    assert "run 1: accepted 4 of 5 proposals" in accepted
    assert "1 left out: the slice has an accepted mask" in accepted
    told = command_line.json("reject", "--run", run, "--comment", "no", "--reviewer", "rita")
    assert (told["rejected"], told["counted"], told["waiting"]) == (12, 4, 4)
    rejected = command_line("reject", "--annotator", "ann", "--comment", "thin").stdout
    assert "rejected 1 of 1 masks of people" in rejected
    assert "1 of them counted until now" in rejected
    approved = command_line("approve", "--all", "--reviewer", "rita", "--rejected").stdout
    assert "rita approved 1 of 1 mask" in approved
    assert "proposed no masks" not in command_line("accept", "--run", run, "--rejected").stdout
    assert "name a run with --run" in command_line.refusal("reject", "--comment", "x", code=2)
    assert "--all" in command_line.refusal("approve", code=2)
    both = ("reject", "--run", run, "--annotator", "ann")
    assert "give either --run" in command_line.refusal(*both, code=2)
    assert "choose one of 1" in command_line.refusal("accept", "--run", "7")
