"""Principal components of features, in one pass over them.

Spark's own PCA reads its input three times and decomposes the covariance in Java: 11 s for 6,600 x
1,280. Here each task reduces its rows to moments, and the driver decomposes them, both with the
functions of `pomona.pca`. The result is still a plain Spark ``PipelineModel`` of
`StandardScalerModel` and `PCAModel`.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Iterator

import numpy as np
import pandas as pd
from pyspark.ml import PipelineModel, Transformer
from pyspark.ml.common import _py2java
from pyspark.ml.feature import PCAModel, SQLTransformer, StandardScalerModel, VectorAssembler
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.ml.linalg import DenseMatrix, DenseVector, VectorUDT
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import col, when
from pyspark.sql.types import ArrayType, NumericType

from pomona._deprecated import renamed_arguments
from pomona._progress import timed
from pomona.pca import (
    BLOCK_ROWS,
    NOTHING,
    Fit,
    Moments,
    check_one_length,
    check_target,
    decompose,
    finished_summary,
    merge,
    moments_of,
    pca_summary,
)
from pomona.results import array_stages, spark_ml
from pomona.spark._session import described, session_of
from pomona.spark._shipping import active_context
from pomona.spark._stages import save_stages
from pomona.spark.features import read_features

if TYPE_CHECKING:
    from pyspark.sql import Row

    from pomona._typing import PathLike
    from pomona.spark._hadoop import Folder
    from pomona.spark.results import SparkResults

_MOMENTS = "rows bigint, empty bigint, nonfinite bigint, mean binary, scatter binary"


@dataclass(frozen=True)
class PCA(Fit):
    """A fitted PCA: the model of the chosen components, and the variance curve of all.

    Its other attributes are those of `pomona.pca.Fit`.

    Attributes
    ----------
    model
        A `PipelineModel` from a column ``features``, of arrays or vectors, to a vector column
        ``pca``. Its last stages are `StandardScalerModel` (subtracts the mean; divides by the
        standard deviation if `standardize`) and `PCAModel`; those before turn arrays into vectors
        (see `pomona.results.array_stages`). Plain PySpark loads it, without pomona, and applies it
        to saved features. `project` is faster.
    """

    model: PipelineModel

    def project(self, features: DataFrame) -> DataFrame:
        """Centre features and project them onto the components.

        Parameters
        ----------
        features
            With a column ``features``, array<float>. Rows where it is null are dropped.

        Returns
        -------
        DataFrame
            The other columns, and ``pca`` (array<float> of length k) instead of ``features``.
        """
        vectors = features.where(col("features").isNotNull())
        vectors = vectors.withColumn("features", array_to_vector("features"))
        projected = PipelineModel(takes_vectors(self.model)).transform(vectors)
        others = [name for name in features.columns if name != "features"]
        return projected.select(*others, vector_to_array("pca", "float32").alias("pca"))


@renamed_arguments(k="components")
def fit_pca(
    features: DataFrame | PathLike,
    *,
    variance: float | None = None,
    components: int | None = None,
    standardize: bool = False,
) -> PCA:
    """Fit a PCA to features, in one pass over them.

    Parameters
    ----------
    features : str, path or DataFrame
        The output of `write_features`, any folder of Parquet files, or a DataFrame, with a column
        ``features`` of array<float>, array<double> or Spark's vector. A DataFrame that computes
        features computes them here and again in `PCA.project`: write them first.
    variance : float, optional
        Keep the fewest components that explain this share of the variance, 0.95 by default. Above
        0; 1 keeps every component that has any variance.
    components : int, optional
        Keep this many components instead. The old name ``k`` is deprecated.
    standardize : bool, default False
        Divide each feature by its standard deviation first, so that all have the same weight. A
        constant feature then becomes zero.

    Raises
    ------
    ValueError
        `variance` or `components` is out of range, or both are given; there are fewer than two rows
        with features; or the features are constant, of different lengths, or not numbers.
    FileNotFoundError
        The folder holds no features.

    Examples
    --------
    >>> pca = fit_pca("s3://fruits/out/features", variance=0.95)  # doctest: +SKIP
    >>> pca.k, pca.k_for(0.8), pca.explained_variance_ratio[:3]  # doctest: +SKIP
    """
    check_target(variance, components)
    if isinstance(features, DataFrame):
        frame = features
    else:
        frame = read_features(SparkSession.builder.getOrCreate(), features)
    found = decompose(
        _moments(frame), variance=variance, components=components, standardize=standardize
    )
    return PCA(**vars(found), model=_pipeline_model(found))


def write_pca(
    results: SparkResults,
    *,
    variance: float | None = None,
    components: int | None = None,
    standardize: bool = False,
) -> PCA:
    """Fit a PCA to results and save it with them, as `pomona.pca.write_pca` does without Spark."""
    check_target(variance, components)
    seconds: dict[str, float] = {}
    features = read_features(results.spark, (results.home / "features").uri)
    context = results.spark.sparkContext
    with timed(seconds, "pca"), described(context, "fit the PCA"):
        pca = fit_pca(features, variance=variance, components=components, standardize=standardize)
    # From here on, the results have no PCA until all of it is saved.
    results.write_summary(pca_summary(None))
    save_pca(pca, features, results.home, seconds)
    results.write_summary(finished_summary(results.summary, pca, variance, components, seconds))
    return pca


def save_pca(pca: PCA, features: DataFrame, home: Folder, seconds: dict[str, float]) -> None:
    """Write ``pca`` and ``pca_model`` to a folder of results, and the time of each."""
    context = active_context()
    with timed(seconds, "projection"), described(
        context, f"project onto {pca.k} components and write"
    ):
        projected = pca.project(features.select("path", "label", "features"))
        projected.write.mode("overwrite").parquet((home / "pca").uri)
    with timed(seconds, "model"):
        save_stages(home / "pca_model", spark_ml.takes_arrays(*pca.stages()))


def _moments(features: DataFrame) -> Moments:
    if "features" not in features.columns:
        raise ValueError(f"no column features among {', '.join(features.columns)}")
    column = col("features")
    kind = features.schema["features"].dataType
    if isinstance(kind, VectorUDT):
        column = vector_to_array(column)
    elif not (isinstance(kind, ArrayType) and isinstance(kind.elementType, NumericType)):
        raise ValueError(
            f"column features is {kind.simpleString()}, it must be an array of numbers or a vector"
        )
    if "error" in features.columns:
        column = when(col("error").isNull(), column)
    rows = features.select(column.alias("features"))
    # One scatter matrix per core, rather than one for each of the many tasks of a file scan.
    rows = rows.coalesce(max(1, session_of(features).sparkContext.defaultParallelism))
    partial = rows.mapInPandas(_partial_moments, _MOMENTS)
    return partial.rdd.map(_decode).treeAggregate(NOTHING, merge, merge)


def _partial_moments(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    moments = NOTHING
    for frame in frames:
        for start in range(0, len(frame), BLOCK_ROWS):
            moments = merge(
                moments, _moments_of(frame["features"].iloc[start : start + BLOCK_ROWS])
            )
    row = (*moments[:3], moments.mean.tobytes(), moments.scatter.tobytes())
    yield pd.DataFrame([row], columns=Moments._fields)


def _decode(row: Row) -> Moments:
    mean, scatter = np.frombuffer(row.mean), np.frombuffer(row.scatter)
    return Moments(row.rows, row.empty, row.nonfinite, mean, scatter.reshape(mean.size, mean.size))


def _moments_of(features: pd.Series) -> Moments:
    present = features[features.notna()]
    empty = len(features) - len(present)
    if present.empty:
        return NOTHING._replace(empty=empty)
    check_one_length(int(present.map(len).min()), int(present.map(len).max()))
    return moments_of(np.stack(present.to_numpy()), empty)


def _pipeline_model(pca: Fit) -> PipelineModel:
    """Build the fitted stages as Spark's own `fit` would, and before them those that take arrays.

    Their Java constructors are private only within Scala.
    """
    context = active_context()
    java = context._jvm.org.apache.spark.ml.feature

    java_scaler = java.StandardScalerModel(
        _uid("StandardScaler"),
        _py2java(context, DenseVector(pca.deviation)),
        _py2java(context, DenseVector(pca.mean)),
    )
    scaler = StandardScalerModel(java_scaler)
    vectors = array_stages.VECTORS
    scaler._set(inputCol=vectors, outputCol="centred", withMean=True, withStd=pca.standardize)

    k, d = pca.components.shape
    java_pca = java.PCAModel(
        _uid("PCA"),
        _py2java(context, DenseMatrix(d, k, pca.components.ravel())),
        _py2java(context, DenseVector(pca.explained_variance_ratio[:k])),
    )
    projection = PCAModel(java_pca)
    projection._set(inputCol="centred", outputCol="pca", k=k)
    columns = array_stages.columns(d)
    assembler = VectorAssembler(
        inputCols=columns, outputCol=vectors, handleInvalid=array_stages.INVALID
    )
    spread, unpack = (
        SQLTransformer(statement=sql) for sql in (array_stages.spread(d), array_stages.UNPACK)
    )
    return PipelineModel([spread, assembler, unpack, scaler, projection])


def takes_vectors(model: PipelineModel) -> list[Transformer]:
    """Return the two stages of a PCA that take vectors, for a pipeline that has them."""
    scaler, projection = model.stages[-2:]
    return [scaler.copy({scaler.inputCol: array_stages.FEATURES}), projection]


def _uid(stage: str) -> str:
    return f"{stage}_{uuid.uuid4().hex[:12]}"
