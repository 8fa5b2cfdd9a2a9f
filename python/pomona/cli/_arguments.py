"""What the verbs' arguments share: their types, their common options and how they are declared."""

from __future__ import annotations

import argparse
from contextlib import suppress

from pomona.models.store import BUILT_IN_NAMES

DEFAULT_MODEL = BUILT_IN_NAMES[0]


def add_model_option(verb: argparse.ArgumentParser) -> None:
    """Add ``--model``."""
    verb.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="MODEL",
        help=f"a model's name or file (default: {DEFAULT_MODEL})",
    )


def positive(text: str) -> int:
    """Read a whole number above 0."""
    with suppress(ValueError):
        if int(text) > 0:
            return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")


def seed(text: str) -> int:
    """Read a seed: what numpy's generators and Spark's take alike."""
    with suppress(ValueError):
        if 0 <= int(text) < 1 << 32:
            return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {(1 << 32) - 1}")


def above_zero(text: str) -> float:
    """Read a number above 0."""
    with suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")


def share(text: str) -> float:
    """Read a share: above 0 and up to 1."""
    with suppress(ValueError):
        if 0 < float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to 1")


def height_and_width(text: str) -> tuple[int, int]:
    """Read ``N`` or ``HxW`` as pixels."""
    sides = [positive(side) for side in text.lower().split("x")]
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a side or HEIGHTxWIDTH")
    return sides[0], sides[-1]


def numbers(text: str) -> list[float]:
    """Read one number, or one for each channel."""
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number or R,G,B") from None
