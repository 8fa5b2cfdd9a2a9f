"""Fit Spark ML classifiers as pipeline stages, from a column of features to class names.

The hyperparameters are those of `pomona.classification.classifiers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.ml.classification import LogisticRegression, RandomForestClassifier
from pyspark.ml.feature import IndexToString, StringIndexerModel
from pyspark.ml.stat import Summarizer
from pyspark.sql.functions import col

from pomona.classification import classifiers
from pomona.spark.classification.svm import fit_svm

if TYPE_CHECKING:
    from typing import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from pyspark.ml import Transformer
    from pyspark.sql import DataFrame

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
            numTrees=classifiers.TREES,
            maxDepth=classifiers.TREE_DEPTH,
            seed=seed,
            **columns,
        )
        model = forest.fit(indexed)
    elif name == "svm":
        mean, spread = _mean_and_spread(indexed, features)
        model = fit_svm(
            indexed, features, _TARGET, len(classes), mean, classifiers.SVM_PENALTY * spread
        )
        model = model._set(**columns)
    else:
        _, spread = _mean_and_spread(indexed, features)
        logistic = LogisticRegression(
            labelCol=_TARGET,
            probabilityCol=PROBABILITY,
            family="multinomial",
            standardization=False,
            regParam=classifiers.LOGISTIC_PENALTY * spread,
            maxIter=classifiers.LOGISTIC_STEPS,
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
