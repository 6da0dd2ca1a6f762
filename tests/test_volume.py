"""Every format is read in the right order and place."""

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from imagemaking import (
    assert_same_points,
    distinct,
    orientations,
    shared,
    write_dicom,
    write_itk,
    write_nifti,
)
from PIL import Image

from napari_activeft.image_names import is_image_name
from napari_activeft.volume import (
    Source,
    check_voxels,
    dicom_series,
    open_volume,
    read_label_map,
    write_label_map,
)


@pytest.mark.parametrize(
    ("stored", "kept"),
    [
        *(("uint8", "uint8"), ("int16", "int16"), ("uint16", "uint16"), ("int64", "int64")),
        *(("float32", "float32"), ("float64", "float32")),
    ],
)
def test_integers_keep_their_dtype_and_floats_become_float32(tmp_path, stored, kept):
    volume = open_volume(write_nifti(tmp_path / "a.nii.gz", distinct((4, 5, 3), stored)))
    assert volume.dtype == volume.data.dtype == kept
    np.testing.assert_array_equal(volume.data, distinct((4, 5, 3)).T)


@pytest.mark.parametrize(("slope", "inter"), [(0.5, -10.0), (1.0, -1024.0), (3.0, 0.0)])
def test_stored_scaling_is_applied(tmp_path, slope, inter):
    path = write_nifti(tmp_path / "a.nii", distinct((4, 5, 3)), slope=slope, inter=inter)
    volume = open_volume(path)
    assert volume.dtype == volume.data.dtype == np.float32
    np.testing.assert_allclose(volume.data, nib.load(path).get_fdata().T)
    np.testing.assert_allclose(volume.data, distinct((4, 5, 3)).T * slope + inter)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3, 1), (4, 5, 3, 1, 1), (4, 5, 1), (1, 5, 4)])
def test_flat_images_and_trailing_single_axes_become_volumes(tmp_path, shape):
    volume = open_volume(write_nifti(tmp_path / "a.nii.gz", distinct(shape)))
    x, y, z = (*shape, 1)[:3]
    assert volume.geometry.shape == (z, y, x)
    np.testing.assert_array_equal(volume.data, distinct(shape).reshape(x, y, z).T)
    write_label_map(tmp_path / "l.nii.gz", np.ones((z, y, x), np.uint8), volume.geometry)
    assert nib.load(tmp_path / "l.nii.gz").shape == shape


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("orientation", [0, 11, 26, 47])
def test_itk_formats_are_read_where_nibabel_would_see_them(tmp_path, suffix, orientation):
    affine = orientations()[orientation]
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = (0.5, 0.75, 2.5)
    path = write_itk(
        tmp_path / f"ä image{suffix}",
        distinct((3, 5, 4)),
        spacing=spacing,
        origin=lps[:3, 3],
        direction=(lps[:3, :3] / spacing).ravel(),
    )
    volume = open_volume(path)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    assert volume.spacing == pytest.approx((2.5, 0.75, 0.5))
    assert volume.dtype == volume.data.dtype == np.int16
    np.testing.assert_array_equal(volume.data, distinct((3, 5, 4)))
    assert set(volume.source.files) == set(tmp_path.iterdir())

    write_label_map(tmp_path / "label.nii.gz", np.ones((3, 5, 4), np.uint8), volume.geometry)
    assert_same_points(tmp_path / "label.nii.gz", affine)
    assert read_label_map(tmp_path / "label.nii.gz", volume.geometry).all()


def test_a_2d_itk_image_is_one_slice_and_float64_becomes_float32(tmp_path):
    path = write_itk(tmp_path / "a.mha", distinct((5, 4), np.float64), spacing=(0.5, 0.75))
    volume = open_volume(path)
    assert volume.geometry.shape == (1, 5, 4)
    assert volume.spacing == (1.0, 0.75, 0.5)
    assert volume.data.dtype == np.float32


def test_a_dicom_series_is_sorted_by_position_and_lies_as_simpleitk_says(tmp_path):
    folder = tmp_path / "dé m"
    files = write_dicom(folder, distinct((4, 6, 7)))
    (series,) = dicom_series(folder)
    volume = open_volume(series)

    np.testing.assert_array_equal(volume.data, distinct((4, 6, 7)))
    assert volume.spacing == (2.5, 0.75, 0.5)
    assert set(series.files) == set(files)
    reference = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(reference), volume.data)
    sitk.WriteImage(reference, str(tmp_path / "reference.nii"))
    np.testing.assert_allclose(volume.affine, nib.load(tmp_path / "reference.nii").affine)
    np.testing.assert_array_equal(open_volume(folder).data, volume.data)


def test_every_series_of_a_folder_is_found_but_none_of_the_folders_below(tmp_path):
    write_dicom(tmp_path, distinct((3, 6, 7)), series="1.2.3.4")
    write_dicom(tmp_path, distinct((2, 6, 7)) + 100, series="1.2.3.5")
    write_dicom(tmp_path / "below", distinct((2, 6, 7)), series="1.2.3.6")
    (tmp_path / "notes.txt").write_text("no image")
    found = {source.series: open_volume(source) for source in dicom_series(tmp_path)}
    assert {uid: v.geometry.shape for uid, v in found.items()} == {
        "1.2.3.4": (3, 6, 7),
        "1.2.3.5": (2, 6, 7),
    }
    assert found["1.2.3.5"].data[0, 0, 0] == 100


def test_a_folder_without_dicom_has_no_series_and_makes_no_noise(tmp_path, capfd):
    (tmp_path / "notes.txt").write_text("no image")
    assert dicom_series(tmp_path) == []
    assert capfd.readouterr() == ("", "")


def test_a_single_dicom_file_is_one_slice_whatever_its_name(tmp_path):
    (file,) = write_dicom(tmp_path, distinct((1, 6, 7)))
    bare = file.rename(tmp_path / "IM0001")
    assert is_image_name(bare)
    volume = open_volume(bare)
    assert volume.geometry.shape == (1, 6, 7)
    np.testing.assert_array_equal(volume.data, distinct((1, 6, 7)))


def test_dicom_rescaling_is_applied(tmp_path):
    tags = {"0028|1052": "-1000", "0028|1053": "1"}
    write_dicom(tmp_path, distinct((2, 6, 7)), tags=tags)
    volume = open_volume(tmp_path)
    # SimpleITK stores value + 1000 when it writes, so what was given comes back.
    np.testing.assert_array_equal(volume.data, distinct((2, 6, 7)))
    assert volume.data.dtype == volume.dtype


def test_a_tilted_gantry_gives_an_affine_that_leans(tmp_path):
    positions = [(10.0, 20.0 + 0.6 * k, 5.0 + 2.5 * k) for k in range(4)]
    write_dicom(tmp_path, distinct((4, 6, 7)), positions=positions)
    affine = open_volume(tmp_path).affine
    for k, (x, y, z) in enumerate(positions):
        np.testing.assert_allclose((affine @ [0, 0, k, 1])[:3], (-x, -y, z), atol=1e-6)


def test_an_oblique_series_lies_as_its_headers_say(tmp_path):
    row, column = np.array([0.8, 0.6, 0]), np.array([0, 0, -1.0])
    normal = np.cross(row, column)
    positions = [tuple(np.array([1.0, 2, 3]) + 4 * k * normal) for k in range(3)]
    write_dicom(tmp_path, distinct((3, 6, 7)), positions=positions, orientation=(*row, *column))
    volume = open_volume(tmp_path)
    expected = np.array(positions[2]) + 3 * 0.5 * row + 2 * 0.75 * column
    found = (volume.affine @ [3, 2, 2, 1])[:3] * (-1, -1, 1)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert volume.spacing == pytest.approx((4, 0.75, 0.5), rel=1e-4)


def test_several_files_are_channels_in_the_order_given(tmp_path):
    affine = orientations()[5]
    paths = tuple(
        write_nifti(tmp_path / f"{name}.nii.gz", distinct((4, 5, 3), dtype) + k, affine)
        for k, (name, dtype) in enumerate([("t2", np.int16), ("t1", np.uint8)])
    )
    volume = open_volume(Source(paths))
    assert (volume.channels, volume.dtype, volume.source.files) == (2, np.int16, paths)
    np.testing.assert_array_equal(volume.data[0], distinct((4, 5, 3)).T)
    np.testing.assert_array_equal(volume.data[1], distinct((4, 5, 3)).T + 1)
    assert volume.data.dtype == np.int16


def test_opening_reads_no_voxels_and_reading_keeps_them(tmp_path):
    path = write_nifti(tmp_path / "a.nii", distinct((4, 5, 3)))
    volume = open_volume(path)
    raw = path.read_bytes()
    path.write_bytes(raw[:-2] + b"\x07\x00")
    assert volume.data[-1, -1, -1] == 7
    path.unlink()
    assert volume.data is volume.data
    check_voxels(volume)


def test_importing_volume_loads_no_image_library():
    heavy = "('nibabel', 'SimpleITK', 'tifffile', 'PIL')"
    code = f"import sys, napari_activeft.volume; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_nerve_cord_stack_and_its_labels_are_read():
    folder = shared("vnc_em_stack1")
    volume = open_volume(folder / "raw_12x512x512.tif")
    check_voxels(volume)
    np.testing.assert_array_equal(volume.data, tifffile.imread(folder / "raw_12x512x512.tif"))
    labels = read_label_map(folder / "labels_12x512x512.tif", volume.geometry)
    assert set(np.unique(labels)) <= set(range(5))


def test_dermoscopy_pictures_and_their_masks_are_read():
    folder = shared("rgb_samples/isic2017")
    for image in sorted((folder / "images").iterdir()):
        volume = open_volume(image)
        assert volume.channels == 3
        labels = read_label_map(folder / "masks" / f"{image.stem}.png", volume.geometry)
        assert set(np.unique(labels)) == {0, 1}


def test_nuclei_pictures_and_their_instances_are_read():
    folder = shared("dsb2018_nuclei")
    for image in sorted((folder / "images").iterdir())[::10]:
        volume = open_volume(image)
        labels = read_label_map(folder / "labels" / image.name, volume.geometry)
        with Image.open(folder / "labels" / image.name) as picture:
            np.testing.assert_array_equal(labels[0], np.asarray(picture))
