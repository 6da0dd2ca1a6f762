"""What is written lies where its source lies, as other programs see it."""

import gzip
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imagemaking import (
    assert_same_points,
    distinct,
    orientations,
    shared,
    write_nifti,
)
from PIL import Image

from napari_activeft.geometry import plain_geometry
from napari_activeft.nifti_bytes import GEOMETRY_FIELDS
from napari_activeft.volume import (
    check_voxels,
    open_volume,
    read_label_map,
    write_image,
    write_label_map,
    write_png,
)


def header_of(path):
    packed = path.suffix == ".gz"
    raw = (gzip.decompress(path.read_bytes()) if packed else path.read_bytes())[:540]
    if int.from_bytes(raw[:4], "little") == 540 or int.from_bytes(raw[:4], "big") == 540:
        return nib.Nifti2Header(raw, check=False)
    return nib.Nifti1Header(raw[:348], check=False)


def same_geometry_bytes(one, other):
    one, other = header_of(one), header_of(other)
    return all(one[f].tobytes() == other[f].tobytes() for f in GEOMETRY_FIELDS)


@pytest.mark.parametrize("orientation", range(48))
def test_a_label_map_has_the_geometry_of_its_image_to_the_byte(tmp_path, orientation):
    affine = orientations()[orientation]
    image = write_nifti(tmp_path / "image.nii.gz", distinct((4, 5, 3)), affine, codes=(2, 1))
    volume = open_volume(image)
    labels = np.arange(60, dtype=np.uint8).reshape(3, 5, 4) % 7

    write_label_map(tmp_path / "label.nii.gz", labels, volume.geometry)

    written = nib.load(tmp_path / "label.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), labels.T)
    np.testing.assert_array_equal(written.affine, nib.load(image).affine)
    assert written.shape == (4, 5, 3)
    assert written.get_data_dtype() == np.uint8
    assert same_geometry_bytes(image, tmp_path / "label.nii.gz")
    assert_same_points(tmp_path / "label.nii.gz", volume.affine)
    back = read_label_map(tmp_path / "label.nii.gz", volume.geometry)
    np.testing.assert_array_equal(back, labels)
    assert back.dtype == np.uint8


@pytest.mark.parametrize("orientation", range(0, 48, 5))
def test_without_a_source_header_sform_and_qform_both_tell_the_affine(tmp_path, orientation):
    like = plain_geometry((3, 5, 4))
    like = type(like)(like.shape, (2.5, 0.75, 0.5), orientations()[orientation])
    write_label_map(tmp_path / "label.nii", np.ones((3, 5, 4), np.uint16), like)

    header = nib.load(tmp_path / "label.nii").header
    for matrix, code in (header.get_sform(coded=True), header.get_qform(coded=True)):
        assert code == 1
        np.testing.assert_allclose(matrix, like.affine, atol=1e-5)
    assert header.get_xyzt_units()[0] == "mm"
    assert open_volume(tmp_path / "label.nii").geometry.difference(like) is None


@st.composite
def oblique_affines(draw):
    """Return a rotation about any axis, mirrored or not, with spacings and an origin."""
    angles = draw(st.tuples(*[st.floats(-3.1, 3.1)] * 3))
    matrix = nib.eulerangles.euler2mat(*angles)
    spacing = draw(st.tuples(*[st.floats(0.2, 8)] * 3))
    mirrored = draw(st.sampled_from([1.0, -1.0]))
    affine = np.eye(4)
    affine[:3, :3] = matrix * spacing * [mirrored, 1, 1]
    affine[:3, 3] = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return affine


@settings(max_examples=40, deadline=None)
@given(affine=oblique_affines(), has_header=st.booleans())
def test_an_oblique_label_map_lies_where_its_image_lies(affine, has_header):
    with tempfile.TemporaryDirectory() as folder:
        image, label = Path(folder, "image.nii"), Path(folder, "label.nii")
        write_nifti(image, distinct((4, 5, 3)), affine)
        like = open_volume(image).geometry
        if not has_header:
            like = type(like)(like.shape, like.spacing, like.affine)
        labels = (distinct((3, 5, 4)) % 300).astype(np.uint16)
        write_label_map(label, labels, like)

        np.testing.assert_allclose(nib.load(label).affine, nib.load(image).affine, atol=1e-4)
        assert_same_points(label, like.affine)
        np.testing.assert_array_equal(read_label_map(label, like), labels)
        assert not has_header or same_geometry_bytes(image, label)


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 1), (4, 2)])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("big_endian", [False, True])
def test_codes_version_and_byte_order_of_the_source_are_kept(tmp_path, codes, version, big_endian):
    image = write_nifti(
        tmp_path / "image.nii",
        distinct((4, 5, 3)),
        orientations()[9],
        codes=codes,
        version=version,
        big_endian=big_endian,
    )
    volume = open_volume(image)
    np.testing.assert_allclose(volume.affine, nib.load(image).affine)
    np.testing.assert_array_equal(volume.data, distinct((4, 5, 3)).T)
    assert volume.data.dtype.isnative

    label = tmp_path / "label.nii.gz"
    write_label_map(label, np.full((3, 5, 4), 400, np.uint16), volume.geometry)

    assert same_geometry_bytes(image, label)
    assert (np.asarray(nib.load(label).dataobj) == 400).all()


def test_a_sheared_affine_is_kept_in_the_sform_alone(tmp_path):
    affine = np.diag([0.5, 0.75, 2.5, 1.0])
    affine[1, 2] = 0.6
    like = type(plain_geometry((3, 5, 4)))((3, 5, 4), (2.5, 0.75, 0.5), affine)
    write_label_map(tmp_path / "label.nii.gz", np.zeros((3, 5, 4), np.uint8), like)

    written = nib.load(tmp_path / "label.nii.gz")
    np.testing.assert_allclose(written.affine, affine, atol=1e-6)
    assert int(written.header["qform_code"]) == 0
    assert int(written.header["sform_code"]) == 1


def test_a_label_map_carries_no_words_or_scaling_of_its_source(tmp_path):
    image = write_nifti(tmp_path / "image.nii", distinct((4, 5, 3)), slope=2.0, inter=-7.0)
    assert b"Doe^Jane" in image.read_bytes()
    label = tmp_path / "label.nii"
    write_label_map(label, np.ones((3, 5, 4), np.uint8), open_volume(image).geometry)
    assert b"Doe" not in label.read_bytes()
    assert nib.load(label).dataobj.slope == 1
    assert nib.load(label).dataobj.inter == 0


def test_the_same_label_map_is_the_same_bytes_and_leaves_nothing_else(tmp_path):
    like = plain_geometry((3, 5, 4))
    for name in ("a.nii.gz", "b.nii.gz"):
        write_label_map(tmp_path / name, np.ones((3, 5, 4), np.uint8), like)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz"]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "float64"])
def test_an_image_is_written_in_its_own_dtype(tmp_path, dtype):
    write_image(tmp_path / "a.nii.gz", distinct((3, 5, 4), dtype), plain_geometry((3, 5, 4)))
    written = nib.load(tmp_path / "a.nii.gz")
    assert written.get_data_dtype() == dtype
    np.testing.assert_array_equal(np.asarray(written.dataobj).T, distinct((3, 5, 4), dtype))


@pytest.mark.parametrize("orientation", range(48))
def test_a_flat_slice_file_of_a_volume_lies_in_the_volume(tmp_path, orientation):
    affine = orientations()[orientation]
    volume = open_volume(write_nifti(tmp_path / "a.nii", distinct((4, 5, 3)), affine))
    axis = orientation % 3
    position = volume.geometry.shape[axis] - 1
    one = volume.geometry.slice_geometry(axis, position)
    write_image(tmp_path / "slice.nii", volume.data.take([position], axis), one)

    cut = nib.load(tmp_path / "a.nii").slicer
    picked = [cut[3:], cut[:, 4:], cut[:, :, 2:]][2 - axis]
    np.testing.assert_allclose(nib.load(tmp_path / "slice.nii").affine, picked.affine, atol=1e-5)
    np.testing.assert_array_equal(
        np.asarray(nib.load(tmp_path / "slice.nii").dataobj), np.asarray(picked.dataobj)
    )


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_a_picture_is_written_as_png(tmp_path, shape):
    write_png(tmp_path / "a.png", distinct(shape, np.uint8))
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), distinct(shape, np.uint8))


@pytest.mark.parametrize("kind", ["ct", "mr"])
def test_a_totalsegmentator_image_and_its_label_map_come_and_go_unchanged(tmp_path, kind):
    folder = shared("totalseg_fixture")
    image = folder / f"example_{kind}_sm.nii.gz"
    label = folder / ("example_seg.nii.gz" if kind == "ct" else "example_seg_mr.nii.gz")
    volume = open_volume(image)
    check_voxels(volume)
    np.testing.assert_array_equal(volume.data, np.asarray(nib.load(image).dataobj).T)
    labels = read_label_map(label, volume.geometry)
    write_label_map(tmp_path / "out.nii.gz", labels, volume.geometry)
    np.testing.assert_array_equal(nib.load(tmp_path / "out.nii.gz").affine, volume.affine)
    np.testing.assert_array_equal(
        np.asarray(nib.load(tmp_path / "out.nii.gz").dataobj), np.asarray(nib.load(label).dataobj)
    )
    assert same_geometry_bytes(image, tmp_path / "out.nii.gz")
