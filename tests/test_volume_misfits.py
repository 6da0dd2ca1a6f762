"""Pictures, channels, label maps and masks that do not fit are refused in one sentence."""

import os
import zlib

import numpy as np
import pytest
import tifffile
from imagemaking import distinct, refusal, refused, refused_at_once, write_itk, write_nifti
from PIL import Image

from napari_activeft.geometry import Geometry, plain_geometry
from napari_activeft.volume import (
    Source,
    open_volume,
    read_label_map,
    read_mask,
    write_image,
    write_label_map,
    write_png,
)


def test_truncated_pictures_are_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)
    for suffix in (".png", ".jpg", ".bmp"):
        path = tmp_path / f"a{suffix}"
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        refused(path)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("metadata", [None, {"axes": "ZYX"}])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_truncated_tiff_never_becomes_a_shorter_stack(
    tmp_path, compression, metadata, part, caplog
):
    noise = np.random.default_rng(0).integers(0, 255, (6, 40, 50)).astype(np.uint8)
    path = tmp_path / "a é.tif"
    tifffile.imwrite(path, noise, compression=compression, metadata=metadata)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * part)])
    refused(path)
    assert not caplog.records


def test_tiff_with_time_many_sizes_or_complex_numbers_is_refused(tmp_path):
    path = tmp_path / "time.tif"
    tifffile.imwrite(path, distinct((3, 2, 5, 7), np.uint8), imagej=True, metadata={"axes": "TZYX"})
    assert "time series of volumes (axes T 3, Z 2, Y 5, X 7)" in refused_at_once(path)
    path = tmp_path / "sizes.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(distinct((5, 7), np.uint8))
        writer.write(distinct((9, 7), np.uint8))
    assert "holds 2 images" in refused_at_once(path)
    path = tmp_path / "complex.tif"
    tifffile.imwrite(path, np.ones((5, 7), np.complex64))
    assert "complex" in refused_at_once(path)
    path = tmp_path / "cmyk.tif"
    tifffile.imwrite(path, distinct((5, 7, 4), np.uint8), photometric="separated")
    assert "CMYK" in refused_at_once(path)
    path = tmp_path / "line.tif"
    tifffile.imwrite(path, distinct((1, 7), np.uint8))
    assert "a line or a point" in refused_at_once(path)


def test_png_of_16_bit_colours_and_films_are_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(distinct((5, 7, 3), np.uint8)).save(path)
    raw = bytearray(path.read_bytes())
    raw[24] = 16
    raw[29:33] = zlib.crc32(raw[12:29]).to_bytes(4, "big")
    path.write_bytes(raw)
    assert "16-bit colours" in refused_at_once(path)
    frames = [Image.fromarray(distinct((5, 7), np.uint8) + k) for k in range(2)]
    frames[0].save(tmp_path / "film.png", save_all=True, append_images=frames[1:])
    assert "holds 2 pictures" in refused_at_once(tmp_path / "film.png")


def test_a_folder_of_unlike_pictures_is_refused_by_the_one_that_differs(tmp_path):
    for name, shape in [("a1", (5, 7)), ("a2", (5, 8))]:
        Image.fromarray(distinct(shape, np.uint8)).save(tmp_path / f"{name}.png")
    assert "a2.png" in refused_at_once(tmp_path)
    Image.fromarray(distinct((5, 7, 3), np.uint8)).save(tmp_path / "a2.png")
    assert "channels are (5, 7, 3)" in refused_at_once(tmp_path)
    (tmp_path / "a2.png").unlink()
    tifffile.imwrite(tmp_path / "a2.tif", distinct((3, 5, 7), np.uint8), photometric="minisblack")
    assert "holds 3 slices" in refused_at_once(tmp_path)


@pytest.mark.parametrize("what", ["shape", "spacing", "affine", "channels"])
def test_channels_that_do_not_fit_are_refused(tmp_path, what):
    first = write_nifti(tmp_path / "t1.nii.gz", distinct((4, 5, 3)))
    affine = np.eye(4)
    affine[0, 0] = 2 if what == "spacing" else 1
    affine[0, 3] = 5 if what == "affine" else 0
    shape = (4, 6, 3) if what == "shape" else (4, 5, 3)
    second = write_nifti(tmp_path / "t2.nii.gz", distinct(shape), affine)
    if what == "channels":
        second = tmp_path / "t2.png"
        Image.fromarray(distinct((5, 4, 3), np.uint8)).save(second)
    assert what in refused(Source((first, second)))


def test_damage_in_the_second_channel_names_the_second_file(tmp_path):
    noise = np.random.default_rng(0).integers(0, 1000, (100, 100, 50)).astype(np.int16)
    first = write_nifti(tmp_path / "t1.nii.gz", noise)
    second = write_nifti(tmp_path / "t2.nii.gz", noise)
    second.write_bytes(second.read_bytes()[:-1000])
    volume = open_volume(Source((first, second)))
    assert "t1" not in refusal(lambda: volume.data, second)


@pytest.mark.parametrize("what", ["shape", "spacing", "affine"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_a_label_map_on_another_grid_is_refused(tmp_path, what, suffix):
    path = tmp_path / f"label{suffix}"
    if suffix == ".nrrd":
        write_itk(path, distinct((3, 5, 4), np.uint8))
        affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    else:
        write_nifti(path, distinct((4, 5, 3), np.uint8))
        affine = np.eye(4)
    like = Geometry((3, 5, 4), (1, 1, 1), affine)
    assert read_label_map(path, like).shape == (3, 5, 4)
    shape = (3, 4, 5) if what == "shape" else like.shape
    spacing = (2, 1, 1) if what == "spacing" else like.spacing
    affine = affine @ np.diag([1, -1, 1, 1]) if what == "affine" else affine
    sentence = refusal(lambda: read_label_map(path, Geometry(shape, spacing, affine)), path)
    assert f"the {what} " in sentence


def test_of_a_picture_only_the_shape_must_fit(tmp_path):
    path = tmp_path / "label.png"
    Image.fromarray(distinct((5, 7), np.uint8)).save(path)
    assert read_label_map(path, plain_geometry((1, 5, 7), (2, 3, 4))).shape == (1, 5, 7)
    sentence = refusal(lambda: read_label_map(path, plain_geometry((1, 7, 5))), path)
    assert "shape (z, y, x) is (1, 5, 7) and not (1, 7, 5)" in sentence


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.5, "1 of its voxels are no whole numbers (such as 0.5)"),
        (np.nan, "1 of its voxels are no whole numbers (such as nan)"),
        (np.inf, "run from 0 to inf"),
        (-1.0, "run from -1 to 0"),
        (65536.0, "run from 0 to 65536"),
    ],
)
def test_values_that_are_no_class_ids_are_refused(tmp_path, value, words):
    values = np.zeros((4, 5, 3), np.float32)
    values[2, 2, 2] = value
    path = write_nifti(tmp_path / "a.nii.gz", values)
    like = open_volume(path).geometry
    assert words in refusal(lambda: read_label_map(path, like), path)


def test_jpeg_and_coloured_label_maps_are_refused(tmp_path):
    path = tmp_path / "a.JPG"
    Image.fromarray(distinct((5, 7), np.uint8)).save(path)
    like = plain_geometry((1, 5, 7))
    assert "lossless" in refusal(lambda: read_label_map(path, like), path)
    assert "lossless" in refusal(lambda: read_mask(path, (5, 7)), path)
    assert "lossless" in refusal(lambda: read_label_map(tmp_path, like), tmp_path)
    path = tmp_path / "a.png"
    Image.fromarray(distinct((5, 7, 3), np.uint8)).save(path)
    assert "3 channels" in refusal(lambda: read_label_map(path, like), path)
    assert "3 channels" in refusal(lambda: read_mask(path, (5, 7)), path)


def test_a_mask_of_another_shape_is_refused_and_a_turned_one_is_told(tmp_path):
    path = tmp_path / "mask.npy"
    np.save(path, distinct((5, 7), np.uint8))
    assert "transpose it" in refusal(lambda: read_mask(path, (7, 5)), path)
    assert "transpose" not in refusal(lambda: read_mask(path, (5, 8)), path)
    path = write_nifti(tmp_path / "mask.nii.gz", distinct((4, 5, 3), np.uint8))
    assert "(3, 5, 4)" in refusal(lambda: read_mask(path, (5, 4)), path)


@pytest.mark.parametrize("kind", ["empty", "garbage", "objects", "halves", "text", "missing"])
def test_npy_files_that_are_no_masks_are_refused(tmp_path, kind):
    path = tmp_path / "mask.npy"
    if kind == "empty":
        path.touch()
    elif kind == "garbage":
        path.write_bytes(b"\x93NUMPY" + bytes(range(200)))
    elif kind != "missing":
        dtype = {"objects": object, "halves": np.float16, "text": "U3"}[kind]
        np.save(path, np.full((5, 7), 0.5).astype(dtype), allow_pickle=True)
    refusal(lambda: read_mask(path, (5, 7)), path)


def test_what_does_not_fit_is_not_written(tmp_path):
    like = plain_geometry((3, 5, 4))
    good, path = np.zeros((3, 5, 4), np.uint8), tmp_path / "a.nii.gz"
    refusal(lambda: write_label_map(path, good.astype(np.int32), like), path)
    refusal(lambda: write_label_map(path, good[:2], like), path)
    refusal(lambda: write_label_map(tmp_path / "a.nrrd", good, like), tmp_path / "a.nrrd")
    refusal(lambda: write_image(path, good.astype(np.float16), like), path)
    refusal(lambda: write_png(tmp_path / "a.png", good[0] * 0.5), tmp_path / "a.png")
    missing = tmp_path / "gone" / "a.nii"
    assert "no such file" in refusal(lambda: write_label_map(missing, good, like), missing)
    assert list(tmp_path.iterdir()) == []


def test_a_header_of_another_grid_is_not_copied(tmp_path):
    path = write_nifti(tmp_path / "a.nii", distinct((4, 5, 3)))
    header = open_volume(path).geometry.nifti_header
    like = Geometry((3, 5, 5), (1, 1, 1), np.eye(4), header)
    labels = np.zeros((3, 5, 5), np.uint8)
    assert "header it comes with" in refusal(lambda: write_label_map(path, labels, like), path)


def test_who_reads_while_a_file_is_written_sees_the_older_one_whole(tmp_path):
    path, like = tmp_path / "a.nii.gz", plain_geometry((3, 5, 4))
    write_label_map(path, np.ones((3, 5, 4), np.uint8), like)
    before = path.read_bytes()
    with path.open("rb") as reader:
        write_label_map(path, np.zeros((3, 5, 4), np.uint8), like)
        assert reader.read() == before
    assert path.read_bytes() != before


def test_a_write_that_fails_leaves_the_older_file_and_no_rest(tmp_path, monkeypatch):
    path, like = tmp_path / "a.nii.gz", plain_geometry((3, 5, 4))
    write_label_map(path, np.ones((3, 5, 4), np.uint8), like)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    labels = np.zeros((3, 5, 4), np.uint8)
    assert "No space left" in refusal(lambda: write_label_map(path, labels, like), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
