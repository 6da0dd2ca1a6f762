"""Adding: every volume once, whatever happens in between; selecting: every slice once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from imagemaking import distinct, write_dicom
from PIL import Image
from projectmaking import (
    add,
    assert_sentence,
    make_project,
    select,
    sentences,
    states,
    take_next,
    write_folder,
    write_volume,
)

from napari_activeft import workflow
from napari_activeft.errors import Cancelled, UserError
from napari_activeft.pool import take_slice
from napari_activeft.project import Project
from napari_activeft.results import to_json
from napari_activeft.selection import SELECTORS
from napari_activeft.settings import AddSettings, EmbedSettings, ImportSettings

LABELS = {"labels": "*_gt.nii.gz"}


def snapshot(project: Project) -> list:
    """Return all that is stored about volumes."""
    return project.store.volumes()


# Adding


def test_a_folder_becomes_cases_volumes_and_slices(tmp_path, images):
    with make_project(tmp_path / "p") as project:
        result = add(project, images, **LABELS)

        assert (result.added, result.slices, result.cases) == (3, 12, {"pool": 3})
        assert (result.label_maps, result.other_files, result.problems) == (3, 0, [])
        assert result.case_rule == "one case per folder"
        record = snapshot(project)[0]
        assert record.name == "patient1/p1_frame1"
        assert record.files == ["patient1/p1_frame1.nii.gz"]
        assert record.label_file == "patient1/p1_frame1_gt.nii.gz"
        assert (record.axis, record.slice_count) == (0, 4)
        assert (record.slice_height, record.slice_width) == (9, 11)
        rows = project.store.pool_slices()
        assert len(rows) == 12
        assert [row.position for row in rows] == [0, 1, 2, 3] * 3


def test_adding_again_changes_nothing(project, images):
    before = snapshot(project)

    result = add(project, images, **LABELS)

    assert (result.added, result.known, result.moved, result.slices) == (0, 3, 0, 0)
    assert (result.cases, result.problems) == ({}, [])
    assert snapshot(project) == before


@pytest.mark.parametrize("labels", ["*_gt.nii.gz", None])
def test_adding_a_part_of_a_folder_again_changes_nothing(project, images, labels):
    before = snapshot(project)

    result = add(project, images / "patient1", labels=labels, ignore=("*_gt*",) * (labels is None))

    assert (result.added, result.known, result.problems) == (0, 1, [])
    assert [v.content_hash for v in snapshot(project)] == [v.content_hash for v in before]
    assert workflow.import_labels(project).stored == 12


def test_adding_through_a_link_changes_nothing(tmp_path, project, images):
    (tmp_path / "link").symlink_to(images)

    result = add(project, tmp_path / "link", **LABELS)

    assert (result.known, result.problems) == (3, [])
    assert workflow.import_labels(project).problems == []


def test_new_files_are_taken_beside_known_ones(project, images):
    write_volume(images / "patient1" / "p1_frame2.nii.gz", seed=99)
    write_volume(images / "patient9" / "p9_frame1.nii.gz", seed=98)

    result = add(project, images, **LABELS)

    assert (result.added, result.known, result.cases) == (2, 3, {"pool": 1})
    assert {v.case for v in snapshot(project)} == {f"patient{n}" for n in (1, 2, 3, 9)}


def test_label_maps_may_come_later(tmp_path, images):
    with make_project(tmp_path / "p", images, ignore=("*_gt*",)) as project:
        with pytest.raises(UserError, match="add their folder again with --labels"):
            workflow.import_labels(project)

        result = add(project, images, **LABELS)

        assert (result.known, result.label_maps) == (3, 3)
        assert workflow.import_labels(project).stored == 12


def test_label_maps_may_come_later_from_a_part_of_the_folder(tmp_path, images):
    with make_project(tmp_path / "p", images, ignore=("*_gt*",)) as project:
        add(project, images / "patient2", **LABELS)

        result = workflow.import_labels(project)

        assert (result.stored, result.without_label_map, result.problems) == (4, 2, [])


def test_images_that_moved_are_found_again_with_their_masks(tmp_path, project, images):
    workflow.import_labels(project)
    shutil.move(images / "patient1", tmp_path / "archive" / "Müller")

    result = add(project, tmp_path / "archive", **LABELS)

    assert (result.moved, result.added, result.known) == (1, 0, 0)
    moved = next(v for v in snapshot(project) if v.case == "patient1")
    assert project.source(moved).paths[0].is_file()
    assert project.label_path(moved).is_file()
    assert len(project.store.accepted()) == 12
    assert workflow.doctor(project).faults == []


def test_of_two_copies_of_an_image_that_moved_one_is_a_duplicate(tmp_path, project, images):
    for name in ("one", "two"):
        shutil.copytree(images / "patient1", tmp_path / "new" / name)
    shutil.rmtree(images / "patient1")

    result = add(project, tmp_path / "new", ignore=("*_gt*",))

    assert result.moved == 1
    assert "same bytes" in sentences(result)["p1_frame1.nii.gz"]


@pytest.mark.parametrize("relative", [False, True])
def test_an_image_that_changed_is_refused_and_stops_no_other(
    project, images, relative, monkeypatch
):
    before = snapshot(project)
    write_volume(images / "patient1" / "p1_frame1.nii.gz", seed=1234)
    write_volume(images / "patient1" / "p1_frame2.nii.gz", seed=99)
    monkeypatch.chdir(images.parent)

    result = add(project, Path(images.name) if relative else images, **LABELS)

    assert (result.added, result.known) == (1, 2)
    assert list(sentences(result)) == ["p1_frame1.nii.gz"]
    assert "changed since it was added" in sentences(result)["p1_frame1.nii.gz"]
    assert [v for v in snapshot(project) if v.name != "patient1/p1_frame2"] == before


def test_an_image_that_was_converted_in_place_is_another_volume(project, images):
    path = images / "patient1" / "p1_frame1.nii.gz"
    import gzip

    (images / "patient1" / "p1_frame1.nii").write_bytes(gzip.decompress(path.read_bytes()))

    result = add(project, images, **LABELS)

    assert (result.added, result.known) == (1, 3)


def test_files_with_the_same_bytes_are_listed_and_one_is_kept(tmp_path):
    images = write_folder(tmp_path / "images", labels=False)
    shutil.copy(images / "patient1" / "p1_frame1.nii.gz", images / "patient3" / "copy.nii.gz")
    with make_project(tmp_path / "p") as project:
        result = add(project, images)

        assert result.added == 3
        assert "same bytes as patient1/p1_frame1" in sentences(result)["copy.nii.gz"]
        again = add(project, images)
        assert (again.known, list(sentences(again))) == (3, ["copy.nii.gz"])


def test_folders_with_the_same_names_are_told_apart(tmp_path):
    for number, site in enumerate(("a", "b")):
        write_volume(tmp_path / site / "scan.nii.gz", seed=number)
    with make_project(tmp_path / "p", tmp_path / "a") as project:
        result = add(project, tmp_path / "b")

        assert (result.added, result.problems) == (1, [])
        assert [v.name for v in snapshot(project)] == ["b/scan", "scan"]


def test_a_single_file_can_be_added(tmp_path, images):
    with make_project(tmp_path / "p") as project:
        result = add(project, images / "patient1" / "p1_frame1.nii.gz")
        assert (result.added, result.case_rule) == (1, "one case per volume")
        assert add(project, images, **LABELS, case="folder").added == 2


def test_channels_are_one_volume_with_a_range_each(tmp_path):
    for patient in (1, 2):
        for number, name in enumerate(("t1", "t2")):
            path = tmp_path / "images" / f"p{patient}" / f"x_{name}.nii.gz"
            write_volume(path, seed=10 * patient + number)
    with make_project(tmp_path / "p") as project:
        result = add(project, tmp_path / "images", channels=("*_t1.nii.gz", "*_t2.nii.gz"))

        assert (result.added, result.problems) == (2, [])
        record = snapshot(project)[0]
        assert (record.channels, len(record.intensity_range), record.slice_count) == (2, 2, 4)
        assert record.files == ["p1/x_t1.nii.gz", "p1/x_t2.nii.gz"]


def test_pictures_are_volumes_of_one_slice_or_a_stack(tmp_path, rng):
    for number in range(3):
        folder = tmp_path / "images" / "s"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, size=(8, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    with make_project(tmp_path / "p1", tmp_path / "images") as project:
        assert [v.slice_count for v in snapshot(project)] == [1, 1, 1]
        assert {v.channels for v in snapshot(project)} == {3}
    with make_project(tmp_path / "p2", tmp_path / "images", stack=True) as project:
        assert [(v.name, v.slice_count) for v in snapshot(project)] == [("s", 3)]


def test_a_dicom_folder_is_one_volume(tmp_path):
    write_dicom(tmp_path / "images" / "ct", distinct((3, 8, 9)))
    with make_project(tmp_path / "p", tmp_path / "images") as project:
        (record,) = snapshot(project)
        assert (record.name, record.slice_count, record.files) == ("ct", 3, ["ct"])
        assert record.series == "1.2.3.4"
        assert workflow.doctor(project).faults == []
        assert add(project, tmp_path / "images").known == 1


class StopAt:
    """Raises `Cancelled` when this many volumes are done."""

    def __init__(self, done: int) -> None:
        self.done, self.seen = done, []

    def __call__(self, done: int, total: int) -> None:
        self.seen.append((done, total))
        if done == self.done:
            raise Cancelled


@pytest.mark.parametrize("done", [1, 2, 3])
def test_whoever_cancels_keeps_what_was_finished_and_goes_on_from_there(tmp_path, images, done):
    stop = StopAt(done)
    with make_project(tmp_path / "p") as project, make_project(tmp_path / "q", images) as whole:
        with pytest.raises(Cancelled):
            workflow.add(project, images, AddSettings(ignore=("*_gt*",)), stop)
        assert stop.seen == [(n, 3) for n in range(1, done + 1)]
        assert len(snapshot(project)) == done
        assert workflow.doctor(project).faults == []

        result = add(project, images, ignore=("*_gt*",))

        assert (result.added, result.known) == (3 - done, done)
        keys = {row.key for row in project.store.pool_slices()}
        assert keys <= {row.key for row in whole.store.pool_slices()}


def test_progress_counts_every_volume_also_known_and_bad_ones(project, images):
    (images / "bad.nii.gz").write_bytes(b"no gzip")
    stop = StopAt(-1)

    workflow.add(project, images, AddSettings(**LABELS), stop)

    assert stop.seen == [(n, 4) for n in (1, 2, 3, 4)]


def test_a_bad_table_stops_before_anything_is_added(tmp_path, images):
    (tmp_path / "s.csv").write_text("case,split\npatient1,train\n")
    with make_project(tmp_path / "p") as project:
        with pytest.raises(UserError):
            add(project, images, split=tmp_path / "s.csv")
        assert snapshot(project) == []


# Selecting


def embedded(project: Project) -> Project:
    """Give every slice a vector."""
    workflow.embed(project, EmbedSettings(encoder="hog", size=64))
    return project


WITHOUT_SCORES = [name for name, entry in SELECTORS.items() if not entry.needs_scores]


@pytest.mark.parametrize("selector", WITHOUT_SCORES)
def test_rounds_never_ask_for_a_slice_again(project, selector):
    embedded(project)
    for number, budget in enumerate(("3", "0.25", "6"), start=1):
        result = select(project, budget, selector=selector, seed=2)
        assert (result.round, result.pool_slices) == (number, 12)
        assert result.free_slices == 12 - {1: 0, 2: 3, 3: 6}[number]

    asked = [query.slice_id for query in project.store.queries()]
    assert len(asked) == len(set(asked)) == 12
    with pytest.raises(UserError, match="only 0 slices"):
        select(project, "1")


def test_a_round_is_stored_with_all_that_it_takes_to_repeat_it(project):
    result = select(project, "25%", selector="random", seed=7)

    (stored,) = project.store.rounds()
    assert (stored.selector, stored.budget, stored.seed) == ("random", 3, 7)
    assert stored.settings["budget"] == {"share": 0.25, "count": None}
    assert stored.report["free"] == 12
    assert (result.selected, result.volumes <= 3, result.cases <= 3) == (3, True, True)


def test_the_same_images_in_another_project_give_the_same_picks(tmp_path, images):
    picks = []
    for name in ("a", "b"):
        folder = tmp_path / name
        shutil.copytree(images, folder / "data")
        if name == "b":  # another order of adding, another place
            shutil.move(folder / "data" / "patient1", folder / "first" / "patient1")
        with make_project(folder / "p") as project:
            for part in sorted(folder.glob("[df]*"), reverse=True):
                add(project, part, case=r"(patient\d)", **LABELS)
            select(project, "5", seed=3)
            key_of = {row.slice_id: row.key for row in project.store.pool_slices()}
            picks.append([key_of[query.slice_id] for query in project.store.queries()])
    assert picks[0] == picks[1]


@pytest.mark.parametrize("selector", WITHOUT_SCORES)
def test_held_out_cases_are_never_asked(tmp_path, images, selector):
    table = tmp_path / "s.csv"
    table.write_text("case,split\npatient1,val\npatient2,pool\npatient3,test\n")
    with make_project(tmp_path / "p", images, split=table, **LABELS) as project:
        embedded(project)
        result = select(project, "1.0", selector=selector)

        assert (result.pool_slices, result.selected, result.cases) == (4, 4, 1)
        asked = {query.volume_id for query in project.store.queries()}
        assert {project.store.volume(v).case for v in asked} == {"patient2"}
        with pytest.raises(UserError, match="only 0 slices"):
            select(project, "1", selector=selector)


def test_imported_slices_are_not_asked_but_free_ones_are(project):
    select(project, "2")
    workflow.import_labels(project, ImportSettings(only_queried=True))
    result = select(project, "10")
    assert (result.free_slices, result.selected) == (10, 10)
    assert states(project) == ["submitted"] * 2 + ["open"] * 10


def test_a_mask_without_a_query_counts_as_asked(project):
    workflow.import_labels(project)
    with pytest.raises(UserError, match="only 0 slices"):
        select(project, "1")


def test_an_empty_pool_is_told(tmp_path):
    with (
        make_project(tmp_path / "p") as project,
        pytest.raises(UserError, match="add volumes") as refusal,
    ):
        select(project, "1")
    assert_sentence(str(refusal.value))


def test_a_share_that_rounds_to_nothing_queues_nothing(project):
    with pytest.raises(UserError, match="rounds to no slice"):
        select(project, "0.01")
    assert project.store.rounds() == []


def test_slices_are_what_their_positions_say(project, tmp_path):
    select(project, "1.0")
    for query in project.store.queries():
        record = project.store.volume(query.volume_id)
        volume = project.cache.volume(query.volume_id)
        assert take_slice(volume.data, record.axis, query.position).shape == (9, 11)


def test_every_result_is_json(project, tmp_path):
    results = [
        add(project, tmp_path / "images", **LABELS),
        workflow.classes(project),
        select(project, "2"),
        take_next(project, tmp_path / "out"),
        workflow.import_labels(project),
        workflow.export(project),
        workflow.info(project),
        workflow.info(None),
        workflow.doctor(project),
    ]
    for result in results:
        assert set(json.loads(to_json(result))) == set(vars(result))


def test_the_largest_case_is_named_so_that_a_wrong_rule_shows(project, images):
    with make_project(project.folder.parent / "second") as second:
        result = add(second, images, labels="*_gt.nii.gz", case="(p)")

    assert (result.largest_case, result.largest_case_volumes) == ("p", 3)


def test_the_label_map_of_a_duplicate_is_listed_with_it(project, tmp_path, images):
    copy = tmp_path / "copies"
    copy.mkdir()
    one = next(images.rglob("p1_frame1.nii.gz"))
    (copy / "b.nii.gz").write_bytes(one.read_bytes())
    (copy / "b_gt.nii.gz").write_bytes(one.with_name("p1_frame1_gt.nii.gz").read_bytes())

    result = add(project, copy, labels="*_gt.nii.gz")

    assert {Path(problem.path).name for problem in result.problems} == {"b.nii.gz", "b_gt.nii.gz"}
