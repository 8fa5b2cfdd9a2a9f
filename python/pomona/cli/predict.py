"""`pomona predict`: label new photos, on Spark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pomona._images import one_line
from pomona.cli._arguments import add_decode_options
from pomona.cli._errors import CommandError
from pomona.cli._results import check_local
from pomona.cli._spark import spark_session
from pomona.cli._terminal import count, describe_errors, describe_turned, describe_warnings, show

if TYPE_CHECKING:
    import argparse

    from pomona.spark.classification.prediction import Predictions


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    verb = verbs.add_parser(
        "predict",
        parents=[common],
        help="label new photos, on Spark",
        description="Label photos with a classifier saved by `pomona train`. The output has one "
        "row per photo: its path, the name of its folder, and either the predicted label and the "
        "probability of each class (for an SVM: its score), or an error.",
        epilog="example: pomona predict s3://bucket/results/classifier/svm/model s3://bucket/new "
        "-o s3://bucket/labels.parquet",
    )
    verb.add_argument(
        "classifier", metavar="CLASSIFIER", help="the folder of a classifier from `pomona train`"
    )
    verb.add_argument("images", nargs="+", metavar="IMAGES", help="folders of photos")
    verb.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUTPUT",
        help="the folder of Parquet files to write",
    )
    verb.add_argument("--overwrite", action="store_true", help="replace OUTPUT if it exists")
    add_decode_options(verb)
    verb.set_defaults(command=_predict, unfinished="{output} is not finished")


def _predict(args: argparse.Namespace) -> int:
    unfinished = args.unfinished.format(**vars(args))
    check_local([args.classifier, *args.images])
    with spark_session("predict", unfinished) as spark:
        from pomona.spark.classification.prediction import predict

        try:
            predictions = predict(
                spark,
                args.classifier,
                args.images,
                args.output,
                overwrite=args.overwrite,
                **args.decode_options,
            )
        except FileExistsError as error:
            raise CommandError(f"{args.output} exists already; --overwrite replaces it") from error
    show(describe(predictions))
    return 0


def describe(predictions: Predictions) -> str:
    """Format the predictions for a terminal."""
    lines = describe_errors(predictions.errors, predictions.first_errors)
    lines += describe_warnings(predictions.warnings, ())
    lines += describe_turned(predictions.turned)
    lines.append(
        f"{count(predictions.photos, 'photo')}, {count(predictions.errors, 'error')}: "
        f"{predictions.seconds:.1f} s"
    )
    common = sorted(predictions.predicted.items(), key=lambda each: (-each[1], each[0]))
    lines += [f"{photos:>9,}  {one_line(label)}" for label, photos in common]
    if predictions.named:
        lines.append(
            f"of {count(predictions.named, 'photo')} in folders named like a class, "
            f"{predictions.agreeing:,} are predicted as that class "
            f"({predictions.agreeing / predictions.named:.2%})"
        )
    columns = "probabilities" if predictions.probabilities else "scores (not probabilities)"
    lines.append(f"{one_line(predictions.uri)}: predicted labels and {columns}")
    return "\n".join(lines)
