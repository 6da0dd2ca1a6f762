"""The cache of encoder weights, against a server here; nano stands for official files."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path

import pytest
import torch
from fileserver import Server
from napari_activeft.models.checkpoints import load_checkpoint, weight_hash
from napari_activeft.models.published import published
from napari_activeft.models.registry import build_model

from napari_activeft import weights
from napari_activeft.errors import Cancelled, UserError
from napari_activeft.kept_weights import sha256_of

NANO, MICRO = "vmamba_nano", "vmamba_micro"


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> Path:
    """A file in the official format."""
    path = tmp_path_factory.mktemp("official") / "nano.pth"
    torch.save({"model": build_model(NANO, seed=5).state_dict()}, path)
    return path


@pytest.fixture
def server(official):
    with Server(official.read_bytes()) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("NAPARI_ACTIVEFT_WEIGHTS", str(tmp_path / "weights"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "weights"


def part_of(folder: Path) -> Path:
    return folder / f"{NANO}.pth.part"


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


# -- fetching ------------------------------------------------------------------------------------


def test_a_download_is_checked_converted_and_recorded(server, official, folder):
    steps: list[tuple[int, int]] = []

    kept = weights.fetch(NANO, lambda done, total: steps.append((done, total)), server.url)

    assert_kept(kept, official, folder)
    size = official.stat().st_size
    assert steps[0] == (0, size)
    assert steps[-1] == (size, size)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert kept.source == server.url
    (entry,) = (e for e in weights.list_weights() if e.present)
    assert (entry.name, entry.sha256, entry.size) == (NANO, kept.sha256, kept.size)
    assert weights.weights_path(NANO) == kept.path


def test_what_is_there_is_not_fetched_again(server):
    kept = weights.fetch(NANO, url=server.url)

    again = weights.fetch(NANO)

    assert again == dataclasses.replace(kept, already_there=True)
    assert len(server.asked) == 1


def test_a_cut_connection_is_gone_on_with(server, official, folder):
    server.breaks_after = 1_000_000
    with pytest.raises(UserError, match=r"broke off at 1000000 of .* the same command goes on"):
        weights.fetch(NANO, url=server.url)
    assert part_of(folder).stat().st_size == 1_000_000
    server.breaks_after = None
    steps: list[int] = []

    kept = weights.fetch(NANO, lambda done, _: steps.append(done), server.url)

    assert server.asked == [None, "bytes=1000000-"]
    assert server.sent == official.stat().st_size
    assert steps[0] == 1_000_000
    assert_kept(kept, official, folder)


def test_a_cancelled_download_keeps_what_it_has(server, official, folder):
    def stop(done: int, _: int) -> None:
        if done > 500_000:
            raise Cancelled

    with pytest.raises(Cancelled):
        weights.fetch(NANO, stop, server.url)

    held = part_of(folder).stat().st_size
    assert 500_000 < held < official.stat().st_size
    kept = weights.fetch(NANO, url=server.url)
    assert server.asked[-1] == f"bytes={held}-"
    assert_kept(kept, official, folder)


def test_a_server_that_cannot_resume_starts_again(server, official, folder):
    server.breaks_after = 1_000_000
    with pytest.raises(UserError):
        weights.fetch(NANO, url=server.url)
    server.breaks_after, server.ranges = None, False

    kept = weights.fetch(NANO, url=server.url)

    assert_kept(kept, official, folder)


def test_halves_of_two_versions_are_never_joined(server, official, folder):
    server.breaks_after = 1_000_000
    with pytest.raises(UserError):
        weights.fetch(NANO, url=server.url)
    part_of(folder).write_bytes(b"x" * 1_000_000)  # what the older version held
    server.breaks_after, server.etag = None, '"two"'

    kept = weights.fetch(NANO, url=server.url)

    assert_kept(kept, official, folder)


@pytest.mark.parametrize("more", [0, 10], ids=["all of it", "more than there is"])
def test_a_part_with_nothing_left_to_fetch_is_finished(more, server, official, folder):
    folder.mkdir()
    part_of(folder).write_bytes(official.read_bytes() + b"x" * more)

    kept = weights.fetch(NANO, url=server.url)

    assert_kept(kept, official, folder)
    assert len(server.asked) == (2 if more else 1)


@pytest.mark.parametrize("status", [404, 403, 500])
def test_a_refusal_of_the_server_says_what_to_do(status, server):
    server.status = status

    with pytest.raises(UserError) as refusal:
        weights.fetch("vmamba_tiny_s1l8", url=server.url)

    told = str(refusal.value)
    assert f"{server.url} answered {status}" in told
    assert "weights import vssm1_tiny_0230s_ckpt_epoch_264.pth" in told


def test_no_network_says_what_to_do(server):
    url = server.url
    server.shutdown()
    server.server_close()

    with pytest.raises(UserError, match=r"cannot be reached .*without a network here, get"):
        weights.fetch(NANO, url=url)


def test_an_address_of_another_kind_is_refused(official):
    with pytest.raises(UserError, match="is no address of the web"):
        weights.fetch(NANO, url=official.as_uri())


def test_a_download_that_fits_another_encoder_is_refused_and_removed(server, folder):
    with pytest.raises(UserError, match="these are the weights of vmamba_nano"):
        weights.fetch("vmamba_tiny_s1l8", url=server.url)

    assert not list(folder.iterdir())


def test_a_sign_in_page_in_place_of_weights_is_refused(server, folder):
    server.content = b"<html>please sign in</html>"

    with pytest.raises(UserError, match="no file of weights"):
        weights.fetch(NANO, url=server.url)

    assert not list(folder.iterdir())


def test_a_file_that_was_put_into_the_folder_is_taken_without_a_network(
    official, folder, monkeypatch
):
    entry = weights.WeightEntry(
        NANO, "vssm_nano.pth", "https://nowhere.invalid/vssm_nano.pth", None, None, "MIT", False,
        folder / f"{NANO}.safetensors", None, None, None,
    )  # fmt: skip
    monkeypatch.setattr(weights, "_entry", lambda _: entry)
    folder.mkdir()
    (folder / "vssm_nano.pth").write_bytes(official.read_bytes())

    kept = weights.fetch(NANO)

    assert kept.source == str(folder / "vssm_nano.pth")
    assert kept.path.is_file()


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

    with pytest.raises(UserError, match=r"1 weights are missing \(layers.1.blocks.0.op.Ds\)"):
        weights.import_file(tmp_path / "bad.pth")


def test_a_file_of_something_else_is_refused(tmp_path):
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")

    with pytest.raises(UserError, match="holds the weights of no network that is known"):
        weights.import_file(tmp_path / "other.pth")


def test_a_segmentation_file_lacks_the_classifier_and_is_refused(official, tmp_path):
    state = load_checkpoint(official)
    body = {f"backbone.{k}": v for k, v in state.items() if not k.startswith("classifier.")}
    norms = {f"backbone.outnorm3.{leaf}": torch.ones(192) for leaf in ("weight", "bias")}
    torch.save({"state_dict": body | norms}, tmp_path / "upernet.pth")

    with pytest.raises(UserError, match="comes from segmentation or detection with vmamba_nano"):
        weights.import_file(tmp_path / "upernet.pth")


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
    monkeypatch.setattr(weights, "find_spec", lambda _: None)

    assert weights.list_weights()
    with pytest.raises(UserError, match=r"pip install 'napari-activeft\[compute\]'"):
        weights.import_file(official)
