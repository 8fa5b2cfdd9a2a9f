"""What a training can be asked for, and what it tells: how often a classifier is right."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, NamedTuple, Sequence

import numpy as np

CLASSIFIERS = ("logistic", "svm", "forest")

#: The two tests of a classifier.
HOLDOUTS = ("random", "blocked")

#: What a classifier may be trained on: principal components, or the network's own features.
FEATURES = ("pca", "raw")

#: Share of the photos to test with.
DEFAULT_HOLDOUT = 0.25

#: Wrongly labelled photos that are named; the confusion matrix counts them all.
LISTED_MISTAKES = 100


class Mistake(NamedTuple):
    """A photo that was taken for another class."""

    path: str
    label: str
    predicted: str


@dataclass(frozen=True)
class ClassMetrics:
    """How one class was told from the others; a number is None where there is nothing to count."""

    label: str
    #: Of the photos that were taken for this class, the share that are of it.
    precision: float | None
    #: Of the photos of this class, the share that were taken for it.
    recall: float | None
    #: Harmonic mean of the two.
    f1: float | None
    #: Test photos of this class, and photos of it that were trained on.
    support: int
    trained: int


@dataclass(frozen=True)
class Metrics:
    """What a hold-out has shown."""

    #: What was held out, and what whoever reads this should know.
    how: str
    notes: list[str]
    #: Photos that were trained on, that tested, and that did neither.
    train: int
    test: int
    left_out: int
    #: Share of the test photos with the right label.
    accuracy: float
    #: Mean of `f1` over the classes that have test photos: each class counts alike.
    macro_f1: float
    classes: list[ClassMetrics]
    #: Photos by true class (rows) and predicted class (columns), both in the order of `classes`.
    confusion: list[list[int]]
    #: The first `LISTED_MISTAKES` of them, by path.
    mistakes: list[Mistake] = field(default_factory=list)


@dataclass
class Training:
    """What was trained and how well it did: the content of ``metrics.json``."""

    classifier: str
    #: ``pca`` or ``raw``, and the numbers of a photo that the classifier sees.
    features: str
    dimensions: int
    #: Photos that the saved model was trained on, and those without features or without a label.
    photos: int
    left_out: int
    holdout: float
    group: str | None
    seed: int
    #: By the names in `HOLDOUTS`.
    holdouts: dict[str, Metrics | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    #: Where the saved pipeline is.
    model: str = ""
    #: ``name`` and ``sha256`` of the network that makes the features.
    image_model: dict[str, str] = field(default_factory=dict)
    #: Wall-clock seconds of each stage.
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
    """Turn counts of (true, predicted) labels into metrics.

    Parameters
    ----------
    counts
        Test photos of each true label and the label predicted for them.
    trained
        Photos of each label that were trained on.
    how, notes, left_out, mistakes
        As in `Metrics`; notes on classes that are in one part only are added.

    Examples
    --------
    >>> counts = {("lemon", "lemon"): 3, ("lemon", "lime"): 1, ("lime", "lime"): 2}
    >>> found = measure(counts, {"lemon": 9, "lime": 9}, how="by hand")
    >>> found.accuracy, found.classes[0].recall, found.classes[1].precision
    (0.8333333333333334, 0.75, 0.6666666666666666)
    """
    labels = sorted({*trained, *(label for pair in counts for label in pair)})
    number = {label: place for place, label in enumerate(labels)}
    confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
    for (true, predicted), photos in counts.items():
        confusion[number[true], number[predicted]] += photos
    classes = []
    for place, label in enumerate(labels):
        right = int(confusion[place, place])
        support, taken = int(confusion[place].sum()), int(confusion[:, place].sum())
        classes.append(
            ClassMetrics(
                label=label,
                precision=right / taken if taken else None,
                recall=right / support if support else None,
                f1=2 * right / (support + taken) if support else None,
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
            f"all photos of {', '.join(unknown)} are held out: nothing was learned of them, so "
            "each counts as wrong"
        )
    if untested:
        notes.append(f"no photo of {', '.join(untested)} is held out: they are not tested")
    return notes
