"""From a round to masks: who is asked what, and what becomes of the answers."""

from __future__ import annotations

import numpy as np
import pytest
from napari_activeft.annotation_db import StaleSubmitError, StoreError
from PIL import Image
from projectmaking import (
    assert_sentence,
    make_project,
    query,
    read_json,
    select,
    states,
    take_next,
    without_privileges,
    write_folder,
)

from napari_activeft import workflow
from napari_activeft.errors import UserError
from napari_activeft.settings import SubmitSettings

# An expired lease, without waiting.
AT_ONCE = 1e-7


def answer(project, ticket, value=None, **settings):
    """Submit a mask that is all of one value, or another answer."""
    if value is not None:
        mask = ticket.with_suffix(".mask.png")
        Image.fromarray(np.full((9, 11), value, np.uint8)).save(mask)
        settings["mask"] = mask
    return workflow.submit(project, SubmitSettings(ticket=ticket, **settings))


@pytest.fixture
def out(tmp_path, project):
    """A round of four queries, and a folder for their tickets."""
    select(project, "4", seed=1)
    return tmp_path / "out"


def test_queries_come_in_the_order_of_the_selection_until_none_is_left(project, out):
    ranked = [q.query_id for q in project.store.queries()]
    given = []
    for left in (3, 2, 1, 0):
        result = take_next(project, out)
        assert result.waiting == left
        given.append(result.query)
        answer(project, result.ticket, 1)
    assert given == ranked

    nothing = take_next(project, out)
    assert (nothing.query, nothing.ticket, nothing.waiting) == (None, None, 0)
    assert states(project) == ["submitted"] * 4


def test_a_lost_ticket_is_written_again(project, out, tmp_path):
    first = take_next(project, out)
    again = take_next(project, tmp_path / "other")
    assert again.query == first.query
    assert read_json(again.ticket)["token"] == read_json(first.ticket)["token"]
    assert states(project).count("leased") == 1


def test_annotators_get_different_queries_and_may_take_more(project, out):
    given = [
        take_next(project, out, "ann").query,
        take_next(project, out, "ben").query,
        take_next(project, out, "ann", another=True).query,
    ]
    assert len(set(given)) == 3


def test_an_answer_says_what_was_stored(project, out):
    ticket = take_next(project, out).ticket
    mask = np.zeros((9, 11), np.uint8)
    mask[0, :3] = 1
    mask[5, 5] = 2
    Image.fromarray(mask).save(out / "m.png")

    result = answer(project, ticket, mask=out / "m.png", seconds=12.5)

    assert (result.answer, result.pixels, result.waiting) == ("mask", {"bright": 3, "corner": 1}, 3)
    np.testing.assert_array_equal(project.store.mask(result.revision), mask)
    (person,) = project.store.annotator_totals()
    assert (person["author"], person["seconds"]) == ("ann", 12.5)


@pytest.mark.parametrize("settings", [{"empty": True}, {"value": 0}])
def test_an_empty_slice_is_an_answer(project, out, settings):
    result = answer(project, take_next(project, out).ticket, **settings)
    assert (result.answer, result.pixels) == ("empty", {})
    assert not project.store.mask(result.revision).any()
    assert len(project.store.accepted()) == 1


def test_a_skipped_query_is_not_asked_again(project, out):
    first = take_next(project, out)
    result = answer(project, first.ticket, skip="motion")

    assert (result.answer, result.revision) == ("skipped", None)
    assert query(project, first.query).skip_reason == "motion"
    assert take_next(project, out).query != first.query
    assert select(project, "8").selected == 8
    with pytest.raises(UserError, match="only 0 slices"):
        select(project, "1")


def test_a_query_that_was_handed_back_goes_to_the_next(project, out):
    first = take_next(project, out)
    assert answer(project, first.ticket, hand_back=True).answer == "handed back"
    assert take_next(project, out, "ben").query == first.query


def test_the_same_answer_twice_is_one_mask(project, out):
    ticket = take_next(project, out).ticket
    first = answer(project, ticket, 1)
    assert answer(project, ticket, 1).revision == first.revision
    assert project.store.mask_count() == 1


def test_a_second_mask_with_one_ticket_is_kept_aside(project, out):
    ticket = take_next(project, out).ticket
    answer(project, ticket, 1)
    with pytest.raises(StaleSubmitError) as refusal:
        answer(project, ticket, 2)
    assert_sentence(str(refusal.value))
    assert answer(project, ticket, 2, on_top=True).pixels == {"corner": 99}


def test_a_late_mask_counts_if_nobody_took_the_query(project, out):
    late = take_next(project, out, minutes=AT_ONCE)
    assert answer(project, late.ticket, 1).answer == "mask"


def test_a_mask_that_comes_too_late_is_kept_and_the_other_one_counts(project, out):
    late = take_next(project, out, "ann", minutes=AT_ONCE)
    taken = take_next(project, out / "ben", "ben")
    assert taken.query == late.query
    answer(project, taken.ticket, 2)

    with pytest.raises(StaleSubmitError) as refusal:
        answer(project, late.ticket, 1)

    assert_sentence(str(refusal.value))
    slice_id = query(project, late.query).slice_id
    kept = project.store.revisions(slice_id)
    assert [(r.author, r.conflict) for r in kept] == [("ben", False), ("ann", True)]
    (accepted,) = project.store.accepted()
    assert project.store.mask(accepted.revision_id).max() == 2

    answer(project, late.ticket, 1, on_top=True)

    (accepted,) = project.store.accepted()
    assert project.store.mask(accepted.revision_id).max() == 1
    assert len(project.store.revisions(slice_id)) == 3


def test_skipping_with_a_lease_that_passed_on_is_refused(project, out):
    late = take_next(project, out, "ann", minutes=AT_ONCE)
    take_next(project, out / "ben", "ben")
    for settings in ({"skip": "late"}, {"hand_back": True}):
        with pytest.raises(StoreError, match="has ended") as refusal:
            answer(project, late.ticket, **settings)
        assert_sentence(str(refusal.value))
    assert query(project, late.query).state == "leased"


def test_a_folder_that_cannot_be_written_hands_the_query_back():
    with without_privileges() as folder:
        images = write_folder(folder / "images", labels=False)
        (folder / "out").mkdir()
        (folder / "out").chmod(0o500)
        with make_project(folder / "p", images) as project:
            select(project, "2")
            for out in (folder / "out", folder / "out" / "deeper"):
                with pytest.raises(UserError) as refusal:
                    take_next(project, out)
                assert_sentence(str(refusal.value))
                assert str(out) in str(refusal.value)
                assert states(project) == ["open", "open"]
            assert take_next(project, folder / "fine").query is not None


def test_a_folder_that_is_a_file_hands_out_nothing(project, out):
    out.write_text("a file")
    with pytest.raises(UserError, match="cannot be made"):
        take_next(project, out)
    assert states(project) == ["open"] * 4


def harm_image(path, harm):
    if harm == "missing":
        path.unlink()
    elif harm == "damaged":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        path.write_bytes(path.with_name(path.name.replace(".nii", "_gt.nii")).read_bytes()[:30])


@pytest.mark.parametrize("harm", ["missing", "damaged", "changed"])
def test_an_image_that_cannot_be_read_is_listed_and_the_next_one_handed_out(project, out, harm):
    first = project.store.queries()[0]
    volume = project.store.volume(first.volume_id)
    harm_image(project.source(volume).paths[0], harm)

    handed = take_next(project, out)

    assert handed.volume != volume.name
    assert [problem.path for problem in handed.problems] == [volume.name] * len(handed.problems)
    assert_sentence(handed.problems[0].sentence)
    assert states(project).count("leased") == 1
    assert project.store.queries()[0].state == "open"
    assert [ticket.name for ticket in out.glob("*.json")] == [handed.ticket.name]


def test_when_no_image_can_be_read_all_are_listed_and_all_queries_stay_free(project, out):
    for volume in project.store.volumes():
        harm_image(project.source(volume).paths[0], "missing")

    handed = take_next(project, out)

    assert (handed.query, handed.waiting, len(handed.problems)) == (None, 4, 4)
    assert states(project) == ["open"] * 4
    assert list(out.iterdir()) == []


def test_a_reviewed_query_comes_back_with_the_mask_and_the_comment(project, out):
    first = take_next(project, out)
    revision = answer(project, first.ticket, 2).revision
    project.store.review(revision, "reject", "boss", "the corner is too large")

    again = take_next(project, out, "ben")

    assert again.query == first.query
    written = read_json(again.ticket)
    assert written["review_comment"] == "the corner is too large"
    assert written["parent_revision"] == revision
    stem = out / f"query-{first.query:04d}"
    previous = np.asarray(Image.open(f"{stem}-previous-mask.png"))
    np.testing.assert_array_equal(previous, np.full((9, 11), 2))
    answer(project, again.ticket, 1)
    assert states(project)[0] == "submitted"
