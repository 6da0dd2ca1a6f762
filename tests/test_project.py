"""A project is a folder, and knows where its images are, also after they moved together."""

from __future__ import annotations

import getpass
import hashlib
import os
import shutil
from pathlib import Path

import pytest
from projectmaking import add, assert_sentence, make_project, write_folder, write_volume

from napari_activeft import workflow
from napari_activeft.errors import UserError
from napari_activeft.folder_walk import PROJECT_FILE
from napari_activeft.project import (
    ENVIRONMENT_VARIABLE,
    NoProjectError,
    Project,
    content_hash,
    find_project,
    login_name,
)


def test_a_new_project_is_a_folder_with_one_database(tmp_path):
    result = workflow.init(tmp_path / "deep" / "my project")

    assert (result.folder, result.name) == (tmp_path / "deep" / "my project", "my project")
    assert [path.name for path in result.folder.iterdir()] == [PROJECT_FILE]


def test_a_project_is_made_once(tmp_path):
    workflow.init(tmp_path / "p")
    before = (tmp_path / "p" / PROJECT_FILE).read_bytes()

    with pytest.raises(UserError, match="is a project already") as refusal:
        workflow.init(tmp_path / "p")

    assert_sentence(str(refusal.value))
    assert (tmp_path / "p" / PROJECT_FILE).read_bytes() == before


def test_a_project_cannot_be_made_where_a_file_is(tmp_path):
    (tmp_path / "p").write_text("notes")
    with pytest.raises(UserError, match="cannot be made") as refusal:
        workflow.init(tmp_path / "p")
    assert_sentence(str(refusal.value))


def test_a_folder_that_is_no_project_is_refused(tmp_path):
    with pytest.raises(UserError, match="is no project") as refusal:
        Project.open(tmp_path)
    assert_sentence(str(refusal.value))


def test_the_plane_is_decided_when_the_project_is_made(tmp_path):
    images = write_folder(tmp_path / "images", labels=False)
    with make_project(tmp_path / "p", images, plane="x") as project:
        assert {volume.axis for volume in project.store.volumes()} == {2}
    with Project.open(tmp_path / "p") as project:
        assert project.plane == "x"


# Which project


def test_a_named_project_wins_over_all(tmp_path, monkeypatch):
    workflow.init(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "env"))
    assert find_project(tmp_path / "named") == tmp_path / "named"


def test_the_environment_wins_over_the_working_folder(tmp_path, monkeypatch):
    workflow.init(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "env"))
    assert find_project(None) == tmp_path / "env"
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "")
    assert find_project(None) == tmp_path / "here"


def test_the_nearest_parent_that_is_a_project_is_found(tmp_path, monkeypatch):
    workflow.init(tmp_path / "outer")
    workflow.init(tmp_path / "outer" / "a" / "inner")
    deep = tmp_path / "outer" / "a" / "inner" / "b" / "c"
    deep.mkdir(parents=True)

    assert find_project(None, deep) == tmp_path / "outer" / "a" / "inner"
    assert find_project(None, tmp_path / "outer" / "a") == tmp_path / "outer"
    monkeypatch.chdir(tmp_path / "outer")
    assert find_project(None) == tmp_path / "outer"


def test_no_project_is_told_with_what_to_do(tmp_path):
    with pytest.raises(NoProjectError, match="lies in no project") as refusal:
        find_project(None, tmp_path)
    assert_sentence(str(refusal.value))


# Where the images are


def readable(project: Project) -> bool:
    return all(project.open_volume(volume).data.size for volume in project.store.volumes())


def test_a_project_that_moved_with_its_images_still_works(tmp_path):
    images = write_folder(tmp_path / "study" / "images")
    make_project(tmp_path / "study" / "work" / "p", images, labels="*_gt.nii.gz").close()

    (tmp_path / "study").rename(tmp_path / "elsewhere")

    with Project.open(tmp_path / "elsewhere" / "work" / "p") as project:
        assert readable(project)
        assert workflow.import_labels(project).stored == 12
        assert workflow.doctor(project).faults == []
        assert workflow.export(project).volumes == 3
        again = add(project, tmp_path / "elsewhere" / "images", labels="*_gt.nii.gz")
        assert (again.known, again.added, again.moved, again.problems) == (3, 0, 0, [])


def test_a_project_that_moved_alone_finds_its_images_where_they_were(tmp_path, images):
    make_project(tmp_path / "p", images).close()
    (tmp_path / "far").mkdir()
    (tmp_path / "p").rename(tmp_path / "far" / "p")

    with Project.open(tmp_path / "far" / "p") as project:
        assert readable(project)


def test_images_that_moved_alone_are_missing_until_they_are_added_again(tmp_path, project, images):
    images.rename(tmp_path / "moved")

    faults = workflow.doctor(project).faults
    assert len(faults) == 6
    assert all("is missing" in fault.sentence for fault in faults)
    result = add(project, tmp_path / "moved", labels="*_gt.nii.gz")
    assert (result.moved, result.added, result.known) == (3, 0, 0)
    assert workflow.doctor(project).faults == []


def test_an_image_of_another_geometry_is_not_opened(tmp_path, project, images):
    write_volume(images / "patient1" / "p1_frame1.nii.gz", shape=(4, 9, 12))
    volume = next(v for v in project.store.volumes() if v.case == "patient1")

    with pytest.raises(UserError, match="changed since it was added") as refusal:
        project.open_volume(volume)
    assert_sentence(str(refusal.value))


def test_a_relative_folder_of_images_is_found_from_anywhere(tmp_path, images, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with make_project(Path("p"), Path("images"), labels="*_gt.nii.gz") as project:
        monkeypatch.chdir(images)
        assert project.folder == tmp_path / "p"
        assert readable(project)
        assert workflow.import_labels(project).stored == 12


# Small parts


def test_the_hash_is_of_the_bytes_and_their_order(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two")
    a, b = tmp_path / "a", tmp_path / "b"

    assert content_hash([a]) == (hashlib.sha256(b"one").hexdigest(), 3)
    assert content_hash([a, b])[1] == 6
    assert content_hash([a, b])[0] != content_hash([b, a])[0]
    shutil.copy(a, tmp_path / "c")
    assert content_hash([tmp_path / "c", b]) == content_hash([a, b])


def test_a_login_without_a_name_is_unknown(monkeypatch):
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert login_name() == "unknown"


def test_a_root_on_another_drive_has_no_path_from_the_project(tmp_path, project, monkeypatch):
    def other_drive(*_: object) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", other_drive)
    root_id = project.add_root(tmp_path / "far")
    assert project.store.roots()[root_id].from_project is None
    assert project.root_folder(project.store.roots()[root_id]) == tmp_path / "far"
