"""Photos to features in Spark SQL: UDFs that run the model once for each photo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Iterator, NamedTuple

import pandas as pd
from pyspark import TaskContext
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import (
    ArrayType,
    DataType,
    FloatType,
    StringType,
    StructField,
    StructType,
)

from pomona.spark._model import ShippedModel, active_context, load, ship, threads_per_task

if TYPE_CHECKING:
    import os
    from typing import Literal

    import numpy as np
    from numpy.typing import NDArray
    from pyspark import Accumulator, SparkContext
    from pyspark.sql import SparkSession

    from pomona import ImageError

    UserDefinedFunction = Callable[..., Any]

#: Rows whose features are in memory at once; of 1,280 features, 1.3 MB.
_ROWS_PER_STEP = 256

_FEATURES = ArrayType(FloatType())
_FEATURES_AND_ERROR = StructType(
    [StructField("features", _FEATURES), StructField("error", StringType())]
)


def featurize_udf(
    model: str | os.PathLike[str] = "mobilenet_v2",
    *,
    on_error: Literal["null", "raise"] = "null",
) -> UserDefinedFunction:
    """Make a UDF that turns a photo's bytes into its features.

    The model is checked and given to the executors here, so a Spark session has to run. Each
    Python worker builds one session and keeps it for all its tasks; it uses as many threads as
    Spark reserves cores for a task (``spark.task.cpus``).

    Parameters
    ----------
    model : str or path, default "mobilenet_v2"
        A pulled model's name, a path on the driver, or a URI (``s3://``, ``s3a://``, ``hdfs://``).
    on_error : {"null", "raise"}, default "null"
        With ``"null"``, a photo that cannot be read has features of null; `featurize_struct_udf`
        also says why. With ``"raise"`` it fails the job, with an error that names the photo if its
        path is the UDF's second argument, and otherwise the row.

    Returns
    -------
    UserDefinedFunction
        ``(content binary[, path string]) -> array<float>``, one float per feature; null for null.
        It counts as nondeterministic, because Spark computes a deterministic UDF again for each
        filter on its result. So filter by other columns *before* it.

    Raises
    ------
    ModelError
        If the model is not there, cannot be read or breaks the model contract.

    Examples
    --------
    >>> photos = read_images(spark, "s3://fruits/Test")  # doctest: +SKIP
    >>> featurize = featurize_udf("mobilenet_v2")  # doctest: +SKIP
    >>> photos.select("path", featurize("content").alias("features"))  # doctest: +SKIP
    """
    if on_error not in ("null", "raise"):
        raise ValueError(f'on_error is {on_error!r}: it must be "null" or "raise"')
    context = active_context()
    shipped, threads = ship(context, model), threads_per_task(context)

    def featurize(batches):  # type: ignore[no-untyped-def]
        return _series(batches, shipped, threads, raising=on_error == "raise")

    return _iterator_udf(featurize, pd.Series, _FEATURES)


def featurize_struct_udf(
    model: str | os.PathLike[str] = "mobilenet_v2",
    *,
    photos: Accumulator[int] | None = None,
    errors: Accumulator[int] | None = None,
) -> UserDefinedFunction:
    """Make a UDF that turns a photo's bytes into its features or the reason why it has none.

    It is as `featurize_udf` otherwise, and gives both from a single pass over the photos.

    Parameters
    ----------
    model : str or path, default "mobilenet_v2"
        A pulled model's name, a path on the driver, or a URI (``s3://``, ``s3a://``, ``hdfs://``).
    photos, errors : Accumulator, optional
        Spark accumulators that count photos, and those of them that cannot be read. Spark adds a
        task's count when the task ends; what is computed twice counts twice.

    Returns
    -------
    UserDefinedFunction
        ``(content binary) -> struct<features: array<float>, error: string>``. A photo has one or
        the other; null has neither. It counts as nondeterministic, as `featurize_udf` does.

    Raises
    ------
    ModelError
        If the model is not there, cannot be read or breaks the model contract.

    Examples
    --------
    >>> featurize = featurize_struct_udf("mobilenet_v2")  # doctest: +SKIP
    >>> table = photos.select("path", featurize("content").alias("result"))  # doctest: +SKIP
    >>> table.select("path", "result.features", "result.error")  # doctest: +SKIP
    """
    context = active_context()
    return struct_udf_of(context, ship(context, model), photos, errors)


def struct_udf_of(
    context: SparkContext,
    model: ShippedModel,
    photos: Accumulator[int] | None = None,
    errors: Accumulator[int] | None = None,
) -> UserDefinedFunction:
    """Make a `featurize_struct_udf` of a model that the executors have already."""
    threads = threads_per_task(context)

    def featurize_struct(batches):  # type: ignore[no-untyped-def]
        return _frames(batches, model, threads, photos, errors)

    return _iterator_udf(featurize_struct, pd.DataFrame, _FEATURES_AND_ERROR)


def register(
    spark: SparkSession,
    name: str = "featurize",
    model: str | os.PathLike[str] = "mobilenet_v2",
    *,
    on_error: Literal["null", "raise"] = "null",
) -> UserDefinedFunction:
    """Make `featurize_udf` a function of a session's SQL.

    Parameters
    ----------
    spark : SparkSession
        The session that gets the function.
    name : str, default "featurize"
        Its name in SQL.
    model, on_error
        As for `featurize_udf`.

    Returns
    -------
    UserDefinedFunction
        The function, for DataFrames.

    Raises
    ------
    ModelError
        If the model is not there, cannot be read or breaks the model contract.

    Examples
    --------
    >>> register(spark, "featurize", "mobilenet_v2")  # doctest: +SKIP
    >>> spark.sql("SELECT path, featurize(content) FROM photos")  # doctest: +SKIP
    """
    return spark.udf.register(name, featurize_udf(model, on_error=on_error))


def _iterator_udf(
    function: Callable[..., Any], result: type, return_type: DataType
) -> UserDefinedFunction:
    # Spark 3.1 takes annotations as they are, and in this module they are strings.
    function.__annotations__ = {
        "batches": Iterator[pd.Series],
        "return": Iterator[result],  # type: ignore[valid-type]
    }
    return pandas_udf(function, returnType=return_type).asNondeterministic()


def _series(
    batches: Iterator[pd.Series | tuple[pd.Series, pd.Series]],
    model: ShippedModel,
    threads: int,
    *,
    raising: bool,
) -> Iterator[pd.Series]:
    row = 0
    for step in _steps(batches, model, threads):
        if raising:
            for index, error in enumerate(step.errors):
                if error is not None:
                    name = _row_name(row + index) if step.paths is None else step.paths[index]
                    raise ValueError(f"photo {name}: {error.reason}") from error
        row += len(step.errors)
        yield pd.Series(step.features, dtype=object)


def _frames(
    batches: Iterator[pd.Series],
    model: ShippedModel,
    threads: int,
    photos: Accumulator[int] | None,
    errors: Accumulator[int] | None,
) -> Iterator[pd.DataFrame]:
    for step in _steps(batches, model, threads):
        reasons = [None if error is None else error.reason for error in step.errors]
        if photos is not None:
            photos.add(len(reasons))
        if errors is not None:
            errors.add(len(reasons) - reasons.count(None))
        yield pd.DataFrame(
            {
                "features": pd.Series(step.features, dtype=object),
                "error": pd.Series(reasons, dtype=object),
            }
        )


class _Step(NamedTuple):
    """A few hundred rows: for each its features, its error and, if given, its path."""

    features: list[NDArray[np.float32] | None]
    errors: list[ImageError | None]
    paths: list[str] | None


def _steps(
    batches: Iterator[pd.Series | tuple[pd.Series, pd.Series]], model: ShippedModel, threads: int
) -> Iterator[_Step]:
    """Featurise batches in steps of bounded size, whatever the size of Spark's batches."""
    for batch in batches:
        content, paths = batch if isinstance(batch, tuple) else (batch, None)
        for start in range(0, len(content), _ROWS_PER_STEP):
            rows = slice(start, start + _ROWS_PER_STEP)
            images = content.iloc[rows].tolist()
            matrix, errors = load(model, threads).try_featurize(images)
            # A row is a view of the matrix, which Arrow copies as one block.
            features = [row if error is None else None for row, error in zip(matrix, errors)]
            errors = [None if image is None else error for image, error in zip(images, errors)]
            yield _Step(features, errors, None if paths is None else paths.iloc[rows].tolist())


def _row_name(row: int) -> str:
    """Say which photo it is when all we know is its place in the task."""
    return (
        f"in row {row} of partition {TaskContext.get().partitionId()} "
        "(give the column of paths as second argument to have its path here)"
    )
