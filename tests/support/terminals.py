"""The output of a program on a terminal."""

from __future__ import annotations

import os
from contextlib import suppress


def all_shown(terminal: int) -> str:
    """Read a terminal until its last writer has closed it, and close it.

    The kernel delivers the output in pieces, some of them shortly after the writer has ended.
    """
    shown = bytearray()
    with suppress(OSError):  # how Linux reports the end
        for piece in iter(lambda: os.read(terminal, 65536), b""):
            shown += piece
    os.close(terminal)
    return shown.decode()
