"""Linear support-vector machines, one for each class against all others, as one stage of Spark ML.

They are scikit-learn's where the features fit on the driver. Spark's own, LinearSVC in OneVsRest,
run some 130 jobs for each class whatever the number of photos: on two cores, 218 photos of 23
classes and 47 components took 38 s with 10 steps and 75 s with 100, and labelling 77 photos 12 s,
because PySpark takes each row through Python once for each class. scikit-learn takes 0.02 s, and
25 s for 23,619 photos of 131 classes and 117 components; on that one split both labelled all 77
rightly. Features too large for the driver are fitted by Spark's, whose jobs are worth their
overhead there.
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

from pomona.spark._session import session_of, settings
from pomona.spark._shipping import active_context

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray
    from pyspark.sql import DataFrame

#: Features of up to this many numbers are fitted on the driver: 26,000 rows of 1,280, or 280,000 of
#: 117 components. They take about 1 GB, of which liblinear has half: 16 bytes for each number.
DRIVER_NUMBERS = 2**25

#: Steps of each of Spark's machines at most: three times as many took twice the time, and labelled
#: at most one photo of 77 differently.
_SPARK_STEPS = 30
#: Of Spark's machines are fitted at a time: their jobs are short and wait for the driver mostly.
_ABREAST = 8


def fit_svm(
    rows: DataFrame,
    features: str,
    target: str,
    classes: int,
    mean: NDArray[np.float64],
    penalty: float,
) -> LogisticRegressionModel:
    """Minimize the mean hinge loss of each class against all others, plus a penalty.

    The hinge loss is squared on the driver, and as it is in Spark, which knows no other.

    Parameters
    ----------
    rows
        At least one of each class; read many times, so better cached.
    features, target
        Columns: vectors of d numbers, and numbers of classes, from 0.
    classes
        How many there are.
    mean
        Of the features: float64 [d].
    penalty
        Of half the sum of the squared weights.

    Returns
    -------
    LogisticRegressionModel
        It adds the signed distance from each class's boundary, a vector, as its raw prediction, and
        the class of the highest; its columns have the names of Spark's defaults.

    Raises
    ------
    ImportError
        scikit-learn is missing on the driver.
    """
    if rows.count() * mean.size <= DRIVER_NUMBERS:
        weights, intercepts = _fit_here(rows, features, target, mean, penalty)
    else:
        weights, intercepts = _fit_there(rows, features, target, classes, penalty)
    return _linear_model(weights, intercepts)


def require_scikit_learn() -> ModuleType:
    """Import what fits on the driver, before work is spent on the features.

    Raises
    ------
    ImportError
        scikit-learn is missing.
    """
    try:
        from sklearn import svm
    except ImportError as error:
        raise ImportError(
            f"support-vector machines need {error.name} on the driver: "
            "pip install 'pomona[report]', or take --classifier logistic",
            name=error.name,
        ) from error
    module: ModuleType = svm
    return module


def _fit_there(
    rows: DataFrame, features: str, target: str, classes: int, penalty: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    machine = LinearSVC(
        featuresCol=features,
        labelCol=target,
        regParam=penalty,
        standardization=False,
        maxIter=_SPARK_STEPS,
    )
    all_classes = OneVsRest(
        classifier=machine,
        featuresCol=features,
        labelCol=target,
        parallelism=min(classes, _ABREAST),
    )
    models = all_classes.fit(rows).models
    weights = np.stack([model.coefficients.toArray() for model in models])
    return weights, np.array([model.intercept for model in models])


def _fit_here(
    rows: DataFrame, features: str, target: str, mean: NDArray[np.float64], penalty: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    machines = require_scikit_learn()
    arrays = rows.select(
        vector_to_array(col(features), "float32").alias("x"), col(target).alias("y")
    )
    with settings(session_of(rows), spark_sql_execution_arrow_pyspark_enabled="true"):
        frame = arrays.toPandas()
    centred = np.stack(frame["x"].to_numpy()) - mean
    # liblinear penalizes the intercept as a weight of a feature of this size: as large as a photo's
    # distance from the mean, it costs next to nothing.
    size = float(np.sqrt(np.einsum("ij,ij->", centred, centred) / len(centred))) or 1.0
    machine = machines.LinearSVC(
        C=1 / (penalty * len(centred)), intercept_scaling=size, random_state=0
    ).fit(centred, frame["y"].to_numpy())
    weights, intercepts = machine.coef_, machine.intercept_
    # Of two classes, scikit-learn has the machine of the second only.
    if len(weights) == 1:
        weights, intercepts = np.vstack([-weights, weights]), np.hstack([-intercepts, intercepts])
    return weights, intercepts - weights @ mean


def _linear_model(
    weights: NDArray[np.float64], intercepts: NDArray[np.float64]
) -> LogisticRegressionModel:
    """Make one stage of the machines of all classes.

    A LogisticRegressionModel without a column of probabilities is the same product of a matrix and
    a vector, and its scores are the machines' own. Its Java constructor is private to Spark's Scala
    code and public to everybody else.
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
