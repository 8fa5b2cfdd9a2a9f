"""`pomona train`: train a classifier on the features of a run, on Spark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pomona._images import one_line
from pomona.cli._arguments import add_old_name, number, seed
from pomona.cli._results import check_local
from pomona.cli._spark import spark_session
from pomona.cli._terminal import count, show
from pomona.results.metrics import CLASSIFIERS, DEFAULT_HOLDOUT, FEATURES

if TYPE_CHECKING:
    import argparse

    from pomona.results.metrics import Metrics, Training

# Confusions of classes shown on a terminal; metrics.json has all of them.
_SHOWN = 5


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    verb = verbs.add_parser(
        "train",
        parents=[common],
        help="train a classifier on the features of a run, on Spark",
        description="Train a classifier on the features of a run, with the names of the photos' "
        "folders as labels. It is tested twice: on photos drawn at random, and on ranges of views "
        "(the rotation index in names such as r0_115.jpg) or groups that no training photo comes "
        "from, so that near-duplicates do not flatter it. The saved classifier is trained on all "
        "photos; use it with `pomona predict` or plain PySpark.",
        epilog="example: pomona train s3://bucket/results --classifier svm",
    )
    verb.add_argument("results", metavar="RESULTS", help="the folder that `pomona run` wrote")
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
        help="train on the run's principal components or on the features of the image model "
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
        metavar="PATTERN|COLUMN",
        help="photos to test together: a regular expression for their paths, whose first group is "
        "the key, or a column of the features (default: ranges of the rotation index)",
    )
    verb.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="seed of the hold-outs (default: 0)"
    )
    verb.add_argument(
        "-o",
        "--output",
        metavar="OUTPUT",
        help="the folder to save the classifier in (default: classifier/NAME/model in RESULTS)",
    )
    add_old_name(verb, "--save", "--output")
    verb.add_argument(
        "--model",
        metavar="MODEL",
        help="the image model that the run used, if it is not available under its name",
    )
    verb.set_defaults(command=_train, unfinished="no classifier was saved")


def _train(args: argparse.Namespace) -> int:
    check_local([args.results])
    with spark_session("train", args.unfinished) as spark:
        from pomona.spark.classification.training import train

        training = train(
            spark,
            args.results,
            classifier=args.classifier,
            features=args.features,
            holdout_share=args.holdout,
            group=args.group,
            seed=args.seed,
            model=args.model,
            output=args.output,
        )
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
