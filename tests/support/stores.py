"""HTTP servers that behave like no real storage does."""

from __future__ import annotations

import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Iterator


class Store(BaseHTTPRequestHandler):
    """Answers with its content, without logging."""

    protocol_version = "HTTP/1.1"

    def content(self) -> bytes:
        raise NotImplementedError

    def do_GET(self) -> None:
        self.answer(self.content())

    def answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Hanging(BaseHTTPRequestHandler):
    """Accepts requests and never answers."""

    def do_GET(self) -> None:
        time.sleep(3600)


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[dict[str, dict[str, str]]]:
    """Run an HTTP server and yield the settings of a bucket on it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = Thread(target=server.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield {"": {"endpoint": endpoint, "credentials": "anonymous", "path_style": "true"}}
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
