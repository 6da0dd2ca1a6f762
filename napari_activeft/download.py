"""Download a file so that a cut or a cancel costs nothing that was already here."""

from __future__ import annotations

import email.utils
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
_SETTLED = 60  # seconds after which a file's date tells its versions apart


class _Response(Protocol):
    status: int
    headers: http.client.HTTPMessage

    def read(self, amount: int) -> bytes: ...


def download(url: str, target: Path, on_progress: OnProgress, *, instead: str) -> None:
    """Bring a file from an address.

    Bytes gather in ``TARGET.part``, which stays when the connection breaks or the user stops; the
    next call asks for the rest. The server's mark of the version (a strong ETag, or else its date)
    lies beside it, so that halves of two versions are never joined; without a mark the next call
    begins again.

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
    mark = _mark_of(target)
    with _told(url, target, instead), _opened(url, part, mark) as response:
        total = _receive(response, part, mark, on_progress) if response else _size(part)
    if total is not None and _size(part) != total:
        raise UserError(
            f"the connection to {url} broke off at {_size(part)} of {total} bytes: "
            f"{_what_next(mark)}"
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
        if not resumed:
            _remember(mark, _version(response))
        on_progress(done, max(total or 0, done))
        for block in _blocks(response):
            file.write(block)
            done += len(block)
            on_progress(done, max(total or 0, done))
    return total


def _blocks(response: _Response) -> Iterator[bytes]:
    """Yield the bytes as they come; what breaks here is the network, not the disk."""
    while True:
        try:
            block = response.read(_BLOCK)
        except http.client.IncompleteRead as broken:
            yield broken.partial
            raise
        except OSError as broken:  # also what ssl finds wrong
            raise urllib.error.URLError(broken) from broken
        if not block:
            return
        yield block


@contextmanager
def _opened(url: str, part: Path, mark: Path) -> Iterator[_Response | None]:
    """Ask for what is missing of a file; None if nothing is."""
    request = urllib.request.Request(url, headers={"User-Agent": "napari-activeft"})  # noqa: S310
    known = mark.read_text(encoding="utf-8") if mark.is_file() and _size(part) else None
    if known is not None:
        request.add_header("Range", f"bytes={_size(part)}-")
        request.add_header("If-Range", known)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310
            resumed = response.status == _RESUMED
            again = resumed and known is not None and _is_other(response, known)
            if resumed and not again and not (known and _follows(response, _size(part))):
                raise urllib.error.URLError("it sent another piece than was asked for")
            if not again:
                yield response
    except urllib.error.HTTPError as refusal:
        with refusal:
            whole = refusal.headers.get("Content-Range", "").rpartition("/")[2]
        if refusal.code != _NOTHING_LEFT or known is None:
            raise
        if whole == str(_size(part)) and not _is_other(refusal, known):
            yield None
            return
        again = True
    if again:  # what is here is of another version
        part.unlink()
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
            f"{url} cannot be reached ({reason}): {_what_next(_mark_of(target))}; {instead}"
        ) from bad
    except OSError as refusal:
        raise UserError(
            f"{target} cannot be written ({refusal.strerror}): make room or name another folder"
        ) from refusal


def _follows(response: _Response, done: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {done}-")


def _version(response: _Response) -> str | None:
    """Return what tells the bytes of a file from those of its other versions: ETag or date."""
    etag = response.headers.get("ETag")
    if etag is not None and not etag.startswith("W/"):  # a weak one says nothing of bytes
        return etag
    changed, now = (_seconds(response.headers.get(name)) for name in ("Last-Modified", "Date"))
    if changed is None or now is None or now - changed < _SETTLED:
        return None
    return response.headers.get("Last-Modified")


def _is_other(response: _Response | urllib.error.HTTPError, known: str) -> bool:
    """Tell whether an answer is of another version: not all servers heed If-Range."""
    names = ("ETag", "Last-Modified")
    told = [value for name in names if (value := response.headers.get(name)) is not None]
    return bool(told) and known not in told


def _seconds(date: str | None) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None


def _remember(mark: Path, version: str | None) -> None:
    if version is None:
        mark.unlink(missing_ok=True)
    else:
        mark.write_text(version, encoding="utf-8")


def _mark_of(target: Path) -> Path:
    return target.with_name(target.name + ".part.etag")


def _what_next(mark: Path) -> str:
    """Say what the same command does after a break."""
    if mark.is_file():
        return "the same command goes on from there"
    return "run the same command again, it begins anew"


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
