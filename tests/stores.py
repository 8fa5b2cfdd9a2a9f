"""Stores of photos that do what a test wants and no real one does."""

from __future__ import annotations

import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Iterator


class Hanging(BaseHTTPRequestHandler):
    """Accepts requests, and that is all."""

    def do_GET(self) -> None:
        time.sleep(3600)


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[dict[str, dict[str, str]]]:
    """Run an HTTP server, and give the settings of a bucket there."""
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
