"""The relay that injects faults between a client and a server."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Iterator
from xml.etree import ElementTree as ET

import pytest

import relay
from services import Service, free_port, wait_until
from stores import Store

CONTENT = bytes(range(256)) * 40


class Storage(Store):
    """Keeps connections open, as S3 does, and sends listings in chunks."""

    wbufsize = -1

    def do_GET(self) -> None:  # noqa: N802
        if "list-type" not in self.path:
            self.answer(CONTENT)
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"4\r\n<a/>\r\n0\r\n\r\n")

    do_HEAD = do_GET  # noqa: N815

    def do_PUT(self) -> None:  # noqa: N802
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))


class Relayed:
    """A relay in front of the storage."""

    def __init__(self, target: int, log: Path) -> None:
        self.port = free_port()
        command = [sys.executable, relay.__file__, str(self.port), str(target)]
        self.service = Service(command, log, dict(os.environ))
        self.service.wait_for(self._answers, "answer")

    def _answers(self) -> bool:
        with suppress(OSError):
            return bool(self.counts())
        return False

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def trouble(self, **trouble: float | str) -> None:
        self._control("PUT", relay.control(relay.Faults(**trouble)))

    def counts(self) -> dict[str, float]:
        return self._control("GET", relay.CONTROL)

    def _control(self, method: str, target: str) -> dict[str, float]:
        with closing(self.connect()) as connection:
            connection.request(method, target)
            return json.load(connection.getresponse())

    def get(self, path: str) -> tuple[int, bytes]:
        with closing(self.connect()) as connection:
            return ask(connection, "GET", path)

    def outcomes(self, count: int = 40) -> list[str]:
        """Request some objects one by one, and return the outcome of each."""
        return [self.outcome(f"/fruits/{number}.jpg") for number in range(count)]

    def outcome(self, path: str) -> str:
        try:
            status, body = self.get(path)
        except http.client.IncompleteRead as error:
            return f"cut at {len(error.partial)}"
        except ConnectionResetError:
            return "reset"
        return f"{status} {len(body)}"


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.status, response.read()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relayed]:
    storage = ThreadingHTTPServer(("127.0.0.1", 0), Storage)
    Thread(target=storage.serve_forever, daemon=True).start()
    relayed = Relayed(storage.server_address[1], tmp_path_factory.mktemp("relay") / "log")
    yield relayed
    relayed.service.kill()
    storage.shutdown()
    storage.server_close()


@pytest.fixture
def relayed(served: Relayed) -> Relayed:
    served.trouble()
    return served


def test_requests_of_all_kinds_share_a_connection(relayed: Relayed) -> None:
    with closing(relayed.connect()) as connection:
        connection.connect()
        own = connection.sock
        for _ in range(2):
            assert ask(connection, "GET", "/fruits/a.jpg") == (200, CONTENT)
            assert ask(connection, "HEAD", "/fruits/a.jpg") == (200, b"")
            assert ask(connection, "PUT", "/fruits/a.jpg", CONTENT) == (200, CONTENT)
            assert ask(connection, "GET", "/fruits?list-type=2") == (200, b"<a/>")
        assert connection.sock is own
    counts = relayed.counts()
    assert (counts["requests"], counts["gets"], counts["at_once"]) == (8, 2, 1)
    assert counts["refuse"] == counts["drop"] == counts["hang"] == 0


def test_each_request_waits_and_the_most_at_a_time_are_counted(relayed: Relayed) -> None:
    relayed.trouble(delay=0.5)
    with ThreadPoolExecutor(6) as pool:
        start = monotonic()
        assert set(pool.map(relayed.outcome, [f"/fruits/{i}" for i in range(6)])) == {"200 10240"}
    assert monotonic() - start >= 0.5
    counts = relayed.counts()
    assert counts["gets"] == 6
    assert 1 <= counts["at_once"] <= 6
    relayed.trouble(jitter=0.01)
    assert relayed.outcomes(5) == ["200 10240"] * 5


def test_a_refusal_is_an_error_of_s3_and_keeps_the_connection(relayed: Relayed) -> None:
    relayed.trouble(refuse=1, attempts=1)
    with closing(relayed.connect()) as connection:
        connection.connect()
        own = connection.sock
        status, body = ask(connection, "GET", "/fruits/a%20%26%20b.jpg")
        assert status == 503
        assert ET.fromstring(body).findtext("Code") == "SlowDown"  # noqa: S314
        assert ET.fromstring(body).findtext("Resource") == "/fruits/a & b.jpg"  # noqa: S314
        assert ask(connection, "HEAD", "/fruits/a.jpg") == (503, b"")
        assert ask(connection, "GET", "/fruits/a%20%26%20b.jpg") == (200, CONTENT)
        assert connection.sock is own
    relayed.trouble(refuse=1, refusal="403 ExpiredToken")
    with closing(relayed.connect()) as connection:
        status, body = ask(connection, "PUT", "/fruits/a.jpg", CONTENT)
    assert status == 403
    assert b"<Code>ExpiredToken</Code>" in body


def test_shares_of_the_requests_fail_and_the_same_ones_again(relayed: Relayed) -> None:
    shares = {"refuse": 0.2, "drop": 0.2, "cut": 0.2, "shorten": 0.2, "seed": 7}
    relayed.trouble(**shares)
    first = relayed.outcomes()
    counts = relayed.counts()
    kinds = ("refuse", "drop", "cut", "shorten")
    assert all(counts[kind] >= 2 for kind in kinds)
    assert sum(outcome == "200 5120" for outcome in first) == counts["shorten"]
    assert sum(outcome == "cut at 5120" for outcome in first) == counts["cut"]
    assert sum(outcome == "reset" for outcome in first) == counts["drop"]
    assert sum(outcome.startswith("503 ") for outcome in first) == counts["refuse"]
    assert sum(outcome == "200 10240" for outcome in first) == 40 - sum(counts[k] for k in kinds)
    relayed.trouble(**shares)
    assert relayed.outcomes() == first
    relayed.trouble(**{**shares, "seed": 8})
    assert relayed.outcomes() != first


def test_a_dropped_connection_is_reset_in_the_middle_of_the_body(relayed: Relayed) -> None:
    relayed.trouble(drop=1)
    with socket.create_connection(("127.0.0.1", relayed.port)) as connection:
        connection.sendall(b"GET /fruits/a.jpg HTTP/1.1\r\nHost: a\r\n\r\n")
        received = connection.makefile("rb")
        while received.readline() != b"\r\n":
            pass
        half = len(CONTENT) // 2
        assert received.read(half) == CONTENT[:half]
        with pytest.raises(ConnectionResetError):
            received.read(1)


def test_trouble_can_be_limited_to_some_paths_and_attempts(relayed: Relayed) -> None:
    relayed.trouble(refuse=1, only="[.]jpg$", attempts=2)
    assert [relayed.get("/fruits/a.jpg")[0] for _ in range(3)] == [503, 503, 200]
    assert relayed.get("/fruits/_SUCCESS")[0] == 200


def test_keys_that_match_get_no_answer_and_others_do(relayed: Relayed) -> None:
    relayed.trouble(hang="a b[.]jpg$")
    with closing(http.client.HTTPConnection("127.0.0.1", relayed.port, timeout=0.5)) as connection:
        connection.request("GET", "/fruits/a%20b.jpg")
        with pytest.raises(socket.timeout):
            connection.getresponse()
    assert relayed.get("/fruits/ab.jpg")[0] == 200
    assert relayed.counts()["hang"] == 1


def test_a_relay_ends_when_whoever_started_it_has_died(relayed: Relayed, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, relay.__file__, str(port), str(relayed.port)]
    start = f"import subprocess, time; subprocess.Popen({command}); time.sleep(600)"
    starter = Service([sys.executable, "-c", start], tmp_path / "log", dict(os.environ))
    wait_until(lambda: listens(port), "the relay to listen")
    # Only the process itself, as `kill -9` does.
    os.kill(starter.pid, signal.SIGKILL)
    assert starter.end() == -signal.SIGKILL
    wait_until(lambda: not listens(port), "the relay to end")


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
