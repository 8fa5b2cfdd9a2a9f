"""Stand between a client and an S3 server of this machine and do to them what a network does.

Usage: python relay.py PORT TARGET_PORT ['{"delay": 0.07, "refuse": 0.1, "only": "[.]jpg$"}']

It passes on what is sent, and the end, until it is killed or whoever started it has died. The JSON
has fields of `Trouble`; a client changes them with `PUT /_relay?JSON`, which starts the counts
again, and reads those with `GET /_relay`. Heads of requests and responses are parsed and bodies
passed on unread, so that a request costs 0.1 to 0.4 ms of processor time, the less the more there
are. What happens to it depends on the seed, its path and how often that was asked for, never on the
order of arrival: a test that passes goes on passing.
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

#: No bucket can have this name.
CONTROL = "/_relay"
#: Seconds in which half a body reaches the client, before the reset that would overtake it.
FLUSH_SECONDS = 0.05
#: How soon it notices that whoever started it has died.
WATCH_SECONDS = 1.0

END_OF_HEAD = b"\r\n\r\n"
END_OF_CHUNKS = b"\r\n0\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
#: A path that leads to an object, not to a bucket.
OBJECT = re.compile("/[^/?]+/[^?]")


@dataclass(frozen=True)
class Trouble:
    """What happens to requests; by itself, nothing."""

    #: Seconds added to each.
    delay: float = 0.0
    #: The mean of random seconds added to that: most are less, a few much more.
    jitter: float = 0.0
    #: The share that is answered with an error at once, and the error: its status and S3's code.
    refuse: float = 0.0
    refusal: str = "503 SlowDown"
    #: Shares of the GETs of objects that get half a body: and then a reset; and then the end of the
    #: connection; and a head that takes the half for the whole.
    drop: float = 0.0
    cut: float = 0.0
    shorten: float = 0.0
    #: A regular expression, searched in paths (/bucket/key, not quoted): these get no answer, ever.
    hang: str = "(?!)"
    #: The same for those that may be refused, dropped, cut or shortened.
    only: str = ""
    #: How often that may happen to a path and method; afterwards all goes well.
    attempts: float = float("inf")
    seed: int = 0


class Relay:
    """The trouble there is, and what has been counted since it began."""

    def __init__(self, target: int, trouble: Trouble) -> None:
        self.target = target
        self.begin(trouble)

    def begin(self, trouble: Trouble) -> None:
        self.trouble = trouble
        self._hang, self._only = re.compile(trouble.hang), re.compile(trouble.only)
        self._asked: Counter[str] = Counter()
        self._happened: Counter[str] = Counter()
        self._under_way: set[Client] = set()
        self._at_once = 0
        self._start = time.process_time()

    def counts(self) -> dict[str, float]:
        """Requests, those that are GETs of objects, the most of these at a time, and troubles."""
        return {
            "requests": sum(self._asked.values()),
            "gets": self._happened["get"],
            "at_once": self._at_once,
            **{what: self._happened[what] for what in ("refuse", "drop", "cut", "shorten", "hang")},
            "processor_seconds": time.process_time() - self._start,
        }

    def fate(self, method: str, path: str) -> tuple[float, str]:
        """Choose the seconds that a request waits and what then happens to it, "" for nothing."""
        trouble, key = self.trouble, f"{method} {path}"
        self._asked[key] += 1
        wait = trouble.delay
        if trouble.jitter:
            wait -= trouble.jitter * log(1.0 - self._chance("jitter", key))
        what = ""
        if self._hang.search(path):
            what = "hang"
        elif self._asked[key] <= trouble.attempts and self._only.search(path):
            # One draw for all, so that their shares add up.
            draw = self._chance("trouble", key)
            bodies = ("drop", "cut", "shorten") if method == "GET" and OBJECT.match(path) else ()
            for kind in ("refuse", *bodies):
                draw -= getattr(trouble, kind)
                if draw < 0:
                    what = kind
                    break
        if what:
            self._happened[what] += 1
        return wait, what

    def enter(self, client: Client) -> None:
        """Count a GET that begins."""
        self._happened["get"] += 1
        self._under_way.add(client)
        self._at_once = max(self._at_once, len(self._under_way))

    def leave(self, client: Client) -> None:
        self._under_way.discard(client)

    def _chance(self, what: str, key: str) -> float:
        """Draw a number from 0 to 1, always the same for what is asked as often."""
        text = f"{self.trouble.seed} {what} {self._asked[key]} {key}"
        return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big") / 2**32


class End(asyncio.Protocol):
    """One end of the way, which holds the other back when it can take no more."""

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
    """Where requests come from, one after another."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._received = b""
        #: Bytes of a request's body that have not come yet; None where only its chunks tell.
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
        wait, fate = self._relay.fate(method, path)
        if method == "GET" and OBJECT.match(path):
            self._relay.enter(self)
        if fate == "hang":
            self._waits = True
        elif wait:
            self._waits = True
            asyncio.get_event_loop().call_later(wait, self._go, head, method, path, fate)
        else:
            self._go(head, method, path, fate)

    def _go(self, head: bytes, method: str, path: str, fate: str) -> None:
        """Send a request on its way, or back."""
        self._waits = False
        if self.closed:
            return
        if fate == "refuse":
            self._refuse(method, path)
        elif self.other is None:
            self._waits = True
            self._connecting = asyncio.ensure_future(self._connect(head, method, fate))
        else:
            self._forward(head, method, fate)

    async def _connect(self, head: bytes, method: str, fate: str) -> None:
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
            self._forward(head, method, fate)

    def _forward(self, head: bytes, method: str, fate: str) -> None:
        held, self._received = self._received, b""
        self.other.expect(method, fate)
        self.other.transport.write(head)
        if held:
            self._pass_on(held)

    def _pass_on(self, data: bytes) -> None:
        self._left = left_after(self._left, data)
        self.other.transport.write(data)

    def _refuse(self, method: str, path: str) -> None:
        status, code = self._relay.trouble.refusal.split()
        resource = path.replace("&", "&amp;").replace("<", "&lt;")
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{code}, '
            f"as this test wants it.</Message><Resource>{resource}</Resource>"
            "<RequestId>0123456789ABCDEF</RequestId></Error>"
        ).encode()
        headers = ["x-amz-request-id: 0123456789ABCDEF", "x-amz-id-2: relay"]
        # What is left of a body would be taken for the next request.
        self._answer(f"{status} {code}", body, method, headers, last=self._left != 0)

    def _control(self, method: str, target: str) -> None:
        if method == "PUT":
            self._relay.begin(Trouble(**json.loads(unquote_to_bytes(target.partition("?")[2]))))
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
            # Not closed: a reset for bytes that come yet would overtake the answer.
            self._waits = True
            self.transport.write_eof()
        elif self._received:
            self._next_request()


class Server(End):
    """Where responses come from."""

    def __init__(self, relay: Relay, client: Client) -> None:
        self._relay = relay
        self.other: Client = client
        self._received = b""
        self._left: int | None = 0

    def expect(self, method: str, fate: str) -> None:
        """Get ready for the response to a request."""
        self._method, self._fate, self._head_comes = method, fate, True

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
        if self._fate and self._left:
            self._left //= 2
            if self._fate == "shorten":
                head = LENGTH.sub(b"\r\nContent-Length: %d" % self._left, head)
        else:
            self._fate = ""
        self._body(head, rest)

    def connection_lost(self, exc: Exception | None) -> None:
        self._relay.leave(self.other)
        super().connection_lost(exc)

    def _body(self, head: bytes, data: bytes) -> None:
        client = self.other.transport
        if not self._fate:
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
            if self._fate == "drop":
                asyncio.get_event_loop().call_later(FLUSH_SECONDS, reset, client)
            else:
                client.close()


def length_of(head: bytes) -> int | None:
    """Return the bytes of the body behind a head, None where only its chunks tell."""
    if CHUNKED.search(head):
        return None
    found = LENGTH.search(head)
    return int(found.group(1)) if found else 0


def left_after(left: int | None, data: bytes) -> int | None:
    """Return what is left of a body after some more of it.

    The chunks that there are on S3 are those of listings: XML, which the end of chunks is not in.
    """
    if left is None:
        return 0 if data.endswith((END_OF_CHUNKS, END_OF_CHUNKS[2:])) else None
    return max(0, left - len(data))


def reset(transport: asyncio.Transport) -> None:
    """Close a connection as a crash does, with a reset."""
    connection = transport.get_extra_info("socket")
    if not transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


def control(trouble: Trouble) -> str:
    """Return what to PUT for this trouble."""
    return f"{CONTROL}?{quote(json.dumps(asdict(trouble)))}"


async def serve(port: int, target: int, trouble: Trouble) -> None:
    relay = Relay(target, trouble)
    loop = asyncio.get_event_loop()
    parent = os.getppid()
    listener = await loop.create_server(lambda: Client(relay), "127.0.0.1", port, backlog=1024)
    while os.getppid() == parent:
        await asyncio.sleep(WATCH_SECONDS)
    listener.close()


def main() -> None:
    port, target, *trouble = sys.argv[1:]
    chosen = Trouble(**json.loads(trouble[0])) if trouble else Trouble()
    asyncio.run(serve(int(port), int(target), chosen))


if __name__ == "__main__":
    main()
