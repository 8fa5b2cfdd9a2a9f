"""Lists files on the driver, as a DataFrame that does not access the storage again."""

from __future__ import annotations

import json
import math
import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Sequence

from py4j.protocol import Py4JJavaError
from pyspark.sql.functions import explode, expr, from_json

from pomona._images import (
    DANGLING,
    NOT_UTF8,
    Tally,
    find_images,
    is_hidden,
    is_image,
    one_line,
    utf8_text,
)
from pomona._native import list_folders
from pomona.spark._hadoop import hadoop_conf, is_pattern, path_and_files

if TYPE_CHECKING:
    from typing import Callable, Optional, Tuple

    from py4j.java_gateway import JavaObject
    from pyspark.sql import DataFrame, SparkSession

    from pomona.spark._s3 import Storage

    #: The files and the subfolders of a folder.
    _Listing = Tuple[Sequence[Tuple[str, int, int]], Sequence[str]]
    _ListFolders = Callable[[Sequence[str]], Sequence[Optional[_Listing]]]

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
_LOCAL = "file:"
_SCHEMA = "array<struct<path: string, length: bigint, milliseconds: bigint>>"


class ListedFile(NamedTuple):
    """A file with its bytes, and its modification time in milliseconds."""

    path: str
    length: int
    milliseconds: int


def find_files(
    spark: SparkSession, paths: Sequence[str], storage: Storage | None
) -> tuple[list[ListedFile], Tally]:
    """Find the photos under folders and matches of globs, in the order of their paths.

    If `storage` is given, the extension lists the folders, which are of S3, many at a time. Local
    folders are searched by `find_images`. Hadoop lists others one after another, also on S3 if
    there are names that only Hadoop can request. Folders that overlap are counted once. Folders
    that are given may be hidden.
    """
    if storage is not None:
        try:
            return _walk(spark, paths, partial(list_folders, storage=storage.settings))
        except ValueError:
            pass
    conf = hadoop_conf(spark)
    paths = [_qualified(spark, path, conf) for path in paths]
    if all(path.startswith(_LOCAL) for path in paths):
        return _find_local(spark, paths)
    return _walk(spark, paths, partial(_list_by_hadoop, spark))


def is_local(spark: SparkSession, paths: Sequence[str]) -> bool:
    """Whether paths are on the disks of the driver's machine."""
    conf = hadoop_conf(spark)
    return all(_qualified(spark, path, conf).startswith(_LOCAL) for path in paths)


def _find_local(spark: SparkSession, paths: Sequence[str]) -> tuple[list[ListedFile], Tally]:
    tally = Tally()
    roots = []
    for path in paths:
        given: list[ListedFile | str] = [path]
        if not os.path.lexists(path[len(_LOCAL) :]):
            given = _matches(spark, path)
        for one in given:
            root = (one if isinstance(one, str) else one.path)[len(_LOCAL) :]
            name = _name_of(root)
            if Path(root).is_dir() or (is_image(name) and not is_hidden(name)):
                roots.append(root)
            else:
                tally.leave_out(name)
    photos = set()
    for path in find_images(*roots, tally=tally):
        if utf8_text(path) != path:
            tally.count(NOT_UTF8)
            continue
        try:
            status = Path(path).stat()
        except OSError:
            tally.count(DANGLING)
            continue
        milliseconds = status.st_mtime_ns // 1_000_000
        photos.add(ListedFile(f"{_LOCAL}{path}", status.st_size, milliseconds))
    if tally.unreadable:
        folder, reason = tally.unreadable[0]
        raise OSError(f"cannot list {one_line(folder)}: {reason}")
    tally.images = len(photos)
    return sorted(photos), tally


def listed_by_spark(files: JavaObject) -> list[ListedFile]:
    """Return the files in a Scala sequence of file statuses."""
    return [entry for entry in _entries(files) if isinstance(entry, ListedFile)]


def _walk(
    spark: SparkSession, paths: Sequence[str], list_all: _ListFolders
) -> tuple[list[ListedFile], Tally]:
    tally = Tally()
    photos: set[ListedFile] = set()
    listed: set[str] = set()
    folders = list(paths)
    given = True
    while folders:
        below: list[str] = []
        for folder, listing in zip(folders, list_all(folders)):
            if listing is not None:
                files, subfolders = listing
            elif given:
                matches = _matches(spark, folder)
                files = [match for match in matches if isinstance(match, ListedFile)]
                below += [match for match in matches if isinstance(match, str)]
                subfolders = []
            else:
                continue  # deleted since its parent was listed
            for file in map(ListedFile._make, files):
                name = _name_of(file.path)
                if is_hidden(name) or not is_image(name):
                    tally.leave_out(name)
                else:
                    photos.add(file)
            for subfolder in subfolders:
                name = _name_of(subfolder)
                if is_hidden(name):
                    tally.leave_out(name)
                else:
                    tally.enter(name)
                    below.append(subfolder)
        listed.update(folder.rstrip("/") for folder in folders)
        folders = [folder for folder in dict.fromkeys(below) if folder.rstrip("/") not in listed]
        given = False
    tally.images = len(photos)
    return sorted(photos), tally


def _name_of(path: str) -> str:
    return path.rpartition("/")[2]


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
        path, files = path_and_files(spark, pattern, hadoop_conf(spark))
        statuses = files.globStatus(path)
    if not statuses:
        raise FileNotFoundError(f"Path does not exist: {pattern}")
    return _entries(spark._jvm.scala.Predef.genericWrapArray(statuses))


def _list_by_hadoop(spark: SparkSession, folders: Sequence[str]) -> list[_Listing | None]:
    """List folders as `list_folders` does; None where there is no folder."""
    conf = hadoop_conf(spark)
    return [_list_folder_by_hadoop(spark, folder, conf) for folder in folders]


def _list_folder_by_hadoop(spark: SparkSession, folder: str, conf: JavaObject) -> _Listing | None:
    path, files = path_and_files(spark, folder, conf)
    try:
        statuses = files.listStatus(path)
    except Py4JJavaError as error:
        if error.java_exception.getClass().getSimpleName() == "FileNotFoundException":
            return None
        raise
    entries = _entries(spark._jvm.scala.Predef.genericWrapArray(statuses))
    listed = [entry for entry in entries if isinstance(entry, ListedFile)]
    return listed, [entry for entry in entries if isinstance(entry, str)]


def _qualified(spark: SparkSession, path: str, conf: JavaObject) -> str:
    """Complete a path with the scheme and host of its file system."""
    hadoop_path, files = path_and_files(spark, path, conf)
    return str(files.makeQualified(hadoop_path).toString())


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
