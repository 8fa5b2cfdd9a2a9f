"""What commands print, and how they put numbers into words."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Sequence

from pomona._images import one_line
from pomona.cli._errors import OutputClosedError

_KIB = 1 << 10
_MIB = 1 << 20


def show(text: str) -> None:
    """Print a result; the flush shows now, and not at exit, whether it arrived."""
    try:
        print(text, flush=True)  # noqa: T201
    except OSError as error:
        # What is left in the buffer must not fail once more when the interpreter ends.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise OutputClosedError from error
        raise


def complain(message: str) -> None:
    """Print why the command failed."""
    with suppress(OSError, ValueError):
        print(f"pomona: {message}", file=sys.stderr, flush=True)  # noqa: T201


def count(number: int, thing: str) -> str:
    """Write a number of things."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def size(number: int) -> str:
    """Write a number of bytes."""
    return f"{number / _MIB:,.1f} MiB" if number >= _MIB else f"{number / _KIB:,.1f} KiB"


def describe_errors(number: int, first: Sequence[tuple[str, str]]) -> list[str]:
    """Name the first of the photos that failed."""
    if not number:
        return []
    lines = [f"{count(number, 'photo')} failed:"]
    lines += [f"  {one_line(path)}: {one_line(reason)}" for path, reason in first]
    if number > len(first):
        lines.append(f"  and {number - len(first):,} more; the column `error` has them all")
    return lines
