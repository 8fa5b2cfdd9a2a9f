"""What a program has shown on a terminal."""

from __future__ import annotations

import os
from contextlib import suppress


def all_shown(terminal: int) -> str:
    """Read a terminal to the end, which is when nobody can write to it any more; and close it.

    The kernel hands over what was written in pieces, some a moment after the writer has ended.
    """
    shown = bytearray()
    with suppress(OSError):  # Linux' way to tell the end
        for piece in iter(lambda: os.read(terminal, 65536), b""):
            shown += piece
    os.close(terminal)
    return shown.decode()
