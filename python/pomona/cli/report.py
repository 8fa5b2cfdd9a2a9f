"""`pomona report`: a page to look at."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from pomona._images import one_line
from pomona.cli._arguments import positive, seed
from pomona.cli._results import open_results
from pomona.cli._terminal import count, show, size
from pomona.report import SAMPLE_PHOTOS, write_report

if TYPE_CHECKING:
    from pomona.report import Report


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    verb = verbs.add_parser(
        "report",
        parents=[common],
        help="a page about a run, to look at in a browser",
        description="Write OUTPUT/report/index.html, one file that needs no network: classes, "
        "photos, errors, variance curve, maps of the photos in two and three dimensions, "
        "look-alikes, odd ones, and the classifiers that `pomona train` has made. The same "
        "pictures are PNG files beside it.",
        epilog="example: pomona report results",
    )
    verb.add_argument("output", metavar="OUTPUT", help="the --output of `pomona run`")
    verb.add_argument(
        "--sample",
        type=positive,
        metavar="N",
        default=SAMPLE_PHOTOS,
        help="photos in the pictures, each class by its share; counts are of all photos "
        f"(default: {SAMPLE_PHOTOS})",
    )
    verb.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="of the sample and the maps (default: 0)"
    )
    verb.set_defaults(command=_report, unfinished="the report was not written")


def _report(args: argparse.Namespace) -> int:
    with open_results(args.output, "report", args.unfinished) as results:
        report = write_report(results, sample=args.sample, seed=args.seed, progress=_tell)
    show(describe(report))
    return 0


def describe(report: Report) -> str:
    """Put a report into two lines for a terminal."""
    photos = count(report.photos, "photo")
    if report.photos < report.of:
        photos = f"a sample of {photos} of {report.of:,}"
    return "\n".join(
        [
            f"{one_line(report.uri)}: {photos}, {size(report.bytes)}",
            f"beside it: {', '.join(report.pictures)}",
        ]
    )


def _tell(what: str) -> None:
    print(f"pomona: {what}", file=sys.stderr, flush=True)  # noqa: T201
