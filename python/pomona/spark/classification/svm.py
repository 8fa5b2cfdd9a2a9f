"""Fit one-vs-rest linear support-vector machines, as a single Spark ML stage.

scikit-learn fits them if the features fit on the driver. Spark's LinearSVC with OneVsRest runs
about 130 jobs per class, whatever the number of photos: on two cores, 218 photos of 23 classes with
47 components took 38 s for 10 iterations and 75 s for 100, and labelling 77 photos took 12 s,
because PySpark passes each row through Python once per class. scikit-learn takes 0.02 s for the
same photos, and 25 s for 23,619 photos of 131 classes with 117 components; both labelled all 77
photos correctly. Spark fits features that are too large for the driver, where its jobs are worth
their overhead.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import numpy as np
from pyspark.ml.classification import LinearSVC, LogisticRegressionModel, OneVsRest
from pyspark.ml.common import _py2java
from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import DenseMatrix, DenseVector
from pyspark.sql.functions import col

from pomona.classification import classifiers
from pomona.spark._session import session_of, settings
from pomona.spark._shipping import active_context

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyspark.sql import DataFrame

#: Up to this many numbers are fitted on the driver: 26,000 rows of 1,280 features, or 280,000 rows
#: of 117 components. They take about 1 GB, half of it in liblinear: 16 bytes per number.
DRIVER_NUMBERS = 2**25

#: Maximum iterations of a Spark SVM. Three times as many took twice the time and changed the label
#: of at most one photo in 77.
_SPARK_STEPS = 30
#: SVMs that Spark fits concurrently: their jobs are short and mostly wait for the driver.
_PARALLELISM = 8


def fit_svm(
    rows: DataFrame,
    features: str,
    target: str,
    classes: int,
    mean: NDArray[np.float64],
    penalty: float,
) -> LogisticRegressionModel:
    """Minimize the mean hinge loss of each class against the rest, plus an L2 penalty.

    The driver minimizes the squared hinge loss; Spark the plain one, the only one it offers. The
    rows are read many times, so cache them; each class has at least one. `features` and `target`
    are columns of vectors of length d and of class indices from 0, `mean` is float64 [d], and
    `penalty` is the factor of half the sum of the squared weights.

    The model adds, in Spark's default columns, a vector of signed distances from the boundary of
    each class as its raw prediction, and the class with the highest one.
    """
    if rows.count() * mean.size <= DRIVER_NUMBERS:
        weights, intercepts = _fit_on_driver(rows, features, target, mean, penalty)
    else:
        weights, intercepts = _fit_on_executors(rows, features, target, classes, penalty)
    return _linear_model(weights, intercepts)


def _fit_on_executors(
    rows: DataFrame, features: str, target: str, classes: int, penalty: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    svm = LinearSVC(
        featuresCol=features,
        labelCol=target,
        regParam=penalty,
        standardization=False,
        maxIter=_SPARK_STEPS,
    )
    all_classes = OneVsRest(
        classifier=svm,
        featuresCol=features,
        labelCol=target,
        parallelism=min(classes, _PARALLELISM),
    )
    models = all_classes.fit(rows).models
    weights = np.stack([model.coefficients.toArray() for model in models])
    return weights, np.array([model.intercept for model in models])


def _fit_on_driver(
    rows: DataFrame, features: str, target: str, mean: NDArray[np.float64], penalty: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    arrays = rows.select(
        vector_to_array(col(features), "float32").alias("x"), col(target).alias("y")
    )
    with settings(session_of(rows), spark_sql_execution_arrow_pyspark_enabled="true"):
        frame = arrays.toPandas()
    matrix = np.stack(frame["x"].to_numpy())
    return classifiers.fit_svm(matrix, frame["y"].to_numpy(), mean, penalty)


def _linear_model(
    weights: NDArray[np.float64], intercepts: NDArray[np.float64]
) -> LogisticRegressionModel:
    """Combine the SVMs of all classes into one stage.

    A LogisticRegressionModel without a probability column computes the same matrix-vector product,
    and its raw predictions are the SVM scores. Its constructor is private in Scala but public in
    Java bytecode.
    """
    context = active_context()
    classes, features = weights.shape
    java_model = context._jvm.org.apache.spark.ml.classification.LogisticRegressionModel(
        f"LinearSVM_{uuid.uuid4().hex[:12]}",
        _py2java(context, DenseMatrix(classes, features, weights.ravel(order="F"))),
        _py2java(context, DenseVector(intercepts)),
        classes,
        True,
    )
    return LogisticRegressionModel(java_model)._set(probabilityCol="")
