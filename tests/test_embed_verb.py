"""The verb `embed`, from the command line: every encoder, what is refused, what survives."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from imagemaking import SHARED
from napari_activeft.models.checkpoints import save_safetensors
from napari_activeft.models.registry import build_model
from projectmaking import assert_sentence, make_project, run_python, write_folder, write_volume

from napari_activeft import extras, vectors, workflow
from napari_activeft.embedding.network import NetworkEncoder
from napari_activeft.encoder_sources import BUNDLED
from napari_activeft.errors import UserError
from napari_activeft.feature_sets import FeatureSet
from napari_activeft.project import Project
from napari_activeft.settings import AddSettings, EmbedSettings

SLICES = 12  # of the project: three volumes of four
KILLED = """
import contextlib, os, signal, sys
from napari_activeft import cli, terminal
from napari_activeft.embedding import engine

engine._SECONDS = 0.0

@contextlib.contextmanager
def progress(what):
    def on_progress(done, total):
        if done >= 6:
            os.kill(os.getpid(), signal.SIGKILL)
    yield on_progress

terminal.progress = progress
sys.argv = ["napari-activeft", *sys.argv[1:]]
cli.main()
"""

BY_PCA = ("--encoder", "pixels_pca")


@pytest.fixture(autouse=True)
def _empty_weight_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_ACTIVEFT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.delenv("NAPARI_ACTIVEFT_SCAN", raising=False)


@pytest.fixture
def embedded(command_line, images):
    """The command line on a project with three volumes."""
    command_line.bare("init", command_line.project)
    command_line("add", images, "--labels", "*_gt.nii.gz")
    return command_line


def vectors_of(folder, encoder=None, **options):
    with Project.open(folder) as project:
        made, found = vectors.load_vectors(project, project.store.pool_slices(), encoder, **options)
        return made, np.array(found)


def nano_file(path, seed=7):
    save_safetensors(build_model("vmamba_nano", seed=seed).state_dict(), path)
    return path


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ([], 1764),
        (["--encoder", "pixels_pca"], SLICES - 1),
        (["--encoder", "hog", "--size", "64"], 324),
        (["--encoder", "vmamba_nano", "--random-weights", "--size", "32"], 192),
    ],
    ids=["default", "pixels_pca", "small hog", "network"],
)
def test_every_slice_gets_a_vector_once(embedded, arguments, size):
    first = embedded.json("embed", *arguments)
    again = embedded.json("embed", *arguments)

    assert (first["embedded"], first["computed"], first["size"]) == (SLICES, SLICES, size)
    assert (again["embedded"], again["computed"]) == (SLICES, 0)
    made, found = vectors_of(embedded.project)
    assert found.shape == (SLICES, size)
    assert np.isfinite(found).all()
    assert len(np.unique(found, axis=0)) == SLICES
    assert made.random_weights == ("--random-weights" in arguments)
    assert (embedded.project / "embeddings") in made.folder.parents


def test_the_default_is_hog_and_info_lists_what_was_made(embedded):
    embedded("embed", *BY_PCA)
    embedded("embed")

    made = embedded.json("info")["embeddings"]

    assert [one["encoder"] for one in made] == ["hog", "pixels_pca"]
    assert {one["slices"] for one in made} == {SLICES}
    assert "embedded by hog at 128 x 128: 12 slices" in embedded("info").stdout


def test_info_names_the_scan_that_serves(embedded, monkeypatch):
    assert "serves the device cpu (the automatic choice)" in embedded("info").stdout
    monkeypatch.setenv("NAPARI_ACTIVEFT_SCAN", "torch")

    scans = embedded.json("info")["scans"]

    assert scans["torch"] == "serves the device cpu (NAPARI_ACTIVEFT_SCAN asks for it)"
    assert set(scans) == {"reference", "torch", "c", "triton", "mamba_ssm"}


def test_only_new_volumes_are_computed(embedded, tmp_path):
    embedded("embed", "--encoder", "hog")
    _, before = vectors_of(embedded.project)
    write_volume(tmp_path / "more" / "patient0" / "p.nii.gz", seed=77)
    embedded("add", tmp_path / "more")

    result = embedded.json("embed", "--encoder", "hog")

    assert (result["embedded"], result["computed"]) == (SLICES + 4, 4)
    with Project.open(embedded.project) as project:
        pool = project.store.pool_slices()
        _, after = vectors.load_vectors(project, pool)
    old = [row for row, one in enumerate(pool) if one.case != "patient0/p"]
    assert np.array_equal(np.array(after)[old], before)


def test_neither_the_order_of_adding_nor_the_batch_changes_a_vector(tmp_path):
    images = write_folder(tmp_path / "images", labels=False)
    found = []
    for name, order, batch in (("a", (1, 2, 3), 1), ("b", (3, 1, 2), 5)):
        with make_project(tmp_path / name) as project:
            for patient in order:
                workflow.add(project, images / f"patient{patient}", AddSettings(case="file"))
            settings = EmbedSettings(
                encoder="vmamba_nano",
                random_weights=True,
                size=64,
                batch=batch,
                precision="float32",
            )
            workflow.embed(project, settings)
            pool = project.store.pool_slices()
            _, rows = vectors.load_vectors(project, pool)
            found.append({row.key: vector for row, vector in zip(pool, rows, strict=True)})

    assert found[0].keys() == found[1].keys()
    for key, vector in found[0].items():
        assert np.allclose(vector, found[1][key], rtol=1e-4, atol=1e-5)


def test_a_killed_run_goes_on_where_it_was(embedded, tmp_path):
    arguments = ("embed", "--encoder", "hog", "--batch", "2")
    killed = run_python("-c", KILLED, *arguments, "--project", embedded.project)
    assert killed.returncode == -9

    result = embedded.json(*arguments)

    assert 0 < result["computed"] <= SLICES - 4
    assert result["embedded"] == SLICES
    _, resumed = vectors_of(embedded.project)
    shutil.rmtree(embedded.project / "embeddings")
    embedded(*arguments)
    assert np.array_equal(resumed, vectors_of(embedded.project)[1])


def test_an_image_that_is_gone_is_listed_and_stops_no_other(embedded, images):
    gone = next(images.glob("patient2/*frame1.nii.gz"))
    kept = gone.read_bytes()
    gone.unlink()

    result = embedded.json("embed", "--encoder", "hog", code=1)

    assert (result["embedded"], len(result["problems"])) == (SLICES - 4, 1)
    with pytest.raises(UserError, match="4 of 12 slices have no vector by hog"):
        vectors_of(embedded.project)
    gone.write_bytes(kept)
    assert embedded.json("embed", "--encoder", "hog")["computed"] == 4
    assert len(vectors_of(embedded.project)[1]) == SLICES


def test_an_image_that_changed_is_listed_and_not_embedded(embedded, images):
    changed = next(images.glob("patient2/*frame1.nii.gz"))
    kept = changed.read_bytes()
    write_volume(changed, seed=123)

    result = embedded.json("embed", "--encoder", "hog", code=1)

    (problem,) = result["problems"]
    assert "changed since it was added" in problem["sentence"]
    changed.write_bytes(kept)
    embedded("embed", "--encoder", "hog")
    _, mended = vectors_of(embedded.project)
    shutil.rmtree(embedded.project / "embeddings")
    embedded("embed", "--encoder", "hog")
    assert np.array_equal(mended, vectors_of(embedded.project)[1])


def test_components_are_learnt_from_all_images_once_they_are_back(embedded, images):
    gone = next(images.glob("patient2/*frame1.nii.gz"))
    gone.rename(gone.with_suffix(".away"))
    embedded("embed", *BY_PCA, code=1)
    gone.with_suffix(".away").rename(gone)

    after = embedded.json("embed", *BY_PCA)

    shutil.rmtree(embedded.project / "embeddings")
    assert embedded.json("embed", *BY_PCA)["weight_hash"] == after["weight_hash"]


def test_a_pool_that_grew_leaves_one_embedding_by_pixels_pca(embedded, tmp_path):
    embedded("embed", *BY_PCA)
    write_volume(tmp_path / "more" / "patient0" / "p.nii.gz", seed=77)
    embedded("add", tmp_path / "more")

    embedded("embed", *BY_PCA)

    (made,) = embedded.json("info")["embeddings"]
    assert made["slices"] == SLICES + 4


def test_the_vectors_used_last_are_the_ones_that_count(embedded):
    for size in ("32", "64", "48"):
        embedded("embed", "--encoder", "hog", "--size", size)
    embedded("embed", *BY_PCA)
    embedded("embed", "--encoder", "hog", "--size", "64")

    assert vectors_of(embedded.project)[0].side == 64
    assert vectors_of(embedded.project, "pixels_pca")[0].side == 64
    assert [one["side"] for one in embedded.json("info")["embeddings"]] == [64, 64, 48, 32]


def test_random_weights_are_told_apart_from_the_same_weights_of_a_file(embedded, tmp_path):
    asked = ("embed", "--encoder", "vmamba_nano", "--size", "32")
    embedded(*asked, "--random-weights", "--seed", "7")
    embedded(*asked, "--weights", nano_file(tmp_path / "n.safetensors", seed=7))

    made = embedded.json("info")["embeddings"]

    assert [one["random_weights"] for one in made] == [False, True]
    assert "random weights" in embedded("info").stdout


def test_one_damaged_embedding_is_named_and_stops_no_other(embedded):
    embedded("embed", "--encoder", "hog")
    embedded("embed", *BY_PCA)
    hog = next((embedded.project / "embeddings").glob("hog-*"))
    (hog / "embedding.json").write_text("{")

    result = embedded("info")

    assert "1 embedding passed over" in result.stderr
    assert vectors_of(embedded.project)[0].encoder == "pixels_pca"


def test_a_damaged_basis_is_fitted_anew(embedded):
    first = embedded.json("embed", *BY_PCA)
    basis = next((embedded.project / "embeddings").glob("*.npz"))
    basis.write_bytes(basis.read_bytes()[:1000])

    again = embedded.json("embed", *BY_PCA)

    assert (again["weight_hash"], again["computed"]) == (first["weight_hash"], 0)


def test_two_runs_at_once_end_well_or_with_a_sentence(embedded):
    command = [sys.executable, "-m", "napari_activeft", "embed", "-p", str(embedded.project)]
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [(run.communicate(), run.returncode) for run in runs]

    assert 0 in [code for _, code in ended]
    for (_, error), code in ended:
        assert code == 0 or "another process is embedding" in error
    assert len(vectors_of(embedded.project)[1]) == SLICES


def test_vectors_are_written_for_other_programs(embedded, tmp_path):
    out = tmp_path / "a folder" / "pool.npy"

    embedded("embed", "--encoder", "hog", "--out", out, "--l2")

    table = np.genfromtxt(out.with_suffix(".csv"), delimiter=",", dtype=str, skip_header=1)
    found = np.load(out)
    assert found.shape == (SLICES, 1764)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert table.shape == (SLICES, 6)
    assert list(table[:5, 3]) == ["0", "1", "2", "3", "0"]
    with Project.open(embedded.project) as project:
        emptiness = [row.emptiness for row in project.store.pool_slices()]
    assert FeatureSet.read(out).emptiness.tolist() == emptiness
    made, rows = vectors_of(embedded.project, l2=True)
    assert np.allclose(rows, found)
    assert made.encoder == "hog"


def test_a_network_embeds_with_the_weights_of_a_file(embedded, tmp_path):
    file = nano_file(tmp_path / "nano weights.safetensors")
    asked = ("embed", "--encoder", "vmamba_nano", "--size", "32")

    by_file = embedded.json(*asked, "--weights", file)
    _, from_file = vectors_of(embedded.project)
    by_seed = embedded.json(*asked, "--random-weights", "--seed", "7")

    assert by_file["random_weights"] is False
    assert by_seed["weight_hash"] == by_file["weight_hash"]
    embedded.bare("weights", "import", file)
    cached = embedded.json(*asked)
    assert (cached["weight_hash"], cached["computed"]) == (by_file["weight_hash"], 0)
    other = embedded.json(*asked, "--weights", nano_file(tmp_path / "other.safetensors", seed=8))
    assert other["computed"] == SLICES
    assert not np.allclose(vectors_of(embedded.project)[1], from_file)


def here(command_line):
    """Return the names of the weights that are on this computer."""
    listed = command_line.bare_json("weights", "list")["weights"]
    return [one["name"] for one in listed if one["present"]]


def test_weights_are_listed_imported_and_verified(embedded, tmp_path):
    file = nano_file(tmp_path / "nano.safetensors")
    assert here(embedded) == [BUNDLED]

    kept = embedded.bare_json("weights", "import", file)

    assert here(embedded) == [BUNDLED, kept["name"]] == [BUNDLED, "vmamba_nano"]
    assert "vmamba_nano: sound" in embedded.bare("weights", "verify").stdout
    with Path(kept["path"]).open("r+b") as held:
        held.seek(-4, 2)
        held.write(b"\1\2\3\4")
    damaged = embedded.bare("weights", "verify", code=1)
    assert "SHA-256 has changed" in damaged.stdout


def test_other_weights_of_an_encoder_replace_the_kept_ones_only_on_request(embedded, tmp_path):
    embedded.bare("weights", "import", nano_file(tmp_path / "one.safetensors", seed=1))
    other = nano_file(tmp_path / "two.safetensors", seed=2)

    refused = embedded.bare("weights", "import", other, code=1).stderr

    assert "--replace" in refused
    assert "should not happen" not in refused
    embedded.bare("weights", "import", other, "--replace")
    assert "vmamba_nano: sound" in embedded.bare("weights", "verify").stdout


def test_a_network_trained_on_other_classes_embeds(embedded, tmp_path):
    trained = build_model("vmamba_nano", classes=4, seed=7).state_dict()
    save_safetensors(trained, tmp_path / "trained.safetensors")
    asked = ("embed", "--encoder", "vmamba_nano", "--size", "32")

    with_other_head = embedded.json(*asked, "--weights", tmp_path / "trained.safetensors")

    assert with_other_head["embedded"] == SLICES


def test_several_channels_are_one_picture(command_line, tmp_path):
    folder = tmp_path / "images"
    for patient in range(1, 4):
        for channel in ("t1", "t2"):
            write_volume(
                folder / f"p{patient}" / f"p{patient}_{channel}.nii.gz", seed=patient + len(channel)
            )
    command_line.bare("init", command_line.project)
    command_line("add", folder, "--channels", "*_t1.nii.gz", "--channels", "*_t2.nii.gz")

    for encoder in (["hog"], ["pixels_pca"], ["vmamba_nano", "--random-weights", "--size", "32"]):
        result = command_line.json("embed", "--encoder", *encoder)
        assert result["embedded"] == SLICES
    write_volume(tmp_path / "single" / "q.nii.gz", seed=99)
    refused = command_line.json("add", tmp_path / "single", code=1)
    sentence = refused["problems"][0]["sentence"]
    assert "has 1 channel, but the volumes of this project, such as p1" in sentence


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--encoder", "vmamba_nan"], "no encoder is called"),
        (["--encoder", "vmamba_nano"], "weights import"),
        (["--encoder", "vmamba_small_s2l15"], "vssm_small_0229_ckpt_epoch_222.pth"),
        (["--encoder", "hog", "--random-weights"], "--random-weights was given"),
        (["--encoder", "hog", "--device", "cuda:7"], "--device was given"),
        (["--encoder", "pixels_pca", "--scan", "c"], "--scan was given"),
        (["--encoder", "vmamba_nano", "--random-weights", "--scan", "triton"], "triton"),
        (["--encoder", "vmamba_nano", "--random-weights", "--device", "cuda:7"], "cuda:7"),
        (["--encoder", "vmamba_nano", "--random-weights", "--device", "gpu"], "gpu"),
        (["--encoder", "vmamba_nano", "--random-weights", "--scan", "mamba_ssm"], "mamba_ssm"),
        (["--encoder", "vmamba_nano", "--weights", "nowhere.pth"], "nowhere.pth"),
    ],
)
def test_what_is_not_there_is_one_sentence(embedded, arguments, said):
    line = embedded.refusal("embed", *arguments)

    assert said in line
    assert_sentence(line.removeprefix("error: "))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--size", "8"],
        ["--precision", "int8"],
        ["--scan", "numba"],
        ["--out", "vectors.csv"],
        ["--random-weights", "--weights", "file.pth"],
        ["--l2"],
    ],
)
def test_wrong_usage_is_refused_before_anything_is_done(embedded, arguments):
    embedded("embed", *arguments, code=2)

    assert not (embedded.project / "embeddings").exists()


@pytest.mark.parametrize("verb", [["embed"], ["weights", "import", "file.pth"]])
def test_without_the_extra_the_command_that_brings_it_is_named(embedded, monkeypatch, verb):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "torch" else True)

    line = (embedded if verb == ["embed"] else embedded.bare)(*verb, code=1).stderr

    assert "of which torch is not installed: pip install 'napari-activeft[compute]'" in line


def test_an_empty_pool_is_one_sentence(command_line):
    command_line.bare("init", command_line.project)

    assert "the pool is empty" in command_line.refusal("embed")


class _Huge(torch.nn.Module):
    """A network that only two pictures at once fit into."""

    def __init__(self, failure):
        super().__init__()
        self.failure, self.sizes = failure, []

    def forward_features(self, x):
        if len(x) > 2:
            raise self.failure
        self.sizes.append(len(x))
        return type("Features", (), {"pooled": x.mean(dim=(2, 3))})


@pytest.mark.parametrize(
    "failure",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1"),
    ],
    ids=["cuda", "python", "cpu"],
)
def test_a_batch_that_memory_does_not_hold_is_halved(failure):
    network = _Huge(failure)
    encoder = NetworkEncoder(
        "huge",
        network,
        channels=1,
        side=32,
        device=torch.device("cpu"),
        precision="float32",
    )

    found = encoder.embed(np.random.default_rng(0).random((7, 1, 32, 32), dtype=np.float32))

    assert found.shape == (7, 3)
    assert max(network.sizes) == 2


def test_a_network_that_gives_nan_is_named():
    class Broken(torch.nn.Module):
        def forward_features(self, x):
            return type("Features", (), {"pooled": x.mean(dim=(2, 3)) * float("nan")})

    encoder = NetworkEncoder(
        "broken", Broken(), channels=1, side=32, device=torch.device("cpu"), precision="float32"
    )

    with pytest.raises(UserError, match="broken gives NaN"):
        encoder.embed(np.zeros((1, 1, 32, 32), np.float32))


@pytest.mark.skipif(not (SHARED / "acdc").is_dir(), reason="shared/data/acdc is not here")
def test_heart_images_embed_with_a_file_in_the_official_format(command_line, tmp_path):
    patient = sorted((SHARED / "acdc").glob("patient*"))[0]
    state = build_model("vmamba_tiny_s2l5", seed=1).state_dict()
    torch.save({"model": state}, tmp_path / "vssm_tiny_0230_ckpt_epoch_262.pth")
    command_line.bare("init", command_line.project)
    command_line("add", patient, "--labels", "*_gt.nii.gz", "--ignore", "*_scribble.nii.gz")

    command_line.bare("weights", "import", tmp_path / "vssm_tiny_0230_ckpt_epoch_262.pth")
    result = command_line.json("embed", "--encoder", "vmamba_tiny_s2l5")

    assert result["size"] == 768
    assert result["embedded"] == result["pool_slices"] > 10
    assert json.loads((tmp_path / "weights" / "vmamba_tiny_s2l5.json").read_text())["sha256"]
