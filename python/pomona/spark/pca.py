"""Principal components of features, in one pass over them.

Spark's own PCA reads its input three times and decomposes the covariance in Java: 11 s for 6,600 x
1,280. Here each task reduces its rows to their count, mean and scatter matrix; these are merged
pairwise, without the cancellation of sums of squares; and numpy decomposes the resulting matrix.
The result is still a plain Spark ``PipelineModel`` of `StandardScalerModel` and `PCAModel`.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Iterator, NamedTuple

import numpy as np
import pandas as pd
from pyspark.ml import PipelineModel
from pyspark.ml.common import _py2java
from pyspark.ml.feature import PCAModel, StandardScalerModel
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.ml.linalg import DenseMatrix, DenseVector, VectorUDT
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import col, when
from pyspark.sql.types import ArrayType, NumericType

from pomona._deprecated import renamed_arguments
from pomona.spark._session import session_of
from pomona.spark._shipping import active_context
from pomona.spark.features import read_features

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyspark.sql import Row

    from pomona._typing import PathLike

#: The share of the variance that the components explain by default.
DEFAULT_VARIANCE = 0.95

#: Rows converted to float64 at once: 1,024 x 1,280 are 10 MiB.
_BLOCK_ROWS = 1024

#: Tolerance for a share of the variance, for float64 sums of about a thousand ratios.
_ROUNDING = 1e-12

_MOMENTS = "rows bigint, empty bigint, nonfinite bigint, mean binary, scatter binary"


class _Moments(NamedTuple):
    """The moments of some rows, which are all that PCA needs: d + d * d numbers."""

    #: Rows that were used.
    rows: int
    #: Rows that were left out, because they have no features, or NaN or infinite ones.
    empty: int
    nonfinite: int
    #: float64 [d]; d is 0 until a row is used.
    mean: NDArray[np.float64]
    #: float64 [d, d]: the sum over rows of the outer product of (row - mean) with itself.
    scatter: NDArray[np.float64]


_NOTHING = _Moments(0, 0, 0, np.empty(0), np.empty((0, 0)))


@dataclass(frozen=True)
class PCA:
    """A fitted PCA: the model of the chosen components, and the variance curve of all.

    Attributes
    ----------
    model
        `StandardScalerModel` (subtracts the mean; divides by the standard deviation if
        `standardize`) and `PCAModel`, from a vector column ``features`` to a vector column ``pca``.
        Plain PySpark loads it, without pomona. Spark's stages take no array columns, so convert
        first: ``model.transform(df.withColumn("features", array_to_vector("features")))``, or use
        `project`.
    k
        Number of components of the model.
    rows
        Rows that it was fitted to.
    empty, nonfinite
        Rows that were left out, because they have no features (photos with an error), or NaN or
        infinite ones.
    standardize
        Whether each feature was divided by its standard deviation.
    explained_variance_ratio
        Share of the variance of every component, not only the k chosen ones: float64
        [min(rows, d)], descending.
    components
        float64 [k, d], orthonormal rows; the entry of largest magnitude of each is positive.
    mean
        float64 [d]
    """

    model: PipelineModel
    k: int
    rows: int
    empty: int
    nonfinite: int
    standardize: bool
    explained_variance_ratio: NDArray[np.float64]
    components: NDArray[np.float64]
    mean: NDArray[np.float64]

    @property
    def curve(self) -> NDArray[np.float64]:
        """Cumulative `explained_variance_ratio`, of the same shape."""
        return _curve(self.explained_variance_ratio)

    @property
    def variance(self) -> float:
        """Share of the variance that the k components explain together."""
        return float(self.curve[self.k - 1])

    def k_for(self, variance: float) -> int:
        """Return the smallest number of components that explain a share of the variance.

        Parameters
        ----------
        variance
            Above 0, at most 1.

        Raises
        ------
        ValueError
            `variance` is outside that range.
        """
        return _components_for(variance, self.explained_variance_ratio)

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
        projected = self.model.transform(vectors)
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
    if variance is not None and components is not None:
        raise ValueError("give variance or components, not both")
    target = DEFAULT_VARIANCE if variance is None else variance
    check_variance(target)
    if components is not None:
        check_components(components)

    if isinstance(features, DataFrame):
        frame = features
    else:
        frame = read_features(SparkSession.builder.getOrCreate(), features)
    moments = _moments(frame)
    left_out = (
        f"{moments.empty} rows have no features and {moments.nonfinite} have NaN or infinite ones"
    )
    if moments.rows < 2:
        raise ValueError(
            f"PCA needs at least 2 rows with features and found {moments.rows}: {left_out}"
        )

    deviation = np.sqrt(_variances(moments))
    if not deviation.any():
        raise ValueError(
            f"the features of all {moments.rows} rows are identical: there is no variance"
        )
    covariance = moments.scatter / (moments.rows - 1)
    if standardize:
        scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
        covariance *= np.outer(scale, scale)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    most = min(moments.rows, moments.mean.size)
    eigenvalues = eigenvalues[::-1].clip(min=0.0)
    ratio = eigenvalues[:most] / eigenvalues.sum()

    if components is None:
        components = _components_for(target, ratio)
    elif components > most:
        raise ValueError(
            f"components is {components}, but {moments.rows} rows of {moments.mean.size} features "
            f"have at most {most} ({left_out})"
        )
    axes = vectors[:, ::-1][:, :components].T
    largest = np.abs(axes).argmax(axis=1)
    axes = axes * np.sign(axes[np.arange(components), largest])[:, np.newaxis]
    model = _pipeline_model(moments.mean, deviation, axes, ratio[:components], standardize)
    return PCA(
        model=model,
        k=components,
        rows=moments.rows,
        empty=moments.empty,
        nonfinite=moments.nonfinite,
        standardize=standardize,
        explained_variance_ratio=ratio,
        components=axes,
        mean=moments.mean,
    )


def check_variance(variance: float) -> None:
    """Raise ValueError unless this is a share of the variance."""
    if isinstance(variance, bool) or not isinstance(variance, (int, float, np.number)):
        raise ValueError(f"variance is {variance!r}, it must be a share such as 0.95")
    if not 0.0 < variance <= 1.0:
        hint = f": {variance:g} % is {variance / 100:g}" if 1.0 < variance <= 100.0 else ""
        raise ValueError(f"variance is {variance}, it must be a share above 0 and at most 1{hint}")


def check_components(number: int) -> None:
    """Raise ValueError unless this is a number of components."""
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < 1:
        raise ValueError(f"components is {number!r}, it must be a positive integer")


def _curve(ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.cumsum(ratio).clip(max=1.0)


def _components_for(variance: float, ratio: NDArray[np.float64]) -> int:
    check_variance(variance)
    return int(np.argmax(_curve(ratio) >= variance - _ROUNDING)) + 1


def _moments(features: DataFrame) -> _Moments:
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
    return partial.rdd.map(_decode).treeAggregate(_NOTHING, _merge, _merge)


def _partial_moments(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    moments = _NOTHING
    for frame in frames:
        for start in range(0, len(frame), _BLOCK_ROWS):
            moments = _merge(
                moments, _moments_of(frame["features"].iloc[start : start + _BLOCK_ROWS])
            )
    row = (*moments[:3], moments.mean.tobytes(), moments.scatter.tobytes())
    yield pd.DataFrame([row], columns=_Moments._fields)


def _decode(row: Row) -> _Moments:
    mean, scatter = np.frombuffer(row.mean), np.frombuffer(row.scatter)
    return _Moments(row.rows, row.empty, row.nonfinite, mean, scatter.reshape(mean.size, mean.size))


def _moments_of(features: pd.Series) -> _Moments:
    present = features[features.notna()]
    empty = len(features) - len(present)
    if present.empty:
        return _NOTHING._replace(empty=empty)
    _check_one_length(int(present.map(len).min()), int(present.map(len).max()))
    matrix = np.stack(present.to_numpy()).astype(np.float64)
    matrix = matrix[np.isfinite(matrix).all(axis=1)]
    nonfinite = len(present) - len(matrix)
    if not len(matrix):
        return _NOTHING._replace(empty=empty, nonfinite=nonfinite)
    mean = matrix.mean(axis=0)
    matrix -= mean
    return _Moments(len(matrix), empty, nonfinite, mean, matrix.T @ matrix)


def _merge(one: _Moments, other: _Moments) -> _Moments:
    """Merge moments by the pairwise update of Chan, Golub and LeVeque (1979), for matrices."""
    empty, nonfinite = one.empty + other.empty, one.nonfinite + other.nonfinite
    if not one.rows or not other.rows:
        return (one if one.rows else other)._replace(empty=empty, nonfinite=nonfinite)
    _check_one_length(one.mean.size, other.mean.size)
    rows = one.rows + other.rows
    difference = other.mean - one.mean
    mean = one.mean + difference * (other.rows / rows)
    scatter = one.scatter + other.scatter
    scatter += np.outer(difference, difference) * (one.rows * other.rows / rows)
    return _Moments(rows, empty, nonfinite, mean, scatter)


def _check_one_length(one: int, other: int) -> None:
    if one != other:
        raise ValueError(f"features of length {one} and of length {other}: are they of two models?")


def _variances(moments: _Moments) -> NDArray[np.float64]:
    """Return each feature's variance; exactly 0 where it is only the rounding of its mean."""
    variances = np.diag(moments.scatter) / (moments.rows - 1)
    noise = moments.rows * np.finfo(np.float64).eps * np.abs(moments.mean)
    return np.where(variances > noise**2, variances, 0.0)


def _pipeline_model(
    mean: NDArray[np.float64],
    deviation: NDArray[np.float64],
    components: NDArray[np.float64],
    ratio: NDArray[np.float64],
    standardize: bool,
) -> PipelineModel:
    """Build the two fitted stages as Spark's own `fit` would.

    Their Java constructors are private only within Scala.
    """
    context = active_context()
    java = context._jvm.org.apache.spark.ml.feature

    java_scaler = java.StandardScalerModel(
        _uid("StandardScaler"),
        _py2java(context, DenseVector(deviation)),
        _py2java(context, DenseVector(mean)),
    )
    scaler = StandardScalerModel(java_scaler)
    scaler._set(inputCol="features", outputCol="centred", withMean=True, withStd=standardize)

    k, d = components.shape
    java_pca = java.PCAModel(
        _uid("PCA"),
        _py2java(context, DenseMatrix(d, k, components.ravel())),
        _py2java(context, DenseVector(ratio)),
    )
    pca = PCAModel(java_pca)
    pca._set(inputCol="centred", outputCol="pca", k=k)
    return PipelineModel([scaler, pca])


def _uid(stage: str) -> str:
    return f"{stage}_{uuid.uuid4().hex[:12]}"
