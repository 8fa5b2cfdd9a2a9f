"""The UDF that turns photos into features: every other way to featurize on Spark calls it."""

from __future__ import annotations

import functools
import warnings
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Iterator, NamedTuple

import pandas as pd
from pyspark import TaskContext
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import (
    ArrayType,
    FloatType,
    IntegerType,
    StringType,
    StructField,
    StructType,
)

from pomona._decode import gather_options
from pomona._errors import ERROR_COLUMNS, NOTE_COLUMNS
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
    from pyspark import Accumulator
    from pyspark.sql import Column, DataFrame, SparkSession
    from typing_extensions import Unpack

    from pomona import DecodeOptions, Featurizer, ImageError
    from pomona._batch import FeaturizedBatch
    from pomona._decode import DecodeKeywords

    UserDefinedFunction = Callable[..., Any]
    OnError = Literal["null", "raise", "column"]

#: Photos that a task reads at the same time. S3 takes about 100 ms per photo, the model 3 to 10 ms.
CONCURRENCY = 32

#: Bytes of photos that a task holds in memory: a dozen photos of 10 MB, which take longer to decode
#: than to read. Four such tasks fit into the memory that a node has outside Spark's heap.
MAX_BYTES_IN_FLIGHT = 128 * 1024 * 1024

#: Seconds that the storage may take for a small photo, including all retries.
TIMEOUT = 60.0

#: The values of `on_error`.
POLICIES = ("null", "raise", "column")

#: Rows whose features are in memory at the same time: 1.3 MB for 1,280 features.
_SLICE_ROWS = 256

#: Slices of paths that are being read while one is computed. The first is nearly complete when its
#: turn comes, and the second keeps the reads going while Spark takes the results.
_SLICES_AHEAD = 2

#: The fields of a result: the features, or why there are none, and the notes on the photo.
RESULT_FIELDS = [
    StructField("features", ArrayType(FloatType())),
    *(StructField(name, StringType()) for name in ERROR_COLUMNS),
    *map(StructField, NOTE_COLUMNS, (StringType(), IntegerType())),
]


class ReadOptions(NamedTuple):
    """How a task reads photos by their paths."""

    concurrency: int = CONCURRENCY
    max_bytes_in_flight: int = MAX_BYTES_IN_FLIGHT
    timeout: float = TIMEOUT

    def check(self) -> None:
        """Refuse an option that is not above 0."""
        for name, value in self._asdict().items():
            if not value > 0:
                raise ValueError(f"{name} is {value!r}: it must be above 0")


class Counters(NamedTuple):
    """Spark accumulators of the photos featurized and of those among them with an error.

    Spark adds a task's counts when the task ends, and counts a repeated task twice.
    """

    photos: Accumulator[int]
    errors: Accumulator[int]


def featurize_udf(
    model: str | os.PathLike[str] = "mobilenet_v2",
    *,
    on_error: OnError = "null",
    concurrency: int = CONCURRENCY,
    max_bytes_in_flight: int = MAX_BYTES_IN_FLIGHT,
    timeout: float = TIMEOUT,
    **decode_options: Unpack[DecodeKeywords],
) -> UserDefinedFunction:
    """Make a UDF that turns photos, given as bytes or as paths, into their features.

    Call the UDF on a column of bytes (``content``) or on a column of paths (``path``). Given paths,
    each task reads its photos itself, many at a time, while the model runs: this hides the latency
    of S3, and only the paths pass through Spark. The features are identical either way.

    The model is checked and sent to the executors when this function is called, so a Spark session
    must be running. Each Python worker loads the model once and keeps it for all its tasks. It uses
    as many threads as Spark reserves cores for a task (``spark.task.cpus``).

    Parameters
    ----------
    model : str or path, default "mobilenet_v2"
        The name of a pulled model, a path on the driver, or a URI (``s3://``, ``s3a://``,
        ``hdfs://``).
    on_error : {"null", "raise", "column"}, default "null"
        What to do about a photo that cannot be featurized. ``"null"``: its features are null.
        ``"column"``: the result is a struct of the features, the error and notes. ``"raise"``: the
        job fails with an error that names the photo; for a column of bytes, pass the column of
        paths as the UDF's second argument to see the path in that error instead of a row number.
        Only ``"column"`` has warnings; with ``strict=True``, they are errors everywhere.
    concurrency : int, default 32
        Photos that a task reads at the same time.
    max_bytes_in_flight : int, default 128 MiB
        Bytes of photos that a task holds in memory, read or being read. A larger photo is read
        alone.
    timeout : float, default 60.0
        Seconds that the storage may take for a photo, including retries, plus one second per
        100,000 bytes. Requests to busy servers and over broken connections are retried.
    **decode_options
        How photos are decoded: the fields of `pomona.DecodeOptions`, namely ``apply_exif``,
        ``strict``, ``max_pixels`` and ``decode``.

    Returns
    -------
    UserDefinedFunction
        ``(content binary[, path string])`` or ``(path string)`` to ``array<float>``, one float per
        feature. With ``on_error="column"``, to ``struct<features: array<float>, error: string,
        error_kind: string, error_version: string, warning: string, orientation: int>``: a photo has
        either features or an error. ``error_kind`` is `pomona.ImageError.kind`, and
        ``error_version`` is the version of Pomona on the executor. ``warning`` says why the pixels
        may not be those of the original photo, and ``orientation`` is the EXIF orientation, 2 to 8,
        of a photo that was not turned accordingly; both are null for all other photos. Null gives
        null, without an error.

        The paths are those of `read_images`: ``s3://``, ``s3a://`` and ``file:``, without
        wildcards. Storage that cannot be used at all (unreachable, wrong keys, no such bucket)
        fails the job, whatever `on_error` says.

        The UDF is marked as nondeterministic, because Spark would otherwise run the model again for
        each filter on its result. Spark does not push filters below it: filter by other columns
        first.

    Raises
    ------
    ModelError
        If the model does not exist, cannot be read or breaks the model contract.
    RuntimeError
        If no Spark session is running.
    TypeError, ValueError
        If an option does not exist, or has a value of the wrong type or an invalid one.

    Notes
    -----
    S3 is accessed with the ``fs.s3a.*`` settings that the session has when this function is called:
    endpoint, region and keys, including those of single buckets. Without keys, executors use their
    environment or the role of their instance.

    Examples
    --------
    >>> photos = read_images(spark, "s3://fruits/Test", content=False)  # doctest: +SKIP
    >>> featurize = featurize_udf("mobilenet_v2", on_error="column")  # doctest: +SKIP
    >>> photos.select("path", featurize("path").alias("result"))  # doctest: +SKIP
    """
    if on_error not in POLICIES:
        raise ValueError(f'on_error is {on_error!r}: it must be "null", "raise" or "column"')
    decode = gather_options("featurize_udf", decode_options)
    reading = ReadOptions(concurrency, max_bytes_in_flight, timeout)
    reading.check()
    return make_udf(
        ship(active_context(), model),
        decode,
        storage_of(active_session()),
        reading,
        raising=on_error == "raise",
        struct=on_error == "column",
    )


def featurized(
    photos: DataFrame, model: ShippedModel, decode: DecodeOptions, counters: Counters | None = None
) -> Column:
    """Return the column of results for photos, from their content or by their paths."""
    column = "content" if "content" in photos.columns else "path"
    storage = storage_of(session_of(photos))
    return make_udf(model, decode, storage, ReadOptions(), counters=counters)(column)


def register(
    spark: SparkSession,
    name: str = "featurize",
    model: str | os.PathLike[str] = "mobilenet_v2",
    **options: Any,
) -> UserDefinedFunction:
    """Register `featurize_udf` as a SQL function of a session.

    Parameters
    ----------
    spark : SparkSession
        The session.
    name : str, default "featurize"
        The function's name in SQL.
    model : str or path, default "mobilenet_v2"
        As for `featurize_udf`.
    **options
        The other options of `featurize_udf`.

    Returns
    -------
    UserDefinedFunction
        The function, for use with DataFrames.

    Raises
    ------
    ModelError
        If the model does not exist, cannot be read or breaks the model contract.
    TypeError, ValueError
        If an option does not exist, or has a value of the wrong type or an invalid one.

    Examples
    --------
    >>> register(spark, "featurize", "mobilenet_v2")  # doctest: +SKIP
    >>> spark.sql("SELECT path, featurize(content) FROM photos")  # doctest: +SKIP
    """
    return spark.udf.register(name, featurize_udf(model, **options))


def featurize_struct_udf(model: str | os.PathLike[str] = "mobilenet_v2") -> UserDefinedFunction:
    """Use ``featurize_udf(model, on_error="column")`` instead of this deprecated name."""
    _warn_of_old_name("featurize_struct_udf", 'on_error="column"')
    return featurize_udf(model, on_error="column")


def featurize_paths_udf(
    model: str | os.PathLike[str] = "mobilenet_v2", **options: Any
) -> UserDefinedFunction:
    """Use `featurize_udf`, which takes paths too, instead of this deprecated name."""
    _warn_of_old_name("featurize_paths_udf", "...")
    return featurize_udf(model, **options)


def featurize_paths_struct_udf(
    model: str | os.PathLike[str] = "mobilenet_v2", **options: Any
) -> UserDefinedFunction:
    """Use ``featurize_udf(model, on_error="column")`` instead of this deprecated name."""
    _warn_of_old_name("featurize_paths_struct_udf", 'on_error="column"')
    return featurize_udf(model, on_error="column", **options)


def _warn_of_old_name(name: str, arguments: str) -> None:
    message = f"{name} is deprecated: use featurize_udf(model, {arguments})"
    warnings.warn(message, DeprecationWarning, stacklevel=3)


def make_udf(
    model: ShippedModel,
    decode: DecodeOptions,
    storage: Storage,
    reading: ReadOptions,
    *,
    raising: bool = False,
    struct: bool = True,
    counters: Counters | None = None,
) -> UserDefinedFunction:
    """Make a UDF of a model that the executors already have.

    Its result is a struct of `RESULT_FIELDS`, or only the features; with `raising`, a photo without
    features fails the job.
    """
    threads = threads_per_task(active_context())

    def featurize(batches):  # type: ignore[no-untyped-def]
        results = _featurize(
            batches, functools.partial(load, model, threads, decode), storage, reading
        )
        if raising:
            results = _raising(results)
        return _frames(results, counters) if struct else _series(results)

    # Spark 3.1 does not resolve annotations, and in this module they are strings.
    featurize.__annotations__ = {
        "batches": Iterator[pd.Series],
        "return": Iterator[pd.DataFrame] if struct else Iterator[pd.Series],
    }
    kind = StructType(RESULT_FIELDS) if struct else RESULT_FIELDS[0].dataType
    return pandas_udf(featurize, returnType=kind).asNondeterministic()


class _Results(NamedTuple):
    """The features, the error, the notes and, if known, the path of each photo of a slice."""

    features: list[NDArray[np.float32] | None]
    errors: list[ImageError | None]
    warnings: list[str | None]
    orientations: list[int | None]
    paths: list[str | None] | None


def _featurize(
    batches: Iterator[pd.Series | tuple[pd.Series, ...]],
    load_model: Callable[[], Featurizer],
    storage: Storage,
    reading: ReadOptions,
) -> Iterator[_Results]:
    """Featurize a task's photos; the rows show whether they are given as bytes or as paths."""
    reader: PathFeaturizer | None = None
    submitted: deque[tuple[list[Any], list[str | None]]] = deque()
    for photos, paths in _slices(batches):
        if reader is None and any(isinstance(photo, str) for photo in photos):
            options = reading._asdict()
            reader = PathFeaturizer(load_model(), storage=storage.settings, **options)
        if reader is None:
            yield _results(photos, paths, load_model().try_featurize(photos))
            continue
        _check_paths(photos, storage)
        reader.submit(photos)
        submitted.append((photos, paths or photos))
        if len(submitted) > _SLICES_AHEAD:
            yield _results(*submitted.popleft(), _next(reader))
    while submitted and reader is not None:
        yield _results(*submitted.popleft(), _next(reader))


def _slices(
    batches: Iterator[pd.Series | tuple[pd.Series, ...]],
) -> Iterator[tuple[list[Any], list[str | None] | None]]:
    """Split batches into slices of bounded size, whatever the size of Spark's batches."""
    for batch in batches:
        photos, paths, *others = batch if isinstance(batch, tuple) else (batch, None)
        if others:
            raise TypeError("featurize takes a column of photos and a column of paths, no more")
        _check_type(photos)
        for start in range(0, len(photos), _SLICE_ROWS):
            rows = slice(start, start + _SLICE_ROWS)
            yield photos.iloc[rows].tolist(), None if paths is None else paths.iloc[rows].tolist()


def _check_type(photos: pd.Series | pd.DataFrame) -> None:
    """Raise a TypeError for a column of neither bytes nor paths."""
    message = "featurize takes a column of bytes or of paths, not of"
    if isinstance(photos, pd.DataFrame):
        fields = ", ".join(map(str, photos.columns))
        raise TypeError(f"{message} structs: pass one of their fields: {fields}")
    first = next((photo for photo in photos if photo is not None), b"")
    if not isinstance(first, (bytes, bytearray, memoryview, str)):
        raise TypeError(f"{message} {type(first).__name__}")


def _next(reader: PathFeaturizer) -> FeaturizedBatch:
    batch = reader.next()
    if batch is None:
        raise RuntimeError("fewer results than photos: please report this bug")
    return batch


def _results(photos: list[Any], paths: list[str | None] | None, batch: FeaturizedBatch) -> _Results:
    matrix, errors = batch
    # Each row is a view of the matrix, which Arrow copies as one block.
    features = [row if error is None else None for row, error in zip(matrix, errors)]
    errors = [None if photo is None else error for photo, error in zip(photos, errors)]
    return _Results(features, errors, batch.warnings, batch.orientations, paths)


def _raising(slices: Iterator[_Results]) -> Iterator[_Results]:
    row = 0
    for results in slices:
        for index, error in enumerate(results.errors):
            if error is not None:
                path = None if results.paths is None else results.paths[index]
                name = _row_name(row + index) if path is None else path
                raise ValueError(f"photo {name}: {error.reason}") from error
        row += len(results.errors)
        yield results


def _series(slices: Iterator[_Results]) -> Iterator[pd.Series]:
    for results in slices:
        yield pd.Series(results.features, dtype=object)


def _frames(slices: Iterator[_Results], counters: Counters | None) -> Iterator[pd.DataFrame]:
    for results in slices:
        errors = [
            (None, None, None) if error is None else (error.reason, error.kind, __version__)
            for error in results.errors
        ]
        if counters is not None:
            counters.photos.add(len(errors))
            counters.errors.add(len(errors) - results.errors.count(None))
        frame = pd.DataFrame(errors, columns=list(ERROR_COLUMNS), dtype=object)
        frame.insert(0, "features", pd.Series(results.features, dtype=object))
        # As numbers, orientations with gaps would be floats.
        notes = (results.warnings, results.orientations)
        for name, values in zip(NOTE_COLUMNS, notes):
            frame[name] = pd.Series(values, dtype=object)
        yield frame


def _check_paths(paths: list[Any], storage: Storage) -> None:
    for path in paths:
        if path is None:
            continue
        if not path:
            raise ValueError("the path of a photo is empty: use null for rows without a photo")
        if storage.hadoops is not None and path.partition(":")[0] in S3_SCHEMES:
            raise ValueError(
                f"{path} can only be read by Spark, because {storage.hadoops}: read the content "
                "with read_images, and featurize that column"
            )


def _row_name(row: int) -> str:
    """Name a photo by its position in the task, where its path is unknown."""
    return (
        f"in row {row} of partition {TaskContext.get().partitionId()} "
        "(pass the column of paths as second argument to see the path here)"
    )
