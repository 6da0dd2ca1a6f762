"""Pictures, TIFF and folders of them become volumes; label maps and masks are class ids."""

import numpy as np
import pytest
import tifffile
from imagemaking import distinct, write_itk, write_nifti
from PIL import Image

from napari_activeft.volume import (
    open_volume,
    read_label_map,
    read_mask,
)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_grey_pictures_are_one_slice(tmp_path, suffix):
    grey = distinct((5, 7), np.uint8)
    Image.fromarray(grey).save(tmp_path / f"a{suffix}")
    volume = open_volume(tmp_path / f"a{suffix}")
    assert (volume.channels, volume.geometry.shape) == (1, (1, 5, 7))
    np.testing.assert_array_equal(volume.data, grey[None])
    np.testing.assert_array_equal(volume.affine, np.eye(4))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_colour_pictures_have_three_channels(tmp_path, suffix):
    colours = distinct((5, 7, 3), np.uint8)
    Image.fromarray(colours).save(tmp_path / f"a{suffix}")
    volume = open_volume(tmp_path / f"a{suffix}")
    assert (volume.channels, volume.geometry.shape) == (3, (1, 5, 7))
    np.testing.assert_array_equal(volume.data, colours.transpose(2, 0, 1)[:, None])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_opacity_is_dropped_and_16_bits_are_kept(tmp_path, suffix):
    colours = distinct((5, 7, 4), np.uint8)
    Image.fromarray(colours).save(tmp_path / f"rgba{suffix}")
    volume = open_volume(tmp_path / f"rgba{suffix}")
    np.testing.assert_array_equal(volume.data[:, 0], colours[..., :3].transpose(2, 0, 1))
    grey = distinct((5, 7, 2), np.uint8)
    Image.fromarray(grey).save(tmp_path / f"la{suffix}")
    np.testing.assert_array_equal(open_volume(tmp_path / f"la{suffix}").data[0], grey[..., 0])
    deep = distinct((5, 7), np.uint16) * 1000
    Image.fromarray(deep).save(tmp_path / f"deep{suffix}")
    volume = open_volume(tmp_path / f"deep{suffix}")
    assert volume.dtype == volume.data.dtype == np.uint16
    np.testing.assert_array_equal(volume.data[0], deep)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_palette_gives_colours_as_image_and_indices_as_labels(tmp_path, suffix):
    indices = distinct((5, 7), np.uint8) % 3
    picture = Image.fromarray(indices).convert("P")
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    picture.putdata(list(indices.ravel()))
    picture.save(tmp_path / f"a{suffix}")
    volume = open_volume(tmp_path / f"a{suffix}")
    assert volume.channels == 3
    np.testing.assert_array_equal(volume.data[1, 0], 20 + 30 * indices)
    labels = read_label_map(tmp_path / f"a{suffix}", volume.geometry)
    np.testing.assert_array_equal(labels[0], indices)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_one_bit_becomes_uint8(tmp_path, suffix):
    bits = distinct((5, 16)) % 2 == 0
    Image.fromarray(bits).save(tmp_path / f"a{suffix}")
    volume = open_volume(tmp_path / f"a{suffix}")
    assert volume.dtype == volume.data.dtype == np.uint8
    np.testing.assert_array_equal(volume.data[0], bits)


def test_a_jpeg_is_read_grey_or_in_colour(tmp_path):
    smooth = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    Image.fromarray(smooth).save(tmp_path / "grey.jpg", quality=95)
    Image.fromarray(np.stack([smooth] * 3, -1)).save(tmp_path / "colour.JPEG", quality=95)
    assert open_volume(tmp_path / "grey.jpg").data.shape == (1, 48, 64)
    volume = open_volume(tmp_path / "colour.JPEG")
    assert volume.data.shape == (3, 1, 48, 64)
    assert np.abs(volume.data[0, 0].astype(int) - smooth).max() < 8


@pytest.mark.parametrize(
    ("shape", "options", "found"),
    [
        ((3, 5, 7), {"metadata": None}, (3, 5, 7)),
        ((3, 5, 7), {"metadata": {"axes": "ZYX"}}, (3, 5, 7)),
        ((3, 5, 7), {"imagej": True, "metadata": {"axes": "ZYX"}}, (3, 5, 7)),
        ((3, 5, 7), {"imagej": True, "metadata": {"axes": "TYX"}}, (3, 5, 7)),
        ((3, 5, 7), {"compression": "lzw", "predictor": True}, (3, 5, 7)),
        ((2, 3, 5, 7), {"ome": True, "metadata": {"axes": "CZYX"}}, (2, 3, 5, 7)),
        ((3, 2, 5, 7), {"imagej": True, "metadata": {"axes": "ZCYX"}}, (2, 3, 5, 7)),
        ((3, 5, 7, 3), {"photometric": "rgb"}, (3, 3, 5, 7)),
        ((3, 5, 7, 4), {"photometric": "rgb"}, (3, 3, 5, 7)),
        ((3, 5, 7), {"photometric": "rgb", "planarconfig": "separate"}, (3, 1, 5, 7)),
    ],
)
def test_tiff_axes_become_channels_and_depth(tmp_path, shape, options, found):
    options = {"photometric": "minisblack"} | options
    tifffile.imwrite(tmp_path / "a.tif", distinct(shape, np.uint8), **options)
    volume = open_volume(tmp_path / "a.tif")
    assert volume.data.shape == found
    assert volume.channels == (found[0] if len(found) == 4 else 1)
    expected = distinct(shape, np.uint8)
    if options["photometric"] == "rgb" and len(shape) == 4:
        expected = np.moveaxis(expected[..., :3], -1, 0)
    elif options["photometric"] == "rgb":
        expected = expected[:, None]
    elif shape == (3, 2, 5, 7):
        expected = expected.swapaxes(0, 1)
    np.testing.assert_array_equal(volume.data, expected)


@pytest.mark.parametrize("unit", ["um", "micron", "\u00b5m", "mm", "nm", "pixel"])
def test_tiff_spacing_comes_from_imagej(tmp_path, unit):
    tifffile.imwrite(
        tmp_path / "a.tif",
        distinct((3, 5, 7), np.uint8),
        imagej=True,
        resolution=(2.0, 4.0),
        metadata={"axes": "ZYX", "spacing": 3.5, "unit": unit.replace("\u00b5", "\\u00B5")},
    )
    factor = {"mm": 1.0, "nm": 1e-6, "pixel": None}.get(unit, 1e-3)
    expected = (3.5 * factor, 0.25 * factor, 0.5 * factor) if factor else (1, 1, 1)
    assert open_volume(tmp_path / "a.tif").spacing == pytest.approx(expected)


def test_tiff_spacing_comes_from_ome(tmp_path):
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 250, "PhysicalSizeYUnit": "nm"}
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        distinct((3, 5, 7), np.uint8),
        ome=True,
        metadata={"axes": "ZYX", "PhysicalSizeZ": 0.002, "PhysicalSizeZUnit": "mm", **sizes},
    )
    volume = open_volume(tmp_path / "a.ome.tif")
    assert volume.spacing == pytest.approx((0.002, 0.00025, 0.0005))
    np.testing.assert_allclose(np.diag(volume.affine), (0.0005, 0.00025, 0.002, 1))


def test_a_folder_of_pictures_is_a_volume_in_natural_order(tmp_path):
    for k in (1, 2, 10, 9):
        Image.fromarray(np.full((5, 7), k, np.uint8)).save(tmp_path / f"img{k}.png")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no image")
    volume = open_volume(tmp_path)
    assert list(volume.data[:, 0, 0]) == [1, 2, 9, 10]
    assert [p.name for p in volume.source.files] == [f"img{k}.png" for k in (1, 2, 9, 10)]
    np.testing.assert_array_equal(read_label_map(tmp_path, volume.geometry), volume.data)


def test_a_folder_of_colour_pictures_has_three_channels(tmp_path):
    colours = distinct((4, 5, 7, 3), np.uint8)
    for k, picture in enumerate(colours):
        Image.fromarray(picture).save(tmp_path / f"{k}.png")
    np.testing.assert_array_equal(open_volume(tmp_path).data, np.moveaxis(colours, -1, 0))


@pytest.mark.parametrize(
    ("dtype", "highest"),
    [
        *(("uint8", 3), ("uint8", 255), ("int16", 256), ("uint16", 65535), ("int64", 65535)),
        *(("float32", 255), ("float32", 65535), ("float64", 256)),
    ],
)
def test_whole_numbers_of_any_dtype_are_class_ids(tmp_path, dtype, highest):
    values = np.zeros((4, 5, 3))
    values[1, 2, 0] = highest
    path = write_nifti(tmp_path / "a.nii.gz", values.astype(dtype))
    labels = read_label_map(path, open_volume(path).geometry)
    assert labels.dtype == (np.uint8 if highest <= 255 else np.uint16)
    assert labels[0, 2, 1] == highest
    assert np.count_nonzero(labels) == 1


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".npy", ".nii.gz", ".nrrd", ".mha"])
def test_a_mask_of_one_slice_is_read_in_every_format(tmp_path, suffix):
    mask = distinct((5, 7), np.uint8) % 4
    path = tmp_path / f"ma sk é{suffix}"
    if suffix == ".npy":
        np.save(path, mask)
    elif suffix == ".nii.gz":
        write_nifti(path, mask.T[:, None, :])  # one voxel along y: (z, 1, x) is (5, 7)
    elif suffix in (".nrrd", ".mha"):
        write_itk(path, mask[None])
    else:
        Image.fromarray(mask).save(path)
    np.testing.assert_array_equal(read_mask(path, (5, 7)), mask)


def test_a_mask_png_of_16_bits_keeps_its_ids(tmp_path):
    mask = distinct((5, 7), np.uint16) * 1000
    Image.fromarray(mask).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", (5, 7)), mask)


def test_a_stack_that_runs_downwards_in_imagej_has_a_positive_spacing(tmp_path):
    metadata = {"axes": "ZYX", "spacing": -3.5, "unit": "mm"}
    data = distinct((3, 5, 7), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata=metadata)
    assert open_volume(tmp_path / "a.tif").spacing == (3.5, 1.0, 1.0)
