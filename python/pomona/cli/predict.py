"""`pomona predict`: label new photos."""

from __future__ import annotations

import os
from dataclasses import asdict
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pomona._images import one_line
from pomona.cli._arguments import (
    add_decode_options,
    add_fail_on_error_option,
    add_json_option,
    positive,
)
from pomona.cli._errors import SOME_PHOTOS_FAILED, CommandError
from pomona.cli._results import add_engine, check_local
from pomona.cli._spark import spark_session
from pomona.cli._terminal import (
    complain,
    count,
    describe_errors,
    describe_turned,
    describe_warnings,
    show,
    show_json,
)
from pomona.results.local import local_path

if TYPE_CHECKING:
    import argparse

    from pomona.classification import Predictions


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    verb = verbs.add_parser(
        "predict",
        parents=[common],
        help="label new photos",
        description="Label photos with a classifier saved by `pomona train`. The output has one "
        "row per photo: its path, the name of its folder, and either the predicted label and the "
        "probability of each class (for an SVM: its score), or an error.",
        epilog="example: pomona predict fruits-results/classifier/svm/model new -o labels.parquet",
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
    verb.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads, without Spark (default: the number of CPU cores available to this process)",
    )
    add_fail_on_error_option(verb)
    add_engine(
        verb,
        "local for photos on this machine and a classifier that was trained on it, and Spark for "
        "all others",
    )
    add_json_option(verb)
    add_decode_options(verb)
    verb.set_defaults(command=_predict, unfinished="{output} is not finished")


def _predict(args: argparse.Namespace) -> int:
    unfinished = args.unfinished.format(**vars(args))
    check_local([args.classifier, *args.images])
    paths = (args.classifier, args.images, args.output)
    options = {"overwrite": args.overwrite, **args.decode_options}
    try:
        if _works_here(args):
            from pomona.classification import predict

            threads = args.threads or len(os.sched_getaffinity(0))
            predictions = predict(*paths, threads=threads, **options)
        else:
            with spark_session("predict", unfinished) as spark:
                from pomona.spark.classification import prediction as on_spark

                predictions = on_spark.predict(spark, *paths, progress=complain, **options)
    except FileExistsError as error:
        raise CommandError(f"{args.output} exists already; --overwrite replaces it") from error
    if args.json:
        show_json(asdict(predictions))
    else:
        show(describe(predictions))
    return SOME_PHOTOS_FAILED if args.fail_on_error and predictions.errors else 0


def _works_here(args: argparse.Namespace) -> bool:
    """Return whether to do without Spark."""
    if args.engine != "auto":
        return bool(args.engine == "local")
    if find_spec("pyspark") is None:
        return True
    classifier = local_path(args.classifier)
    if classifier is None or any(local_path(uri) is None for uri in (*args.images, args.output)):
        return False
    from pomona.results.spark_ml import engine_of

    return engine_of(classifier) == "local"


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
    if predictions.trained:
        lines.append(
            f"{predictions.trained:,} of {count(predictions.photos, 'photo')} trained this "
            "classifier: their labels say nothing about new photos"
        )
    columns = "probabilities" if predictions.probabilities else "scores (not probabilities)"
    lines.append(f"{one_line(predictions.uri)}: predicted labels and {columns}")
    return "\n".join(lines)
