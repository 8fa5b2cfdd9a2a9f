"""Classifier metrics, and the choices that `pomona train` offers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, NamedTuple, Sequence

import numpy as np

CLASSIFIERS = ("logistic", "svm", "forest")

#: The two hold-outs that each classifier is tested on.
HOLDOUTS = ("random", "blocked")

#: What a classifier can be trained on: principal components, or the features of the image model.
FEATURES = ("pca", "raw")

#: Share of the photos to test on.
DEFAULT_HOLDOUT = 0.25

#: Misclassified photos that are listed by name; the confusion matrix counts all of them.
LISTED_MISTAKES = 100


class Mistake(NamedTuple):
    """A misclassified photo."""

    path: str
    label: str
    predicted: str


@dataclass(frozen=True)
class ClassMetrics:
    """The metrics of one class; None where a ratio is undefined."""

    label: str
    #: Share of the photos predicted as this class that belong to it.
    precision: float | None
    #: Share of the photos of this class that were predicted as such.
    recall: float | None
    #: Harmonic mean of precision and recall.
    f1: float | None
    #: Test photos and training photos of this class.
    support: int
    trained: int


@dataclass(frozen=True)
class Metrics:
    """The result of a hold-out."""

    #: What was held out, and notes for the reader.
    how: str
    notes: list[str]
    #: Training photos, test photos, and photos in neither part.
    train: int
    test: int
    left_out: int
    #: Share of the test photos that were classified correctly.
    accuracy: float
    #: Unweighted mean of `f1` over the classes that have test photos.
    macro_f1: float
    classes: list[ClassMetrics]
    #: Photos by true class (rows) and predicted class (columns), both in the order of `classes`.
    confusion: list[list[int]]
    #: The first `LISTED_MISTAKES` misclassified photos, by path.
    mistakes: list[Mistake] = field(default_factory=list)


@dataclass
class Training:
    """A trained classifier and its metrics: the content of ``metrics.json``."""

    classifier: str
    #: ``pca`` or ``raw``, and the length of the classifier's input vector.
    features: str
    dimensions: int
    #: Photos that the saved classifier was trained on, and photos without features or a label.
    photos: int
    left_out: int
    holdout: float
    group: str | None
    seed: int
    #: Metrics by hold-out, one of `HOLDOUTS`.
    holdouts: dict[str, Metrics | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    #: The folder of the saved pipeline.
    model: str = ""
    #: ``local`` or ``spark``: where it was trained.
    engine: str = "spark"
    #: ``name`` and ``sha256`` of the image model that computes the features.
    image_model: dict[str, str] = field(default_factory=dict)
    #: Wall-clock seconds per stage.
    seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    #: When the training ended, UTC, ISO 8601.
    finished: str = ""


def measure(
    counts: Mapping[tuple[str, str], int],
    trained: Mapping[str, int],
    *,
    how: str,
    notes: Sequence[str] = (),
    left_out: int = 0,
    mistakes: Sequence[Mistake] = (),
) -> Metrics:
    """Compute metrics from the number of test photos per (true, predicted) pair of labels.

    Parameters
    ----------
    counts
        Test photos of each pair.
    trained
        Training photos of each label.
    how, notes, left_out, mistakes
        As in `Metrics`; notes on classes that are in one part only are added.

    Examples
    --------
    >>> counts = {("lemon", "lemon"): 3, ("lemon", "lime"): 1, ("lime", "lime"): 2}
    >>> metrics = measure(counts, {"lemon": 9, "lime": 9}, how="by hand")
    >>> metrics.accuracy, metrics.classes[0].recall, metrics.classes[1].precision
    (0.8333333333333334, 0.75, 0.6666666666666666)
    """
    labels = sorted({*trained, *(label for pair in counts for label in pair)})
    row_of = {label: row for row, label in enumerate(labels)}
    confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
    for (true, predicted), photos in counts.items():
        confusion[row_of[true], row_of[predicted]] += photos
    classes = []
    for row, label in enumerate(labels):
        correct = int(confusion[row, row])
        support, predictions = int(confusion[row].sum()), int(confusion[:, row].sum())
        classes.append(
            ClassMetrics(
                label=label,
                precision=correct / predictions if predictions else None,
                recall=correct / support if support else None,
                f1=2 * correct / (support + predictions) if support else None,
                support=support,
                trained=trained.get(label, 0),
            )
        )
    tested = int(confusion.sum())
    return Metrics(
        how=how,
        notes=[*notes, *_one_sided(classes)],
        train=sum(trained.values()),
        test=tested,
        left_out=left_out,
        accuracy=int(np.trace(confusion)) / tested,
        macro_f1=float(np.mean([each.f1 for each in classes if each.f1 is not None])),
        classes=classes,
        confusion=confusion.tolist(),
        mistakes=list(mistakes),
    )


def _one_sided(classes: Sequence[ClassMetrics]) -> list[str]:
    untested = [each.label for each in classes if not each.support]
    unknown = [each.label for each in classes if each.support and not each.trained]
    notes = []
    if unknown:
        notes.append(
            f"all photos of {', '.join(unknown)} are held out: the classifier never saw these "
            "classes, so all their photos count as misclassified"
        )
    if untested:
        notes.append(f"no photo of {', '.join(untested)} is held out: these are not tested")
    return notes
