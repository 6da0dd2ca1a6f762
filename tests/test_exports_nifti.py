"""The NIfTI export, read by nibabel and SimpleITK."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from labelled_samples import CLASSES, expected_label_map, label, write_source

from napari_activeft.exports import export


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("values", [(1, 5), (1, 5, 300)])
def test_label_map_lies_on_its_image_for_every_reader(axis, values, tmp_path):
    source = write_source(tmp_path / "image.nii.gz")
    volume = label(source, name="v", axis=axis, values=values)
    out = tmp_path / "out"
    out.mkdir()

    export("nifti", [volume], CLASSES, out, name="x")

    expected = expected_label_map(volume)
    written, image = nib.load(out / "v.nii.gz"), nib.load(source.paths[0])
    assert np.array_equal(np.asanyarray(written.dataobj).T, expected)
    assert written.get_data_dtype() == (np.uint16 if 300 in values else np.uint8)
    assert np.array_equal(written.affine, image.affine)
    for read in ("get_qform", "get_sform"):
        for found, wanted in zip(
            getattr(written, read)(coded=True), getattr(image, read)(coded=True), strict=True
        ):
            assert np.array_equal(found, wanted)
    read_by_itk = sitk.ReadImage(str(out / "v.nii.gz"))
    image_by_itk = sitk.ReadImage(str(source.paths[0]))
    assert np.array_equal(sitk.GetArrayFromImage(read_by_itk), expected)
    assert read_by_itk.GetOrigin() == image_by_itk.GetOrigin()
    assert read_by_itk.GetSpacing() == image_by_itk.GetSpacing()
    assert read_by_itk.GetDirection() == image_by_itk.GetDirection()


def test_manifest_maps_files_back_and_lists_what_is_labelled(tmp_path):
    names = ["Müller/1", "Muller 1", "whole"]
    sources = [write_source(tmp_path / f"{i}.nii.gz", seed=i) for i in range(3)]
    volumes = [
        label(sources[0], name=names[0], case="Müller"),
        label(sources[1], name=names[1], case="Müller", split="val", axis=2, positions=(6, 0)),
        label(sources[2], name=names[2], case="B", split="test", positions=None),
    ]
    out = tmp_path / "out"
    out.mkdir()

    report = export("nifti", volumes, CLASSES, out, name="Niere")

    manifest = json.loads((out / "labels.json").read_text(encoding="utf-8"))
    assert [c["value"] for c in manifest["classes"]] == [0, 1, 5, 300]
    assert manifest["classes"][3] == {"value": 300, "name": "腫瘍", "colour": "#0000ff"}
    by_name = {entry["name"]: entry for entry in manifest["files"]}
    assert set(by_name) == set(names)
    for volume in volumes:
        stored = nib.load(out / by_name[volume.name]["file"])
        assert np.array_equal(np.asanyarray(stored.dataobj).T, expected_label_map(volume))
    del by_name["Müller/1"]["file"]
    assert by_name["Müller/1"] == {
        "name": "Müller/1",
        "case": "Müller",
        "split": "pool",
        "axis": "z",
        "labelled_positions": [1, 3],
        "partly_labelled_positions": [],
        "slices": 5,
        "fully_labelled": False,
    }
    assert (by_name["Muller 1"]["axis"], by_name["Muller 1"]["slices"]) == ("x", 7)
    assert by_name["Muller 1"]["labelled_positions"] == [0, 6]
    assert by_name["whole"]["fully_labelled"] is True
    assert any("2 of 3 label maps have slices that nobody labelled" in n for n in report.notes)
    assert any("2 of 3 label maps are held out" in note for note in report.notes)
