"""Lists files on the driver, as a DataFrame that does not access the storage again."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, NamedTuple, Sequence

from pyspark.sql.functions import explode, expr, from_json

from pomona._native import list_folders
from pomona.spark._hadoop import is_pattern

if TYPE_CHECKING:
    from py4j.java_gateway import JavaObject
    from pyspark.sql import DataFrame, SparkSession

    from pomona.spark._s3 import Storage

#: Bytes of photos in one task that reads them itself. They are never in memory at the same time,
#: and a photo of 10 MB takes a few tenths of a second of CPU time.
BYTES_PER_TASK = 256 * 1024 * 1024

# FileStatus.toString() of Hadoop's own file systems; only the path is free text.
_STATUS = re.compile(
    r"\w*\{path=(?P<path>.*); isDirectory=(?:(?P<folder>true)|false; length=(?P<length>\d+)); .*?"
    r"modification_time=(?P<time>\d+);.*",
    re.DOTALL,
)
_AT_ONCE = 10_000
_BETWEEN = "\0"
_SCHEMA = "array<struct<path: string, length: bigint, milliseconds: bigint>>"


class ListedFile(NamedTuple):
    """A file with its bytes, and its modification time in milliseconds."""

    path: str
    length: int
    milliseconds: int


def files_of_s3(
    spark: SparkSession, paths: Sequence[str], storage: Storage
) -> list[ListedFile] | None:
    """List the files that Spark would find under folders of S3 and matches of globs.

    Spark sends a few requests per folder, one after another; this sends one, for many folders at a
    time. The files are in no particular order, with duplicates if the folders overlap. The result
    is None if there are names that only Hadoop can request.
    """
    files: list[ListedFile] = []
    folders = list(paths)
    given = True
    while folders:
        try:
            listings = list_folders(folders, storage=storage.settings)
        except ValueError:
            return None
        below: list[str] = []
        for folder, listing in zip(folders, listings):
            if listing is not None:
                files += map(ListedFile._make, listing[0])
                below += [name for name in listing[1] if not _is_hidden(name)]
            elif given:
                # Paths that the user gives may be hidden or globs.
                for match in _matches(spark, folder):
                    if isinstance(match, str):
                        below.append(match)
                    else:
                        files.append(match)
        folders, given = below, False
    return [file for file in files if not _is_hidden(file.path)]


def files_of(statuses: JavaObject) -> list[ListedFile]:
    """Return the files of a Scala sequence of file statuses."""
    return [one for one in _entries(statuses) if isinstance(one, ListedFile)]


def split_evenly(files: Sequence[ListedFile], per_task: int, least: int) -> list[list[ListedFile]]:
    """Split files, in their order, into tasks of similar duration: `least` or a multiple of that.

    There are fewer tasks if there are fewer files. A task of empty files would have `per_task`.
    """
    # The bytes that a file counts in addition to its own.
    each = BYTES_PER_TASK // per_task
    total = sum(file.length + each for file in files)
    number = least * math.ceil(total / BYTES_PER_TASK / least)
    tasks: list[list[ListedFile]] = [[] for _ in range(number)]
    before = 0
    for file in files:
        cost = file.length + each
        tasks[(before + cost // 2) * number // total].append(file)
        before += cost
    return [task for task in tasks if task]


def table_of(spark: SparkSession, tasks: Sequence[Sequence[ListedFile]]) -> DataFrame:
    """Make rows of files, which are sent with the tasks that use them; a partition per task.

    The columns are ``path string, length bigint, modificationTime timestamp``.
    """
    texts = [json.dumps([file._asdict() for file in task], ensure_ascii=False) for task in tasks]
    # Each partition is a string, which needs neither a Python worker nor a shuffle to become rows.
    partitions = spark.sparkContext._jsc.parallelize(texts, len(texts))
    strings = spark._jvm.org.apache.spark.sql.Encoders.STRING()
    table = spark.read._df(spark._jsparkSession.createDataset(partitions.rdd(), strings).toDF())
    rows = table.select(explode(from_json("value", _SCHEMA)).alias("file"))
    time = expr("timestamp_millis(file.milliseconds)").alias("modificationTime")
    return rows.select("file.path", "file.length", time)


def _matches(spark: SparkSession, pattern: str) -> list[ListedFile | str]:
    """Return the matches of a glob, from Hadoop."""
    statuses = None
    if is_pattern(pattern):
        conf = spark._jsparkSession.sessionState().newHadoopConf()
        path = spark._jvm.org.apache.hadoop.fs.Path(pattern)
        statuses = path.getFileSystem(conf).globStatus(path)
    if not statuses:
        raise FileNotFoundError(f"Path does not exist: {pattern}")
    return _entries(spark._jvm.scala.Predef.genericWrapArray(statuses))


def _entries(statuses: JavaObject) -> list[ListedFile | str]:
    """Return the files, and the paths of the folders, in a Scala sequence of file statuses."""
    found: list[ListedFile | str] = []
    for start in range(0, statuses.size(), _AT_ONCE):
        some = statuses.slice(start, start + _AT_ONCE)
        # One call to Java for all: three calls per file would take half a millisecond per file.
        texts = some.mkString(_BETWEEN).split(_BETWEEN)
        found += [_entry(text, some, index) for index, text in enumerate(texts)]
    return found


def _entry(text: str, statuses: JavaObject, index: int) -> ListedFile | str:
    match = _STATUS.fullmatch(text)
    if match is None:
        # A file system with its own format.
        status = statuses.apply(index)
        path: str = status.getPath().toString()
        if status.isDirectory():
            return path
        return ListedFile(path, status.getLen(), status.getModificationTime())
    if match["folder"]:
        return match["path"]
    return ListedFile(match["path"], int(match["length"]), int(match["time"]))


def _is_hidden(path: str) -> bool:
    """Whether Spark skips files of such a name."""
    name = path.rpartition("/")[2]
    return name.startswith(".") or (name.startswith("_") and "=" not in name)
