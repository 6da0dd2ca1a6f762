"""Download a file so that a cut or a cancel costs nothing that was already here."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from napari_activeft.errors import OnProgress, UserError

_BLOCK = 1 << 18  # bytes between two reports of progress
_TIMEOUT = 30.0  # seconds without a byte
_RESUMED, _NOTHING_LEFT = 206, 416


class _Response(Protocol):
    status: int
    headers: http.client.HTTPMessage

    def read(self, amount: int) -> bytes: ...


def download(url: str, target: Path, on_progress: OnProgress, *, instead: str) -> None:
    """Bring a file from an address.

    Bytes gather in ``TARGET.part``, which stays when the connection breaks or the user stops; the
    next call asks for the rest. The server's mark of the version (ETag) lies beside it, so that
    halves of two versions are never joined.

    Parameters
    ----------
    url
        http or https.
    target
        Where the whole file is moved to.
    on_progress
        Called with the bytes that are here and all of them (as many where the server does not say).
    instead
        What the user can do without this address, a clause.

    Raises
    ------
    UserError
        If the address cannot be reached, refuses, or breaks off.
    """
    if not url.startswith(("https://", "http://")):
        raise UserError(f"{url} is no address of the web: give one that begins with https://")
    part = target.with_name(target.name + ".part")
    mark = target.with_name(target.name + ".part.etag")
    with _told(url, target, instead), _opened(url, part, mark) as response:
        total = _receive(response, part, mark, on_progress) if response else _size(part)
    if total is not None and _size(part) != total:
        raise UserError(
            f"the connection to {url} broke off at {_size(part)} of {total} bytes: the same "
            "command goes on from there"
        )
    part.replace(target)
    mark.unlink(missing_ok=True)


def _receive(response: _Response, part: Path, mark: Path, on_progress: OnProgress) -> int | None:
    """Write what comes, and return how large the whole file is, if the server says so."""
    resumed = response.status == _RESUMED
    done = _size(part) if resumed else 0
    length = response.headers.get("Content-Length")
    total = done + int(length) if length is not None and length.isdigit() else None
    with part.open("ab" if resumed else "wb") as file:
        # After the part was emptied: a mark must never stand beside older bytes.
        _remember(mark, response.headers.get("ETag"))
        on_progress(done, max(total or 0, done))
        while block := _block(response):
            file.write(block)
            done += len(block)
            on_progress(done, max(total or 0, done))
    return total


def _block(response: _Response) -> bytes:
    """Return the next bytes; none at the end, or where the connection broke."""
    try:
        return response.read(_BLOCK)
    except http.client.IncompleteRead as broken:
        return broken.partial


@contextmanager
def _opened(url: str, part: Path, mark: Path) -> Iterator[_Response | None]:
    """Ask for what is missing of a file; None if nothing is."""
    request = urllib.request.Request(url, headers={"User-Agent": "napari-activeft"})  # noqa: S310
    if _size(part):
        request.add_header("Range", f"bytes={_size(part)}-")
        if mark.is_file():
            request.add_header("If-Range", mark.read_text(encoding="utf-8"))
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310
            if response.status == _RESUMED and not _follows(response, _size(part)):
                raise urllib.error.URLError("it sent another piece than was asked for")
            yield response
    except urllib.error.HTTPError as refusal:
        with refusal:
            whole = refusal.headers.get("Content-Range", "").rpartition("/")[2]
        if refusal.code != _NOTHING_LEFT or not _size(part):
            raise
        if whole == str(_size(part)):
            yield None
            return
        part.unlink()  # longer than the file: it is of another version
        with _opened(url, part, mark) as response:
            yield response


@contextmanager
def _told(url: str, target: Path, instead: str) -> Iterator[None]:
    """Turn what the network or the disk refuses into a sentence."""
    try:
        yield
    except urllib.error.HTTPError as refusal:
        raise UserError(f"{url} answered {refusal.code} ({refusal.reason}): {instead}") from refusal
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as bad:
        reason = bad.reason if isinstance(bad, urllib.error.URLError) else bad
        raise UserError(
            f"{url} cannot be reached ({reason}): try again, what has come is kept; {instead}"
        ) from bad
    except OSError as refusal:
        raise UserError(
            f"{target} cannot be written ({refusal.strerror}): make room or name another folder"
        ) from refusal


def _follows(response: _Response, done: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {done}-")


def _remember(mark: Path, etag: str | None) -> None:
    if etag is None or etag.startswith("W/"):  # a weak mark says nothing of bytes
        mark.unlink(missing_ok=True)
    else:
        mark.write_text(etag, encoding="utf-8")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
