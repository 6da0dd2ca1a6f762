"""Names tell which files are volumes, which are label maps, and what belongs together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from foldermaking import labels, names, problems, touch
from hypothesis import given
from hypothesis import strategies as st
from projectmaking import assert_sentence, without_privileges

from napari_activeft.errors import UserError
from napari_activeft.files import find_volumes
from napari_activeft.folder_walk import EXPORT_MARK, PROJECT_FILE


def test_every_image_file_below_the_folder_is_a_volume_by_its_path(tmp_path):
    touch(tmp_path, "b/x.nii.gz", "a.nrrd", "b/c/y.v2.png", "b/notes.txt", "b/table.csv")

    found = find_volumes(tmp_path)

    assert names(found) == ["a", "b/c/y.v2", "b/x"]
    assert found.other_files == 2
    assert found.problems == []
    assert found.volumes[2].source.paths == (tmp_path / "b/x.nii.gz",)


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("*_gt.nii.gz", {"p1/a": "p1/a_gt.nii.gz", "p2/b": "p2/b_gt.nii.gz"}),
        ("p1/*_gt.nii.gz", {"p1/a": "p1/a_gt.nii.gz", "p2/b": None, "p2/b_gt": None}),
        ("/p1/*_gt.nii.gz", {"p1/a": "p1/a_gt.nii.gz", "p2/b": None, "p2/b_gt": None}),
        ("p?/*_gt.nii.gz", {"p1/a": "p1/a_gt.nii.gz", "p2/b": "p2/b_gt.nii.gz"}),
        ("*_gt.*", {"p1/a": "p1/a_gt.nii.gz", "p2/b": "p2/b_gt.nii.gz"}),
        ("*_g[s-u].nii.gz", {"p1/a": "p1/a_gt.nii.gz", "p2/b": "p2/b_gt.nii.gz"}),
    ],
)
def test_a_label_glob_means_names_without_and_paths_with_a_slash(tmp_path, glob, expected):
    touch(tmp_path, "p1/a.nii.gz", "p1/a_gt.nii.gz", "p2/b.nii.gz", "p2/b_gt.nii.gz")

    assert labels(find_volumes(tmp_path, labels=glob)) == expected


def test_a_label_folder_may_lie_anywhere_below(tmp_path):
    touch(tmp_path, "set/imagesTr/h_1.nii.gz", "set/labelsTr/h_1.nii.gz")

    found = find_volumes(tmp_path, labels="labelsTr/*.nii.gz")

    assert labels(found) == {"set/imagesTr/h_1": "set/labelsTr/h_1.nii.gz"}


def test_a_label_map_may_have_another_suffix_than_its_image(tmp_path):
    touch(tmp_path, "a.png", "masks/a.tif", "b.mha", "masks/b.nii.gz")

    found = find_volumes(tmp_path, labels="masks/*")

    assert labels(found) == {"a": "masks/a.tif", "b": "masks/b.nii.gz"}


def test_a_label_map_prefers_the_image_beside_it(tmp_path):
    touch(tmp_path, "p1/mr.nii", "p1/mr_seg.nii", "p2/mr.nii", "p2/mr_seg.nii")

    found = find_volumes(tmp_path, labels="*_seg.nii")

    assert labels(found) == {"p1/mr": "p1/mr_seg.nii", "p2/mr": "p2/mr_seg.nii"}
    assert found.problems == []


def test_a_label_map_that_fits_several_images_is_listed(tmp_path):
    touch(tmp_path, "p1/mr.nii", "p2/mr.nii", "labels/mr.nii")

    found = find_volumes(tmp_path, labels="labels/*.nii")

    assert labels(found) == {"p1/mr": None, "p2/mr": None}
    assert "fits 2 images" in problems(found)["mr.nii"]


def test_a_second_label_map_of_one_image_is_listed(tmp_path):
    touch(tmp_path, "a.nii", "a_gt.nii", "a_gt.nii.gz")

    found = find_volumes(tmp_path, labels="*_gt.*")

    assert labels(found) == {"a": "a_gt.nii"}
    assert "has the label map a_gt.nii already" in problems(found)["a_gt.nii.gz"]


def test_a_label_map_without_an_image_is_listed(tmp_path):
    touch(tmp_path, "a.nii", "b_gt.nii")

    found = find_volumes(tmp_path, labels="*_gt.nii")

    assert names(found) == ["a"]
    assert "one named b is needed" in problems(found)["b_gt.nii"]


@pytest.mark.parametrize("glob", ["label.nii.gz", "*/label.nii.gz"])
def test_a_folders_only_label_map_belongs_to_its_only_image(tmp_path, glob):
    touch(tmp_path, "p1/image.nii.gz", "p1/label.nii.gz", "p2/image.nii.gz", "p2/label.nii.gz")

    found = find_volumes(tmp_path, labels=glob)

    assert labels(found) == {"p1/image": "p1/label.nii.gz", "p2/image": "p2/label.nii.gz"}
    assert found.problems == []


def test_a_label_map_beside_two_images_is_not_guessed_at(tmp_path):
    touch(tmp_path, "p/one.nii", "p/two.nii", "p/label.nii")

    found = find_volumes(tmp_path, labels="label.nii")

    assert labels(found) == {"p/one": None, "p/two": None}
    assert "the only one beside it is needed" in problems(found)["label.nii"]


def test_several_stars_stand_for_the_name_between_the_first_and_the_last(tmp_path):
    touch(tmp_path, "p1_frame01.nii", "p1_frame01_gt.nii", "p1_frame02.nii", "p1_frame02_gt.nii")

    found = find_volumes(tmp_path, labels="*_frame*_gt.nii")

    assert labels(found) == {"p1_frame01": "p1_frame01_gt.nii", "p1_frame02": "p1_frame02_gt.nii"}


@pytest.mark.parametrize("ask", [{"labels": "*_seg.nii"}, {"channels": ["*.nii", "*_t2.nii.gz"]}])
def test_a_glob_that_fits_no_file_stops_before_anything_is_taken_for_an_image(tmp_path, ask):
    touch(tmp_path, "a.nii", "a_gt.nii")

    with pytest.raises(UserError, match="fits '") as refusal:
        find_volumes(tmp_path, **ask)
    assert_sentence(str(refusal.value))


def test_what_the_program_wrote_is_not_taken_for_images(tmp_path):
    touch(tmp_path, "a.nii", "out/a.nii", f"out/{EXPORT_MARK}", "query-7.png", "query-0009.png")
    touch(tmp_path, *(f"desk/query-0001{end}" for end in (".png", ".nii", ".json", "-mask.png")))

    assert names(find_volumes(tmp_path)) == ["a", "query-0009", "query-7"]


def test_ignored_files_are_neither_volumes_nor_problems(tmp_path):
    touch(tmp_path, "a.nii", "a_scribble.nii", "old/b.nii", "old/deep/c.nii", "new/old.nii")

    found = find_volumes(tmp_path, ignore=["*_scribble.nii", "old/*"])

    assert names(found) == ["a", "new/old"]
    assert (found.problems, found.other_files) == ([], 0)


def test_ignore_wins_over_labels(tmp_path):
    touch(tmp_path, "a.nii", "a_gt.nii", "b_gt.nii")

    found = find_volumes(tmp_path, labels="*_gt.nii", ignore=["b*"])

    assert labels(found) == {"a": "a_gt.nii"}
    assert found.problems == []


def test_channels_are_joined_in_the_order_of_their_globs(tmp_path):
    touch(
        tmp_path, "p1/x_flair.nii", "p1/x_t1.nii", "p2/x_flair.nii", "p2/x_t1.nii", "p2/x_seg.nii"
    )

    found = find_volumes(tmp_path, channels=["*_t1.nii", "*_flair.nii"], labels="*_seg.nii")

    assert labels(found) == {"p1/x": None, "p2/x": "p2/x_seg.nii"}
    assert [path.name for path in found.volumes[0].source.paths] == ["x_t1.nii", "x_flair.nii"]


def test_channels_may_lie_in_folders(tmp_path):
    touch(tmp_path, "t1/x.nii", "t2/x.nii", "t1/y.nii", "t2/y.nii", "other/z.nii")

    found = find_volumes(tmp_path, channels=["t1/*.nii", "t2/*.nii"])

    assert names(found) == ["other/z", "x", "y"]
    assert [len(volume.source.paths) for volume in found.volumes] == [1, 2, 2]


def test_a_volume_whose_channel_is_missing_is_listed_and_stops_no_other(tmp_path):
    touch(tmp_path, "x_t1.nii", "x_t2.nii", "y_t1.nii", "z.nii")

    found = find_volumes(tmp_path, channels=["*_t1.nii", "*_t2.nii"])

    assert names(found) == ["x", "z"]
    assert "y_t2.nii is missing" in problems(found)["y_t1.nii"]


@pytest.mark.parametrize(
    "ask",
    [
        {"channels": ["t1.nii"]},
        {"channels": ["*_*.nii"]},
    ],
)
def test_a_glob_that_cannot_pair_files_is_refused(tmp_path, ask):
    with pytest.raises(UserError, match=r"\*") as refusal:
        find_volumes(tmp_path, **ask)
    assert_sentence(str(refusal.value))


def test_files_that_differ_in_their_suffix_only_keep_it(tmp_path):
    touch(tmp_path, "p/a.nii", "p/a.png", "p/b.nii", "a.nii")

    assert names(find_volumes(tmp_path)) == ["a", "p/a.nii", "p/a.png", "p/b"]


def test_a_label_map_of_files_that_differ_in_their_suffix_only_fits_both(tmp_path):
    touch(tmp_path, "a.nii", "a.mha", "a_gt.nii")

    assert "fits 2 images" in problems(find_volumes(tmp_path, labels="*_gt.nii"))["a_gt.nii"]


def test_spaces_dots_and_letters_of_any_script_are_names_like_others(tmp_path):
    touch(tmp_path, "Müller, Jörg/le 1er scan.v2.nii.gz", "Müller, Jörg/le 1er scan.v2_gt.nii.gz")
    touch(tmp_path, "患者 [1]/画像.png")

    found = find_volumes(tmp_path, labels="*_gt.nii.gz")

    label = "Müller, Jörg/le 1er scan.v2_gt.nii.gz"
    assert labels(found) == {"Müller, Jörg/le 1er scan.v2": label, "患者 [1]/画像": None}


def test_a_name_that_is_no_text_is_listed(tmp_path):
    touch(tmp_path, "good.nii")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.nii")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")

    found = find_volumes(tmp_path)

    assert names(found) == ["good"]
    (problem,) = found.problems
    assert "rename" in problem.sentence
    problem.path.encode("utf-8")  # can be printed and stored


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    touch(tmp_path, ".a.nii", "._b.nii", ".git/c.nii", "__MACOSX/d.nii", "e.nii", ".DS_Store")

    found = find_volumes(tmp_path)

    assert names(found) == ["e"]
    assert (found.problems, found.other_files) == ([], 0)


def test_a_project_inside_the_folder_is_skipped(tmp_path):
    touch(tmp_path, "a.nii", f"p/{PROJECT_FILE}", "p/mask.nii", "p/exports/nifti/b.nii", "q/c.nii")

    assert names(find_volumes(tmp_path)) == ["a", "q/c"]


def test_a_project_folder_is_no_folder_of_images(tmp_path):
    touch(tmp_path, PROJECT_FILE, "images/a.nii")

    found = find_volumes(tmp_path)

    assert names(found) == []
    assert "is a project" in problems(found)[tmp_path.name]
    assert names(find_volumes(tmp_path / "images")) == ["a"]


def test_links_in_a_circle_are_followed_once(tmp_path):
    touch(tmp_path, "a/x.nii", "b/y.nii")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "b/across").symlink_to(tmp_path / "a")
    (tmp_path / "self").symlink_to(tmp_path / "self")

    found = find_volumes(tmp_path)

    assert names(found) == ["a/x", "b/y"]
    assert set(problems(found)) == {"up", "across", "self"}


def test_linked_files_and_folders_are_read_under_the_name_of_the_link(tmp_path):
    touch(tmp_path / "far", "x.nii", "in/y.nii")
    (tmp_path / "here").mkdir()
    (tmp_path / "here/one.nii").symlink_to(tmp_path / "far/x.nii")
    (tmp_path / "here/folder").symlink_to(tmp_path / "far/in")

    found = find_volumes(tmp_path / "here")

    assert names(found) == ["folder/y", "one"]
    assert found.problems == []


def test_a_link_that_leads_nowhere_is_listed(tmp_path):
    touch(tmp_path, "a.nii")
    (tmp_path / "b.nii").symlink_to(tmp_path / "gone.nii")

    found = find_volumes(tmp_path)

    assert names(found) == ["a"]
    assert "leads nowhere" in problems(found)["b.nii"]


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o100])
def test_a_folder_that_cannot_be_read_is_listed_and_stops_no_other(mode):
    with without_privileges() as folder:
        touch(folder, "a/x.nii", "locked/in/y.nii", "locked/z.nii", "z/w.nii")
        (folder / "locked").chmod(mode)

        found = find_volumes(folder)

        assert names(found) == ["a/x", "z/w"]
        assert any("permission" in sentence for sentence in problems(found).values())


LETTERS = st.text(st.sampled_from("ab_-. é[]*?1"), min_size=1, max_size=6).filter(
    lambda text: text.strip(" .") == text and not text.startswith((".", "-"))
)


@given(stems=st.sets(LETTERS, min_size=1, max_size=4), subfolder=st.booleans())
def test_whatever_the_stem_image_and_label_map_find_each_other(tmp_path_factory, stems, subfolder):
    root = tmp_path_factory.mktemp("any")
    folder = "labels/" if subfolder else ""
    suffix = "" if subfolder else "_gt"
    # A stem that ends in what marks a label map is a label map by its name.
    stems = {stem for stem in stems if not stem.endswith("_gt")}
    for stem in stems:
        touch(root, f"{stem}.nii.gz", f"{folder}{stem}{suffix}.nii.gz")

    found = find_volumes(root, labels=f"{folder}*{suffix}.nii.gz")

    assert found.problems == []
    assert labels(found) == {stem: f"{folder}{stem}{suffix}.nii.gz" for stem in stems}


def test_the_order_of_volumes_does_not_depend_on_the_disk(tmp_path, monkeypatch, rng):
    touch(tmp_path, *(f"{letter}/{number}.nii" for letter in "cab" for number in range(4)))
    walk = os.walk

    def shuffled(*arguments, **keywords):
        for folder, subfolders, files in walk(*arguments, **keywords):
            rng.shuffle(files)
            rng.shuffle(subfolders)
            yield folder, subfolders, files

    expected = names(find_volumes(tmp_path))
    monkeypatch.setattr(os, "walk", shuffled)

    assert names(find_volumes(tmp_path)) == expected == sorted(expected)
