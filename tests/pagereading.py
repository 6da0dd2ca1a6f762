"""What tests of HTML pages share: a strict reader, and Debian's chromium."""

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

_VOID = {"meta", "link", "img", "br", "input", "hr"}
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@dataclass
class Page(HTMLParser):
    """Reads a page; a tag that is not closed in its place fails the test."""

    ids: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[str] = []

    def handle_starttag(self, tag, attributes):
        assert len({name for name, _ in attributes}) == len(attributes), self.get_starttag_text()
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href"):
                self.addresses.append(value)
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data):
        if not self._open or self._open[-1] not in ("style", "script"):
            self.texts.append(data)


def read_page(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    assert not page._open, page._open
    assert len(set(page.ids)) == len(page.ids)
    return page


def see_self_contained(html: str) -> None:
    """Fail where a page would load something."""
    page = read_page(html)
    anchors = {f"#{each}" for each in page.ids}
    for address in page.addresses:
        assert address.startswith("data:") or address in anchors, address
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp|https?://", html)


def browser() -> str:
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    return found


def in_browser(html: str, folder: Path, width: int = 1200, height: int = 900) -> tuple[str, Path]:
    """Open a page offline; return the document after its scripts ran, and a picture of it."""
    page, picture = folder / "page.html", folder / f"page-{width}.png"
    page.write_text(html, encoding="utf-8")
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--disable-dev-shm-usage", f"--user-data-dir={folder / 'profile'}"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--v=0"]
    command += [f"--window-size={width},{height}", f"--screenshot={picture}", "--dump-dom"]
    done = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    said = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    assert not said, said
    return done.stdout, picture
