"""Small parts that a window stands on: preferences, layers, samples, findings, recipes, words."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from projectmaking import (
    add,
    assert_sentence,
    make_project,
    select,
    without_privileges,
    write_folder,
    write_volume,
)

from napari_activeft import workflow
from napari_activeft.embedding.encoder import WEIGHTLESS
from napari_activeft.encoder_sources import BUNDLED
from napari_activeft.errors import Cancelled, UserError
from napari_activeft.folder_walk import PROJECT_FILE
from napari_activeft.job_findings import headline, problems_of, result_of
from napari_activeft.jobs import LOG_FILE, log_path
from napari_activeft.layers_intake import FOLDER, Shown, files_of
from napari_activeft.model_names import ENCODERS, NETWORKS
from napari_activeft.prediction.entropy_files import entropy_file, read_entropy, write_entropy
from napari_activeft.preferences import Preferences
from napari_activeft.project import Project
from napari_activeft.results import PredictResult, TrainResult, to_json
from napari_activeft.sample_project import make_sample_project, sample_images, sample_labels
from napari_activeft.settings import (
    AddAllSettings,
    EmbedSettings,
    ExportSettings,
    PredictSettings,
    TrainSettings,
)
from napari_activeft.settings.recipes import GO_ON, RECIPES
from napari_activeft.volume import open_volume, read_label_map
from napari_activeft.wording import counted

# Preferences


def test_preferences_are_there_again_in_the_next_session(tmp_path):
    first = Preferences.load(tmp_path / "not yet" / "there")
    assert (first.recent, first.get("brush", 5)) == ([], 5)
    first.opened(tmp_path / "Größe 1")
    first.opened(tmp_path / "two")
    first.put("brush", 9)
    first.put("shown", None)

    again = Preferences.load(tmp_path / "not yet" / "there")

    assert again.recent == [tmp_path / "two", tmp_path / "Größe 1"]
    assert again.get("brush", 5) == 9
    assert again.get("shown", "usual") is None, "it was set to nothing, which is not unset"


def test_a_project_opened_again_is_the_first_of_at_most_eight(tmp_path):
    preferences = Preferences.load(tmp_path)
    for number in range(10):
        preferences.opened(tmp_path / str(number))
    preferences.opened(tmp_path / "5")

    expected = [5, 9, 8, 7, 6, 4, 3, 2]
    assert Preferences.load(tmp_path).recent == [tmp_path / str(one) for one in expected]


def test_only_projects_that_are_where_they_were_are_offered(tmp_path):
    with make_project(tmp_path / "here", classes=()):
        pass
    (tmp_path / "no project").mkdir()
    preferences = Preferences.load(tmp_path / "config")
    for name in ("gone", "no project", "here"):
        preferences.opened(tmp_path / name)

    assert preferences.there == [tmp_path / "here"]
    assert len(preferences.recent) == 3, "a drive may be plugged in again"


def test_a_project_that_may_no_longer_be_read_is_not_offered():
    with without_privileges() as folder:
        (folder / "theirs" / "p").mkdir(parents=True)
        (folder / "theirs" / "p" / PROJECT_FILE).write_bytes(b"")
        preferences = Preferences.load(folder / "config")
        preferences.opened(folder / "theirs" / "p")
        assert preferences.there == [folder / "theirs" / "p"]
        (folder / "theirs").chmod(0o000)

        assert preferences.there == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"recent": []}',
        b'{"recent": 5, "values": {}}',
        b'{"recent": [7], "values": {}}',
        b'{"recent": ["a"], "values": 3}',
    ],
)
def test_preferences_that_cannot_be_read_are_forgotten_and_can_be_written_again(tmp_path, content):
    (tmp_path / "session.json").write_bytes(content)

    preferences = Preferences.load(tmp_path)

    assert (preferences.recent, preferences.values) == ([], {})
    preferences.put("brush", 3)
    assert Preferences.load(tmp_path).get("brush", 0) == 3


def test_a_home_that_cannot_be_written_keeps_nobody_from_work(tmp_path):
    with without_privileges() as folder:
        folder.chmod(0o500)
        preferences = Preferences.load(folder / "config")
        preferences.opened(tmp_path)
        preferences.put("brush", 3)
        assert preferences.get("brush", 0) == 3
        assert not (folder / "config").exists()
        folder.chmod(0o700)
    (tmp_path / "a file").write_bytes(b"")
    Preferences.load(tmp_path / "a file").put("brush", 3)
    assert (tmp_path / "a file").read_bytes() == b""


# Layers


@pytest.fixture
def empty(tmp_path):
    with make_project(tmp_path / "project", classes=()) as made:
        yield made


def shown(data, name="a layer", spacing=None, **more):
    axes = np.ndim(data) - int(more.get("rgb", False))
    return Shown(name, data, spacing or (1.0,) * axes, **more)


@pytest.mark.parametrize(
    "dtype",
    ["bool", "uint8", "int16", "uint16", ">i2", "float16", "float32", "float64", "int64", "uint64"],
)
def test_a_volume_of_a_viewer_becomes_a_file_that_add_reads(empty, rng, dtype):
    data = (rng.random((3, 9, 11)) * 200).astype(dtype)

    (path,) = files_of(empty, [shown(data, spacing=(4.0, 0.5, -0.75))])
    result = add(empty, path)

    assert (result.added, result.slices, result.problems) == (1, 3, [])
    (volume,) = empty.store.volumes()
    opened = empty.open_volume(volume)
    np.testing.assert_array_equal(opened.data, data.astype(opened.data.dtype))
    np.testing.assert_allclose(opened.data.astype(np.float64), data.astype(np.float64), rtol=1e-6)
    assert opened.geometry.spacing == (4.0, 0.5, 0.75)


def test_a_slice_of_a_viewer_becomes_a_volume_of_one_slice(empty, rng):
    data = rng.integers(0, 99, (9, 11)).astype(np.int16)

    (path,) = files_of(empty, [shown(data, spacing=(2.0, 0.0))])

    opened = open_volume(path)
    np.testing.assert_array_equal(opened.data, data[np.newaxis])
    assert opened.geometry.spacing == (1.0, 2.0, 1.0)
    assert add(empty, path).slices == 1


def colours_of(scale, dtype, channels=3):
    share = np.arange(9 * 11 * channels).reshape(9, 11, channels) % 50 / 49
    return (share * scale).astype(dtype), np.round(share[..., :3] * 255)


@pytest.mark.parametrize(
    ("scale", "dtype", "channels"),
    [
        (255, "uint8", 3),
        (255, "uint8", 4),
        (255, "int64", 3),
        (65535, "uint16", 3),
        (1.0, "float32", 4),
        (1.0, "float64", 3),
    ],
)
def test_a_colour_picture_keeps_the_colours_that_a_viewer_shows(empty, scale, dtype, channels):
    data, expected = colours_of(scale, dtype, channels)

    (path,) = files_of(empty, [shown(data, rgb=True)])

    seen = np.moveaxis(open_volume(path).data, 0, -1)[0]
    assert seen.shape == (9, 11, 3)
    assert np.abs(seen.astype(float) - expected).max() <= 1
    assert add(empty, path).slices == 1


@pytest.mark.parametrize(
    ("shape", "rgb"),
    [
        ((5,), False),
        ((2, 3, 4, 5), False),
        ((4, 9, 11, 3), True),
        ((9, 11, 2), True),
        ((0, 9, 11), False),
        ((3,), True),
        ((), False),
    ],
)
def test_a_layer_that_is_neither_slice_nor_volume_is_refused(empty, shape, rgb):
    with pytest.raises(UserError, match="'odd one'") as refusal:
        files_of(empty, [shown(np.zeros(shape), "odd one", (1.0,) * 4, rgb=rgb)])
    assert_sentence(str(refusal.value))
    assert str(shape) in str(refusal.value)


@pytest.mark.parametrize("dtype", ["complex64", "object", "datetime64[s]"])
def test_voxels_that_no_file_can_hold_are_refused(empty, dtype):
    with pytest.raises(UserError, match="real numbers") as refusal:
        files_of(empty, [shown(np.zeros((2, 3, 4), dtype))])
    assert_sentence(str(refusal.value))


def test_layers_with_a_file_stay_where_they_are_and_names_are_made_safe(empty, images):
    file = images / "patient1" / "p1_frame1.nii.gz"
    layers = [
        shown(np.ones((2, 3, 4)), "../a b"),
        shown(np.zeros((2, 3, 4)), "read", file=file),
        shown(np.zeros((2, 3, 4)), "../A b"),
    ]

    first, second, third = files_of(empty, layers)

    assert second == file
    assert first.parent == third.parent == empty.folder / FOLDER
    assert first.name.lower() != third.name.lower()
    assert sorted(path.name for path in (empty.folder / FOLDER).iterdir()) == sorted(
        [first.name, third.name]
    )


@pytest.mark.parametrize("rgb", [False, True])
def test_another_layer_of_a_name_takes_nobodys_file(empty, rgb):
    data = np.zeros((9, 11, 3), np.uint8)
    (first,) = files_of(empty, [shown(data, rgb=rgb)])
    before = first.read_bytes()

    (same,) = files_of(empty, [shown(data.copy(), rgb=rgb)])
    (other,) = files_of(empty, [shown(data + 7, rgb=rgb)])
    (again,) = files_of(empty, [shown(data + 7, rgb=rgb)])

    assert same == first
    assert first.read_bytes() == before
    assert other == again != first
    assert (open_volume(other).data == 7).all()


def test_a_project_that_cannot_be_written_says_so_of_a_layer(tmp_path):
    del tmp_path
    with without_privileges() as folder, make_project(folder / "p", classes=()) as project:
        (folder / "p").chmod(0o500)
        with pytest.raises(UserError, match="cannot be written") as refusal:
            files_of(project, [shown(np.zeros((2, 3, 4)))])
        (folder / "p").chmod(0o700)
    assert_sentence(str(refusal.value))


# Samples


@pytest.mark.parametrize(
    ("sample", "names"), [("hippocampus", ["anterior", "posterior"]), ("nuclei", ["nucleus"])]
)
def test_a_sample_becomes_a_project_with_slices_to_label(tmp_path, sample, names):
    folder = make_sample_project(tmp_path / "new" / sample, sample)

    with Project.open(folder) as project:
        volumes = project.store.volumes()
        assert len(volumes) == len(sample_images(sample))
        assert all(project.label_path(volume).is_file() for volume in volumes)
        assert len({volume.case for volume in volumes}) == len(volumes)
        assert {"pool", "test"} == {volume.split for volume in volumes}
        queries = project.store.queries()
        assert [query.state for query in queries] == ["open"] * 10
        assert [one.name for one in project.store.classes()] == names
        source = project.source(volumes[0]).paths[0]
        assert source.is_relative_to(folder)
        label_map = read_label_map(project.label_path(volumes[0]), open_volume(source).geometry)
        assert set(np.unique(label_map)) <= set(range(len(names) + 1))
        assert label_map.any()


def test_every_image_of_a_sample_has_its_label_map():
    for sample in ("hippocampus", "nuclei"):
        assert sample_images(sample)
        assert all(sample_labels(image).is_file() for image in sample_images(sample))


def test_a_folder_that_is_there_is_no_place_for_a_sample(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="is there already") as refusal:
        make_sample_project(tmp_path / "mine")
    assert_sentence(str(refusal.value))
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left"),
        (shutil.Error([("a", "b", "full")]), "not every file"),
    ],
)
def test_a_sample_that_cannot_be_copied_says_why(tmp_path, monkeypatch, refused, said):
    def copytree(*_):
        raise refused

    monkeypatch.setattr(shutil, "copytree", copytree)
    with pytest.raises(UserError, match=said) as refusal:
        make_sample_project(tmp_path / "new")
    assert_sentence(str(refusal.value))


# What jobs tell


def ended(project, verb, result):
    """Note a job that ended, with its result as its process leaves it."""
    job = project.store.add_job(verb, {}, "ann", log_file=LOG_FILE)
    path = log_path(project, job).with_suffix(".json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(result if isinstance(result, str) else to_json(result), encoding="utf-8")
    return job


def made_of(kind, **values):
    """Return a result of which only some fields are told."""
    fields = {field.name: None for field in dataclasses.fields(kind)}
    return kind(**(fields | values))


def test_a_job_of_each_step_has_a_headline(project, tmp_path):
    write_volume(tmp_path / "more" / "one.nii.gz", seed=77)
    (tmp_path / "more" / "two.nii.gz").write_bytes(b"no image")
    paths = (tmp_path / "images", tmp_path / "more")
    added = workflow.add_all(project, AddAllSettings(paths=paths, ignore=("*_gt.nii.gz",)))
    project.store.add_mask(1, np.ones((9, 11), np.uint8), "ann", started_from=None)

    told = {
        verb: headline(project, ended(project, verb, result))
        for verb, result in [
            ("add-all", added),
            ("select", select(project, "3")),
            ("export", workflow.export(project, ExportSettings())),
            ("train", made_of(TrainResult, run=3, slices=1, score=0.81234)),
            ("predict", made_of(PredictResult, proposed=1, volumes=2)),
            ("doctor", made_of(TrainResult)),
        ]
    }

    assert told["add-all"] == "1 volume added, 3 were known, 1 file passed over"
    assert told["select"] == "round 1: 3 slices queued"
    assert told["export"].endswith(f"written to {project.folder / 'exports' / 'nifti'}")
    assert told["export"].split()[1] in ("file", "files")
    assert told["train"] == "run 3 learnt from 1 slice, Dice 0.812 on cases held back"
    assert told["predict"] == "1 mask proposed, in 2 volumes"
    assert told["doctor"] == ""
    unmeasured = made_of(TrainResult, run=3, slices=2, score=None)
    assert headline(project, ended(project, "train", unmeasured)) == "run 3 learnt from 2 slices"


def test_the_headline_of_embed_names_what_embedded(project):
    result = workflow.embed(project, EmbedSettings(encoder="hog"))
    assert headline(project, ended(project, "embed", result)) == "12 slices embedded by hog"


def test_a_job_names_every_file_that_it_passed_over_once(project, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "bad.nii.gz").write_bytes(b"no image")
    added = workflow.add_all(project, AddAllSettings(paths=(tmp_path / "more",)))
    (sentence,) = problems_of(project, ended(project, "add-all", added))
    assert sentence.count("bad.nii.gz") == 1
    assert_sentence(sentence)

    problem = {"path": "volume 1", "sentence": "it is missing: bring it back"}
    other = ended(project, "embed", json.dumps({"problems": [problem]}))
    assert problems_of(project, other) == ["volume 1: it is missing: bring it back"]


@pytest.mark.parametrize("verb", ["add-all", "train", "embed"])
@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "null", "{}", '{"paths": []}', '{"paths": {"a": 3}, "score": "high"}'),
        *('{"problems": [3], "run": 1, "slices": 2, "score": "high"}', '{"problems": 5}'),
    ],
)
def test_a_file_of_another_version_or_none_tells_nothing(project, verb, content):
    job = ended(project, verb, content)

    assert headline(project, job) == ""
    assert problems_of(project, job) == []


def test_a_job_that_left_no_file_tells_nothing(project):
    job = project.store.add_job("embed", {}, "ann", log_file=LOG_FILE)
    assert (result_of(project, job), headline(project, job), problems_of(project, job)) == (
        {},
        "",
        [],
    )


# Names and recipes


def test_the_names_of_models_are_those_of_the_registries():
    from napari_activeft.models.registry import MODELS

    from napari_activeft.training.networks import NETWORKS as TRAINABLE

    encoders = [card.name for card in MODELS.values() if card.kind == "encoder"]
    assert sorted(ENCODERS[1:]) == sorted([*WEIGHTLESS, BUNDLED, *encoders])
    assert set(ENCODERS[1:3]) == set(WEIGHTLESS)
    assert sorted(NETWORKS) == sorted(TRAINABLE)
    assert EmbedSettings().encoder == ENCODERS[0]
    assert TrainSettings().network == NETWORKS[0]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: one.name)
def test_a_recipe_is_settings_that_differ_from_the_usual_ones(recipe):
    usual = TrainSettings()
    settings = TrainSettings(**recipe.values)

    assert settings.network in NETWORKS
    for name, value in recipe.values.items():
        assert getattr(settings, name) == value != getattr(usual, name)
    assert recipe.told.endswith(".")


def test_recipes_have_names_of_their_own_and_the_first_is_the_usual_one():
    assert len({one.name for one in RECIPES}) == len(RECIPES)
    assert RECIPES[0].values == {}
    (going_on,) = [one for one in RECIPES if one.name == GO_ON]
    assert "newest run" in going_on.told
    assert TrainSettings(**going_on.values, start="run:1").start == "run:1"


# The entropy of pixels


def test_entropy_comes_back_as_it_was_kept_and_is_replaced_whole(tmp_path, rng, monkeypatch):
    path = entropy_file(tmp_path / "run-001", "0123456789abcdef" + "f" * 48)
    assert read_entropy(path) is None
    for _ in range(2):
        kept = rng.integers(0, 256, (3, 4, 5)).astype(np.uint8)
        write_entropy(path, kept)
        np.testing.assert_array_equal(read_entropy(path), kept)
    assert path != entropy_file(tmp_path / "run-001", "0" * 64)

    def full(file, **_):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(UserError, match="No space left") as refusal:
        write_entropy(path, kept + 1)
    assert_sentence(str(refusal.value))
    np.testing.assert_array_equal(read_entropy(path), kept)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [b"no archive", b"", b"PK\x03\x04 cut off"])
def test_entropy_that_cannot_be_read_is_none(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    assert read_entropy(tmp_path / "a.npz") is None


def test_predict_keeps_the_entropy_of_every_pixel_and_removes_an_older_one(project, monkeypatch):
    import runmaking

    from napari_activeft.prediction.predictor import Predictor
    from napari_activeft.training_data import stacks

    # MONAI's takes seconds to load.
    monkeypatch.setattr(runmaking, "NETWORK", "vm_unet_conv_nano")
    saved = runmaking.make_run(project, temperature=1.0)
    plain = {"tta": "none", "device": "cpu", "precision": "float32"}
    first, second, third = project.store.volumes()

    def kept(volume):
        return read_entropy(entropy_file(saved.folder, volume.content_hash))

    workflow.predict(project, PredictSettings(**plain, entropy=True, volumes=(first.name,)))
    assert kept(second) is kept(third) is None
    (stack, *_) = stacks(project)
    predictor = Predictor.load(saved, device="cpu", precision="float32")
    slices = predictor.volume(stack.read, stack.depth, stack.shape, stack.spacing)
    expected = np.stack([np.round(one.entropy * 255) for one in slices])
    assert kept(first).dtype == np.uint8
    np.testing.assert_array_equal(kept(first), expected)
    assert 0 < kept(first).mean() <= 255

    workflow.predict(project, PredictSettings(**plain, volumes=(second.name,)))
    assert kept(first) is not None, "it was not predicted anew"
    workflow.predict(project, PredictSettings(**plain))
    assert kept(first) is None


# Several folders at once, and words


def test_several_folders_are_added_as_if_one_by_one_with_one_progress(tmp_path):
    one = write_folder(tmp_path / "one", patients=2, labels=False)
    file = tmp_path / "two" / "single.nii.gz"
    write_volume(file, seed=77)
    told = []
    with make_project(tmp_path / "p", classes=()) as project:
        result = workflow.add_all(
            project,
            AddAllSettings(paths=(one, file), case="file"),
            lambda done, total: told.append((done, total)),
        )
        assert len(project.store.volumes()) == 3

    assert (result.added, result.problems) == (3, [])
    assert {name: each.added for name, each in result.paths.items()} == {str(one): 2, str(file): 1}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {total for _, total in told} == {2000}
    assert {500, 1000, 2000} <= {done for done, _ in told}


def test_a_folder_that_was_added_before_a_stop_stays(tmp_path):
    folders = tuple(
        write_folder(tmp_path / name, patients=1, frames=frames, labels=False)
        for name, frames in [("one", 1), ("two", 2)]
    )
    write_volume(folders[1] / "patient1" / "p1_frame1.nii.gz", seed=55)

    def stop(done, total):
        del total
        if done > 1000:
            raise Cancelled

    with make_project(tmp_path / "p", classes=()) as project:
        with pytest.raises(Cancelled):
            workflow.add_all(project, AddAllSettings(paths=folders), stop)
        assert 1 <= len(project.store.volumes()) < 3
        workflow.add_all(project, AddAllSettings(paths=folders))
        assert len(project.store.volumes()) == 3


def test_no_folder_is_nothing_to_add():
    with pytest.raises(ValueError, match="paths"):
        AddAllSettings(paths=())
    assert AddAllSettings(paths=("a",)).absolute().paths == (Path.cwd() / "a",)


@given(st.integers(0, 10_000))
def test_a_number_has_its_noun_in_the_plural_where_it_is_not_one(number):
    plural = number != 1
    assert counted(number, "slice") == f"{number} {'slices' if plural else 'slice'}"
    assert counted(number, "query") == f"{number} {'queries' if plural else 'query'}"
    assert counted(number, "index", "indices") == f"{number} {'indices' if plural else 'index'}"
