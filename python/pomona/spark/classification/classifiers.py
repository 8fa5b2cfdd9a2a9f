"""Classifiers of Spark ML as stages: features in, the name of a class out.

The settings are the same for every set of photos and every model. They were chosen on a sample of
Fruits-360 (295 photos, 23 classes) by the mean accuracy over several seeds, with features of
`efficientnet_lite0`, and confirmed on another (600 photos, 6 classes): penalties relative to the
spread of the features, because that differs from model to model by orders of magnitude; features
not standardized, because a network's small features are mostly noise and cost 1 to 4 points where
they are blown up to count as much as the large ones. A penalty ten times as large costs about one
point, one ten times as small none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.ml.classification import LogisticRegression, RandomForestClassifier
from pyspark.ml.feature import IndexToString, StringIndexerModel
from pyspark.ml.stat import Summarizer
from pyspark.sql.functions import col

from pomona.spark.classification.svm import fit_svm

if TYPE_CHECKING:
    from typing import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from pyspark.ml import Transformer
    from pyspark.sql import DataFrame

#: Penalty of the squared weights, for features of a total variance of 1.
LOGISTIC_PENALTY = 1e-4
SVM_PENALTY = 1e-3

#: Steps of the logistic regression at most; it mostly stops long before.
LOGISTIC_STEPS = 200

#: Twice as many take twice the time and changed no result. Trees grow until their leaves are pure,
#: or to the depth where Spark ends.
TREES = 100
TREE_DEPTH = 30

#: Columns that a classifier adds; `PROBABILITY` is not one of an SVM's.
PREDICTED, PROBABILITY, SCORES = "predicted", "probability", "scores"
# Numbers of classes: the one that is known and the one that is predicted.
_TARGET, _CLASS = "target", "class"


def fit(
    name: str, rows: DataFrame, features: str, classes: Sequence[str], seed: int
) -> list[Transformer]:
    """Fit a classifier.

    Parameters
    ----------
    name
        ``logistic``: multinomial logistic regression. ``svm``: a linear support-vector machine for
        each class against all others; the class with the highest score is predicted. ``forest``: a
        random forest.
    rows
        ``label``, and the features; read many times, so better cached.
    features
        The column of vectors.
    classes
        The labels in `rows`, sorted.
    seed
        Of the forest's chance.

    Returns
    -------
    list of Transformer
        The classifier and the names of its classes. They add ``predicted``; ``scores``, a vector
        (logits, signed distances of an SVM's, or weighed votes of trees); and ``probability``, a
        vector, except an SVM, which has none.
    """
    indexer = StringIndexerModel.from_labels(list(classes), inputCol="label", outputCol=_TARGET)
    indexed = indexer.transform(rows).select(_TARGET, col(features))
    columns = {"featuresCol": features, "predictionCol": _CLASS, "rawPredictionCol": SCORES}
    if name == "forest":
        forest = RandomForestClassifier(
            labelCol=_TARGET,
            probabilityCol=PROBABILITY,
            numTrees=TREES,
            maxDepth=TREE_DEPTH,
            seed=seed,
            **columns,
        )
        model = forest.fit(indexed)
    elif name == "svm":
        mean, spread = _mean_and_spread(indexed, features)
        model = fit_svm(indexed, features, _TARGET, len(classes), mean, SVM_PENALTY * spread)
        model = model._set(**columns)
    else:
        _, spread = _mean_and_spread(indexed, features)
        logistic = LogisticRegression(
            labelCol=_TARGET,
            probabilityCol=PROBABILITY,
            family="multinomial",
            standardization=False,
            regParam=LOGISTIC_PENALTY * spread,
            maxIter=LOGISTIC_STEPS,
            **columns,
        )
        model = logistic.fit(indexed)
    names = IndexToString(inputCol=_CLASS, outputCol=PREDICTED, labels=list(classes))
    return [model, names]


def _mean_and_spread(rows: DataFrame, features: str) -> tuple[NDArray[np.float64], float]:
    """Find the mean of the features, float64 [d], and the sum of their variances."""
    summary = Summarizer.metrics("mean", "variance").summary(col(features))
    found = rows.select(summary.alias("summary")).head().summary
    return found["mean"].toArray(), float(found["variance"].toArray().sum())
