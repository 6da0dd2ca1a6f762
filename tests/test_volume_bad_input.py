"""Whatever is wrong with a volume, the user reads one sentence that names it and what to do."""

import gzip
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imagemaking import (
    distinct,
    patch_header,
    refusal,
    refused,
    refused_at_once,
    write_dicom,
    write_itk,
    write_nifti,
)
from PIL import Image

from napari_activeft.volume import (
    Source,
    VolumeError,
    check_voxels,
    dicom_series,
    open_volume,
)


@pytest.fixture
def nifti(tmp_path):
    return write_nifti(tmp_path / "a b é.nii", distinct((4, 5, 3)))


@pytest.mark.parametrize("left", [1, 200, 347, 352, 400, -1])
def test_a_truncated_nii_is_refused(nifti, left):
    nifti.write_bytes(nifti.read_bytes()[:left])
    assert "cut off" in refused(nifti) or "begin with a NIfTI header" in refused(nifti)


@pytest.mark.parametrize("part", [0.02, 0.3, 0.9])
def test_a_truncated_nii_gz_is_refused(tmp_path, part):
    noise = np.random.default_rng(0).integers(0, 1000, (20, 21, 22)).astype(np.int16)
    path = write_nifti(tmp_path / "a.nii.gz", noise)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * part)])
    assert "cut off or damaged" in refused(path)


@pytest.mark.parametrize("damage", ["flipped voxel", "checksum"])
def test_damage_inside_a_nii_gz_is_found_by_its_checksum(tmp_path, damage):
    # Large enough that the end of the file is not reached by reading ahead.
    path = write_nifti(tmp_path / "a.nii", distinct((100, 100, 50)))
    packed = bytearray(gzip.compress(path.read_bytes(), 0))
    packed[-6 if damage == "checksum" else 1000] ^= 0xFF
    path = tmp_path / "a.nii.gz"
    path.write_bytes(packed)
    assert "damaged" in refused(path)


def test_gzip_and_the_name_must_agree(tmp_path, nifti):
    plain = tmp_path / "plain.nii.gz"
    plain.write_bytes(nifti.read_bytes())
    assert "not gzip" in refused_at_once(plain)
    packed = tmp_path / "packed.nii"
    packed.write_bytes(gzip.compress(nifti.read_bytes()))
    assert "does not end in .gz" in refused_at_once(packed)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_and_infinite_voxels_are_counted(tmp_path, dtype):
    values = distinct((4, 5, 3), dtype)
    values[0, 0, 0], values[1, 2, 1], values[3, 4, 2] = np.nan, np.inf, -np.inf
    path = write_nifti(tmp_path / "a.nii.gz", values)
    assert open_volume(path).geometry.shape == (3, 5, 4)
    assert "3 of its 60 voxels are NaN, infinite or beyond float32" in refused(path)


def test_a_float64_beyond_float32_is_infinite(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", np.full((4, 5, 3), 1e300))
    assert "60 of its 60 voxels" in refused(path)


def test_complex_and_colour_voxels_are_refused(tmp_path):
    path = write_nifti(tmp_path / "complex.nii", np.ones((4, 5, 3), np.complex64))
    assert "complex numbers" in refused_at_once(path)
    colour = np.zeros((4, 5, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.Nifti1Image(colour, np.eye(4)).to_filename(tmp_path / "rgb.nii.gz")
    assert "colours" in refused_at_once(tmp_path / "rgb.nii.gz")
    path = patch_header(write_nifti(tmp_path / "odd.nii", distinct((4, 5, 3))), datatype=1)
    refused_at_once(path)


def test_time_series_and_vectors_are_refused_with_advice(tmp_path):
    path = write_nifti(tmp_path / "time.nii.gz", distinct((4, 5, 3, 2)))
    assert "time series of shape (4, 5, 3, 2)" in refused_at_once(path)
    assert "split it into 3-D volumes" in refused_at_once(path)
    path = write_nifti(tmp_path / "vector.nii.gz", distinct((4, 5, 3, 1, 3)))
    assert "vectors" in refused_at_once(path)


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 5, 1), (1, 1, 1), (7,)])
def test_lines_and_points_are_refused(tmp_path, shape):
    path = write_nifti(tmp_path / "a.nii.gz", distinct(shape))
    assert "a line or a point is no image" in refused_at_once(path)


@pytest.mark.parametrize("bad", [0.0, -2.0, np.nan, np.inf])
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_a_spacing_that_nibabel_would_repair_is_refused(nifti, bad, axis):
    pixdim = np.ones(8)
    pixdim[axis] = bad
    patch_header(nifti, pixdim=pixdim)
    assert "every spacing must be a number above 0" in refused_at_once(nifti)


def test_a_spacing_of_an_axis_that_is_not_there_does_not_matter(tmp_path):
    path = write_nifti(tmp_path / "a.nii", distinct((4, 5)))
    patch_header(path, pixdim=[1, 2, 3, 0, 0, 0, 0, 0])
    assert open_volume(path).geometry.shape == (1, 5, 4)


@pytest.mark.parametrize("row", [(0, 0, 0, 0), (0, 1, 0, 0), (np.nan, 0, 0, 0)])
def test_a_singular_or_nan_affine_is_refused(nifti, row):
    patch_header(nifti, srow_x=row)
    assert "affine" in refused_at_once(nifti)


def test_an_impossible_quaternion_is_refused(nifti):
    patch_header(nifti, sform_code=0, qform_code=1, quatern_b=1, quatern_c=1)
    refused_at_once(nifti)


def test_missing_codes_are_fine_and_mean_what_nibabel_says(nifti):
    patch_header(nifti, sform_code=0, qform_code=0)
    np.testing.assert_array_equal(open_volume(nifti).affine, nib.load(nifti).affine)


@pytest.mark.parametrize("dim", [[0] * 8, [3, 4, 5, 0, 1, 1, 1, 1], [3, 4, -5, 3, 1, 1, 1, 1]])
def test_senseless_sizes_are_refused(nifti, dim):
    patch_header(nifti, dim=dim)
    refused_at_once(nifti)


@pytest.mark.parametrize("packed", [False, True])
def test_a_size_that_no_memory_holds_is_refused_before_it_is_asked_for(tmp_path, nifti, packed):
    patch_header(nifti, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])
    path = nifti
    if packed:
        path = tmp_path / "a.nii.gz"
        path.write_bytes(gzip.compress(nifti.read_bytes()))
    assert "cut off" in refused_at_once(path)


@pytest.mark.parametrize("suffix", [".hdr", ".img"])
def test_a_nifti_pair_is_not_supported_and_says_convert(tmp_path, suffix):
    nib.Nifti1Pair(distinct((4, 5, 3)), np.eye(4)).to_filename(tmp_path / "a.img")
    sentence = refused_at_once(tmp_path / f"a{suffix}")
    assert "pair" in sentence
    assert "convert" in sentence


SUFFIXES = [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".jpg", ".tif", ".bmp"]


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".dcm"])
def test_an_empty_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"é a{suffix}"
    path.touch()
    assert "empty (0 bytes)" in refused_at_once(path)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".dcm"])
def test_garbage_is_refused_without_noise(tmp_path, suffix, capfd):
    path = tmp_path / f"é a{suffix}"
    path.write_bytes(np.random.default_rng(1).bytes(3000))
    refused_at_once(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_damage_anywhere_is_refused_by_our_own_error_or_not_at_all(tmp_path_factory, suffix, data):
    # Headers with any bytes changed may still be headers; what must not come is a traceback.
    folder = tmp_path_factory.mktemp("damage")
    path = folder / f"a{suffix}"
    if suffix in (".nii", ".nii.gz"):
        write_nifti(path, distinct((4, 5, 3)))
    elif suffix in (".nrrd", ".nhdr", ".mha", ".mhd"):
        write_itk(path, distinct((3, 5, 4)))
    else:
        Image.fromarray(distinct((5, 7), np.uint8)).save(path)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, min(len(raw), 400) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    with suppress(VolumeError):
        check_voxels(open_volume(path))


def test_a_missing_file_an_unknown_kind_and_a_bare_folder_are_refused(tmp_path):
    assert "no such file" in refused_at_once(tmp_path / "a.nii.gz")
    (tmp_path / "a.txt").write_text("no image")
    assert "of no kind that can be read" in refused_at_once(tmp_path / "a.txt")
    (tmp_path / "folder.nii").mkdir()
    assert "0 DICOM series" in refused_at_once(tmp_path / "folder.nii")


def test_a_dangling_link_is_a_missing_file(tmp_path):
    (tmp_path / "a.nii").symlink_to(tmp_path / "gone.nii")
    assert "no such file" in refused_at_once(tmp_path / "a.nii")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_may_not_be_read_is_refused(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"something")
    plain_open = Path.open

    def open_but(self, *args, **kwargs):
        if self.name == path.name:  # root may read everything, so the refusal is played
            raise PermissionError(13, "Permission denied", str(self))
        return plain_open(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_but)
    assert "may not be read" in refused_at_once(path)


def test_more_voxels_than_memory_is_a_sentence(nifti, monkeypatch):
    volume = open_volume(nifti)
    monkeypatch.setattr(volume, "_read", lambda: np.empty(2**46))
    assert "does not fit into memory" in refusal(lambda: volume.data, nifti)


def test_a_file_that_changed_after_it_was_opened_is_refused(tmp_path):
    path = write_itk(tmp_path / "a.nrrd", distinct((3, 5, 4)))
    volume = open_volume(path)
    write_itk(path, distinct((3, 5, 4), np.float32))
    assert "its header says int16" in refusal(lambda: volume.data, path)


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
def test_itk_files_with_missing_voxels_are_refused(tmp_path, suffix):
    path = write_itk(tmp_path / f"a é{suffix}", distinct((3, 5, 4)))
    detached = tmp_path / "a é.raw"
    voxels = detached if detached.exists() else path
    voxels.write_bytes(voxels.read_bytes()[:-30])
    assert open_volume(path).geometry.shape == (3, 5, 4)
    refused(path)
    if detached.exists():
        detached.unlink()
        refused(path)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_itk_vectors_complex_numbers_and_time_are_refused(tmp_path, suffix):
    path = write_itk(tmp_path / f"rgb{suffix}", distinct((3, 5, 4, 3), np.uint8), vector=True)
    assert "colours or vectors" in refused_at_once(path)
    path = write_itk(tmp_path / f"time{suffix}", distinct((2, 3, 5, 4)))
    assert "time series" in refused_at_once(path)
    path = write_itk(tmp_path / f"line{suffix}", distinct((1, 1, 4)))
    assert "a line or a point" in refused_at_once(path)
    path = write_itk(tmp_path / "complex.nrrd", distinct((3, 5, 4), np.complex64))
    assert "one real number per voxel" in refused_at_once(path)


@pytest.mark.parametrize("spacing", ["0 1 1", "-2 1 1", "nan 1 1"])
def test_an_itk_spacing_not_above_0_is_refused(tmp_path, spacing):
    path = write_itk(tmp_path / "a.mhd", distinct((3, 5, 4)))
    text = path.read_text().replace("ElementSpacing = 1 1 1", f"ElementSpacing = {spacing}")
    path.write_text(text)
    assert "above 0" in refused_at_once(path)


def test_a_series_with_a_missing_slice_says_which_gaps_it_has(tmp_path, capfd):
    files = write_dicom(tmp_path / "é", distinct((5, 6, 7)))
    files[2].unlink()
    assert "run from 2.5 to 5 mm" in refused_at_once(tmp_path / "é")
    assert capfd.readouterr() == ("", "")


def test_several_images_at_one_position_are_refused(tmp_path):
    positions = [(0.0, 0.0, 2.5 * (k // 2)) for k in range(6)]
    write_dicom(tmp_path, distinct((6, 6, 7)), positions=positions)
    assert "3 of its 6 images lie where another one lies already" in refused_at_once(tmp_path)


@pytest.mark.parametrize("left", [200, -20])
@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_truncated_dicom_file_is_never_passed_over(tmp_path, left, which):
    file = write_dicom(tmp_path, distinct((4, 6, 7)))[which]
    file.write_bytes(file.read_bytes()[:left])
    assert f"{file.name} in it is cut off or damaged" in refused_at_once(tmp_path)


def test_a_dicom_object_that_is_no_image_is_passed_over(tmp_path):
    write_dicom(tmp_path, distinct((3, 6, 7)))
    uid = b"1.2.840.10008.5.1.4.1.1.481.3\0"
    element = b"\x02\x00\x02\x00UI" + len(uid).to_bytes(2, "little") + uid
    (tmp_path / "structures.dcm").write_bytes(bytes(128) + b"DICM" + element)
    assert open_volume(tmp_path).geometry.shape == (3, 6, 7)


def test_images_of_other_sizes_directions_or_spacings_are_no_volume(tmp_path):
    for k, (what, shape, change) in enumerate(
        [
            ("size", (1, 6, 8), {}),
            ("orientation", (1, 6, 7), {"orientation": (0, 1, 0, 0, 0, -1)}),
        ]
    ):
        folder = tmp_path / str(k)
        write_dicom(folder, distinct((3, 6, 7)))
        write_dicom(folder, distinct(shape), positions=[(0, 0, 50)], names=["x.dcm"], **change)
        assert f"the {what} of" in refused_at_once(folder)


def test_dicom_colours_are_refused(tmp_path):
    write_itk(tmp_path / "a.dcm", distinct((1, 6, 7, 3), np.uint8), vector=True)
    assert "colours or vectors" in refused_at_once(tmp_path / "a.dcm")


def test_a_folder_of_two_series_asks_which(tmp_path):
    write_dicom(tmp_path, distinct((3, 6, 7)), series="1.2.3.4")
    write_dicom(tmp_path, distinct((3, 6, 7)), series="1.2.3.5")
    assert "holds 2 DICOM series" in refused_at_once(tmp_path)
    assert "the series 9.9" in refused(Source((tmp_path,), "9.9"))
    assert len(dicom_series(tmp_path)) == 2
