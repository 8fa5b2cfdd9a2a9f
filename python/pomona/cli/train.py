"""`pomona train`: train a classifier on features."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from pomona._images import one_line
from pomona.cli._arguments import add_json_option, add_old_name, number, seed
from pomona.cli._results import add_engine, add_results, open_results
from pomona.cli._terminal import complain, count, show, show_json
from pomona.results import LocalResults
from pomona.results.metrics import CLASSIFIERS, DEFAULT_HOLDOUT, FEATURES

if TYPE_CHECKING:
    import argparse

    from pomona.results.metrics import Metrics, Training
    from pomona.spark.results import SparkResults

# Confusions of classes shown on a terminal; metrics.json has all of them.
_SHOWN = 5


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    verb = verbs.add_parser(
        "train",
        parents=[common],
        help="train a classifier on features",
        description="Train a classifier on features, with the names of the photos' folders as "
        "labels. It is tested twice: on photos drawn at random, and on photos that no "
        "near-duplicate in the training part flatters: ranges of views (the rotation index in "
        "names such as r0_115.jpg), groups, or photos that look alike. The saved classifier is "
        "trained on all photos; use it with `pomona predict` or plain PySpark.",
        epilog="example: pomona train fruits.parquet --classifier svm",
    )
    add_results(verb)
    verb.add_argument(
        "--classifier",
        required=True,
        choices=CLASSIFIERS,
        help="logistic regression, a linear support-vector machine or a random forest",
    )
    verb.add_argument(
        "--features",
        choices=FEATURES,
        default=FEATURES[0],
        help="train on the principal components or on the features of the image model "
        f"(default: {FEATURES[0]})",
    )
    verb.add_argument(
        "--holdout",
        type=number(float, lambda x: 0 < x < 1, "a number between 0 and 1"),
        default=DEFAULT_HOLDOUT,
        metavar="SHARE",
        help=f"the share of photos to test on (default: {DEFAULT_HOLDOUT})",
    )
    verb.add_argument(
        "--group",
        metavar="COLUMN|CSV|PATTERN|duplicates",
        help="photos to test together: a column of the features; a CSV file with the columns path "
        "and group; a regular expression for the paths, whose first group is the key; or "
        "`duplicates`, photos that look alike (default: ranges of the rotation index if the names "
        "have one, otherwise duplicates)",
    )
    verb.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="seed of the hold-outs (default: 0)"
    )
    verb.add_argument(
        "-o",
        "--output",
        metavar="OUTPUT",
        help="the folder to save the classifier in (default: classifier/NAME/model in the folder "
        "of results)",
    )
    add_old_name(verb, "--save", "--output")
    verb.add_argument(
        "--model",
        metavar="MODEL",
        help="the image model that computed the features, if it is not available under its name",
    )
    add_engine(verb)
    add_json_option(verb)
    verb.set_defaults(command=_train, unfinished="no classifier was saved")


def _train(args: argparse.Namespace) -> int:
    options = {
        "classifier": args.classifier,
        "features": args.features,
        "holdout_share": args.holdout,
        "group": args.group,
        "seed": args.seed,
        "model": args.model,
        "output": args.output,
        "progress": complain,
    }
    with open_results(args.results, "train", args.unfinished, engine=args.engine) as results:
        if isinstance(results, LocalResults):
            from pomona.classification import train

            training = train(results, **options)
        else:
            from pomona.spark.classification import training as on_spark

            spark = cast("SparkResults", results).spark
            training = on_spark.train(spark, results.uri, **options)
    if args.json:
        show_json(asdict(training))
    else:
        show(describe(training))
    return 0


def describe(training: Training) -> str:
    """Format the metrics for a terminal."""
    lines = [
        f"{training.classifier} on {training.dimensions:,} "
        + ("components" if training.features == "pca" else "features")
        + f" of {count(training.photos, 'photo')}"
        + (f"; {training.left_out:,} without features or a label" if training.left_out else ""),
        f"{'hold-out':10}{'accuracy':>10}{'macro F1':>10}{'tested':>9}{'trained on':>12}",
    ]
    tested = {name: metrics for name, metrics in training.holdouts.items() if metrics}
    for name, metrics in tested.items():
        lines.append(
            f"{name:10}{metrics.accuracy:>10.2%}{metrics.macro_f1:>10.4f}{metrics.test:>9,}"
            f"{metrics.train:>12,}"
        )
    for name, metrics in tested.items():
        lines.append(f"{name}: {metrics.how}")
        lines += [f"  {one_line(line)}" for line in [*metrics.notes, *_confusions(metrics)]]
    lines += [one_line(note) for note in training.notes]
    lines.append("seconds: " + ", ".join(f"{key} {s:.1f}" for key, s in training.seconds.items()))
    lines.append(f"classifier: {one_line(training.model)}")
    return "\n".join(lines)


def _confusions(metrics: Metrics) -> list[str]:
    labels = [each.label for each in metrics.classes]
    confused = sorted(
        (-photos, true, predicted)
        for true, row in zip(labels, metrics.confusion)
        for predicted, photos in zip(labels, row)
        if photos and true != predicted
    )
    lines = [
        f"{count(-photos, 'photo')} of {true} predicted as {predicted}"
        for photos, true, predicted in confused[:_SHOWN]
    ]
    if len(confused) > _SHOWN:
        lines.append(f"and {len(confused) - _SHOWN:,} other confusions, listed in metrics.json")
    return lines
