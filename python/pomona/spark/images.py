"""Photos of a folder tree as a Spark DataFrame, in tasks of a few seconds."""

from __future__ import annotations

import math
import os
import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql.functions import (
    broadcast,
    col,
    element_at,
    expr,
    lit,
    row_number,
    split,
    xxhash64,
)
from pyspark.sql.utils import AnalysisException

from pomona._images import IMAGE_EXTENSIONS, is_image
from pomona.spark._hadoop import (
    HADOOP_ERRORS,
    S3_SCHEMES,
    check_name,
    is_pattern,
    literal,
    why,
)
from pomona.spark._listing import ListedFile, files_of, files_of_s3, split_evenly, table_of
from pomona.spark._s3 import storage_of, why_not_by_paths
from pomona.spark._session import session_of

if TYPE_CHECKING:
    from typing import Iterator, Sequence

    from py4j.java_gateway import JavaObject

#: Small photos (some kB each) in one task: about 4 s of a core at 100 images a second.
PHOTOS_PER_TASK = 400

#: Bytes of photos in one task. Spark hands rows to Python in batches that count rows and not
#: bytes, but that never span tasks: so this also bounds the memory that a batch takes there.
BYTES_PER_TASK = 64 * 1024 * 1024

#: Tasks per core that a small folder is split into: a slow task leaves no core idle for long.
TASKS_PER_CORE = 4

_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]*:/+")


def read_images(
    spark: SparkSession,
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    label: str | Column | None = "parent",
    content: bool = True,
) -> DataFrame:
    """Read the photos under a folder, without decoding them.

    All sub-folders are searched for files whose names end as those of photos do (``.jpg``,
    ``.JPG``, ``.png`` …); names that start with ``_`` or ``.`` are skipped, as Spark always does.
    The folders are listed once, when this is called. Each photo's bytes are read by the task that
    uses them, and only if ``content`` is used; a photo that is gone by then fails the job, unless
    the session has ``spark.sql.files.ignoreMissingFiles`` set.

    Photos are packed into tasks of a few seconds by number and size: at most `PHOTOS_PER_TASK`
    small photos or `BYTES_PER_TASK` bytes each, at least `TASKS_PER_CORE` tasks for each core that
    the application has now, and the same number for each core, so that all end together. There is
    no need to ``repartition``, which would move all bytes over the network. The session's
    configuration stays as it is.

    Parameters
    ----------
    spark : SparkSession
        The session to read with.
    path : str, path or sequence of them
        A folder, a file or a glob pattern, or several: local paths, or URIs of any file system
        that Spark's Hadoop knows (``s3://``, ``s3a://``, ``hdfs://``, ``file:///``). A path
        without a scheme belongs to the cluster's default file system, which on EMR is HDFS.
        Doubled slashes are cleaned, with a warning: asked for ``Rep1//Test``, Spark reads
        ``Rep1/Test``, but on S3 these are two places. A path that exists is taken as it is, even
        with characters like ``[`` in it.
    label : str or Column, default "parent"
        ``"parent"`` for the name of the folder that a photo is in, a column expression over
        ``path``, ``length`` and ``modificationTime``, or None for labels of null.
    content : bool, default True
        False lists the photos and no more: no column ``content``, and nothing is asked of the file
        system afterwards. It is for `featurize_paths_udf`, whose tasks read the photos themselves.

    Returns
    -------
    DataFrame
        ``path string, label string, length bigint, modificationTime timestamp, content binary``;
        ``length`` in bytes.

    Raises
    ------
    FileNotFoundError
        If a path does not exist, or there is no photo under any of them.
    OSError
        If the file system refuses: rights, a missing bucket, an unknown scheme …
    ValueError
        If a path is empty or not UTF-8.

    Warns
    -----
    UserWarning
        For each path with doubled slashes.

    Examples
    --------
    >>> photos = read_images(spark, "s3://fruits/Test")  # doctest: +SKIP
    >>> photos.groupBy("label").count().show()  # doctest: +SKIP
    """
    if isinstance(label, Column):
        labels = label.cast("string")
    elif label == "parent":
        labels = element_at(split("path", "/"), -2)
    elif label is None:
        labels = lit(None).cast("string")
    else:
        raise ValueError(f'label is {label!r}: it must be "parent", a Column or None')

    given = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    if not given:
        raise ValueError("no path to read photos from: give a folder, or a list of them")
    paths = []
    for one in (os.fspath(each) for each in given):
        check_name(one)
        paths.append(_clean(one))
        if paths[-1] != one:
            warnings.warn(f"{one!r} has doubled slashes: reading {paths[-1]!r}", stacklevel=2)

    columns = [col("path"), labels.alias("label"), col("length"), col("modificationTime")]
    if not content:
        return _rows_of(spark, _list_files(spark, paths)).select(*columns)
    relation = _list_photos(spark, paths)
    photos = spark.read._df(spark._jsparkSession.baseRelationToDataFrame(relation))
    empty = _empty_photos(spark, relation)
    if empty is not None:
        photos = photos.union(empty)
    return photos.select(*columns, "content")


def sample_images(photos: DataFrame, per_label: int = 1) -> DataFrame:
    """Take a few photos of each label, to look at.

    Only these are read: ``dropDuplicates`` and filters would read the bytes of every photo.

    Parameters
    ----------
    photos : DataFrame
        What `read_images` returned, or any rows of it.
    per_label : int, default 1
        Photos of each label; all where there are fewer. The choice looks random and is the same
        whenever the names of the files are.

    Returns
    -------
    DataFrame
        The columns of `read_images`, ``content`` included, in no order.

    Raises
    ------
    FileNotFoundError
        If a photo is gone by now, or there are none.
    ValueError
        If `per_label` is below 1.

    Examples
    --------
    >>> examples = sample_images(photos, 6).orderBy("label").toPandas()  # doctest: +SKIP
    """
    if per_label < 1:
        raise ValueError(f"per_label is {per_label}, it must be at least 1")
    name = element_at(split("path", "/"), -1)
    place = row_number().over(Window.partitionBy("label").orderBy(xxhash64(name), "path"))
    ranked = photos.select("path", "label", place.alias("place"))
    chosen = ranked.where(col("place") <= per_label).select("path", "label").collect()
    if not chosen:
        raise FileNotFoundError("there are no photos to take a sample of")
    spark = session_of(photos)
    labels = spark.createDataFrame(chosen, "path string, label string")
    sample = read_images(spark, [row.path for row in chosen], label=None).drop("label")
    columns = ["path", "label", "length", "modificationTime", "content"]
    return sample.join(broadcast(labels), "path").select(columns)


def _clean(path: str) -> str:
    """Make slashes single, except behind the scheme.

    Examples
    --------
    >>> _clean("s3://fruits/Rep1//Test/"), _clean("file:///photos")
    ('s3://fruits/Rep1/Test/', 'file:///photos')
    """
    scheme = _SCHEME.match(path)
    start = scheme.end() if scheme else 0
    return path[:start] + re.sub("/{2,}", "/", path[start:])


def _list_photos(spark: SparkSession, paths: list[str]) -> JavaObject:
    """List the photos under paths, as a Java relation that makes tasks of a few seconds."""
    # A file scan takes the sizes of its tasks from the session that made it, when it runs, and not
    # from the session of the query. So a clone of the caller's session (same credentials, catalog
    # and settings) makes the scan: the sizes hold for it alone, wherever the DataFrame goes.
    session = spark._jsparkSession.cloneSession()
    with _explained(paths):
        patterns = [_literal_if_it_exists(spark, path) for path in paths]
        relation = _relation(spark, session, patterns, _name_pattern())
        photos = relation.location().allFiles().size()
        if not photos:
            others = _relation(spark, session, patterns, "*").location().allFiles()
            first = None if others.isEmpty() else others.head().getPath().toString()
            raise FileNotFoundError(_explain_no_photos(paths, others.size(), first))
    cores = spark.sparkContext.defaultParallelism
    for name, value in _task_sizes(photos, relation.location().sizeInBytes(), cores).items():
        session.conf().set(f"spark.sql.files.{name}", str(value))
    return relation


def _list_files(spark: SparkSession, paths: list[str]) -> list[ListedFile]:
    """List the photos under paths."""
    files = None
    if all(path.partition(":")[0] in S3_SCHEMES for path in paths):
        storage = storage_of(spark)
        if why_not_by_paths(spark, paths, storage) is None:
            with _explained(paths):
                files = files_of_s3(spark, paths, storage)
    if files is None:
        return files_of(_list_photos(spark, paths).location().allFiles())
    photos = sorted({file for file in files if is_image(file.path)})
    if not photos:
        first = files[0].path if files else None
        raise FileNotFoundError(_explain_no_photos(paths, len(files), first))
    return photos


@contextmanager
def _explained(paths: list[str]) -> Iterator[None]:
    """Turn what Spark and Hadoop say of a listing into what Python calls it."""
    try:
        yield
    except AnalysisException as error:  # a path that does not exist
        raise FileNotFoundError(_first_line(str(error))) from error
    except HADOOP_ERRORS as error:
        raise OSError(f"cannot list {', '.join(paths)}: {why(error)}") from error


def _rows_of(spark: SparkSession, photos: list[ListedFile]) -> DataFrame:
    least = TASKS_PER_CORE * spark.sparkContext.defaultParallelism
    return table_of(spark, split_evenly(photos, PHOTOS_PER_TASK, least))


def _task_sizes(photos: int, size: int, cores: int) -> dict[str, int]:
    """Choose Spark's settings that pack photos into tasks, as many for each core.

    Parameters
    ----------
    photos : int
        How many.
    size : int
        Bytes of all of them.
    cores : int
        Cores that the application has.
    """
    # What Spark counts for a file in addition to its bytes.
    open_cost = BYTES_PER_TASK // PHOTOS_PER_TASK
    total = size + photos * open_cost
    # Spark closes a task before the file that would be too much. Room for almost one more keeps
    # what is left over by that from becoming a task by itself, which one core does alone.
    room = min(max(0, size // photos - 1), BYTES_PER_TASK // 2)
    rounds = max(TASKS_PER_CORE, math.ceil(total / (BYTES_PER_TASK - room) / cores))
    limit = total // (rounds * cores) + room
    return {"openCostInBytes": open_cost, "maxPartitionBytes": limit, "minPartitionNum": 1}


def _relation(spark: SparkSession, session: JavaObject, paths: list[str], names: str) -> JavaObject:
    reader = session.read().format("binaryFile").option("recursiveFileLookup", "true")
    photos = reader.option("pathGlobFilter", names).load(spark._jvm.PythonUtils.toSeq(paths))
    return photos.queryExecution().analyzed().relation()


def _empty_photos(spark: SparkSession, relation: JavaObject) -> DataFrame | None:
    """Make rows of the photos of 0 bytes, which Spark's own scan leaves out in silence."""
    files = relation.location().allFiles()
    no_filter = spark._jvm.PythonUtils.toSeq([])
    scanned = relation.location().listFiles(no_filter, no_filter).head().files()
    if scanned.size() == files.size():
        return None
    # Some calls to Java for each file: affordable, but not where there is no empty one to find.
    rows = []
    for index in range(files.size()):
        file = files.apply(index)
        if file.getLen() == 0:
            rows.append((file.getPath().toString(), file.getModificationTime(), bytearray()))
    table = spark.createDataFrame(rows, "path string, milliseconds bigint, content binary")
    time = expr("timestamp_millis(milliseconds)").alias("modificationTime")
    return table.coalesce(1).select("path", time, lit(0).cast("long").alias("length"), "content")


def _name_pattern() -> str:
    """Make a glob for the names of photos in any case; Hadoop's globs tell cases apart."""
    endings = [
        "".join(f"[{char}{char.upper()}]" if char.isalpha() else char for char in ending)
        for ending in IMAGE_EXTENSIONS
    ]
    return f"*{{{','.join(endings)}}}"


def _literal_if_it_exists(spark: SparkSession, path: str) -> str:
    """Make a glob that matches nothing but this path, if there is a file or folder of this name."""
    if not is_pattern(path):
        return path
    hadoop_path = spark._jvm.org.apache.hadoop.fs.Path(path)
    file_system = hadoop_path.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf())
    return literal(path) if file_system.exists(hadoop_path) else path


def _explain_no_photos(paths: list[str], others: int, first: str | None) -> str:
    found = "no file at all" if first is None else f"only {others} other, such as {first}"
    return (
        f"no photo under {', '.join(paths)}: looked in all sub-folders for files in "
        f"{', '.join(IMAGE_EXTENSIONS)}, found {found}"
    )


def _first_line(message: str) -> str:
    return message.strip().splitlines()[0]
