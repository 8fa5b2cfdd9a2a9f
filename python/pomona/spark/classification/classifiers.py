"""Fit Spark ML classifiers as pipeline stages, from a column of features to class names.

The hyperparameters are the same for all photos and models. They maximize the mean accuracy over
several seeds on a sample of Fruits-360 (295 photos, 23 classes) with features of
`efficientnet_lite0`, and were confirmed on another data set (600 photos, 6 classes). Penalties
scale with the variance of the features, which differs between models by orders of magnitude.
Features are not standardized: a network's small features are mostly noise, and scaling them up
costs 1 to 4 points of accuracy. A penalty ten times as large costs about one point, one ten times
as small costs nothing.
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

#: L2 penalties for features with a total variance of 1.
LOGISTIC_PENALTY = 1e-4
SVM_PENALTY = 1e-3

#: Maximum iterations of the logistic regression, which usually converges long before.
LOGISTIC_STEPS = 200

#: Twice as many trees take twice the time and change no result. They grow until their leaves are
#: pure, or to the maximum depth that Spark supports.
TREES = 100
TREE_DEPTH = 30

#: Columns that a classifier adds; an SVM does not add `PROBABILITY`.
PREDICTED, PROBABILITY, SCORES = "predicted", "probability", "scores"
# The indices of the true and of the predicted class.
_TARGET, _CLASS = "target", "class"


def fit(
    name: str, rows: DataFrame, features: str, classes: Sequence[str], seed: int
) -> list[Transformer]:
    """Fit a classifier, and return it with the lookup of class names.

    ``logistic`` is a multinomial logistic regression, ``svm`` are one-vs-rest linear support-vector
    machines, whose class with the highest score is predicted, and ``forest`` is a random forest,
    which uses `seed`. The rows are read many times, so cache them; `classes` are their labels,
    sorted.

    The two stages add ``predicted``; ``scores``, a vector of logits, signed distances (SVM) or
    weighted votes (forest); and, except for an SVM, ``probability``, a vector.
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
    """Return the mean of the features, float64 [d], and the sum of their variances."""
    metrics = Summarizer.metrics("mean", "variance").summary(col(features))
    summary = rows.select(metrics.alias("summary")).head().summary
    return summary["mean"].toArray(), float(summary["variance"].toArray().sum())
