"""Output of the commands, and formatting of numbers."""

from __future__ import annotations

import json
import os
import sys
import warnings
from contextlib import contextmanager, suppress
from typing import Any, Iterator, Mapping, Sequence

from pomona._images import one_line
from pomona.cli._errors import OutputClosedError

_KIB = 1 << 10
_MIB = 1 << 20


def show(text: str) -> None:
    """Print a result. Flushing reports a failed write now, not when the interpreter exits."""
    try:
        print(text, flush=True)  # noqa: T201
    except OSError as error:
        # Flushing the rest of the buffer at exit would fail a second time.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise OutputClosedError from error
        raise


def show_json(result: Mapping[str, Any]) -> None:
    """Print a result as a JSON object."""
    show(json.dumps(result, indent=2))


def complain(message: str) -> None:
    """Print why the command failed."""
    with suppress(OSError, ValueError):
        print(f"pomona: {message}", file=sys.stderr, flush=True)  # noqa: T201


def show_step(step: str) -> None:
    """Print what a command does next."""
    print(f"pomona: {step}", file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print the message of a `UserWarning` without the line of code that it refers to."""
    with warnings.catch_warnings():
        original = warnings.showwarning

        def show_message(
            message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any
        ) -> None:
            if category is UserWarning:
                complain(f"warning: {message}")
            else:
                original(message, category, *args, **kwargs)

        warnings.showwarning = show_message
        yield


def count(number: int, thing: str) -> str:
    """Format a number and a noun, with a plural s if needed."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def size(number: int) -> str:
    """Format a number of bytes."""
    return f"{number / _MIB:,.1f} MiB" if number >= _MIB else f"{number / _KIB:,.1f} KiB"


def describe_errors(number: int, first: Sequence[tuple[str, str]]) -> list[str]:
    """Describe how many photos failed, and the first of them."""
    return _listed(f"{count(number, 'photo')} failed", number, first, "error")


def describe_warnings(number: int, first: Sequence[tuple[str, str]]) -> list[str]:
    """Describe how many photos have a warning, and the first of them."""
    have = "has a warning" if number == 1 else "have a warning"
    return _listed(f"{count(number, 'photo')} {have}", number, first, "warning")


def describe_turned(number: int) -> list[str]:
    """Describe how many photos have an EXIF orientation that was not applied."""
    if not number:
        return []
    have = "has" if number == 1 else "have"
    return [
        f"{count(number, 'photo')} {have} an EXIF orientation that was not applied; --apply-exif "
        "applies it"
    ]


def describe_findings(totals: Mapping[str, int]) -> str:
    """List the number of findings of each kind."""
    return ", ".join(f"{total:,} {kind}" for kind, total in totals.items()) or "no findings"


def describe_undecodable(failed: Mapping[str, str]) -> list[str]:
    """Describe how many photos of a sample could not be decoded, and the first of them."""
    return [
        f"{count(len(failed), 'photo')} could not be decoded and "
        f"{'is' if len(failed) == 1 else 'are'} left out; the first is {one_line(path)}: "
        + one_line(reason)
        for path, reason in list(failed.items())[:1]
    ]


def _listed(heading: str, number: int, first: Sequence[tuple[str, str]], column: str) -> list[str]:
    """List the first of a number of photos, and what a column has about each."""
    if not number:
        return []
    if not first:
        return [f"{heading}; all are in the column `{column}`"]
    lines = [f"{heading}:"]
    lines += [f"  {one_line(path)}: {one_line(reason)}" for path, reason in first]
    if number > len(first):
        lines.append(f"  and {number - len(first):,} more; all are in the column `{column}`")
    return lines
