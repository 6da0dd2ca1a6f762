"""Fetching encoder weights from a server here; nano stands for official files."""

from __future__ import annotations

import dataclasses
import email.utils
import http.client
import ssl
import urllib.request
from pathlib import Path

import pytest
import safetensors.torch
import torch
from fileserver import serving
from napari_activeft.models.checkpoints import load_checkpoint, weight_hash
from napari_activeft.models.registry import build_model

from napari_activeft import weights
from napari_activeft.download import download
from napari_activeft.errors import Cancelled, UserError, no_progress
from napari_activeft.kept_weights import sha256_of

NANO = "vmamba_nano"


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> Path:
    """A file in the official format."""
    path = tmp_path_factory.mktemp("official") / "nano.pth"
    torch.save({"model": build_model(NANO, seed=5).state_dict()}, path)
    return path


@pytest.fixture
def server(official):
    with serving(official.read_bytes()) as made:
        yield made


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("NAPARI_ACTIVEFT_WEIGHTS", str(tmp_path / "weights"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "weights"


@pytest.fixture
def as_official(folder, server, monkeypatch) -> Path:
    """Let nano be fetched like a published encoder, and return where its file would be put."""
    entry = weights.WeightEntry(
        NANO, "vssm_nano.pth", server.url, None, None, "MIT", False,
        folder / f"{NANO}.safetensors", None, None, None,
    )  # fmt: skip
    monkeypatch.setattr(weights, "_entry", lambda _: entry)
    folder.mkdir()
    return folder / "vssm_nano.pth"


def part_of(folder: Path) -> Path:
    return folder / f"{NANO}.pth.part"


def assert_kept(kept, official: Path, folder: Path) -> None:
    assert kept.path == folder / f"{NANO}.safetensors"
    assert kept.sha256 == sha256_of(kept.path)
    assert kept.source_sha256 == sha256_of(official)
    assert kept.weight_hash == weight_hash(load_checkpoint(official))
    assert kept.weight_hash == weight_hash(load_checkpoint(kept.path))
    assert sorted(f.name for f in folder.iterdir()) == [f"{NANO}.json", f"{NANO}.safetensors"]


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


@pytest.mark.parametrize("etag", ['W/"one"', None], ids=["a weak mark", "no mark"])
@pytest.mark.parametrize("heeds", [True, False], ids=["If-Range heeded", "If-Range not heeded"])
def test_without_a_mark_of_the_version_a_download_begins_again(
    etag, heeds, server, official, folder
):
    server.etag, server.heeds_if_range, server.breaks_after = etag, heeds, 1_000_000
    with pytest.raises(UserError, match="run the same command again, it begins anew"):
        weights.fetch(NANO, url=server.url)
    part_of(folder).write_bytes(b"x" * 1_000_000)  # what the older version held
    server.breaks_after = None

    kept = weights.fetch(NANO, url=server.url)

    assert server.asked == [None, None]
    assert_kept(kept, official, folder)


def test_an_old_date_tells_versions_apart_where_there_is_no_strong_mark(server, official, folder):
    server.etag, server.changed = 'W/"one"', "Mon, 01 Jan 2024 00:00:00 GMT"
    server.breaks_after = 1_000_000
    with pytest.raises(UserError, match="goes on from there"):
        weights.fetch(NANO, url=server.url)
    server.breaks_after = None

    kept = weights.fetch(NANO, url=server.url)

    assert server.asked == [None, "bytes=1000000-"]
    assert server.conditions == [None, "Mon, 01 Jan 2024 00:00:00 GMT"]
    assert_kept(kept, official, folder)


def test_a_date_of_this_very_minute_or_none_at_all_tells_nothing(server, folder):
    for date in (email.utils.formatdate(usegmt=True), "yesterday"):
        server.etag, server.changed, server.breaks_after = None, date, 1_000_000

        with pytest.raises(UserError, match="it begins anew"):
            weights.fetch(NANO, url=server.url)


@pytest.mark.parametrize("mark", ["etag", "date"])
def test_a_server_that_heeds_no_condition_still_joins_no_two_versions(
    mark, server, official, folder
):
    server.heeds_if_range, server.breaks_after = False, 1_000_000
    if mark == "date":
        server.etag, server.changed = None, "Mon, 01 Jan 2024 00:00:00 GMT"
    with pytest.raises(UserError, match="goes on from there"):
        weights.fetch(NANO, url=server.url)
    part_of(folder).write_bytes(b"x" * 1_000_000)  # what the older version held
    server.breaks_after = None
    server.etag = '"two"' if mark == "etag" else None
    server.changed = "Tue, 02 Jan 2024 00:00:00 GMT" if mark == "date" else None

    kept = weights.fetch(NANO, url=server.url)

    assert server.asked == [None, "bytes=1000000-", None]
    assert_kept(kept, official, folder)


def test_what_ssl_finds_wrong_while_reading_is_the_networks_fault(tmp_path, monkeypatch):
    class Broken:
        status, headers = 200, http.client.HTTPMessage()

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self, _):
            raise ssl.SSLError(1, "record layer failure")

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Broken())

    with pytest.raises(UserError, match=r"https://there cannot be reached .*record layer failure"):
        download("https://there", tmp_path / "file", no_progress, instead="walk")


@pytest.mark.parametrize("more", [0, 10], ids=["all of it", "more than there is"])
def test_a_part_with_nothing_left_to_fetch_is_finished(more, server, official, folder):
    folder.mkdir()
    part_of(folder).write_bytes(official.read_bytes() + b"x" * more)
    part_of(folder).with_suffix(".part.etag").write_text(server.etag, encoding="utf-8")

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
    official, as_official, server
):
    as_official.write_bytes(official.read_bytes())

    kept = weights.fetch(NANO)

    assert kept.source == str(as_official)
    assert kept.path.is_file()
    assert as_official.is_file()
    assert server.asked == []


def test_a_damaged_file_that_was_put_into_the_folder_is_set_aside(official, as_official, folder):
    as_official.write_bytes(official.read_bytes()[:1000])

    kept = weights.fetch(NANO)

    (note,) = kept.notes
    assert note.endswith("is now vssm_nano.pth.bad")
    assert (folder / "vssm_nano.pth.bad").stat().st_size == 1000
    (folder / "vssm_nano.pth.bad").unlink()
    assert_kept(kept, official, folder)


def test_that_a_file_was_set_aside_is_said_without_a_network_too(official, as_official, server):
    as_official.write_bytes(official.read_bytes()[:1000])
    server.status = 404

    with pytest.raises(UserError, match=r"answered 404 .* is now vssm_nano.pth.bad$"):
        weights.fetch(NANO)


@pytest.mark.parametrize("told_url", [False, True])
@pytest.mark.parametrize("stopped", [KeyboardInterrupt, UserError])
def test_a_download_that_could_not_be_converted_is_not_fetched_again(
    stopped, told_url, server, official, folder, as_official, monkeypatch
):
    def fail(*_: object) -> None:
        raise KeyboardInterrupt if stopped is KeyboardInterrupt else OSError(28, "No space left")

    save = safetensors.torch.save_file
    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(stopped):
        weights.fetch(NANO, url=server.url if told_url else None)
    monkeypatch.setattr(safetensors.torch, "save_file", save)

    kept = weights.fetch(NANO, url=server.url if told_url else None)

    assert len(server.asked) == 1
    assert kept.source == server.url
    assert_kept(kept, official, folder)
