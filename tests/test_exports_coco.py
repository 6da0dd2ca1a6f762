"""The COCO export, read by pycocotools and Pillow."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from labelled_samples import CLASSES, label, write_source
from PIL import Image
from pycocotools.coco import COCO

from napari_activeft.exports import export
from napari_activeft.exports.coco import picture
from napari_activeft.volume import Source, open_volume


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def load(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def picture_of(out, image):
    return np.asarray(Image.open(out / "images" / image["file_name"]))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools'
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_coco_decodes_every_mask_as_it_was_accepted(axis, tmp_path, out):
    source = write_source(tmp_path / "image.nii.gz")
    volume = label(source, name="Müller/1", axis=axis, positions=(0, 4), values=(1, 5, 300))

    export("coco", [volume], CLASSES, out, name="Niere")

    coco = load(out / "annotations.json")
    assert {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())} == {
        label.value: label.name for label in CLASSES
    }
    images = coco.loadImgs(coco.getImgIds())
    assert [(i["volume"], i["position"]) for i in images] == [("Müller/1", 0), ("Müller/1", 4)]
    for image in images:
        mask = volume.masks()[image["position"]]
        assert (image["height"], image["width"]) == mask.shape
        assert picture_of(out, image).shape == mask.shape
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]], iscrowd=False))
        assert [a["category_id"] for a in annotations] == [1, 5, 300]
        for annotation in annotations:
            wanted = mask == annotation["category_id"]
            assert np.array_equal(coco.annToMask(annotation), wanted)
            assert annotation["area"] == wanted.sum()
            rows, columns = np.nonzero(wanted)
            x, y = columns.min(), rows.min()
            width, height = columns.max() - x + 1, rows.max() - y + 1
            assert annotation["bbox"] == [x, y, width, height]


def test_a_slice_that_is_all_background_is_a_picture_without_annotation(tmp_path, out):
    source = write_source(tmp_path / "image.nii.gz")
    export("coco", [label(source, name="v", positions=(2,), values=())], CLASSES, out, name="x")
    content = json.loads((out / "annotations.json").read_text(encoding="utf-8"))
    assert (len(content["images"]), content["annotations"]) == (1, [])


def test_pictures_show_the_intensity_range_and_anisotropic_pixels_are_recorded(tmp_path, out):
    source = write_source(tmp_path / "image.nii.gz")
    volume = label(source, name="v", axis=1, positions=(3,), intensity_range=((50.0, 150.0),))
    export("coco", [volume], CLASSES, out, name="x")
    (image,) = load(out / "annotations.json").dataset["images"]
    voxels = open_volume(source).data[:, 3].astype(float)
    wanted = np.clip((voxels - 50) / 100, 0, 1) * 255
    assert np.abs(picture_of(out, image) - wanted).max() <= 0.5
    assert image["spacing_mm"] == pytest.approx([2.5, 0.7], abs=1e-5)


def test_an_rgb_picture_keeps_its_colours(tmp_path, out):
    colours = np.random.default_rng(0).integers(0, 256, size=(9, 8, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "photo.png")
    volume = label(Source((tmp_path / "photo.png",)), name="photo", positions=(0,))
    report = export("coco", [volume], CLASSES, out, name="x")
    (image,) = load(out / "annotations.json").dataset["images"]
    assert np.array_equal(picture_of(out, image), colours)
    assert report.notes == ()


def test_of_two_channels_the_first_is_shown_and_the_report_says_so(tmp_path, out):
    paths = [write_source(tmp_path / f"{n}.nii.gz", seed=n).paths[0] for n in (1, 2)]
    volume = label(Source(tuple(paths)), name="v", intensity_range=((0.0, 255.0),) * 2)
    report = export("coco", [volume], CLASSES, out, name="x")
    image = load(out / "annotations.json").dataset["images"][0]
    assert np.array_equal(picture_of(out, image), open_volume(Source((paths[0],))).data[1])
    assert any("only the first is shown" in note for note in report.notes)


def test_held_out_slices_have_files_of_their_own_and_ids_stay_unique(tmp_path, out):
    volumes = [
        label(write_source(tmp_path / f"{split}.nii.gz"), name=split, case=split, split=split)
        for split in ("test", "pool", "val")
    ]
    export("coco", volumes, CLASSES, out, name="x")
    images, annotations = [], []
    for split, file in (("pool", ""), ("val", "_val"), ("test", "_test")):
        coco = load(out / f"annotations{file}.json")
        assert {image["volume"] for image in coco.dataset["images"]} == {split}
        images += coco.getImgIds()
        annotations += coco.getAnnIds()
    assert len(set(images)) == len(images) == 6
    assert len(set(annotations)) == len(annotations) == 12


def test_volumes_whose_names_clean_to_the_same_keep_their_pictures(tmp_path, out):
    volumes = [
        label(write_source(tmp_path / f"{n}.nii.gz", seed=n), name=name)
        for n, name in enumerate(("Knee 1", "knee/1"))
    ]
    export("coco", volumes, CLASSES, out, name="x")
    files = [path.name.casefold() for path in (out / "images").iterdir()]
    assert len(set(files)) == 4


@pytest.mark.parametrize(
    ("values", "low_high", "wanted"),
    [
        (np.array([[-1000, 0, 1000]], np.int16), (-500.0, 500.0), [[0, 128, 255]]),
        (np.array([[-128, 127]], np.int8), (-128.0, 127.0), [[0, 255]]),
        (np.array([[0, 65535]], np.uint16), (0.0, 65535.0), [[0, 255]]),
        (np.array([[0.0, 1.0]], np.float32), (1.0, 1.0), [[0, 0]]),
        (np.array([[3, 200]], np.uint8), (0.0, 100.0), [[3, 200]]),
    ],
)
def test_picture_scales_every_dtype_without_overflow(values, low_high, wanted):
    shown = picture(values[np.newaxis], [low_high])
    assert shown.dtype == np.uint8
    assert shown.tolist() == wanted
