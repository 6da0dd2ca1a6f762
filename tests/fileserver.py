"""A server in this process that hands out one file, as well or as badly as a test asks for."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Server(http.server.ThreadingHTTPServer):
    """Hands out one file, in the way that a test asks for."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.etag: str | None = '"one"'
        self.changed: str | None = None
        self.heeds_if_range = True
        self.ranges = True
        self.breaks_after: int | None = None
        self.status: int | None = None
        self.asked: list[str | None] = []
        self.conditions: list[str | None] = []
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/nano.pth"


@contextmanager
def serving(content: bytes) -> Iterator[Server]:
    """Hand out a file while a test runs."""
    with Server(content) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.asked.append(self.headers["Range"])
        server.conditions.append(self.headers["If-Range"])
        if server.status is not None:
            self.send_error(server.status)
            return
        begin = self._begin()
        if begin >= len(server.content) > 0 and begin:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.content[begin:]
        self.send_response(206 if begin else 200)
        if begin:
            last = len(server.content) - 1
            self.send_header("Content-Range", f"bytes {begin}-{last}/{len(server.content)}")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (("ETag", server.etag), ("Last-Modified", server.changed)):
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if server.breaks_after is not None:
            body = body[: server.breaks_after]
        self.wfile.write(body)
        server.sent += len(body)

    def _begin(self) -> int:
        """Return where the answer starts: not at 0 only if this version was asked for."""
        server = self.server
        known = (None, server.etag, server.changed)
        same = self.headers["If-Range"] in known or not server.heeds_if_range
        if not self.headers["Range"] or not server.ranges or not same:
            return 0
        return int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))

    def log_message(self, *_: object) -> None:
        pass
