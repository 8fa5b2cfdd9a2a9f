"""`pomona run`: photos to features and PCA, on Spark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pomona._images import one_line
from pomona.cli._arguments import add_model_option, positive, share
from pomona.cli._spark import spark_session
from pomona.cli._terminal import count, describe_errors, show

if TYPE_CHECKING:
    import argparse

    from pomona.pipeline import Summary


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    verb = verbs.add_parser(
        "run",
        parents=[common],
        help="photos to features and PCA, on Spark",
        description="Read photos, write their features, fit a PCA and write the projection, on "
        "Spark. Under spark-submit the cluster's settings hold; elsewhere Spark starts on this "
        "machine.",
        epilog="example: pomona run --images s3://bucket/Test --output s3://bucket/results",
    )
    verb.add_argument("--images", required=True, nargs="+", metavar="URI", help="folders of photos")
    verb.add_argument("--output", required=True, metavar="URI", help="the folder for the results")
    add_model_option(verb)
    size = verb.add_mutually_exclusive_group()
    size.add_argument(
        "--variance",
        type=share,
        metavar="SHARE",
        help="keep as many components as explain this share of the variance (default: 0.95)",
    )
    size.add_argument("--components", type=positive, metavar="K", help="keep this many components")
    verb.add_argument(
        "--standardize",
        action="store_true",
        help="divide each feature by its standard deviation before the PCA",
    )
    again = verb.add_mutually_exclusive_group()
    again.add_argument(
        "--no-resume", action="store_true", help="compute features anew that are there already"
    )
    again.add_argument(
        "--retry-errors",
        action="store_true",
        help="try all photos again that could not be read, and no others (without it, those that "
        "the storage did not give, and those that a faulty version of Pomona refused)",
    )
    verb.add_argument(
        "--no-paths",
        action="store_true",
        help="let Spark read the photos, one after another, also where tasks can read many at once "
        "by their paths",
    )
    verb.set_defaults(
        command=_run, unfinished="the same command goes on with the features it has written"
    )


def _run(args: argparse.Namespace) -> int:
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
        )
    show(describe(summary))
    return 0


def describe(summary: Summary) -> str:
    """Put a summary into a few lines for a terminal."""
    lines = describe_errors(summary.errors, summary.first_errors)
    if summary.retried:
        lines.append(
            f"{count(summary.retried, 'photo')} with an error from an earlier run tried again: "
            f"{summary.recovered:,} with features now"
        )
    if summary.caution:
        lines.append(summary.caution)
    if summary.vanished:
        lines.append(f"{count(summary.vanished, 'photo')} vanished before being read")
    if summary.reading.get("way") == "binaryFile":
        lines.append(f"photos read one after another, by Spark: {summary.reading['reason']}")
    lines += [
        f"{count(summary.photos, 'photo')}, {count(summary.errors, 'error')}; "
        f"{summary.featurized:,} featurized now, {summary.images_per_second:,.1f} images/s",
        f"PCA: {summary.k:,} of {summary.dim:,} components explain "
        f"{summary.variance_explained:.2%} of the variance",
        "seconds: " + ", ".join(f"{stage} {took:.1f}" for stage, took in summary.seconds.items()),
        f"{one_line(summary.output)}: features, pca, pca_model, summary.json",
    ]
    return "\n".join(lines)
