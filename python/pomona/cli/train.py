"""`pomona train`: a classifier on the features of a run, on Spark."""

from __future__ import annotations

from argparse import ArgumentTypeError
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pomona._images import one_line
from pomona.cli._arguments import seed
from pomona.cli._spark import spark_session
from pomona.cli._terminal import count, show
from pomona.results.metrics import CLASSIFIERS, DEFAULT_HOLDOUT, FEATURES

if TYPE_CHECKING:
    import argparse

    from pomona.results.metrics import Metrics, Training

# Classes, and mix-ups, that are worth a line on a terminal; metrics.json has them all.
_SHOWN = 5


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    verb = verbs.add_parser(
        "train",
        parents=[common],
        help="a classifier on the features of a run, on Spark",
        description="Train a classifier on the features that `pomona run` wrote, with the folders' "
        "names as labels. It is tested twice: on photos drawn at random, and on whole ranges of "
        "each rotation (the index in names such as r0_115.jpg) or whole groups, so that no photo "
        "is tested by its near-twins. What is saved is trained on all photos; `pomona predict` "
        "and plain PySpark use it.",
        epilog="example: pomona train s3://bucket/results --classifier svm",
    )
    verb.add_argument("output", metavar="OUTPUT", help="the output folder of a run")
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
        help=f"the run's principal components or the network's own features (default: "
        f"{FEATURES[0]})",
    )
    verb.add_argument(
        "--holdout",
        type=_part,
        default=DEFAULT_HOLDOUT,
        metavar="SHARE",
        help=f"the share of photos to test with (default: {DEFAULT_HOLDOUT})",
    )
    verb.add_argument(
        "--group",
        metavar="PATTERN|COLUMN",
        help="photos to be tested together: a regular expression for their paths, whose first "
        "group is the key, or a column of the features (default: ranges of the rotation)",
    )
    verb.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="another seed, other photos (default: 0)"
    )
    verb.add_argument(
        "-o",
        "--save",
        metavar="MODEL_URI",
        help="the folder to save the model in (default: classifier/NAME/model in OUTPUT)",
    )
    verb.add_argument(
        "--model",
        metavar="MODEL",
        help="the file of the model that the run used, if it is not here under its name",
    )
    verb.set_defaults(command=_train, unfinished="no classifier was saved")


def _train(args: argparse.Namespace) -> int:
    with spark_session("train", args.unfinished) as spark:
        from pomona.spark.classification.training import train

        training = train(
            spark,
            args.output,
            classifier=args.classifier,
            features=args.features,
            holdout_share=args.holdout,
            group=args.group,
            seed=args.seed,
            model=args.save,
            image_model=args.model,
        )
    show(describe(training))
    return 0


def describe(training: Training) -> str:
    """Put what was measured into some lines for a terminal."""
    lines = [
        f"{training.classifier} on {training.dimensions:,} "
        + ("components" if training.features == "pca" else "features")
        + f" of {count(training.photos, 'photo')}"
        + (f"; {training.left_out:,} without features or label" if training.left_out else ""),
        f"{'hold-out':10}{'accuracy':>10}{'macro F1':>10}{'tested':>9}{'trained on':>12}",
    ]
    found = {name: metrics for name, metrics in training.holdouts.items() if metrics}
    for name, metrics in found.items():
        lines.append(
            f"{name:10}{metrics.accuracy:>10.2%}{metrics.macro_f1:>10.4f}{metrics.test:>9,}"
            f"{metrics.train:>12,}"
        )
    for name, metrics in found.items():
        lines.append(f"{name}: {metrics.how}")
        lines += [f"  {one_line(line)}" for line in [*metrics.notes, *_describe_mistakes(metrics)]]
    lines += [one_line(note) for note in training.notes]
    lines.append("seconds: " + ", ".join(f"{key} {s:.1f}" for key, s in training.seconds.items()))
    lines.append(f"model: {one_line(training.model)}")
    return "\n".join(lines)


def _describe_mistakes(metrics: Metrics) -> list[str]:
    labels = [each.label for each in metrics.classes]
    mixed_up = sorted(
        (-photos, true, predicted)
        for true, row in zip(labels, metrics.confusion)
        for predicted, photos in zip(labels, row)
        if photos and true != predicted
    )
    lines = [
        f"{count(-photos, 'photo')} of {true} taken for {predicted}"
        for photos, true, predicted in mixed_up[:_SHOWN]
    ]
    if len(mixed_up) > _SHOWN:
        lines.append(f"and {len(mixed_up) - _SHOWN:,} other mix-ups: metrics.json has them all")
    return lines


def _part(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) < 1:
            return float(text)
    raise ArgumentTypeError(f"{text!r} is not a number above 0 and below 1")
