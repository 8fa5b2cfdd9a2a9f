"""How a command ends: its exit codes, and errors as one line for the person at the keyboard."""

from __future__ import annotations

import os
from itertools import takewhile

from pomona._images import one_line

FAILED = 1
USAGE = 2
SOME_PHOTOS_FAILED = 3
#: Shells report a program that a signal ended as this plus the signal's number.
SIGNALLED = 128
# What a worker of Spark's adds to its Python error; the error itself is the next line in full.
_PYTHON_STACK = "Traceback (most recent call last):"


class CommandError(Exception):
    """A failure whose message is all that the user needs."""


class OutputClosedError(Exception):
    """Whoever read standard output has gone."""


def explain(error: Exception) -> str:
    """Say in one line what went wrong."""
    if isinstance(error, OSError) and error.filename is not None:
        return one_line(f"{os.fsdecode(error.filename)}: {error.strerror}")
    message = one_line(cause(str(error)))
    if isinstance(error, (CommandError, OSError, ValueError, ImportError)):
        return message
    return f"{type(error).__name__}: {message} (--debug shows where)"


def cause(message: str) -> str:
    """Find the sentence that matters in a message of Spark's, which holds the stacks of Java."""
    lines = message.splitlines()
    causes = [number for number, line in enumerate(lines) if line.startswith("Caused by: ")]
    told = lines[causes[-1] :] if causes else lines
    stacks = [number for number, line in enumerate(told, 1) if line.endswith(_PYTHON_STACK)]
    said = [line for line in told[stacks[-1] :] if line and not line[0].isspace()] if stacks else []
    if said:
        return said[0]
    if causes:
        return told[0][len("Caused by: ") :]
    return " ".join(takewhile(lambda line: not line.startswith("\tat "), lines))
