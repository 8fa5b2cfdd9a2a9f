"""A proxy between a client and a local S3 server that simulates a bad network.

Usage: python relay.py PORT TARGET_PORT ['{"delay": 0.07, "refuse": 0.1, "only": "[.]jpg$"}']

It forwards requests and responses until it is killed or its parent dies. The JSON has fields of
`Faults`; a client changes them with `PUT /_relay?JSON`, which also resets the counts, and reads
the counts with `GET /_relay`. Only the heads of messages are parsed, so a request costs 0.1 to 0.4
ms of CPU time, and less under load. The fault of a request depends on the seed, its path and the
number of earlier requests for that path, not on the order of arrival, so tests are reproducible.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from hashlib import blake2b
from math import log
from urllib.parse import quote, unquote_to_bytes

#: Not a valid bucket name.
CONTROL = "/_relay"
#: Seconds that half a body gets to reach the client before a reset, which would overtake it.
FLUSH_SECONDS = 0.05
#: Seconds between checks whether the parent is alive.
WATCH_SECONDS = 1.0

END_OF_HEAD = b"\r\n\r\n"
END_OF_CHUNKS = b"\r\n0\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
#: The path of an object, not of a bucket.
OBJECT = re.compile("/[^/?]+/[^?]")


@dataclass(frozen=True)
class Faults:
    """Faults to inject; by default, none."""

    #: Delay of each request, in seconds.
    delay: float = 0.0
    #: Mean of an additional random delay, exponentially distributed.
    jitter: float = 0.0
    #: The share of requests that get an error at once, and the error: its status and S3's code.
    refuse: float = 0.0
    refusal: str = "503 SlowDown"
    #: Shares of the GETs of objects that get half a body, followed by a reset (drop) or by the end
    #: of the connection (cut), or with a Content-Length of that half (shorten).
    drop: float = 0.0
    cut: float = 0.0
    shorten: float = 0.0
    #: A regular expression. Requests whose path (/bucket/key, not quoted) matches get no answer.
    hang: str = "(?!)"
    #: A regular expression. Only matching paths are refused, dropped, cut or shortened.
    only: str = ""
    #: Number of requests for the same path and method that may get a fault. Later ones succeed.
    attempts: float = float("inf")
    seed: int = 0


class Relay:
    """The current faults, and counts since they were set."""

    def __init__(self, target: int, faults: Faults) -> None:
        self.target = target
        self.begin(faults)

    def begin(self, faults: Faults) -> None:
        self.faults = faults
        self._hang, self._only = re.compile(faults.hang), re.compile(faults.only)
        self._asked: Counter[str] = Counter()
        self._happened: Counter[str] = Counter()
        self._under_way: set[Client] = set()
        self._at_once = 0
        self._start = time.process_time()

    def counts(self) -> dict[str, float]:
        """Return counts of requests, GETs of objects, concurrent GETs, and each kind of fault."""
        return {
            "requests": sum(self._asked.values()),
            "gets": self._happened["get"],
            "at_once": self._at_once,
            **{what: self._happened[what] for what in ("refuse", "drop", "cut", "shorten", "hang")},
            "cpu_seconds": time.process_time() - self._start,
        }

    def fault(self, method: str, path: str) -> tuple[float, str]:
        """Choose the delay of a request and its fault, "" for none."""
        faults, key = self.faults, f"{method} {path}"
        self._asked[key] += 1
        wait = faults.delay
        if faults.jitter:
            wait -= faults.jitter * log(1.0 - self._chance("jitter", key))
        what = ""
        if self._hang.search(path):
            what = "hang"
        elif self._asked[key] <= faults.attempts and self._only.search(path):
            # One random number for all kinds, so that their shares add up.
            draw = self._chance("trouble", key)
            bodies = ("drop", "cut", "shorten") if method == "GET" and OBJECT.match(path) else ()
            for kind in ("refuse", *bodies):
                draw -= getattr(faults, kind)
                if draw < 0:
                    what = kind
                    break
        if what:
            self._happened[what] += 1
        return wait, what

    def enter(self, client: Client) -> None:
        """Count a GET that starts."""
        self._happened["get"] += 1
        self._under_way.add(client)
        self._at_once = max(self._at_once, len(self._under_way))

    def leave(self, client: Client) -> None:
        self._under_way.discard(client)

    def _chance(self, what: str, key: str) -> float:
        """Draw a number from 0 to 1 that depends only on the seed, the key and its count."""
        text = f"{self.faults.seed} {what} {self._asked[key]} {key}"
        return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big") / 2**32


class End(asyncio.Protocol):
    """One of the two connections, which pauses the other when its buffer is full."""

    transport: asyncio.Transport
    other: End | None = None
    closed = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self.other is not None and not self.other.closed:
            self.other.transport.close()

    def pause_writing(self) -> None:
        if self.other is not None and not self.other.closed:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and not self.other.closed:
            self.other.transport.resume_reading()


class Client(End):
    """The connection to the client."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._received = b""
        #: Bytes of a request's body that have not arrived yet; None for a chunked body.
        self._left: int | None = 0
        self._waits = False

    def data_received(self, data: bytes) -> None:
        if self._waits:
            self._received += data
        elif self._left == 0:
            self._received += data
            self._next_request()
        else:
            self._pass_on(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._relay.leave(self)
        super().connection_lost(exc)

    def _next_request(self) -> None:
        end = self._received.find(END_OF_HEAD)
        if end < 0:
            return
        head = self._received[: end + len(END_OF_HEAD)]
        self._received = self._received[len(head) :]
        method, target, _ = head[: head.index(b"\r\n")].decode("latin-1").split(" ", 2)
        if target.partition("?")[0] == CONTROL:
            self._control(method, target)
            return
        self._left = length_of(head)
        path = unquote_to_bytes(target.partition("?")[0]).decode(errors="replace")
        wait, fault = self._relay.fault(method, path)
        if method == "GET" and OBJECT.match(path):
            self._relay.enter(self)
        if fault == "hang":
            self._waits = True
        elif wait:
            self._waits = True
            asyncio.get_event_loop().call_later(wait, self._go, head, method, path, fault)
        else:
            self._go(head, method, path, fault)

    def _go(self, head: bytes, method: str, path: str, fault: str) -> None:
        """Forward a request, or refuse it."""
        self._waits = False
        if self.closed:
            return
        if fault == "refuse":
            self._refuse(method, path)
        elif self.other is None:
            self._waits = True
            self._connecting = asyncio.ensure_future(self._connect(head, method, fault))
        else:
            self._forward(head, method, fault)

    async def _connect(self, head: bytes, method: str, fault: str) -> None:
        loop = asyncio.get_event_loop()
        try:
            _, server = await loop.create_connection(
                lambda: Server(self._relay, self), "127.0.0.1", self._relay.target
            )
        except OSError:
            self.transport.close()
            return
        self._waits, self.other = False, server
        if self.closed:
            server.transport.close()
        else:
            self._forward(head, method, fault)

    def _forward(self, head: bytes, method: str, fault: str) -> None:
        held, self._received = self._received, b""
        self.other.expect(method, fault)
        self.other.transport.write(head)
        if held:
            self._pass_on(held)

    def _pass_on(self, data: bytes) -> None:
        self._left = left_after(self._left, data)
        self.other.transport.write(data)

    def _refuse(self, method: str, path: str) -> None:
        status, code = self._relay.faults.refusal.split()
        resource = path.replace("&", "&amp;").replace("<", "&lt;")
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{code}, '
            f"injected by a test.</Message><Resource>{resource}</Resource>"
            "<RequestId>0123456789ABCDEF</RequestId></Error>"
        ).encode()
        headers = ["x-amz-request-id: 0123456789ABCDEF", "x-amz-id-2: relay"]
        # Otherwise the rest of the body would be parsed as the next request.
        self._answer(f"{status} {code}", body, method, headers, last=self._left != 0)

    def _control(self, method: str, target: str) -> None:
        if method == "PUT":
            self._relay.begin(Faults(**json.loads(unquote_to_bytes(target.partition("?")[2]))))
        self._answer("200 OK", json.dumps(self._relay.counts()).encode(), method, [], last=True)

    def _answer(
        self, status: str, body: bytes, method: str, headers: list[str], last: bool
    ) -> None:
        lines = [f"HTTP/1.1 {status}", *headers, "Content-Type: application/xml"]
        lines += [f"Content-Length: {len(body)}", *["Connection: close"] * last, "", ""]
        head = "\r\n".join(lines).encode()
        self._relay.leave(self)
        self.transport.write(head if method == "HEAD" else head + body)
        if last:
            # Do not close: later bytes would cause a reset, which would overtake the answer.
            self._waits = True
            self.transport.write_eof()
        elif self._received:
            self._next_request()


class Server(End):
    """The connection to the server."""

    def __init__(self, relay: Relay, client: Client) -> None:
        self._relay = relay
        self.other: Client = client
        self._received = b""
        self._left: int | None = 0

    def expect(self, method: str, fault: str) -> None:
        """Prepare for the response to a request."""
        self._method, self._fault, self._head_comes = method, fault, True

    def data_received(self, data: bytes) -> None:
        if not self._head_comes:
            self._body(b"", data)
            return
        self._received += data
        while self._head_comes:
            end = self._received.find(END_OF_HEAD)
            if end < 0:
                return
            end += len(END_OF_HEAD)
            head, self._received = self._received[:end], self._received[end:]
            # "HTTP/1.1 100 Continue" is followed by another head.
            self._head_comes = head[9:10] == b"1"
            if self._head_comes:
                self.other.transport.write(head)
        rest, self._received = self._received, b""
        self._left = length_of(head)
        if self._method == "HEAD" or head[9:12] in (b"204", b"304"):
            self._left = 0
        if self._fault and self._left:
            self._left //= 2
            if self._fault == "shorten":
                head = LENGTH.sub(b"\r\nContent-Length: %d" % self._left, head)
        else:
            self._fault = ""
        self._body(head, rest)

    def connection_lost(self, exc: Exception | None) -> None:
        self._relay.leave(self.other)
        super().connection_lost(exc)

    def _body(self, head: bytes, data: bytes) -> None:
        client = self.other.transport
        if not self._fault:
            self._left = left_after(self._left, data)
            client.write(head + data if head else data)
            if self._left == 0:
                self._relay.leave(self.other)
            return
        part = data[: self._left]
        self._left -= len(part)
        client.write(head + part)
        if self._left == 0:
            self.transport.pause_reading()
            if self._fault == "drop":
                asyncio.get_event_loop().call_later(FLUSH_SECONDS, reset, client)
            else:
                client.close()


def length_of(head: bytes) -> int | None:
    """Return the length of the body after a head; None if it is chunked."""
    if CHUNKED.search(head):
        return None
    found = LENGTH.search(head)
    return int(found.group(1)) if found else 0


def left_after(left: int | None, data: bytes) -> int | None:
    """Return the bytes of a body that are left after `data`.

    On S3 only listings are chunked, and the end marker of chunks cannot occur in their XML.
    """
    if left is None:
        return 0 if data.endswith((END_OF_CHUNKS, END_OF_CHUNKS[2:])) else None
    return max(0, left - len(data))


def reset(transport: asyncio.Transport) -> None:
    """Close a connection with a reset, as a crash does."""
    connection = transport.get_extra_info("socket")
    if not transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


def control(faults: Faults) -> str:
    """Return the target of a PUT request that sets these faults."""
    return f"{CONTROL}?{quote(json.dumps(asdict(faults)))}"


async def serve(port: int, target: int, faults: Faults) -> None:
    relay = Relay(target, faults)
    loop = asyncio.get_event_loop()
    parent = os.getppid()
    listener = await loop.create_server(lambda: Client(relay), "127.0.0.1", port, backlog=1024)
    while os.getppid() == parent:
        await asyncio.sleep(WATCH_SECONDS)
    listener.close()


def main() -> None:
    port, target, *faults = sys.argv[1:]
    chosen = Faults(**json.loads(faults[0])) if faults else Faults()
    asyncio.run(serve(int(port), int(target), chosen))


if __name__ == "__main__":
    main()
