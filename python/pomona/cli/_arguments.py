"""Options that several verbs share, and the types of arguments."""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import Any, Callable, TypeVar

from pomona.cli._terminal import complain
from pomona.models.store import BUILT_IN_NAMES

DEFAULT_MODEL = BUILT_IN_NAMES[0]

T = TypeVar("T")


def add_model_option(verb: argparse.ArgumentParser) -> None:
    """Add ``--model``."""
    verb.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="MODEL",
        help=f"a model's name or file (default: {DEFAULT_MODEL})",
    )


def add_old_name(options: Any, old: str, new: str, **settings: Any) -> None:
    """Accept the old name of an option. It warns, and the help does not list it."""

    class Renamed(argparse.Action):
        def __call__(
            self, _: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *__: Any
        ) -> None:
            complain(f"{old} is deprecated: use {new}")
            setattr(namespace, self.dest, values)

    dest = new.lstrip("-").replace("-", "_")
    settings = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS, **settings}
    options.add_argument(old, dest=dest, action=Renamed, **settings)


def _parser(kind: Callable[[str], T], valid: Callable[[T], bool], name: str) -> Callable[[str], T]:
    """Make a parser of numbers; `name` completes the error message."""

    def parse(text: str) -> T:
        with suppress(ValueError):
            number = kind(text)
            if valid(number):
                return number
        raise argparse.ArgumentTypeError(f"{text!r} is not {name}")

    return parse


positive = _parser(int, lambda n: n > 0, "a whole number above 0")
#: In the range that both numpy's and Spark's generators accept.
seed = _parser(int, lambda n: 0 <= n < 1 << 32, f"a whole number from 0 to {(1 << 32) - 1}")
above_zero = _parser(float, lambda x: 0 < x < float("inf"), "a number above 0")
share = _parser(float, lambda x: 0 < x <= 1, "a number above 0 and at most 1")


def height_and_width(text: str) -> tuple[int, int]:
    """Parse ``N`` or ``HxW``, in pixels."""
    sides = [positive(side) for side in text.lower().split("x")]
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size in pixels, N or HEIGHTxWIDTH")
    return sides[0], sides[-1]


def numbers(text: str) -> list[float]:
    """Parse one number, or one for each channel."""
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number or R,G,B") from None
