"""Exit codes, and errors as one line of text."""

from __future__ import annotations

import os
from itertools import takewhile

from pomona._images import one_line

FAILED = 1
USAGE = 2
SOME_PHOTOS_FAILED = 3
SOME_FINDINGS = 4
#: Shells report a program that a signal ended as 128 plus the signal's number.
SIGNALLED = 128
# A Spark worker puts this before a Python traceback; the error is the next line not indented.
_PYTHON_STACK = "Traceback (most recent call last):"


class CommandError(Exception):
    """A failure that its message explains completely."""


class OutputClosedError(Exception):
    """The reader of standard output has closed it."""


def explain(error: Exception) -> str:
    """Describe an error in one line."""
    if isinstance(error, OSError) and error.filename is not None:
        return one_line(f"{os.fsdecode(error.filename)}: {error.strerror}")
    message = one_line(cause(str(error)))
    if isinstance(error, (CommandError, OSError, ValueError, ImportError)):
        return message
    return f"{type(error).__name__}: {message} (--debug shows the traceback)"


def cause(message: str) -> str:
    """Extract the cause from an error message of Spark, which includes Java's stack traces."""
    lines = message.splitlines()
    causes = [number for number, line in enumerate(lines) if line.startswith("Caused by: ")]
    last = lines[causes[-1] :] if causes else lines
    stacks = [number for number, line in enumerate(last, 1) if line.endswith(_PYTHON_STACK)]
    python = [line for line in last[stacks[-1] :] if line[:1].strip()] if stacks else []
    if python:
        return python[0]
    if causes:
        return last[0][len("Caused by: ") :]
    return " ".join(takewhile(lambda line: not line.startswith("\tat "), lines))
