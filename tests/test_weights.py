"""The folder of encoder weights: listed, imported, verified; nano stands for official files."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from napari_activeft.models.checkpoints import feature_hash, load_checkpoint, weight_hash
from napari_activeft.models.published import published
from napari_activeft.models.registry import build_model

from napari_activeft import extras, taken_weights, weights
from napari_activeft.errors import UserError
from napari_activeft.kept_weights import sha256_of

NANO, MICRO = "vmamba_nano", "vmamba_micro"


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> Path:
    """A file in the official format."""
    path = tmp_path_factory.mktemp("official") / "nano.pth"
    torch.save({"model": build_model(NANO, seed=5).state_dict()}, path)
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("NAPARI_ACTIVEFT_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def saved(folder: Path, **build: int) -> Path:
    """Write a file as a user's own training does."""
    path = folder / "own.pth"
    torch.save({"model": build_model(NANO, **build).state_dict()}, path)
    return path


def no_room(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def assert_kept(kept, official: Path, folder: Path) -> None:
    assert kept.path == folder / f"{NANO}.safetensors"
    assert kept.sha256 == sha256_of(kept.path)
    assert kept.source_sha256 == sha256_of(official)
    assert kept.weight_hash == weight_hash(load_checkpoint(official))
    assert kept.weight_hash == weight_hash(load_checkpoint(kept.path))
    assert sorted(f.name for f in folder.iterdir()) == [f"{NANO}.json", f"{NANO}.safetensors"]


# -- the list ------------------------------------------------------------------------------------


def test_the_list_names_every_published_encoder_with_its_facts(folder):
    entries = {entry.name: entry for entry in weights.list_weights()}

    assert {name for name, facts in published().items() if facts.file} | {NANO, MICRO} == set(
        entries
    )
    small = entries["vmamba_small_s2l15"]
    assert small.file == "vssm_small_0229_ckpt_epoch_222.pth"
    assert small.url.endswith(f"%23v2cls/{small.file}")
    assert (small.parameters, small.top1, small.licence) == (50147752, 83.6, "MIT")
    assert entries["vmamba_v0_base"].file == "vssmbase_dp06_ckpt_epoch_241.pth"
    assert not any(entry.present for entry in entries.values())
    assert not folder.exists()


def test_the_number_of_parameters_holds_where_no_fixture_lists_them():
    bare = [name for name, facts in published().items() if not facts.shapes]

    assert bare == ["vmamba_v0_base"]
    with torch.device("meta"):
        model = build_model(bare[0])
    assert sum(p.numel() for p in model.parameters()) == published()[bare[0]].parameters


def test_the_folder_is_the_users_cache_unless_it_is_named(monkeypatch, tmp_path):
    assert weights.weights_folder() == tmp_path / "weights"

    monkeypatch.delenv("NAPARI_ACTIVEFT_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights.weights_folder().parts[-2:] == ("napari-activeft", "weights")


def test_what_is_not_here_says_how_to_get_it(folder):
    with pytest.raises(UserError) as refusal:
        weights.weights_path("vmamba_small_s2l15")

    told = str(refusal.value)
    assert "`napari-activeft weights fetch vmamba_small_s2l15`" in told
    assert "https://github.com/MzeroMiko/VMamba/releases/download/%23v2cls/vssm_small" in told
    assert "weights import vssm_small_0229_ckpt_epoch_222.pth" in told
    assert str(folder) in told


def test_an_unknown_name_is_refused():
    for ask in (weights.fetch, weights.weights_path, weights.verify):
        with pytest.raises(UserError, match="no weights are called 'resnet'"):
            ask("resnet")


def test_weights_that_nobody_published_cannot_be_fetched():
    with pytest.raises(UserError, match="nobody published weights for it: train it"):
        weights.fetch(NANO)


# -- importing and verifying -----------------------------------------------------------------------


def test_an_imported_file_is_recognised_and_left_where_it_is(official, folder):
    kept = weights.import_file(official)

    assert kept.name == NANO
    assert official.is_file()
    assert_kept(kept, official, folder)
    network = build_model(NANO, channels=1)
    assert weights.load_weights(network, weights.weights_path(NANO), NANO).stem_adapted


def test_a_file_of_another_encoder_than_was_said_is_refused(official, folder):
    with pytest.raises(UserError, match=r"does not fit vmamba_micro: .* weights of vmamba_nano"):
        weights.import_file(official, MICRO)

    assert not list(folder.iterdir())


def test_a_nearly_fitting_file_is_refused_with_what_it_lacks(official, tmp_path):
    state = load_checkpoint(official)
    del state["layers.1.blocks.0.op.Ds"]
    torch.save(state, tmp_path / "bad.pth")

    with pytest.raises(UserError, match=r"1 weight is missing \(layers.1.blocks.0.op.Ds\)"):
        weights.import_file(tmp_path / "bad.pth")


def test_a_file_of_something_else_is_refused(tmp_path):
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")

    with pytest.raises(UserError, match="holds the weights of no network that is known"):
        weights.import_file(tmp_path / "other.pth")


def test_another_classifier_is_left_out_and_said(tmp_path):
    own = saved(tmp_path, classes=4, seed=5)

    kept = weights.import_file(own)

    assert kept.notes == (
        f"{own} has a classifier of its own, which was left out: vectors do without it",
    )
    network = build_model(NANO, seed=1)
    assert weights.load_weights(network, kept.path, NANO).fresh
    assert feature_hash(network.state_dict()) == feature_hash(load_checkpoint(own))
    assert weights.verify(NANO)[0].sound
    weights.load_weights(build_model(NANO, seed=1), own, NANO)  # as `embed --weights` does


def test_a_segmentation_file_needs_no_classifier(official, tmp_path):
    state = load_checkpoint(official)
    body = {f"backbone.{k}": v for k, v in state.items() if not k.startswith("classifier.")}
    norms = {
        f"backbone.outnorm{i}.{leaf}": torch.ones(24 * 2**i)
        for i in range(4)
        for leaf in ("weight", "bias")
    }
    torch.save({"state_dict": body | norms}, tmp_path / "upernet.pth")

    kept = weights.import_file(tmp_path / "upernet.pth")

    assert [note.split(":")[0] for note in kept.notes] == [
        f"{tmp_path / 'upernet.pth'} has no classifier",
        "the norms that segmentation puts on the stages were left out",
    ]
    network = build_model(NANO)
    weights.load_weights(network, kept.path, NANO)
    assert torch.equal(network.classifier.norm.bias, torch.ones(192))


def test_a_stem_that_was_trained_on_grey_is_kept_and_recorded(tmp_path):
    own = saved(tmp_path, channels=1, seed=5)

    kept = weights.import_file(own)

    assert kept.channels == 1
    assert kept.notes == ("these weights were trained on grey images",)
    assert json.loads(kept.path.with_suffix(".json").read_text(encoding="utf-8"))["channels"] == 1
    assert weights.import_file(own).channels == 1
    grey, network = build_model(NANO, channels=1, seed=5).eval(), build_model(NANO).eval()
    weights.load_weights(network, kept.path, NANO)
    image = torch.randn(1, 1, 40, 40)
    with torch.inference_mode():
        wanted = grey.forward_features(image).pooled
        got = network.forward_features(image.expand(-1, 3, -1, -1)).pooled
    assert torch.allclose(got, wanted, atol=1e-5)


def test_a_stem_of_more_channels_fits_images_of_as_many_and_no_others(tmp_path):
    kept = weights.import_file(saved(tmp_path, channels=4, seed=5))

    assert kept.channels == 4
    weights.load_weights(build_model(NANO, channels=4), kept.path, NANO)
    with pytest.raises(UserError, match="give images of 4 channels, or a file for 1 or 3"):
        weights.load_weights(build_model(NANO), kept.path, NANO)


def test_a_stem_of_more_channels_than_any_model_takes_is_a_sentence(official, tmp_path):
    state = load_checkpoint(official)
    state["patch_embed.0.weight"] = torch.zeros(12, 17, 3, 3)
    torch.save(state, tmp_path / "own.pth")

    with pytest.raises(UserError, match="17 input channels were asked of vmamba_nano"):
        weights.import_file(tmp_path / "own.pth")


def test_other_weights_are_replaced_only_where_that_is_said(official, tmp_path):
    first = weights.import_file(official)
    own = saved(tmp_path, seed=6)

    with pytest.raises(UserError, match=r"other weights of vmamba_nano are kept .*--replace"):
        weights.import_file(own)

    assert weights.verify(NANO)[0].sound
    assert load_checkpoint(first.path).keys() == load_checkpoint(official).keys()
    assert weight_hash(load_checkpoint(first.path)) == first.weight_hash
    kept = weights.import_file(own, replace=True)
    assert not kept.already_there
    assert kept.weight_hash == weight_hash(load_checkpoint(own)) != first.weight_hash


def test_the_same_weights_are_there_already(official, tmp_path):
    first = weights.import_file(official)
    torch.save(load_checkpoint(official), tmp_path / "bare.pth")

    assert weights.import_file(tmp_path / "bare.pth") == dataclasses.replace(
        first, already_there=True
    )


def test_damaged_weights_make_room_for_sound_ones(official):
    first = weights.import_file(official)
    first.path.write_bytes(b"damaged")

    assert weights.import_file(official).weight_hash == first.weight_hash
    assert weights.verify(NANO)[0].sound


@pytest.mark.parametrize("at", ["the weights", "the record"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half(at, official, folder, monkeypatch):
    if at == "the weights":
        monkeypatch.setattr(safetensors.torch, "save_file", no_room)
    else:
        monkeypatch.setattr(taken_weights, "write_record", no_room)

    with pytest.raises(UserError) as refusal:
        weights.import_file(official)

    assert str(refusal.value) == (
        f"the weights of {NANO} cannot be kept in {folder} (No space left on device): make room "
        "there or name another folder in NAPARI_ACTIVEFT_WEIGHTS, then run the same command again"
    )
    assert not list(folder.iterdir())


def test_kept_weights_can_be_read_by_others_of_a_shared_folder(official):
    before = os.umask(0o022)
    try:
        kept = weights.import_file(official)
    finally:
        os.umask(before)

    assert kept.path.stat().st_mode & 0o777 == 0o644


def test_a_file_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        weights.import_file(tmp_path / "nowhere.pth")


def test_a_folder_that_cannot_be_made_is_a_sentence(monkeypatch, tmp_path, official):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NAPARI_ACTIVEFT_WEIGHTS", str(tmp_path / "file" / "weights"))

    with pytest.raises(UserError, match="name another one in NAPARI_ACTIVEFT_WEIGHTS"):
        weights.import_file(official)


def test_sound_weights_verify(official):
    weights.import_file(official)

    (verified,) = weights.verify()

    assert verified == weights.verify(NANO)[0]
    assert (verified.name, verified.sound, verified.sentence) == (NANO, True, "")


def test_nothing_here_verifies_as_nothing():
    assert weights.verify() == []


def test_a_changed_byte_is_found(official):
    path = weights.import_file(official).path
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    (verified,) = weights.verify()

    assert not verified.sound
    assert "SHA-256 has changed" in verified.sentence
    assert verified.sentence.endswith(
        f": remove {path}, then run `napari-activeft weights import FILE` with the file of your "
        "own training (nobody published any)"
    )


def test_a_lost_record_is_found(official):
    path = weights.import_file(official).path
    path.with_suffix(".json").write_text("{", encoding="utf-8")

    (verified,) = weights.verify()

    assert not verified.sound
    assert "no sound vmamba_nano.json" in verified.sentence


def test_weights_under_the_wrong_name_are_found(official, folder):
    kept = weights.import_file(official)
    kept.path.replace(folder / f"{MICRO}.safetensors")
    record = json.loads(kept.path.with_suffix(".json").read_text(encoding="utf-8"))
    (folder / f"{MICRO}.json").write_text(json.dumps(record), encoding="utf-8")

    (verified,) = weights.verify(MICRO)

    assert not verified.sound
    assert "holds the weights of vmamba_nano" in verified.sentence


def test_without_torch_the_list_works_and_the_rest_says_what_to_install(official, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda _: None)

    assert weights.list_weights()
    with pytest.raises(UserError, match=r"pip install 'napari-activeft\[compute\]'"):
        weights.import_file(official)
