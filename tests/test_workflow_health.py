"""Info counts what a project holds, doctor looks after it."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from projectmaking import (
    assert_sentence,
    select,
    take_next,
)

from napari_activeft import workflow
from napari_activeft.folder_walk import PROJECT_FILE
from napari_activeft.project import Project
from napari_activeft.settings import DoctorSettings


def test_info_counts_what_is_there(project, tmp_path):
    select(project, "6")
    take_next(project, tmp_path / "out")
    workflow.import_labels(project)

    info = workflow.info(project)

    assert info.contents["pool cases"] == 3
    assert info.contents["pool slices"] == 12
    assert info.contents["val slices"] == 0
    assert (info.queries["leased"], info.queries["submitted"], info.queries["open"]) == (1, 5, 0)
    assert info.accepted == 11
    assert info.rounds[0]["states"] == {"leased": 1, "submitted": 5}
    assert [person["author"] for person in info.annotators] == ["import"]
    assert info.program["napari-activeft"]


def test_a_healthy_project_has_no_fault(project):
    workflow.import_labels(project)
    seen = []
    result = workflow.doctor(project, on_progress=lambda done, total: seen.append((done, total)))
    assert (result.faults, result.masks, result.images, result.mended) == ([], 12, 3, 0)
    assert [done for done, _ in seen] == list(range(1, 16))
    assert {total for _, total in seen} == {12, 15}


def test_doctor_names_missing_changed_and_unreadable_images(project, images):
    (images / "patient1" / "p1_frame1.nii.gz").unlink()
    changed = images / "patient2" / "p2_frame1.nii.gz"
    bytes_ = bytearray(changed.read_bytes())
    bytes_[-1] ^= 1
    changed.write_bytes(bytes_)
    (images / "patient3" / "p3_frame1_gt.nii.gz").unlink()

    faults = {Path(f.subject).name: f.sentence for f in workflow.doctor(project).faults}

    assert "is missing" in faults["p1_frame1.nii.gz"]
    assert "changed since it was added" in faults["p2_frame1.nii.gz"]
    assert "label map" in faults["p3_frame1_gt.nii.gz"]
    assert len(faults) == 3
    for sentence in faults.values():
        assert_sentence(sentence)
    # The change keeps the size, which is all that a quick look compares.
    quick = workflow.doctor(project, DoctorSettings(quick=True)).faults
    assert {Path(f.subject).name for f in quick} == set(faults) - {"p2_frame1.nii.gz"}


def test_doctor_names_a_corrupted_mask(project):
    workflow.import_labels(project)
    with closing(sqlite3.connect(project.folder / PROJECT_FILE)) as raw, raw:
        (payload,) = raw.execute("SELECT payload FROM revisions WHERE id = 5").fetchone()
        broken = payload[:-1] + bytes([payload[-1] ^ 1])
        raw.execute("UPDATE revisions SET payload = ? WHERE id = 5", (broken,))

    (fault,) = workflow.doctor(project).faults

    assert fault.subject == "revision 5"
    assert_sentence(fault.sentence)


def test_doctor_copies_the_database_first_and_mends_the_queue(project, tmp_path):
    select(project, "2")
    with closing(sqlite3.connect(project.folder / PROJECT_FILE)) as raw, raw:
        raw.execute("UPDATE queries SET state = 'leased' WHERE id = 1")
    # An expired lease is no lease; a state without any lease is a fault.
    assert len(workflow.doctor(project).faults) == 1

    result = workflow.doctor(project, DoctorSettings(mend=True, backup=True))

    assert (result.mended, result.faults) == (1, [])
    assert result.backup.parent == project.folder / "backups"
    with closing(sqlite3.connect(result.backup)) as raw:
        assert raw.execute("SELECT state FROM queries WHERE id = 1").fetchone() == ("leased",)


def test_a_copied_database_is_a_project_again(project, tmp_path):
    workflow.import_labels(project)
    backup = workflow.doctor(project, DoctorSettings(backup=True)).backup
    (tmp_path / "restored").mkdir()
    shutil.copy(backup, tmp_path / "restored" / PROJECT_FILE)

    with Project.open(tmp_path / "restored") as restored:
        assert len(restored.store.accepted()) == 12
        assert workflow.doctor(restored).faults == []


def ruin_table(project, table):
    """Overwrite the first page of a table with noise."""
    with closing(sqlite3.connect(project.folder / PROJECT_FILE)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchone()
        size = raw.execute("PRAGMA page_size").fetchone()[0]
    with (project.folder / PROJECT_FILE).open("r+b") as file:
        file.seek((page[0] - 1) * size)
        file.write(b"\xa5" * size)


@pytest.mark.parametrize("table", ["volumes", "revisions", "queries"])
def test_a_ruined_page_is_a_fault_with_a_way_out_and_is_not_copied(project, table):
    workflow.import_labels(project)
    ruin_table(project, table)

    with Project.open(project.folder) as opened:
        result = workflow.doctor(opened, DoctorSettings(backup=True, mend=True))

    assert "database" in {fault.subject for fault in result.faults}
    assert all("backups/" in f.sentence for f in result.faults if f.subject == "database")
    assert (result.backup, result.mended) == (None, 0)
    assert not (project.folder / "backups").exists()
