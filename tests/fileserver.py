"""A server in this process that hands out one file, as well or as badly as a test asks for."""

from __future__ import annotations

import http.server


class Server(http.server.ThreadingHTTPServer):
    """Hands out one file, in the way that a test asks for."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.etag = '"one"'
        self.ranges = True
        self.breaks_after: int | None = None
        self.status: int | None = None
        self.asked: list[str | None] = []
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/nano.pth"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, begin = self.server, 0
        server.asked.append(self.headers["Range"])
        if server.status is not None:
            self.send_error(server.status)
            return
        same = self.headers["If-Range"] in (None, server.etag)
        if self.headers["Range"] and server.ranges and same:
            begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
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
        self.send_header("ETag", server.etag)
        self.end_headers()
        if server.breaks_after is not None:
            body = body[: server.breaks_after]
        self.wfile.write(body)
        server.sent += len(body)

    def log_message(self, *_: object) -> None:
        pass
