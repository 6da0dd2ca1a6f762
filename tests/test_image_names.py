"""Which files are images, what belongs to them and how names sort."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imagemaking import distinct, write_itk

from napari_activeft.image_names import is_image_name, natural_key, stem_of, suffix_of
from napari_activeft.volume import (
    open_volume,
)


@pytest.mark.parametrize(
    ("name", "stem", "suffix"),
    [
        ("a.nii.gz", "a", ".nii.gz"),
        ("a.v1.2.NII.GZ", "a.v1.2", ".nii.gz"),
        ("scan.seg.nrrd", "scan.seg", ".nrrd"),
        ("é b.TIFF", "é b", ".tiff"),
        ("a.txt", "a.txt", ""),
        ("a.gz", "a.gz", ""),
        ("1.2.840.7", "1.2.840.7", ""),
    ],
)
def test_a_stem_is_the_name_without_its_known_suffix(name, stem, suffix):
    assert (stem_of(Path(name)), suffix_of(Path(name))) == (stem, suffix)
    assert is_image_name(Path(name)) == bool(suffix)


def test_hidden_files_are_no_images():
    assert not is_image_name(Path("._a.nii.gz"))


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_names_sort_as_people_count(numbers):
    names = [Path(f"Img{n}.png") for n in numbers]
    assert sorted(names, key=natural_key) == [Path(f"Img{n}.png") for n in sorted(numbers)]


@given(st.lists(st.text(st.characters(exclude_characters="/\0"), min_size=1), max_size=5))
def test_any_names_can_be_sorted(names):
    sorted((Path(name) for name in names), key=natural_key)


def test_a_detached_header_names_all_its_data_files(tmp_path):
    write_itk(tmp_path / "a.mhd", distinct((3, 5, 4)))
    raw = (tmp_path / "a.raw").read_bytes()
    (tmp_path / "a.raw").unlink()
    for k in range(3):
        (tmp_path / f"p{k}.raw").write_bytes(raw[k * 40 : (k + 1) * 40])
    text = (tmp_path / "a.mhd").read_text()
    listed = text.replace("= a.raw", "= LIST\np0.raw\np1.raw\np2.raw")
    (tmp_path / "a.mhd").write_text(listed)
    volume = open_volume(tmp_path / "a.mhd")
    assert [p.name for p in volume.source.files] == ["a.mhd", "p0.raw", "p1.raw", "p2.raw"]
    np.testing.assert_array_equal(volume.data, distinct((3, 5, 4)))
    (tmp_path / "a.mhd").write_text(text.replace("= a.raw", "= p%d.raw 0 2 1"))
    assert [p.name for p in volume.source.files] == ["a.mhd", "p0.raw", "p1.raw", "p2.raw"]
