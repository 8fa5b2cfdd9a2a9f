"""Pass connections on to another port of this machine, until killed.

Usage: python tests/spark/relay.py PORT TARGET_PORT
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from threading import Thread

BLOCK = 1 << 16


def serve(port: int, target: int) -> None:
    with socket.socket() as listener:
        # So that it can be started again while old connections fade away.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", target))
            Thread(target=pump, args=(client, server), daemon=True).start()
            Thread(target=pump, args=(server, client), daemon=True).start()


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copy what one side sends to the other, and then the end."""
    with suppress(OSError):
        for block in iter(lambda: source.recv(BLOCK), b""):
            target.sendall(block)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))
