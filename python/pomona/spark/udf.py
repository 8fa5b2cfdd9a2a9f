"""Photos to features in Spark SQL: UDFs that run the model once for each photo."""

from __future__ import annotations

from collections import deque
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

from pomona._errors import ERROR_COLUMNS
from pomona._native import PathFeaturizer, __version__
from pomona.spark._hadoop import S3_SCHEMES
from pomona.spark._s3 import Storage, storage_of
from pomona.spark._session import active_session, session_of
from pomona.spark._shipping import ShippedModel, active_context, load, ship, threads_per_task

if TYPE_CHECKING:
    import os
    from typing import Literal

    import numpy as np
    from numpy.typing import NDArray
    from pyspark import Accumulator, SparkContext
    from pyspark.sql import Column, DataFrame, SparkSession

    from pomona import ImageError

    UserDefinedFunction = Callable[..., Any]

#: Photos that a task reads at once: S3 takes some 100 ms for each, and computing 3 to 10.
CONCURRENCY = 32

#: Bytes of photos that a task has in memory: a dozen of 10 MB, which take longer to decode than to
#: read. Four tasks of an executor stay within what a node has beside Spark's heap.
MAX_BYTES_IN_FLIGHT = 128 * 1024 * 1024

#: Seconds that a store may take for a small photo, all tries together.
TIMEOUT = 60.0

#: Rows whose features are in memory at once; of 1,280 features, 1.3 MB.
_ROWS_PER_STEP = 256

#: Steps of paths whose photos are read while one is computed: one is nearly done when that is, and
#: the next keeps the reads going while the results are handed to Spark.
_STEPS_AHEAD = 2

_FEATURES = ArrayType(FloatType())
_FEATURES_AND_ERROR = StructType(
    [
        StructField("features", _FEATURES),
        *(StructField(name, StringType()) for name in ERROR_COLUMNS),
    ]
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
    _check_on_error(on_error)
    context = active_context()
    shipped, threads = ship(context, model), threads_per_task(context)

    def featurize(batches):  # type: ignore[no-untyped-def]
        return _series(_steps(batches, shipped, threads), raising=on_error == "raise")

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
        ``(content binary) -> struct<features: array<float>, error: string, error_kind: string,
        error_version: string>``. A photo has features or an error; null has neither. The kind is
        that of `pomona.ImageError`, and the version that of Pomona on the executor, which decided
        it. It counts as nondeterministic, as `featurize_udf` does.

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
    return _struct_udf_of(context, ship(context, model), photos, errors)


def _struct_udf_of(
    context: SparkContext,
    model: ShippedModel,
    photos: Accumulator[int] | None = None,
    errors: Accumulator[int] | None = None,
) -> UserDefinedFunction:
    """Make a `featurize_struct_udf` of a model that the executors have already."""
    threads = threads_per_task(context)

    def featurize_struct(batches):  # type: ignore[no-untyped-def]
        return _frames(_steps(batches, model, threads), photos, errors)

    return _iterator_udf(featurize_struct, pd.DataFrame, _FEATURES_AND_ERROR)


def featurize_paths_udf(
    model: str | os.PathLike[str] = "mobilenet_v2",
    *,
    concurrency: int = CONCURRENCY,
    max_bytes_in_flight: int = MAX_BYTES_IN_FLIGHT,
    timeout: float = TIMEOUT,
    on_error: Literal["null", "raise"] = "null",
) -> UserDefinedFunction:
    """Make a UDF that turns a photo's path into its features.

    Each task reads its photos itself, many at once, while its model runs: so the time that S3 takes
    for each of them is not seen, and only paths pass through Spark. The features are those of
    `featurize_udf`, bit for bit.

    S3 is reached as the session's ``fs.s3a.*`` settings say when this is called: endpoint, region,
    keys, also those of single buckets. Without keys there, executors use those of their
    environment or the role of their instance.

    Parameters
    ----------
    model : str or path, default "mobilenet_v2"
        A pulled model's name, a path on the driver, or a URI (``s3://``, ``s3a://``, ``hdfs://``).
    concurrency : int, default 32
        Photos that a task reads at once.
    max_bytes_in_flight : int, default 128 MiB
        Bytes of photos that a task has in memory, read or being read. A photo larger than that is
        read alone.
    timeout : float, default 60.0
        Seconds that the storage may take for a photo, all tries together, and a second more for
        each 100,000 bytes. Servers that are busy and connections that break are tried again.
    on_error : {"null", "raise"}, default "null"
        As for `featurize_udf`; photos that are gone or that the storage does not give are photos
        that cannot be read.

    Returns
    -------
    UserDefinedFunction
        ``(path string) -> array<float>``, one float per feature; null for null. The paths are those
        of `read_images`: ``s3://``, ``s3a://`` and ``file:``, every character standing for itself.
        Storage that gives no photo at all (no way to it, wrong keys, no such bucket) fails the job.
        It counts as nondeterministic, as `featurize_udf` does.

    Raises
    ------
    ModelError
        If the model is not there, cannot be read or breaks the model contract.

    Examples
    --------
    >>> photos = read_images(spark, "s3://fruits/Test", content=False)  # doctest: +SKIP
    >>> featurize = featurize_paths_udf("mobilenet_v2")  # doctest: +SKIP
    >>> photos.select("path", featurize("path").alias("features"))  # doctest: +SKIP
    """
    _check_on_error(on_error)
    context = active_context()
    shipped, threads = ship(context, model), threads_per_task(context)
    limits = _Limits(concurrency, max_bytes_in_flight, timeout).checked()
    storage = storage_of(active_session())

    def featurize_paths(batches):  # type: ignore[no-untyped-def]
        steps = _path_steps(batches, shipped, threads, storage, limits)
        return _series(steps, raising=on_error == "raise")

    return _iterator_udf(featurize_paths, pd.Series, _FEATURES)


def featurize_paths_struct_udf(
    model: str | os.PathLike[str] = "mobilenet_v2",
    *,
    concurrency: int = CONCURRENCY,
    max_bytes_in_flight: int = MAX_BYTES_IN_FLIGHT,
    timeout: float = TIMEOUT,
    photos: Accumulator[int] | None = None,
    errors: Accumulator[int] | None = None,
) -> UserDefinedFunction:
    """Make a UDF that turns a photo's path into its features or the reason why it has none.

    It is to `featurize_paths_udf` as `featurize_struct_udf` is to `featurize_udf`. A photo that the
    storage did not give has an ``error_kind`` of ``storage``, and one that was deleted after it had
    been listed one of ``gone``.

    Parameters
    ----------
    model, concurrency, max_bytes_in_flight, timeout
        As for `featurize_paths_udf`.
    photos, errors : Accumulator, optional
        As for `featurize_struct_udf`.

    Returns
    -------
    UserDefinedFunction
        ``(path string) -> struct<…>``, the fields as for `featurize_struct_udf`. It counts as
        nondeterministic, as `featurize_udf` does.

    Raises
    ------
    ModelError
        If the model is not there, cannot be read or breaks the model contract.

    Examples
    --------
    >>> featurize = featurize_paths_struct_udf("mobilenet_v2")  # doctest: +SKIP
    >>> table = photos.select("path", featurize("path").alias("result"))  # doctest: +SKIP
    >>> table.select("path", "result.features", "result.error")  # doctest: +SKIP
    """
    context = active_context()
    limits = _Limits(concurrency, max_bytes_in_flight, timeout).checked()
    storage = storage_of(active_session())
    return _paths_struct_udf_of(context, ship(context, model), storage, photos, errors, limits)


def _paths_struct_udf_of(
    context: SparkContext,
    model: ShippedModel,
    storage: Storage,
    photos: Accumulator[int] | None = None,
    errors: Accumulator[int] | None = None,
    limits: _Limits | None = None,
) -> UserDefinedFunction:
    """Make a `featurize_paths_struct_udf` of a model that the executors have already."""
    threads, limits = threads_per_task(context), limits or _Limits()

    def featurize_paths_struct(batches):  # type: ignore[no-untyped-def]
        return _frames(_path_steps(batches, model, threads, storage, limits), photos, errors)

    return _iterator_udf(featurize_paths_struct, pd.DataFrame, _FEATURES_AND_ERROR)


def featurized(
    photos: DataFrame,
    model: ShippedModel,
    done: Accumulator[int] | None = None,
    failed: Accumulator[int] | None = None,
) -> Column:
    """Return what `featurize_struct_udf` gives for photos, from their content or by their paths."""
    spark = session_of(photos)
    if "content" in photos.columns:
        return _struct_udf_of(spark.sparkContext, model, done, failed)("content")
    storage = storage_of(spark)
    return _paths_struct_udf_of(spark.sparkContext, model, storage, done, failed)("path")


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


def _check_on_error(on_error: str) -> None:
    if on_error not in ("null", "raise"):
        raise ValueError(f'on_error is {on_error!r}: it must be "null" or "raise"')


def _series(steps: Iterator[_Step], *, raising: bool) -> Iterator[pd.Series]:
    row = 0
    for step in steps:
        if raising:
            for index, error in enumerate(step.errors):
                if error is not None:
                    path = None if step.paths is None else step.paths[index]
                    name = _row_name(row + index) if path is None else path
                    raise ValueError(f"photo {name}: {error.reason}") from error
        row += len(step.errors)
        yield pd.Series(step.features, dtype=object)


def _frames(
    steps: Iterator[_Step], photos: Accumulator[int] | None, errors: Accumulator[int] | None
) -> Iterator[pd.DataFrame]:
    for step in steps:
        found = [
            (None, None, None) if error is None else (error.reason, error.kind, __version__)
            for error in step.errors
        ]
        if photos is not None:
            photos.add(len(found))
        if errors is not None:
            errors.add(len(found) - step.errors.count(None))
        frame = pd.DataFrame(found, columns=list(ERROR_COLUMNS), dtype=object)
        frame.insert(0, "features", pd.Series(step.features, dtype=object))
        yield frame


class _Limits(NamedTuple):
    """What bounds the reading of a task."""

    concurrency: int = CONCURRENCY
    max_bytes_in_flight: int = MAX_BYTES_IN_FLIGHT
    timeout: float = TIMEOUT

    def checked(self) -> _Limits:
        for name, value in self._asdict().items():
            if not value > 0:
                raise ValueError(f"{name} is {value!r}: it must be above 0")
        return self


class _Step(NamedTuple):
    """A few hundred rows: for each its features, its error and, if given, its path."""

    features: list[NDArray[np.float32] | None]
    errors: list[ImageError | None]
    paths: list[str | None] | None


def _steps(
    batches: Iterator[pd.Series | tuple[pd.Series, pd.Series]], model: ShippedModel, threads: int
) -> Iterator[_Step]:
    """Featurise batches in steps of bounded size, whatever the size of Spark's batches."""
    for batch in batches:
        content, paths, *others = batch if isinstance(batch, tuple) else (batch, None)
        if others:
            raise TypeError("featurize takes the photos and, for its errors, their paths: no more")
        for start in range(0, len(content), _ROWS_PER_STEP):
            rows = slice(start, start + _ROWS_PER_STEP)
            images = content.iloc[rows].tolist()
            results = load(model, threads).try_featurize(images)
            yield _step(images, results, None if paths is None else paths.iloc[rows].tolist())


def _path_steps(
    batches: Iterator[pd.Series],
    model: ShippedModel,
    threads: int,
    storage: Storage,
    limits: _Limits,
) -> Iterator[_Step]:
    """Featurise photos by their paths, reading some steps ahead of the one that is given."""
    stream = PathFeaturizer(load(model, threads), storage=storage.settings, **limits._asdict())
    submitted: deque[list[str | None]] = deque()
    for batch in batches:
        for start in range(0, len(batch), _ROWS_PER_STEP):
            paths = batch.iloc[start : start + _ROWS_PER_STEP].tolist()
            _check_paths(paths, storage)
            stream.submit(paths)
            submitted.append(paths)
            if len(submitted) > _STEPS_AHEAD:
                yield _next_step(stream, submitted.popleft())
    while submitted:
        yield _next_step(stream, submitted.popleft())


def _next_step(stream: PathFeaturizer, paths: list[str | None]) -> _Step:
    results = stream.next()
    if results is None:
        raise RuntimeError("fewer results than photos: please report it")
    return _step(paths, results, paths)


def _step(
    photos: list[Any],
    results: tuple[NDArray[np.float32], list[ImageError | None]],
    paths: list[str | None] | None,
) -> _Step:
    """Make a step of what came of photos; null is no error."""
    matrix, errors = results
    # A row is a view of the matrix, which Arrow copies as one block.
    features = [row if error is None else None for row, error in zip(matrix, errors)]
    errors = [None if photo is None else error for photo, error in zip(photos, errors)]
    return _Step(features, errors, paths)


def _check_paths(paths: list[Any], storage: Storage) -> None:
    for path in paths:
        if path is None:
            continue
        if not isinstance(path, str):
            raise TypeError(
                f"featurize_paths takes paths, and this is {type(path).__name__}: for the bytes of "
                "photos there is featurize_udf"
            )
        if not path:
            raise ValueError("a photo's path is empty: give null where there is none")
        if storage.hadoops is not None and path.partition(":")[0] in S3_SCHEMES:
            raise ValueError(
                f"{path} can only be read by Spark, because {storage.hadoops}: read the content "
                "with read_images, and use featurize_udf"
            )


def _row_name(row: int) -> str:
    """Say which photo it is when all we know is its place in the task."""
    return (
        f"in row {row} of partition {TaskContext.get().partitionId()} "
        "(give the column of paths as second argument to have its path here)"
    )
