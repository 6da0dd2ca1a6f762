"""The main job on real heart MRI: nothing is drawn by hand, the label maps answer every query."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from imagemaking import SHARED
from projectmaking import read_json

ACDC = SHARED / "acdc"
PATIENTS = 6

pytestmark = pytest.mark.skipif(not ACDC.is_dir(), reason="shared/data/acdc is not here")


@pytest.fixture
def patients(tmp_path):
    """Links to six patients, two volumes each."""
    folder = tmp_path / "acdc"
    folder.mkdir()
    for patient in sorted(ACDC.glob("patient*"))[:PATIENTS]:
        (folder / patient.name).mkdir()
        for file in patient.iterdir():
            (folder / patient.name / file.name).symlink_to(file)
    return folder


@pytest.fixture
def imported(command_line, patients):
    """A project whose queried slices were answered from the label maps."""
    run = command_line
    run.bare("init", run.project)
    added = run.json(
        *("add", patients, "--case", "folder"),
        *("--labels", "*_gt.nii.gz", "--ignore", "*_scribble.nii.gz"),
    )
    assert (added["added"], added["label_maps"], added["problems"]) == (12, 12, [])
    assert added["cases"] == {"pool": PATIENTS}
    run("classes", "1=RV", "2=Myo", "3=LV")
    run("embed", "--encoder", "hog")
    selected = run.json("select", "--budget", "0.05", "--seed", "3")
    assert selected["selected"] == round(0.05 * added["slices"])
    result = run.json("import-labels", "--only-queried")
    assert (result["stored"], result["problems"]) == (selected["selected"], [])
    return run


def image_of(patients, name):
    return patients / f"{name}.nii.gz"


def test_exported_label_maps_have_the_geometry_and_the_labels_of_the_source(imported, patients):
    imported("export", "--format", "nifti")
    folder = imported.project / "exports" / "nifti"

    entries = read_json(folder / "labels.json")["files"]
    assert entries
    for entry in entries:
        source = nib.load(image_of(patients, entry["name"]))
        written = nib.load(folder / entry["file"])
        truth_path = patients / f"{entry['name']}_gt.nii.gz"
        truth = np.asarray(nib.load(truth_path).dataobj).astype(np.uint8)
        np.testing.assert_array_equal(written.affine, source.affine)
        assert written.shape == source.shape
        assert written.header.get_zooms() == source.header.get_zooms()
        for code in ("sform_code", "qform_code"):
            assert written.header[code] == source.header[code]
        labelled = entry["labelled_positions"]
        # The coarsest spacing of these volumes is that of the last axis on disk.
        assert entry["axis"] == "z"
        values = np.asarray(written.dataobj)
        np.testing.assert_array_equal(values[..., labelled], truth[..., labelled])
        assert not np.delete(values, labelled, axis=2).any()


def test_the_nnunet_export_has_the_geometry_of_the_source_for_other_readers(imported, patients):
    imported("export", "--format", "nnunet")
    (folder,) = (imported.project / "exports" / "nnunet").glob("Dataset*")

    files = read_json(folder / "manifest.json")["files"]
    assert read_json(folder / "dataset.json")["numTraining"] == len(files) > 0
    for entry in files:
        source = sitk.ReadImage(str(image_of(patients, entry["name"])))
        image = sitk.ReadImage(str(folder / "imagesTr" / f"{entry['identifier']}_0000.nii.gz"))
        label = sitk.ReadImage(str(folder / "labelsTr" / f"{entry['identifier']}.nii.gz"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(source))
        for written in (image, label):
            assert written.GetSize() == source.GetSize()
            assert written.GetSpacing() == pytest.approx(source.GetSpacing())
            assert written.GetOrigin() == pytest.approx(source.GetOrigin())
            assert written.GetDirection() == pytest.approx(source.GetDirection())


def test_a_second_round_spreads_over_what_the_first_left_out(imported):
    more = imported.json("select", "--budget", "0.05", "--seed", "3")
    assert more["round"] == 2
    info = imported.json("info")
    assert info["queries"]["submitted"] == info["accepted"]
    assert imported.json("doctor")["faults"] == []
