"""`pomona report`: write a report about photos, as an HTML page."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pomona._images import one_line
from pomona.cli._arguments import add_json_option, positive, seed
from pomona.cli._results import add_results, open_others, open_results
from pomona.cli._terminal import count, describe_findings, show, show_json, show_step, size
from pomona.report import LANGUAGES, SAMPLE_PHOTOS, write_report

if TYPE_CHECKING:
    from pomona.report import Report


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    verb = verbs.add_parser(
        "report",
        parents=[common],
        help="write a report about photos, for a browser",
        description="Write RESULTS/report/index.html, a self-contained page that works offline: "
        "findings (suspected label errors, near-duplicates, bad photos …), classes, photos, "
        "explained variance, maps of the photos in two and three dimensions, and the metrics of "
        "classifiers from `pomona train`. report/findings.csv has all findings and a column for "
        "decisions, which later reports keep. Its figures are saved next to it as PNG files. If "
        "there is no PCA yet, one is fitted first.",
        epilog="examples: pomona report results; pomona report november --against october",
    )
    add_results(verb)
    verb.add_argument(
        "--sample",
        type=positive,
        metavar="N",
        default=SAMPLE_PHOTOS,
        help="photos to show, sampled in proportion to the classes; counts cover all photos "
        f"(default: {SAMPLE_PHOTOS})",
    )
    verb.add_argument(
        "--seed",
        type=seed,
        default=0,
        metavar="N",
        help="seed of the sample and of t-SNE (default: 0)",
    )
    verb.add_argument(
        "--against",
        metavar="OTHER",
        help="other results, such as last month's: show what is new, gone or has changed",
    )
    verb.add_argument(
        "--language",
        choices=LANGUAGES,
        default=LANGUAGES[0],
        help=f"language of the page (default: {LANGUAGES[0]})",
    )
    add_json_option(verb)
    verb.set_defaults(command=_report, unfinished="the report was not written")


def _report(args: argparse.Namespace) -> int:
    with open_results(args.results, "report", args.unfinished) as results, open_others(
        args.against, "report", args.unfinished
    ) as against:
        report = write_report(
            results,
            sample=args.sample,
            seed=args.seed,
            against=against,
            language=args.language,
            progress=show_step,
        )
    if args.json:
        show_json(asdict(report))
    else:
        show(describe(report))
    return 0


def describe(report: Report) -> str:
    """Format the outcome for a terminal."""
    photos = count(report.photos, "photo")
    if report.photos < report.of:
        photos = f"a sample of {photos} of {report.of:,}"
    return "\n".join(
        [
            f"{one_line(report.uri)}: {photos}, {size(report.bytes)}",
            f"figures next to it: {', '.join(report.pictures)}",
            f"findings.csv next to it: {describe_findings(report.findings)}",
        ]
    )
