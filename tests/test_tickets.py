"""What is painted on the picture lands on the same voxels of the patient, or nowhere."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imagemaking import orientations, write_nifti
from napari_activeft.annotation_db import StoreError
from PIL import Image
from projectmaking import (
    assert_sentence,
    make_project,
    read_json,
    select,
    states,
    take_next,
    write_volume,
)

from napari_activeft import workflow
from napari_activeft.errors import UserError
from napari_activeft.settings import SubmitSettings
from napari_activeft.ticket import read_ticket

PLANES = pytest.mark.parametrize("plane", ["z", "y", "x"])
SHAPE = (7, 6, 5)  # (x, y, z): no two axes alike


def submit(project, ticket, mask, **more):
    return workflow.submit(project, SubmitSettings(ticket=ticket, mask=mask, **more))


def speckled(folder, rng, affine=None, name="a.nii.gz"):
    """Write an image of black and white voxels in no order at all, and return it (x, y, z)."""
    folder.mkdir(exist_ok=True)
    values = (rng.random(SHAPE) > 0.5).astype(np.int16) * 1000
    write_nifti(folder / name, values, affine)
    return values


def as_grey(mask, path):
    Image.fromarray(mask).save(path)


def as_palette(mask, path):
    picture = Image.fromarray(mask).convert("P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.putdata([int(value) for value in mask.ravel()])
    picture.save(path)


def as_tiff(mask, path):
    tifffile.imwrite(path.with_suffix(".tif"), mask.astype(np.uint16))
    return path.with_suffix(".tif")


def as_array(mask, path):
    np.save(path.with_suffix(".npy"), mask)
    return path.with_suffix(".npy")


@PLANES
@pytest.mark.parametrize("write", [as_grey, as_palette, as_tiff, as_array])
def test_a_mask_painted_on_the_picture_lands_on_the_same_voxels(tmp_path, rng, plane, write):
    source = speckled(tmp_path / "images", rng)
    with make_project(tmp_path / "p", tmp_path / "images", plane=plane) as project:
        count = select(project, "1.0").selected
        for _ in range(count):
            given_ = take_next(project, tmp_path / "out")
            shown = np.asarray(Image.open(given_.image))
            path = tmp_path / "mask.png"
            path = write((shown > 127).astype(np.uint8), path) or path
            submit(project, given_.ticket, path)
        folder = workflow.export(project).folder

    assert count == {"z": 5, "y": 6, "x": 7}[plane]
    written = np.asarray(nib.load(folder / "a.nii.gz").dataobj)
    np.testing.assert_array_equal(written, source == 1000)


@PLANES
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd"])
def test_a_mask_painted_on_the_slice_lands_on_the_same_voxels(tmp_path, rng, plane, suffix):
    source = speckled(tmp_path / "images", rng)
    with make_project(tmp_path / "p", tmp_path / "images", plane=plane) as project:
        for _ in range(select(project, "3", selector="random").selected):
            given_ = take_next(project, tmp_path / "out")
            shown = sitk.ReadImage(str(given_.ticket.with_suffix(".nii")))
            mask = tmp_path / f"mask{suffix}"
            sitk.WriteImage(sitk.Cast(shown > 500, sitk.sitkUInt8), str(mask))
            submit(project, given_.ticket, mask)
        folder = workflow.export(project).folder
        axis = project.store.volumes()[0].axis

    (entry,) = read_json(folder / "labels.json")["files"]
    labelled = entry["labelled_positions"]
    written = np.asarray(nib.load(folder / "a.nii.gz").dataobj)
    assert len(labelled) == 3
    np.testing.assert_array_equal(
        np.take(written, labelled, 2 - axis), np.take(source == 1000, labelled, 2 - axis)
    )


@PLANES
@pytest.mark.parametrize("number", [0, 13, 29, 47])
def test_a_slice_lies_where_it_does_in_the_patient(tmp_path, rng, plane, number):
    source = speckled(tmp_path / "images", rng, orientations()[number])
    with make_project(tmp_path / "p", tmp_path / "images", plane=plane) as project:
        select(project, "1", selector="random", seed=number)
        given_ = take_next(project, tmp_path / "out")

    piece = nib.load(given_.ticket.with_suffix(".nii"))
    pixels = np.asarray(piece.dataobj)
    indices = np.argwhere(np.ones(pixels.shape))
    world = nib.affines.apply_affine(piece.affine, indices)
    inverse = np.linalg.inv(nib.load(tmp_path / "images" / "a.nii.gz").affine)
    voxels = np.round(nib.affines.apply_affine(inverse, world)).astype(int)
    np.testing.assert_array_equal(pixels[tuple(indices.T)], source[tuple(voxels.T)])
    assert sorted(pixels.shape) == sorted(
        1 if axis == "xyz".index(plane) else count for axis, count in enumerate(SHAPE)
    )


def test_a_ticket_says_what_an_annotator_needs(tmp_path):
    write_volume(tmp_path / "images" / "Müller 1.nii.gz", labels=False)
    with make_project(tmp_path / "p", tmp_path / "images") as project:
        select(project, "1")
        given_ = take_next(project, tmp_path / "out")
        ticket = read_json(given_.ticket)

        assert ticket["volume"] == "Müller 1"
        assert (ticket["axis"], ticket["position"]) == (0, given_.position)
        assert ticket["mask_shape"] == [9, 11]
        assert ticket["pixel_spacing_mm"] == [1.0, 1.5]
        assert ticket["classes"] == {"1": "bright", "2": "corner"}
        assert (ticket["round"], ticket["rank"]) == (1, 1)
        assert read_ticket(given_.ticket).token == ticket["token"]
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            "query-0001.json",
            "query-0001.nii",
            "query-0001.png",
        ]


@pytest.mark.parametrize("channels", [2, 3])
def test_the_picture_of_several_channels(tmp_path, channels):
    names = ("t1", "t2", "flair")[:channels]
    for number, name in enumerate(names):
        write_volume(tmp_path / "images" / f"x_{name}.nii.gz", seed=number)
    globs = tuple(f"*_{name}.nii.gz" for name in names)
    with make_project(tmp_path / "p", tmp_path / "images", channels=globs) as project:
        select(project, "1")
        given_ = take_next(project, tmp_path / "out")
        assert np.asarray(Image.open(given_.image)).shape == (9, 11, 3)[: 3 if channels == 3 else 2]
        piece = np.asarray(nib.load(given_.ticket.with_suffix(".nii")).dataobj)
        first = np.asarray(nib.load(tmp_path / "images" / "x_t1.nii.gz").dataobj)
        np.testing.assert_array_equal(piece[..., 0], first[..., given_.position])
        as_grey(np.ones((9, 11), np.uint8), tmp_path / "m.png")
        assert submit(project, given_.ticket, tmp_path / "m.png").pixels == {"bright": 99}


# What is refused


@pytest.fixture
def asked(project, tmp_path):
    """A query of the project."""
    select(project, "2")
    return take_next(project, tmp_path / "out")


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.zeros((11, 9), np.uint8), "(11, 9)"),
        (np.zeros((9, 12), np.uint8), "(9, 12)"),
        (np.zeros((9, 11, 3), np.uint8), "3 channels"),
        (np.full((9, 11), 7, np.uint8), "7"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_and_the_query_stays(
    project, asked, tmp_path, mask, said
):
    as_grey(mask, tmp_path / "m.png")
    with pytest.raises((UserError, StoreError)) as refusal:
        submit(project, asked.ticket, tmp_path / "m.png")
    assert said in str(refusal.value)
    assert_sentence(str(refusal.value))
    assert states(project) == ["leased", "open"]
    assert project.store.mask_count() == 0


def test_a_mask_that_is_not_there_is_refused(project, asked, tmp_path):
    with pytest.raises(UserError, match="no such file") as refusal:
        submit(project, asked.ticket, tmp_path / "gone.png")
    assert_sentence(str(refusal.value))


def test_a_jpeg_is_no_mask(project, asked, tmp_path):
    as_grey(np.zeros((9, 11), np.uint8), tmp_path / "m.jpg")
    with pytest.raises(UserError, match="JPEG"):
        submit(project, asked.ticket, tmp_path / "m.jpg")


def test_a_ticket_of_another_project_is_refused(project, asked, tmp_path):
    with (
        make_project(tmp_path / "other", tmp_path / "images", labels="*_gt.nii.gz") as other,
        pytest.raises(UserError, match="belongs to another project") as refusal,
    ):
        workflow.submit(other, SubmitSettings(ticket=asked.ticket, empty=True))
    assert_sentence(str(refusal.value))
    assert states(project) == ["leased", "open"]


@pytest.mark.parametrize(
    "change",
    [
        {"token": "0" * 32},
        {"mask_shape": [5, 5]},
        {"mask_shape": [0, 5]},
        {"mask_shape": [float("inf"), 5]},
        {"mask_shape": [10**9, 10**9]},
        {"napari-activeft ticket": 2},
    ],
)
def test_a_ticket_that_was_changed_is_refused(project, asked, change):
    asked.ticket.write_text(json.dumps(read_json(asked.ticket) | change))
    with pytest.raises((UserError, StoreError)) as refusal:
        workflow.submit(project, SubmitSettings(ticket=asked.ticket, empty=True))
    assert_sentence(str(refusal.value))
    assert project.store.mask_count() == 0


def test_a_ticket_that_is_not_there_is_refused(project, tmp_path):
    for path in (tmp_path / "gone.json", tmp_path):
        with pytest.raises(UserError, match="cannot be read") as refusal:
            workflow.submit(project, SubmitSettings(ticket=path, empty=True))
        assert_sentence(str(refusal.value))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
FIELDS = ("napari-activeft ticket", "project", "query", "token", "annotator", "mask_shape")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=40)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries(dict.fromkeys(FIELDS, JSON)).map(lambda v: json.dumps(v).encode())
)
def test_whatever_the_file_holds_it_is_a_ticket_or_one_sentence(tmp_path, content):
    path = tmp_path / "t.json"
    path.write_bytes(content)
    try:
        ticket = read_ticket(path)
    except UserError as refusal:
        assert_sentence(str(refusal))
    else:
        assert len(ticket.shape) == 2
