"""Vectors on disk: what is there is whole, whatever happened to the process that wrote it."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_activeft.embedding import feature_file
from napari_activeft.embedding.feature_file import FeatureFile, read_about
from napari_activeft.errors import UserError

ABOUT = {"encoder": "test", "weight_hash": "0", "random_weights": False, "precision": "float32"}


def keys_of(count, start=0):
    return [f"{at:016x}:0:{at}" for at in range(start, start + count)]


def rows(count, start=0, size=3):
    return (np.arange(count * size).reshape(count, size) + 100 * start).astype(np.float32)


def written(folder, count=5, size=3):
    with FeatureFile.writing(folder, size, ABOUT) as file:
        file.append(keys_of(count), rows(count, size=size))
    return folder


def test_rows_come_back_in_the_order_asked_for_and_mapped_from_the_disk(tmp_path):
    file = FeatureFile.open(written(tmp_path / "a folder"))

    as_stored, other = file.rows_of(keys_of(5)[1:4]), file.rows_of(keys_of(5)[::-2])

    assert np.array_equal(as_stored, rows(5)[1:4])
    assert np.array_equal(other, rows(5)[::-2])
    assert isinstance(as_stored, np.memmap)
    assert isinstance(other, np.memmap)
    assert len(list(file.folder.glob("ordered-*"))) == 1


def test_a_pool_that_changed_its_order_gets_its_own_copy_and_the_old_one_goes(tmp_path):
    file = FeatureFile.open(written(tmp_path))

    first = np.array(file.rows_of(keys_of(5)[::-1]))
    second = file.rows_of([*keys_of(5)[2:], *keys_of(2)])

    assert np.array_equal(first, rows(5)[::-1])
    assert np.array_equal(second, np.concatenate([rows(5)[2:], rows(5)[:2]]))
    assert len(list(tmp_path.glob("ordered-*"))) == 1


def test_a_slice_without_a_row_is_a_key_error(tmp_path):
    with pytest.raises(KeyError):
        FeatureFile.open(written(tmp_path)).rows_of(["ffffffffffffffff:0:1"])


@settings(max_examples=60, deadline=None)
@given(
    done=st.integers(0, 4),
    more=st.integers(1, 4),
    lost_rows=st.integers(0, 60),
    lost_keys=st.integers(0, 100),
)
def test_what_a_dying_process_left_is_cut_to_whole_rows_and_goes_on(
    done, more, lost_rows, lost_keys
):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with FeatureFile.writing(folder, 3, ABOUT) as file:
            file.append(keys_of(done), rows(done))
            file.append(keys_of(more, done), rows(more, done))
        for path, lost in (("features.f32", lost_rows), ("keys.txt", lost_keys)):
            content = (folder / path).read_bytes()
            (folder / path).write_bytes(content[: max(len(content) - lost, 0)])

        with FeatureFile.writing(folder, 3, ABOUT) as file:
            held = len(file.keys)
            assert file.keys == keys_of(done + more)[:held]
            file.append(keys_of(2, 50), rows(2, 50))

        file = FeatureFile.open(folder)
        whole = np.concatenate([rows(done), rows(more, done)])[:held]
        assert np.array_equal(file.matrix(), np.concatenate([whole, rows(2, 50)]))
        assert file.keys == keys_of(done + more)[:held] + keys_of(2, 50)
        assert (folder / "features.f32").stat().st_size == file.matrix().nbytes


def test_a_write_that_failed_half_way_shifts_no_later_row(tmp_path, monkeypatch):
    whole = feature_file._write_through

    def short(file, content):
        whole(file, content[:7])
        raise OSError(28, "No space left on device")

    with FeatureFile.writing(tmp_path, 3, ABOUT) as file:
        file.append(keys_of(2), rows(2))
        monkeypatch.setattr(feature_file, "_write_through", short)
        with pytest.raises(OSError, match="space"):
            file.append(keys_of(1, 10), rows(1, 10))
        monkeypatch.setattr(feature_file, "_write_through", whole)
        file.append(keys_of(2, 20), rows(2, 20))

    found = FeatureFile.open(tmp_path)
    assert found.keys == keys_of(2) + keys_of(2, 20)
    assert np.array_equal(found.matrix(), np.concatenate([rows(2), rows(2, 20)]))


def test_a_full_disk_while_reordering_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    file = FeatureFile.open(written(tmp_path))

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", refuse)

    with pytest.raises(UserError, match="No space left"):
        file.rows_of(keys_of(5)[::-1])
    assert not list(tmp_path.glob("*ordered*"))


def test_two_processes_do_not_write_one_folder(tmp_path):
    script = (
        "import sys; from pathlib import Path\n"
        "from napari_activeft.embedding.feature_file import FeatureFile\n"
        "with FeatureFile.writing(Path(sys.argv[1]), 3, {}):\n"
        "    print('open', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "f")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(UserError, match="another process is embedding"):
            written(tmp_path / "f")
        other.kill()
        other.wait()

    assert FeatureFile.open(written(tmp_path / "f")).keys == keys_of(5)


def test_a_folder_that_does_not_say_what_made_it_is_begun_anew(tmp_path):
    written(tmp_path)
    (tmp_path / "embedding.json").unlink()

    with FeatureFile.writing(tmp_path, 4, ABOUT) as file:
        assert file.keys == []
        assert file.matrix().shape == (0, 4)


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"size": "3"}), "\0\0"])
def test_a_damaged_description_is_named_with_the_way_out(tmp_path, content):
    (tmp_path / "embedding.json").write_text(content)

    with pytest.raises(UserError, match="remove the folder"):
        read_about(tmp_path)


def test_rows_of_another_size_are_refused(tmp_path):
    with FeatureFile.writing(tmp_path, 3, ABOUT) as file, pytest.raises(ValueError, match="size 3"):
        file.append(keys_of(2), rows(2, size=4))


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "taken").write_text("a file")

    with pytest.raises(UserError, match="cannot be written"):
        written(tmp_path / "taken")
