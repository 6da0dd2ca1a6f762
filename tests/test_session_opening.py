"""What a window opens and shows of a project, and who sits at it; without a window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imagemaking import write_nifti
from napari_activeft.annotation_db import UNLABELLED, ClassRecord
from projectmaking import (
    assert_sentence,
    filled,
    make_project,
    select,
    without_privileges,
    write_volume,
)

from napari_activeft.errors import UserError
from napari_activeft.geometry import Geometry
from napari_activeft.pool import slice_shape, take_slice
from napari_activeft.prediction.entropy_files import entropy_file, write_entropy
from napari_activeft.session.displaying import colours, displayed, label_data
from napari_activeft.session.opening import (
    entropy_of,
    open_left,
    open_next,
    open_proposal,
    open_query,
    open_slice,
    queue_rows,
)
from napari_activeft.session.review_list import proposals
from napari_activeft.session.seat import Seat
from napari_activeft.session.sitting import Sitting
from napari_activeft.trained_runs import run_folder

SHAPE = (9, 11)


@pytest.fixture
def sitting(project):
    select(project, "4", selector="random")
    with Sitting(project.folder, " ann ") as made:
        yield made


def propose(project):
    """Propose a mask for every slice of the first two volumes, and return the run."""
    store = project.store
    run = store.add_run("a run", {}, "tester").run_id
    places = [(v.volume_id, at) for v in store.volumes()[:2] for at in range(v.slice_count)]
    store.propose_masks(run, {store.slice_id(*place): filled(1, place[1]) for place in places})
    return run


# Opening


def test_the_next_query_is_opened_with_its_volume_its_masks_and_its_classes(sitting):
    store = sitting.project.store
    first = store.queries()[0]
    beside = (first.position + 1) % 4
    slice_id = store.slice_id(first.volume_id, beside)
    store.add_mask(slice_id, filled(2), "bob", started_from=None)

    opened, problems = open_next(sitting)

    assert problems == []
    assert opened.task.slice_id == first.slice_id
    assert opened.task is opened.work.main
    assert opened.proposal is None
    assert list(opened.masks) == [beside]
    assert (opened.work.mask(beside) == 2).all()
    assert [one.name for one in opened.classes] == ["bright", "corner"]
    assert opened.shown.name == opened.task.volume.name
    np.testing.assert_array_equal(
        opened.shown.channels[0], sitting.project.cache.volume(first.volume_id).data
    )


def test_the_volumes_of_the_next_queries_are_read_ahead(sitting):
    opened, _ = open_next(sitting)

    assert sitting.ahead.wait()
    now = opened.task.volume.volume_id
    waiting = {one.volume_id for one in sitting.project.store.queries() if one.state == "open"}
    assert waiting - {now}
    assert all(sitting.project.cache.holds(one) for one in [now, *waiting])


def test_reading_ahead_goes_on_after_a_volume_that_nobody_knows(sitting):
    wanted = sitting.project.store.volumes()[0].volume_id

    sitting.ahead.expect([999, wanted])

    assert sitting.ahead.wait(5.0)
    assert sitting.project.cache.holds(wanted)


def test_no_query_is_none_and_images_that_cannot_be_read_are_named(sitting):
    for volume in sitting.project.store.volumes():
        sitting.project.source(volume).paths[0].unlink()

    opened, problems = open_next(sitting)

    assert opened is None
    named = {one.path for one in problems}
    queried = {one.volume_id for one in sitting.project.store.queries()}
    assert named == {v.name for v in sitting.project.store.volumes() if v.volume_id in queried}
    assert {row.state for row in queue_rows(sitting)} == {"waiting"}


def test_the_queue_says_who_has_what(sitting):
    store = sitting.project.store
    mine, theirs, skipped, answered = store.queries()
    open_query(sitting, mine.query_id)
    store.lease_query(theirs.query_id, "bob")
    store.skip(store.lease_query(skipped.query_id, "eva").token, "blurred")
    store.submit(store.lease_query(answered.query_id, "eva").token, filled(1))
    other = store.pool_slices()
    asked = next(
        row.slice_id
        for row in other
        if row.slice_id not in {one.slice_id for one in store.queries()}
    )
    store.ask([asked], "eva")

    rows = queue_rows(sitting)

    assert [row.state for row in rows] == ["mine", "with bob", "skipped", "submitted", "waiting"]
    assert [row.query.query_id for row in rows[:2]] == [mine.query_id, theirs.query_id]
    names = {volume.volume_id: volume.name for volume in store.volumes()}
    assert all(row.volume == names[row.query.volume_id] for row in rows)


def left_behind(sitting, task):
    """Draw on a slice and let go of it; return what is left of that."""
    sitting.labelling.draw(task, filled(1, 2))
    sitting.labelling.hand_back(task)
    (left,) = sitting.labelling.left()
    return left


def test_strokes_of_a_slice_that_waits_are_taken_up_under_its_query(sitting):
    task = open_next(sitting)[0].task
    left = left_behind(sitting, task)

    opened = open_left(sitting, left)

    assert opened.task.lease.query_id == task.lease.query_id
    assert opened.task.recovered == 1
    assert (opened.task.drawing.mask == filled(1, 2)).all()


def test_strokes_of_a_slice_under_my_own_lease_are_taken_up_under_it(sitting):
    task = open_next(sitting)[0].task
    sitting.labelling.draw(task, filled(1, 2))
    (left,) = sitting.labelling.left()

    assert open_left(sitting, left).task.lease.token == task.lease.token


def test_strokes_of_a_slice_that_was_answered_meanwhile_are_opened_beside_the_queue(sitting):
    task = open_next(sitting)[0].task
    left = left_behind(sitting, task)
    theirs = sitting.project.store.lease_next("bob")
    sitting.project.store.submit(theirs.token, filled(2))

    opened = open_left(sitting, left)

    assert opened.task.lease is None
    assert opened.task.slice_id == task.slice_id
    assert (opened.task.drawing.mask == filled(1, 2)).all()


def test_strokes_of_a_slice_that_a_colleague_has_now_say_so(sitting):
    task = open_next(sitting)[0].task
    left = left_behind(sitting, task)
    sitting.project.store.lease_next("bob")

    with pytest.raises(UserError, match="bob is labelling") as refusal:
        open_left(sitting, left)
    assert_sentence(str(refusal.value))


def test_a_slice_nobody_asked_for_is_opened_with_its_accepted_mask(sitting):
    store = sitting.project.store
    volume = store.volumes()[2].volume_id
    made = store.add_mask(store.slice_id(volume, 3), filled(2, 1), "bob", started_from=None)

    opened = open_slice(sitting, volume, 3)

    assert opened.task.lease is None
    assert opened.task.drawing.base == made.revision_id
    assert (opened.task.drawing.mask == filled(2, 1)).all()


def test_a_proposal_is_opened_beside_the_others_of_its_volume_and_corrected(sitting):
    run = propose(sitting.project)
    listed = proposals(sitting.project, run)
    chosen = listed[3]

    opened = open_proposal(sitting, chosen, listed)

    assert opened.proposal == chosen
    assert (opened.task.drawing.mask == filled(1, chosen.position)).all()
    assert sorted(opened.masks) == [at for at in range(4) if at != chosen.position]
    assert all((mask == filled(1, at)).all() for at, mask in opened.masks.items())

    other = (chosen.position + 1) % 4
    opened.work.others = True
    opened.work.edited(other, filled(2))
    opened.work.edited(chosen.position, filled(1))
    made = opened.work.submit()

    parents = {one.position: one.revision_id for one in listed if one.volume == chosen.volume}
    assert [one.parent_id for one in made] == [parents[other], parents[chosen.position]]
    assert {one.source for one in made} == {"corrected"}
    now = {one.revision_id: one.state for one in proposals(sitting.project, run)}
    assert now[chosen.revision_id] == "labelled"


def test_the_doubt_of_pixels_is_shown_where_it_was_kept(sitting):
    run = propose(sitting.project)
    listed = proposals(sitting.project, run)
    opened = open_proposal(sitting, listed[0], listed)
    assert entropy_of(sitting, run, opened) is None

    kept = np.arange(4 * 99, dtype=np.uint8).reshape(4, *SHAPE)
    path = entropy_file(run_folder(sitting.project, run), opened.task.volume.content_hash)
    write_entropy(path, kept)

    np.testing.assert_array_equal(entropy_of(sitting, run, opened), kept)
    path.write_bytes(b"no archive")
    assert entropy_of(sitting, run, opened) is None


# A seat, a sitting


def test_an_annotator_sits_at_a_project_once_and_others_beside_them(project):
    with Seat(project, "ann"):
        with pytest.raises(UserError, match="ann has this project open") as refusal:
            Seat(project, "ann")
        assert_sentence(str(refusal.value))
        Seat(project, "bob").give_up()
    with Seat(project, "ann"):
        pass


def test_a_project_that_cannot_be_written_has_no_seats():
    with without_privileges() as folder:
        (folder / "p").mkdir()
        with make_project(folder / "p", classes=()) as project:
            (folder / "p").chmod(0o500)
            with pytest.raises(UserError, match="cannot be written") as refusal:
                Seat(project, "ann")
        assert_sentence(str(refusal.value))


def test_a_sitting_is_under_a_name_without_blanks_and_refuses_none(project):
    with pytest.raises(UserError, match="no name of an annotator") as refusal:
        Sitting(project.folder, "  ")
    assert_sentence(str(refusal.value))

    with Sitting(project.folder, " ann ") as sitting:
        assert sitting.annotator == "ann"
        with pytest.raises(UserError, match="in another window"):
            Sitting(project.folder, "ann")
        with Sitting(project.folder, "bob") as beside:
            assert beside.annotator == "bob"
    with Sitting(project.folder, "ann"):
        pass


def test_a_sitting_that_ends_has_every_stroke_on_the_disk(project):
    select(project, "1", selector="random")
    sitting = Sitting(project.folder, "ann")
    task = open_next(sitting)[0].task
    sitting.labelling.draw(task, filled(1, 2))

    assert sitting.close()

    assert project.store.slices_with_strokes("ann") == {task.slice_id: 1}


def test_a_folder_that_is_no_project_has_no_sitting(tmp_path):
    with pytest.raises(UserError, match="is no project"):
        Sitting(tmp_path, "ann")


# What a viewer shows


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_is_shown_sliced_along_its_own_axis(tmp_path, axis):
    spacing = [1.0, 1.5, 2.0]
    spacing[axis] = 6.0
    data = write_volume(tmp_path / "images" / "one.nii.gz", (8, 9, 30), spacing=tuple(spacing))
    with make_project(tmp_path / "p", tmp_path / "images") as project:
        (record,) = project.store.volumes()
        shown = displayed(record, project.cache.volume(record.volume_id))

    geometry = Geometry.from_json(record.geometry)
    assert (shown.axis, shown.order[0], sorted(shown.order)) == (axis, axis, [0, 1, 2])
    np.testing.assert_allclose(shown.scale, spacing)
    assert shown.shape == (8, 9, 30)
    np.testing.assert_array_equal(shown.channels[0], data)
    for position in (0, 3):
        seen = np.transpose(data, shown.order)[position]
        np.testing.assert_array_equal(seen, take_slice(data, axis, position))
        assert seen.shape == slice_shape(geometry, axis)
    np.testing.assert_array_equal(shown.metadata["affine"], geometry.affine)
    ((low, high),) = shown.limits
    assert low < high
    assert 2 <= shown.brush <= 3


def test_a_constant_volume_has_limits_that_a_viewer_takes(tmp_path):
    (tmp_path / "images").mkdir()
    write_nifti(tmp_path / "images" / "flat.nii.gz", np.full((5, 6, 3), 7, np.int16))
    with make_project(tmp_path / "p", tmp_path / "images") as project:
        (record,) = project.store.volumes()
        shown = displayed(record, project.cache.volume(record.volume_id))

    assert shown.limits == [(7.0, 8.0)]


@pytest.mark.parametrize(("dtype", "rgb"), [(np.uint8, True), (np.uint16, False)])
def test_three_channels_of_bytes_are_colour_and_all_others_are_layers(project, dtype, rgb):
    (record, *_) = project.store.volumes()
    data = np.arange(3 * 4 * 99).reshape(3, 4, 9, 11).astype(dtype)
    record = replaced(record, intensity_range=[[0.0, 9.0], [1.0, 1.0], [0.0, 5.0]])

    shown = displayed(record, Held(data))

    assert shown.rgb is rgb
    assert shown.shape == (4, 9, 11)
    if rgb:
        assert shown.limits is None
        np.testing.assert_array_equal(shown.channels[0], np.moveaxis(data, 0, -1))
    else:
        assert shown.limits == [(0.0, 9.0), (1.0, 2.0), (0.0, 5.0)]
        np.testing.assert_array_equal(np.stack(shown.channels), data)


class Held:
    """A volume whose voxels are there."""

    def __init__(self, data):
        self.data = data


def replaced(record, **changes):
    from dataclasses import replace

    return replace(record, **changes)


@given(
    axis=st.integers(0, 2),
    largest=st.sampled_from([2, 255, 256, 300]),
    positions=st.sets(st.integers(0, 3)),
    value=st.sampled_from([1, 255, 299]),
)
def test_masks_come_back_from_where_the_label_layer_has_them(axis, largest, positions, value):
    geometry = Geometry((4, 5, 6), (1.0, 1.0, 1.0), np.eye(4))
    shape = slice_shape(geometry, axis)
    masks = {at: np.full(shape, value, np.uint16) for at in positions}
    for at, mask in masks.items():
        mask[0, 0] = at

    shown = label_data(Of(axis, geometry.to_json()), masks, largest)

    for at in range(4):
        expected = masks.get(at, np.zeros(shape))
        np.testing.assert_array_equal(take_slice(shown, axis, at), expected)
    wide = largest > 255 or (bool(masks) and value > 255)
    assert shown.dtype == (np.uint16 if wide else np.uint8)


class Of:
    """What is known of a volume."""

    def __init__(self, axis, geometry):
        self.axis, self.geometry = axis, geometry


def test_every_value_of_a_mask_has_a_colour():
    shown = colours([ClassRecord(1, "liver", "#ff0000"), ClassRecord(300, "rare", "#00ff00")])

    assert (shown[1], shown[300]) == ("#ff0000", "#00ff00")
    assert shown[0].endswith("00"), "the background is not seen"
    assert {None, UNLABELLED} < set(shown)
    assert len({shown[one] for one in (0, 1, 300, None, UNLABELLED)}) == 5
