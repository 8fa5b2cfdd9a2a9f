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
    coalesce,
    col,
    create_map,
    element_at,
    expr,
    lit,
    row_number,
    split,
    xxhash64,
)
from pyspark.sql.utils import AnalysisException

from pomona._images import (
    HIDDEN_BY_SPARK,
    IMAGE_EXTENSIONS,
    LINKS,
    Tally,
    composed,
    describe_left_out,
)
from pomona.spark._decisions import decide, load_decisions
from pomona.spark._hadoop import (
    HADOOP_ERRORS,
    S3_SCHEMES,
    check_name,
    hadoop_conf,
    is_pattern,
    literal,
    path_and_files,
    why,
)
from pomona.spark._listing import (
    ListedFile,
    find_files,
    is_local,
    listed_by_spark,
    split_evenly,
    table_of,
)
from pomona.spark._s3 import storage_of, why_not_by_paths
from pomona.spark._session import session_of

if TYPE_CHECKING:
    from typing import Iterator, Sequence

    from py4j.java_gateway import JavaObject

    from pomona._typing import PathLike

#: Small photos (a few kB each) in one task: about 4 s of CPU time at 100 photos per second.
PHOTOS_PER_TASK = 400

#: Bytes of photos in one task. Spark passes rows to Python in batches that count rows, not bytes,
#: but that never span tasks, so this also bounds the memory of a batch.
BYTES_PER_TASK = 64 * 1024 * 1024

#: Tasks per core into which a small folder is split, so that a slow task leaves no core idle for
#: long.
TASKS_PER_CORE = 4

_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]*:/+")


def read_images(
    spark: SparkSession,
    path: PathLike | Sequence[PathLike],
    *,
    label: str | Column | None = "parent",
    content: bool = True,
    ignore_missing: bool = False,
    decisions: PathLike | None = None,
) -> DataFrame:
    """Read the photos under a folder, without decoding them.

    All subfolders are searched for files with the name of a photo (``.jpg``, ``.JPG``, ``.png`` …).
    Names that start with a dot are skipped. With ``content``, Spark also skips names that start
    with ``_``. The folders are listed once, when this function is called. The task that uses a
    photo's bytes reads them, and only if the query uses ``content``.

    Photos are packed into tasks of a few seconds by number and size: at most `PHOTOS_PER_TASK`
    small photos or `BYTES_PER_TASK` bytes each, at least `TASKS_PER_CORE` tasks for each core that
    the application has now, and the same number for each core, so that all cores finish together.
    ``repartition`` is not needed; it would move all bytes over the network. The configuration of
    the session does not change.

    Parameters
    ----------
    spark : SparkSession
        The session to read with.
    path : str, path or sequence of them
        Folders, files or glob patterns: local paths, or URIs of any file system that Spark's Hadoop
        knows (``s3://``, ``s3a://``, ``hdfs://``, ``file:///``). A path without a scheme is on the
        cluster's default file system, which on EMR is HDFS. Double slashes become single ones, with
        a warning: given ``Rep1//Test``, Spark reads ``Rep1/Test``, but on S3 these are different
        folders. A path that exists is used literally, even if it contains characters such as ``[``.
    label : str or Column, default "parent"
        ``"parent"`` for the name of the folder that contains the photo, a column expression over
        ``path``, ``length`` and ``modificationTime``, or None for null labels.
    content : bool, default True
        False only lists the photos: there is no column ``content``, and queries do not access the
        file system again. Use it to featurize by paths, where each task reads its photos itself.
    ignore_missing : bool, default False
        Leave out photos that are deleted after the listing. By default they fail the job, unless
        the session has ``spark.sql.files.ignoreMissingFiles`` set. Without ``content`` it has no
        effect: such photos have an error of kind ``gone`` when they are featurized.

    decisions : str or path, optional
        A ``findings.csv`` with decisions (`pomona.decisions`): photos to leave out and to relabel.

    Returns
    -------
    DataFrame
        ``path string, label string, length bigint, modificationTime timestamp, content binary``;
        ``length`` in bytes.

    Raises
    ------
    FileNotFoundError
        If a path does not exist, or no path contains a photo.
    OSError
        If the file system refuses: permissions, a missing bucket, an unknown scheme …
    ValueError
        If a path is empty or not UTF-8; if a decision is unknown, contradicts another or is about a
        photo that is not in the folders.

    Warns
    -----
    UserWarning
        For each path with double slashes.

    Examples
    --------
    >>> photos = read_images(spark, "s3://fruits/Test")  # doctest: +SKIP
    >>> photos.groupBy("label").count().show()  # doctest: +SKIP
    """
    chosen = None if decisions is None else load_decisions(spark, decisions)
    photos, _ = list_images(
        spark, path, label=label, content=content, ignore_missing=ignore_missing, count=False
    )
    return decide(photos, chosen, "the folders of photos").photos


def list_images(
    spark: SparkSession,
    path: PathLike | Sequence[PathLike],
    *,
    label: str | Column | None = "parent",
    content: bool = True,
    ignore_missing: bool = False,
    count: bool = True,
) -> tuple[DataFrame, Tally]:
    """Read photos as `read_images` does, and count the files that are not photos.

    Spark's reader does not report the files that it skips. With `content`, they are counted in a
    second listing; without `count`, the tally is empty then.
    """
    if isinstance(label, Column):
        labels = label.cast("string")
    elif label == "parent":
        labels = None
    elif label is None:
        labels = lit(None).cast("string")
    else:
        raise ValueError(f'label is {label!r}: it must be "parent", a Column or None')

    given = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    if not given:
        raise ValueError("there is no path to read photos from: give a folder or a list of folders")
    paths = []
    for one in (os.fspath(each) for each in given):
        check_name(one)
        paths.append(_clean(one))
        if paths[-1] != one:
            warnings.warn(f"{one!r} has double slashes: reading {paths[-1]!r}", stacklevel=3)

    def columns(files: list[ListedFile]) -> list[Column]:
        labelled = _name_of_folder(files) if labels is None else labels
        return [col("path"), labelled.alias("label"), col("length"), col("modificationTime")]

    if not content:
        files, tally = _find_photos(spark, paths)
        if not files:
            raise FileNotFoundError(_explain_no_photos(paths, tally))
        return _rows_of(spark, files).select(*columns(files)), tally
    relation = _list_photos(spark, paths, ignore_missing=ignore_missing)
    files = listed_by_spark(relation.location().allFiles())
    _check_colons(files)
    photos = spark.read._df(spark._jsparkSession.baseRelationToDataFrame(relation))
    empty = _empty_photos(spark, relation)
    if empty is not None:
        photos = photos.union(empty)
    photos = photos.select(*columns(files), "content")
    if not count:
        return photos, Tally()
    _, tally = _find_photos(spark, paths)
    read = len(files)
    if read < tally.images:
        tally.left_out[HIDDEN_BY_SPARK] = tally.images - read
        tally.images = read
    return photos, tally


def sample_images(photos: DataFrame, per_label: int = 1) -> DataFrame:
    """Take a few photos of each label, to look at.

    Only these are read: ``dropDuplicates`` and filters would read the bytes of every photo. Photos
    whose names start with ``_`` are not taken, because Spark's reader skips them.

    Parameters
    ----------
    photos : DataFrame
        The result of `read_images`, or any rows of it.
    per_label : int, default 1
        Photos of each label; all of them where there are fewer. The choice is pseudo-random and
        depends only on the names of the files.

    Returns
    -------
    DataFrame
        The columns of `read_images`, including ``content``, in no particular order.

    Raises
    ------
    FileNotFoundError
        If a photo no longer exists, or `photos` has no rows.
    ValueError
        If `per_label` is below 1.

    Examples
    --------
    >>> examples = sample_images(photos, 6).orderBy("label").toPandas()  # doctest: +SKIP
    """
    if per_label < 1:
        raise ValueError(f"per_label is {per_label}, it must be at least 1")
    name = element_at(split("path", "/"), -1)
    rank = row_number().over(Window.partitionBy("label").orderBy(xxhash64(name), "path"))
    readable = photos.where(~name.startswith("_") | name.contains("="))
    ranked = readable.select("path", "label", rank.alias("rank"))
    chosen = ranked.where(col("rank") <= per_label).select("path", "label").collect()
    if not chosen:
        raise FileNotFoundError("there are no photos to sample")
    spark = session_of(photos)
    labels = spark.createDataFrame(chosen, "path string, label string")
    sample = read_images(spark, [row.path for row in chosen], label=None).drop("label")
    columns = ["path", "label", "length", "modificationTime", "content"]
    return sample.join(broadcast(labels), "path").select(columns)


def _name_of_folder(files: list[ListedFile]) -> Column:
    """Make the expression for the name of a photo's folder, in Unicode's composed form (NFC)."""
    name = element_at(split("path", "/"), -2)
    folders = {file.path.rpartition("/")[0] for file in files}
    names = {folder.rpartition("/")[2] for folder in folders}
    pairs = [(each, composed(each)) for each in sorted(names) if composed(each) != each]
    if not pairs:
        return name
    spellings = create_map(*(lit(text) for pair in pairs for text in pair))
    return coalesce(spellings[name], name)


def _check_colons(files: list[ListedFile]) -> None:
    """Refuse local photos that Hadoop cannot open because of the checksum files beside photos."""
    refused = [
        file.path
        for file in files
        if file.path.startswith("file:") and ":" in file.path.rpartition("/")[2]
    ]
    if refused:
        raise ValueError(
            f"{refused[0]}: Hadoop cannot open photos with a colon in their names "
            f"({len(refused):,} here). Read them by path (without --no-paths; read_images with "
            "content=False), or rename them"
        )


def _clean(path: str) -> str:
    """Make double slashes single, except after the scheme.

    Examples
    --------
    >>> _clean("s3://fruits/Rep1//Test/"), _clean("file:///photos")
    ('s3://fruits/Rep1/Test/', 'file:///photos')
    """
    scheme = _SCHEME.match(path)
    start = scheme.end() if scheme else 0
    return path[:start] + re.sub("/{2,}", "/", path[start:])


def _list_photos(
    spark: SparkSession, paths: list[str], *, ignore_missing: bool = False
) -> JavaObject:
    """List the photos under paths, as a Java relation with tasks of a few seconds."""
    # A file scan takes its settings from the session that created it, when it runs, and not from
    # the session of the query. A clone of the caller's session (same credentials, catalog and
    # settings) therefore creates the scan: what is set here applies to this scan alone.
    session = spark._jsparkSession.cloneSession()
    if ignore_missing:
        session.conf().set("spark.sql.files.ignoreMissingFiles", "true")
    with _explained(paths):
        patterns = [_literal_if_it_exists(spark, path) for path in paths]
        if is_local(spark, paths):
            files, tally = _find_photos(spark, paths)
            if LINKS in tally.left_out:
                # Spark would follow every link, and count photos again or without end.
                patterns = [literal(file.path) for file in files]
                # Spark would list so many paths in a job of its own.
                threshold = "spark.sql.sources.parallelPartitionDiscovery.threshold"
                session.conf().set(threshold, str(len(patterns)))
        relation = _relation(spark, session, patterns, _name_pattern(), ignore_missing)
    photos = relation.location().allFiles().size()
    if not photos:
        raise FileNotFoundError(_explain_no_photos(paths, _find_photos(spark, paths)[1]))
    cores = spark.sparkContext.defaultParallelism
    for name, value in _task_sizes(photos, relation.location().sizeInBytes(), cores).items():
        session.conf().set(f"spark.sql.files.{name}", str(value))
    return relation


def _find_photos(spark: SparkSession, paths: list[str]) -> tuple[list[ListedFile], Tally]:
    """Find the photos under paths, and count the files that are not photos."""
    storage = None
    if all(path.partition(":")[0] in S3_SCHEMES for path in paths):
        storage = storage_of(spark)
        if why_not_by_paths(spark, paths, storage) is not None:
            storage = None
    with _explained(paths):
        return find_files(spark, paths, storage)


@contextmanager
def _explained(paths: list[str]) -> Iterator[None]:
    """Turn errors of Spark and Hadoop into Python's built-in ones."""
    try:
        yield
    except AnalysisException as error:  # a path that does not exist
        raise FileNotFoundError(str(error).strip().splitlines()[0]) from error
    except HADOOP_ERRORS as error:
        raise OSError(f"cannot list {', '.join(paths)}: {why(error)}") from error


def _rows_of(spark: SparkSession, photos: list[ListedFile]) -> DataFrame:
    least = TASKS_PER_CORE * spark.sparkContext.defaultParallelism
    return table_of(spark, split_evenly(photos, PHOTOS_PER_TASK, least))


def _task_sizes(photos: int, size: int, cores: int) -> dict[str, int]:
    """Choose Spark's settings that pack photos, of `size` bytes in total, into even tasks."""
    # The bytes that Spark adds to the size of each file.
    open_cost = BYTES_PER_TASK // PHOTOS_PER_TASK
    total = size + photos * open_cost
    # Spark ends a task before the file that would exceed the limit. A margin of almost one file
    # keeps the files left over by that from becoming a task of their own at the end.
    margin = min(max(0, size // photos - 1), BYTES_PER_TASK // 2)
    rounds = max(TASKS_PER_CORE, math.ceil(total / (BYTES_PER_TASK - margin) / cores))
    limit = total // (rounds * cores) + margin
    return {"openCostInBytes": open_cost, "maxPartitionBytes": limit, "minPartitionNum": 1}


def _relation(
    spark: SparkSession,
    session: JavaObject,
    paths: list[str],
    names: str,
    ignore_missing: bool = False,
) -> JavaObject:
    reader = session.read().format("binaryFile").option("recursiveFileLookup", "true")
    if ignore_missing:
        # Spark 3.4 and later take it from the query's session unless the relation says it.
        reader = reader.option("ignoreMissingFiles", "true")
    photos = reader.option("pathGlobFilter", names).load(spark._jvm.PythonUtils.toSeq(paths))
    return photos.queryExecution().analyzed().relation()


def _empty_photos(spark: SparkSession, relation: JavaObject) -> DataFrame | None:
    """Make rows of the photos of 0 bytes, which Spark's own scan silently leaves out."""
    files = relation.location().allFiles()
    no_filter = spark._jvm.PythonUtils.toSeq([])
    scanned = relation.location().listFiles(no_filter, no_filter).head().files()
    if scanned.size() == files.size():
        return None
    # This calls Java a few times per file, so it is skipped where there is no empty file.
    rows = []
    for index in range(files.size()):
        file = files.apply(index)
        if file.getLen() == 0:
            rows.append((file.getPath().toString(), file.getModificationTime(), bytearray()))
    table = spark.createDataFrame(rows, "path string, milliseconds bigint, content binary")
    time = expr("timestamp_millis(milliseconds)").alias("modificationTime")
    return table.coalesce(1).select("path", time, lit(0).cast("long").alias("length"), "content")


def _name_pattern() -> str:
    """Make a glob for names of photos in any case; Hadoop's globs are case-sensitive."""
    endings = [
        "".join(f"[{char}{char.upper()}]" if char.isalpha() else char for char in ending)
        for ending in IMAGE_EXTENSIONS
    ]
    return f"*{{{','.join(endings)}}}"


def _literal_if_it_exists(spark: SparkSession, path: str) -> str:
    """Make a glob that matches only this path, if a file or folder of this name exists."""
    if not is_pattern(path):
        return path
    hadoop_path, files = path_and_files(spark, path, hadoop_conf(spark))
    return literal(path) if files.exists(hadoop_path) else path


def _explain_no_photos(paths: list[str], tally: Tally) -> str:
    left_out = dict(tally.left_out)
    if tally.images:
        left_out[HIDDEN_BY_SPARK] = tally.images
    others = f"only other files ({describe_left_out(left_out)})" if left_out else "no files"
    return (
        f"no photo under {', '.join(paths)}: looked in all subfolders for files in "
        f"{', '.join(IMAGE_EXTENSIONS)} and found {others}"
    )
