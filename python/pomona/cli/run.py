"""`pomona run`: computes features and a PCA, on Spark."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pomona._images import one_line
from pomona.cli._arguments import (
    add_decisions,
    add_decode_options,
    add_fail_on_error_option,
    add_images_argument,
    add_json_option,
    add_model_option,
)
from pomona.cli._errors import SOME_PHOTOS_FAILED
from pomona.cli._results import check_local
from pomona.cli._spark import spark_session
from pomona.cli._terminal import (
    count,
    describe_errors,
    describe_turned,
    describe_warnings,
    show,
    show_json,
)
from pomona.cli.pca import add_pca_options
from pomona.decisions import describe_listing

if TYPE_CHECKING:
    import argparse

    from pomona.results.summary import Summary


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    verb = verbs.add_parser(
        "run",
        parents=[common],
        help="compute features and a PCA, on Spark",
        description="Featurize photos, fit a PCA and project the features, on Spark. Under "
        "spark-submit the job runs on the cluster, otherwise on a local Spark.",
        epilog="example: pomona run s3://bucket/Test -o s3://bucket/results",
    )
    add_images_argument(verb, "folders of photos")
    verb.add_argument(
        "-o", "--output", required=True, metavar="OUTPUT", help="the folder for the results"
    )
    add_model_option(verb)
    add_pca_options(verb)
    again = verb.add_mutually_exclusive_group()
    again.add_argument(
        "--no-resume", action="store_true", help="recompute features that already exist"
    )
    again.add_argument(
        "--retry-errors",
        action="store_true",
        help="retry every photo that has an error (default: only those with a storage error, and "
        "those that a faulty version of Pomona refused)",
    )
    verb.add_argument(
        "--no-paths",
        action="store_true",
        help="let Spark read the photos one by one, even if tasks could read them concurrently by "
        "path",
    )
    add_decisions(verb)
    add_fail_on_error_option(verb)
    add_json_option(verb)
    add_decode_options(verb)
    verb.set_defaults(
        command=_run, unfinished="the same command resumes from the features already written"
    )


def _run(args: argparse.Namespace) -> int:
    check_local([*args.images, *([args.decisions] if args.decisions else [])])
    with spark_session("run", args.unfinished) as spark:
        from pomona import pipeline

        summary = pipeline.run(
            spark,
            args.images,
            args.output,
            model=args.model,
            variance=args.variance,
            components=args.components,
            standardize=args.standardize,
            resume=not args.no_resume,
            retry_errors=args.retry_errors,
            by_paths=not args.no_paths,
            decisions=args.decisions,
            **args.decode_options,
        )
    if args.json:
        show_json(asdict(summary))
    else:
        show(describe(summary))
    return SOME_PHOTOS_FAILED if args.fail_on_error and summary.errors else 0


def describe(summary: Summary) -> str:
    """Format a summary for a terminal."""
    lines = describe_errors(summary.errors, summary.first_errors)
    lines += describe_warnings(summary.warnings, summary.first_warnings)
    lines += describe_turned(summary.turned)
    if summary.retried:
        lines.append(
            f"{count(summary.retried, 'photo')} with an error in an earlier run retried: "
            f"{summary.recovered:,} now have features"
        )
    if summary.caution:
        lines.append(summary.caution)
    lines += describe_listing(summary.left_out, summary.decided)
    if summary.vanished:
        lines.append(f"{count(summary.vanished, 'photo')} vanished before being read")
    if summary.reading.get("way") == "binaryFile":
        lines.append(f"Spark read the photos one by one: {summary.reading['reason']}")
    lines += [
        f"{count(summary.photos, 'photo')}, {count(summary.errors, 'error')}; "
        f"{summary.featurized:,} featurized now, {summary.images_per_second:,.1f} images/s",
        f"PCA: {summary.k:,} of {summary.dim:,} components explain "
        f"{summary.variance_explained:.2%} of the variance",
        "seconds: " + ", ".join(f"{stage} {took:.1f}" for stage, took in summary.seconds.items()),
        f"{one_line(summary.output)}: features, pca, pca_model, summary.json",
    ]
    return "\n".join(lines)
