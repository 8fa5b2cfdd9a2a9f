"""Options that several verbs share, and the types of arguments."""

from __future__ import annotations

import argparse
from contextlib import suppress
from math import inf
from typing import Any, Callable

from pomona.cli._errors import SOME_PHOTOS_FAILED
from pomona.cli._terminal import complain
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


def add_json_option(verb: argparse.ArgumentParser) -> None:
    """Add ``--json``. The verb then prints one object with `show_json`, and nothing else."""
    verb.add_argument("--json", action="store_true", help="print the result as a JSON object")


def add_fail_on_error_option(verb: argparse.ArgumentParser, failed: str = "a photo failed") -> None:
    """Add ``--fail-on-error``, for what `failed` says."""
    verb.add_argument(
        "--fail-on-error",
        action="store_true",
        help=f"exit with code {SOME_PHOTOS_FAILED} if {failed}; OUTPUT is written nevertheless",
    )


class _Images(argparse.Action):
    """Stores folders of photos, unless it is the positional argument and there are none."""

    def __call__(
        self, _: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *__: Any
    ) -> None:
        if values:
            namespace.images = values


def add_images_argument(verb: argparse.ArgumentParser, what: str) -> None:
    """Add the positional argument IMAGES, and ``--images`` as another way to give it."""
    images = verb.add_mutually_exclusive_group(required=True)
    images.add_argument(
        "images", nargs="*", default=[], action=_Images, metavar="IMAGES", help=what
    )
    images.add_argument(
        "--images", nargs="+", action=_Images, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )


class _DecodeOption(argparse.Action):
    """Collects the decode options that are given in ``decode_options``, by their Python names."""

    def __call__(
        self, _: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *__: Any
    ) -> None:
        value = True if self.nargs == 0 else values
        namespace.decode_options = {**namespace.decode_options, self.dest: value}


def add_decisions(verb: argparse.ArgumentParser) -> None:
    """Add ``--decisions``."""
    verb.add_argument(
        "--decisions",
        metavar="CSV",
        help="the findings.csv of `pomona check` or `pomona report`, with decisions in its column "
        "`decision`: `leave out` or `relabel: NAME`; without it, the next run undoes them",
    )


def add_decode_options(verb: argparse.ArgumentParser) -> None:
    """Add the options of `pomona.DecodeOptions`; ``decode_options`` holds those that are given."""
    verb.set_defaults(decode_options={})
    options = verb.add_argument_group("decode options")

    def add(name: str, **settings: Any) -> None:
        options.add_argument(name, action=_DecodeOption, default=argparse.SUPPRESS, **settings)

    add("--apply-exif", nargs=0, help="turn photos as their EXIF orientation says")
    add(
        "--strict",
        nargs=0,
        help="refuse a photo with a warning: one that is damaged or incomplete, or whose 16-bit "
        "grey levels are clipped",
    )
    add(
        "--max-pixels",
        type=positive,
        metavar="N",
        help="refuse photos of more than N pixels (default: the limit of Pillow)",
    )
    add(
        "--decode",
        choices=("exact", "fast"),
        help="fast decodes JPEGs much larger than the model's input at a reduced size, which "
        "changes the features slightly (default: exact)",
    )


def add_old_name(options: Any, old: str, new: str, **settings: Any) -> None:
    """Accept the old name of an option. It warns, and the help does not list it."""

    class Renamed(argparse.Action):
        def __call__(
            self, _: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *__: Any
        ) -> None:
            complain(f"{old} is deprecated: use {new}")
            setattr(namespace, self.dest, True if self.nargs == 0 else values)

    dest = new.lstrip("-").replace("-", "_")
    settings = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS, **settings}
    options.add_argument(old, dest=dest, action=Renamed, **settings)


def number(
    convert: Callable[[str], Any], accepts: Callable[[Any], bool], what: str
) -> Callable[[str], Any]:
    """Make a parser of the numbers that meet a condition, which `what` states in words."""

    def parse(text: str) -> Any:
        with suppress(ValueError):
            if accepts(convert(text)):
                return convert(text)
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")

    return parse


positive = number(int, lambda n: n > 0, "a whole number above 0")
#: Seeds that both numpy's and Spark's generators accept.
seed = number(int, lambda n: 0 <= n < 1 << 32, f"a whole number from 0 to {(1 << 32) - 1}")
above_zero = number(float, lambda x: 0 < x < inf, "a number above 0")
share = number(float, lambda x: 0 < x <= 1, "a number above 0 and at most 1, such as 0.95 for 95 %")


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
