"""What holds for every export format: the contract, names and the assembly of label maps."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from labelled_samples import CLASSES, expected_label_map, label, write_source

from napari_activeft.errors import Cancelled, UserError
from napari_activeft.exports import EXPORTERS, ClassLabel, export
from napari_activeft.exports.labelled import label_map
from napari_activeft.exports.names import alphanumeric, safe_file_names, safe_identifiers

formats = pytest.mark.parametrize("format_name", EXPORTERS)


@pytest.fixture
def sources(tmp_path):
    return [write_source(tmp_path / f"{seed}.nii.gz", seed=seed) for seed in range(3)]


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@formats
def test_export_counts_what_it_wrote_and_tells_progress_by_volume(format_name, sources, out):
    volumes = [
        label(sources[0], name="a", case="1"),
        label(sources[1], name="b", case="2", positions=()),
        label(sources[2], name="c", case="3", positions=(0, 2, 4)),
    ]
    told = []

    report = export(
        format_name, volumes, CLASSES, out, name="Kidneys", on_progress=lambda *p: told.append(p)
    )

    assert told == [(1, 3), (2, 3), (3, 3)]
    assert (report.format, report.folder) == (format_name, out)
    assert (report.volumes, report.slices) == (2, 5)
    assert report.files == sum(path.is_file() for path in out.rglob("*"))


@formats
def test_export_stops_where_progress_is_cancelled(format_name, sources, out):
    asked = []

    def masks_of(volume):
        def masks():
            asked.append(volume.name)
            return volume.masks()

        return masks

    volumes = [label(source, name=str(i)) for i, source in enumerate(sources)]
    volumes = [type(v)(**{**vars(v), "masks": masks_of(v)}) for v in volumes]

    def cancel(done, total):
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        export(format_name, volumes, CLASSES, out, name="x", on_progress=cancel)

    assert asked == ["0", "1"]


@formats
def test_export_without_an_accepted_mask_says_so(format_name, sources, out):
    volumes = [label(source, name=source.paths[0].name, positions=()) for source in sources]
    with pytest.raises(UserError, match="none of the 3 volumes has an accepted mask"):
        export(format_name, volumes, CLASSES, out, name="x")


@formats
@pytest.mark.parametrize(
    ("masks", "sentence"),
    [
        ({2: np.full((6, 7), 9, np.uint8)}, "slice 2 of 'v 1' holds class 9"),
        ({2: np.zeros((7, 6), np.uint8)}, r"slice 2 of 'v 1' is \(7, 6\), its slice is \(6, 7\)"),
        ({5: np.zeros((6, 7), np.uint8)}, "at position 5, but the volume has slices 0 to 4"),
    ],
)
def test_export_refuses_masks_that_do_not_fit(format_name, masks, sentence, sources, out):
    volume = label(sources[0], name="v 1")
    volume = type(volume)(**{**vars(volume), "masks": lambda: masks})
    with pytest.raises(UserError, match=sentence):
        export(format_name, [volume], CLASSES, out, name="x")


@pytest.mark.parametrize("format_name", ["coco", "nnunet"])
def test_export_refuses_an_image_that_changed_its_shape(format_name, sources, out):
    volume = label(sources[0], name="v")
    write_source(sources[0].paths[0], shape=(5, 6, 8))
    with pytest.raises(UserError, match="put the original file back"):
        export(format_name, [volume], CLASSES, out, name="x")


@formats
def test_export_reads_images_only_where_it_shows_them(format_name, sources, out):
    volume = label(sources[0], name="v")
    sources[0].paths[0].unlink()
    if format_name in ("coco", "nnunet"):
        with pytest.raises(UserError):
            export(format_name, [volume], CLASSES, out, name="x")
    else:
        assert export(format_name, [volume], CLASSES, out, name="x").volumes == 1


def test_export_refuses_an_unknown_format(sources, out):
    with pytest.raises(UserError, match="choose one of nifti, nnunet, coco, bids"):
        export("dicom", [label(sources[0], name="v")], CLASSES, out, name="x")


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        ((*CLASSES, ClassLabel(7, "Läsion", "#000000")), "class 'Läsion' is there twice"),
        ((*CLASSES, ClassLabel(5, "other", "#000000")), "class id '5' is there twice"),
        ((*CLASSES, ClassLabel(65535, "far", "#000000")), "ids go from 1 to 65534"),
        ((*CLASSES, ClassLabel(0, "nothing", "#000000")), "ids go from 1 to 65534"),
    ],
)
def test_export_refuses_classes_that_cannot_be_told_apart(classes, sentence, sources, out):
    with pytest.raises(UserError, match=sentence):
        export("nifti", [label(sources[0], name="v")], classes, out, name="x")


def test_export_refuses_two_volumes_of_one_name_and_unknown_splits(sources, out):
    with pytest.raises(UserError, match="volume 'v' is there twice"):
        export("nifti", [label(s, name="v") for s in sources[:2]], CLASSES, out, name="x")
    with pytest.raises(UserError, match="choose one of pool, val, test"):
        export("nifti", [label(sources[0], name="v", split="train")], CLASSES, out, name="x")


@formats
def test_export_warns_of_a_case_on_both_sides_and_of_held_out_volumes(format_name, sources, out):
    volumes = [
        label(sources[0], name="a", case="1"),
        label(sources[1], name="b", case="1", split="test"),
    ]
    notes = export(format_name, volumes, CLASSES, out, name="x").notes
    assert any("test: 1, the first is '1'" in note for note in notes)
    if format_name != "nnunet":  # where the folder imagesTs says it
        assert any("held out" in note for note in notes)


@formats
def test_export_leaves_no_path_of_this_machine(format_name, sources, out, tmp_path):
    export(format_name, [label(sources[0], name="v")], CLASSES, out, name="x")
    texts = [p for p in out.rglob("*") if p.suffix in (".json", ".tsv") or p.name == "README"]
    assert texts
    assert not any(str(tmp_path) in path.read_text(encoding="utf-8") for path in texts)
    for path in out.rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("values", "dtype"), [((1, 5), np.uint8), ((1, 5, 300), np.uint16)])
def test_label_map_puts_every_mask_in_its_place(axis, values, dtype, sources):
    volume = label(sources[0], name="v", axis=axis, positions=(0, 4), values=values)
    assembled = label_map(volume, volume.masks())
    assert assembled.dtype == dtype
    assert np.array_equal(assembled, expected_label_map(volume))


def test_label_map_renumbers_classes_and_fills_what_nobody_labelled(sources):
    volume = label(sources[0], name="v", positions=(2,), values=(1, 300))
    new = label_map(volume, volume.masks(), renumber={0: 0, 1: 1, 300: 2}, unlabelled=3)
    assert new.dtype == np.uint8
    assert set(np.unique(new[2])) == {0, 1, 2}
    assert set(np.unique(np.delete(new, 2, axis=0))) == {3}
    assert np.array_equal(new[2] == 2, volume.masks()[2] == 300)


def test_label_map_of_a_fully_labelled_volume_has_no_filling(sources):
    volume = label(sources[0], name="v", positions=None, values=(1,))
    assert 300 not in label_map(volume, volume.masks(), unlabelled=300)


names = ["Müller/knee 1", "Muller knee 1", "muller_knee_1", "膝", "腕", "a" * 300, "a" * 301]
names += ["CON", "../..", "", " .hidden", "-rf", "tab\tnew\nline", "x_seg", "X.seg", "aux.v2"]


@pytest.mark.parametrize(
    ("make", "allowed"),
    [
        (safe_file_names, r"[A-Za-z0-9][A-Za-z0-9._-]*"),
        (safe_identifiers, r"[A-Za-z0-9][A-Za-z0-9_-]*"),
        (lambda given: alphanumeric(given, empty="case"), r"[A-Za-z0-9]+"),
    ],
)
def test_names_are_safe_unique_without_case_and_independent_of_order(make, allowed):
    made = make(names)

    assert list(made) == names
    assert all(re.fullmatch(allowed, new) and len(new) < 100 for new in made.values())
    assert len({new.casefold() for new in made.values()}) == len(names)
    assert not {new.split(".")[0].casefold() for new in made.values()} & {"con", "aux"}
    assert make(names[::-1]) == made


def test_names_that_imitate_ours_stay_apart():
    first = safe_file_names(["a b", "a/b"])
    imitated = safe_file_names(["a b", "a/b", *first.values()])
    assert len(set(imitated.values())) == 4


def test_plain_names_stay_as_they_are():
    assert safe_file_names(["knee_01", "Knee-02.v1"]) == {
        "knee_01": "knee_01",
        "Knee-02.v1": "Knee-02.v1",
    }
    assert safe_identifiers(["knee_seg"]) == {"knee_seg": "knee_seg_v"}
