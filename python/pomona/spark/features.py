"""A set of features on disk that follows a set of photos and survives being killed at any moment.

Plain PySpark reads the folder: ``spark.read.parquet(OUTPUT)``. Readers skip names that start with
``_``, and behind those is how the rows get there::

    OUTPUT/part-….parquet              the rows, in each file sorted by label and path
    OUTPUT/_SUCCESS                    there while the rows are a finished set
    OUTPUT/_pomona/set-000002.json     the files of the set and its model; the highest number counts
    OUTPUT/_pomona/writer.json         the run that writes now, or that was killed
    OUTPUT/_pomona/<model's sha256>/   a run that has not finished
        chunk-…/                       rows of one Spark job; they count once _SUCCESS is there

**Chunks.** The photos' partitions are featurized some at a time, and each such chunk is a job with
a folder of its own. So whatever the file system's committer does, a chunk is there whole or does
not count, and a run that starts again deletes what does not count and featurizes what no chunk has.

**Publishing.** When all chunks are there, one job writes their rows to OUTPUT, sorted, in files of
about 128 MiB. It only adds files; they belong to the set once a new ``set-….json`` names them,
which is one small object, written at once. Then the files that they replace are deleted. Nothing is
renamed or overwritten here, so a crash leaves at worst files that the next run deletes, and no
finished set is lost to a run that did not finish. Until its first publishing OUTPUT has no rows,
so half a set never looks like one.

**Later runs** list the photos and compare path, length and modification time. A file with rows of
photos that changed or are gone is written anew without them, as are files too small to stay,
together with the new rows; all others stay as they are. So a few new photos among millions cost a
listing and a small file. Only where a set has the columns of an older version are all its files
written anew, once: a set whose files differ is not for every reader.

**Errors** say what decided them: ``error`` is the reason, ``error_kind`` one of the words of
`pomona.ImageError` and ``error_version`` the version of Pomona. By the last two a run knows which
photos to try again: those whose error was not theirs, and those of versions that could be wrong.

The price is to write each row twice: 5 kB, little beside the 10 ms of a core that made it. To
append chunks where readers look would show them half a set, and leave slivers in the order of the
tasks; to overwrite would delete the old set before the new one is there.
"""

from __future__ import annotations

import functools
import os
import re
import socket
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from math import inf
from threading import Event, Thread
from typing import (
    TYPE_CHECKING,
    Iterable,
    Iterator,
    NamedTuple,
    Sequence,
    Union,
)

from pyspark.sql import DataFrame
from pyspark.sql.functions import (
    coalesce,
    col,
    count,
    element_at,
    input_file_name,
    lit,
    spark_partition_id,
    split,
    when,
)
from pyspark.sql.functions import max as spark_max
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    FloatType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from pomona import ModelError
from pomona._errors import ERROR_COLUMNS
from pomona._native import __version__
from pomona._progress import Progress
from pomona.results.format import _SET_FILE as SET_FILE
from pomona.results.format import STATE_FOLDER
from pomona.spark._chunks import plan_all, plan_some
from pomona.spark._hadoop import Folder
from pomona.spark._session import described, session_of, settings
from pomona.spark._shipping import ShippedModel, ship
from pomona.spark.images import PHOTOS_PER_TASK
from pomona.spark.udf import Counters, featurized

if TYPE_CHECKING:
    from pyspark.sql import Column, SparkSession

    PathLike = Union[str, "os.PathLike[str]"]

#: Photos of a chunk for each core of the cluster: about 20 s of MobileNetV2, which is what a kill
#: can cost.
CHUNK_PHOTOS_PER_CORE = 5 * PHOTOS_PER_TASK

#: Bytes of a finished file: Spark reads one with one task, S3 with a few requests.
FILE_BYTES = 128 * 1024 * 1024

#: Files below this are written anew with the next change, so they cannot pile up.
SMALL_FILE_BYTES = FILE_BYTES // 4

#: Bytes of a Parquet row group, the unit that a reader skips by label and that a task reads: some
#: 3,000 photos.
ROW_GROUP_BYTES = 16 * 1024 * 1024

#: Columns of a set of features.
SCHEMA = StructType(
    [
        StructField("path", StringType()),
        StructField("label", StringType()),
        StructField("features", ArrayType(FloatType())),
        *(StructField(name, StringType()) for name in ERROR_COLUMNS),
        StructField("length", LongType()),
        StructField("modificationTime", TimestampType()),
    ]
)

#: Kinds of errors that are not the photo's: each run tries these photos again.
PASSING_KINDS = ["storage", "gone", "memory"]

#: Versions whose errors may be wrong, so that each run tries these photos again. 0.1.0 could refuse
#: any JPEG that the same worker met after one with a damaged header. What features of it may be
#: wrong, those of JPEGs that lack a table, no row can tell.
FAULTY_VERSIONS = ["0.1.0"]

#: The version that wrote rows without `error_version`, and the columns of its sets.
_FIRST_VERSION = "0.1.0"
_FIRST_COLUMNS = ("path", "label", "features", "error", "length", "modificationTime")

_SUCCESS = "_SUCCESS"
_MODEL = "model.json"
_WRITER = "writer.json"
_MARK_SUCCESS = "mapreduce.fileoutputcommitter.marksuccessfuljobs"
_SHA256 = re.compile("[0-9a-f]{64}")
_PART = re.compile(r"part-.*\.parquet")
#: What tells that a photo is still the one that was featurized.
_KEY = ["path", "length", "modificationTime"]
_POLL_SECONDS = 0.5
# Where the features of a listed photo are.
_IN_SET = "set"
_IN_CHUNK = "chunk"


@dataclass(frozen=True)
class FeatureSet:
    """What `write_features` left on disk, and what it did for it.

    Attributes
    ----------
    uri
        The folder.
    model_name, model_sha256
        The model that all its features are of.
    versions
        The versions of Pomona that made its rows, this one and those of earlier runs.
    photos
        Rows: photos featurized, now or by earlier runs, and photos that cannot be read.
    errors
        Rows that have an error instead of features.
    featurized
        Photos that this run put through the model, unreadable ones included. An accumulator of
        Spark's counts them, so what a lost task did before it was repeated may count twice.
    retried, recovered
        Of those, photos that had an error from an earlier run, and the ones among them that have
        features now.
    vanished
        Photos that were listed and gone when they were to be read. Read by their paths, they are
        rows with that error; read by Spark, they have no row.
    files
        Names and bytes of the Parquet files.
    """

    uri: str
    model_name: str
    model_sha256: str
    versions: list[str]
    photos: int
    errors: int
    featurized: int
    retried: int
    recovered: int
    vanished: int
    files: dict[str, int]


class _Set(NamedTuple):
    """A finished set, as its ``set-….json`` has it."""

    number: int
    model_name: str
    model_sha256: str
    files: dict[str, int]
    photos: int
    errors: int
    #: Of the errors, photos that were gone.
    vanished: int = 0
    #: Of each file, in this order.
    columns: Sequence[str] = _FIRST_COLUMNS
    #: Those that made rows.
    versions: Sequence[str] = (_FIRST_VERSION,)


def write_features(
    photos: DataFrame,
    output: PathLike,
    *,
    model: PathLike = "mobilenet_v2",
    resume: bool = True,
    retry_errors: bool = False,
    chunk_photos: int | None = None,
    progress: bool = False,
) -> FeatureSet:
    """Make a folder of features agree with photos, featurizing only what is new or changed.

    Afterwards ``spark.read.parquet(output)`` has one row for each photo of `photos` and no other:
    rows of photos that are gone are dropped, rows of photos that changed (in length or modification
    time) are replaced. Killed at any moment and called again, it repeats at most the chunk in
    flight and ends with the same rows. The module's docstring tells how. Of two runs at a time on
    one folder, the one that began last goes on and the other ends with an error.

    Parameters
    ----------
    photos
        What `read_images` returned, or any rows of it; other sources need the same columns (labels
        of any type become text), and paths that are unique. Without ``content``, tasks read the
        photos by their paths, as `featurize_paths_udf` does.
    output
        A folder of its own for the features, on any file system that Spark's Hadoop knows.
    model
        A name, a path on the driver or a URI, as for `featurize_struct_udf`.
    resume
        False featurizes every photo again, also with another model; a finished set stays until the
        new one is.
    retry_errors
        Try every photo again that has an error from an earlier run, and no other. Without it, only
        those whose error may have passed are tried again, as below.
    chunk_photos
        About how many photos to featurize in a job, which is what a kill can cost; a chunk is a
        whole number of Spark's tasks. None: `CHUNK_PHOTOS_PER_CORE` for each core.
    progress
        Show a progress line on standard error.

    Returns
    -------
    FeatureSet
        Counts, model and files. Photos that cannot be read are rows with an error, and counted; a
        later run does not try them again unless they change, or their error may have passed: it
        was not the photo's (`PASSING_KINDS`), or a version decided it that could be wrong
        (`FAULTY_VERSIONS`).

    Raises
    ------
    ModelError
        The model cannot be used, or the folder holds features of another one.
    FileExistsError
        The folder holds Parquet files that are not from here.
    ValueError
        `photos` has no rows, or lacks a column, or has one of another type.
    OSError
        The folder cannot be read or written, or another run has begun to write to it.

    Examples
    --------
    >>> photos = read_images(spark, "s3://fruits/Test")  # doctest: +SKIP
    >>> write_features(photos, "s3://fruits/out/features").photos  # doctest: +SKIP
    23619
    """
    photos = _photos_alone(photos)
    if chunk_photos is not None and chunk_photos < 1:
        raise ValueError(f"chunk_photos is {chunk_photos}, it must be at least 1")
    run = prepare(photos, output, model=model, resume=resume, retry_errors=retry_errors)
    return run.write(photos, chunk_photos=chunk_photos, progress=progress)


def _photos_alone(photos: DataFrame) -> DataFrame:
    """Check the columns that count, and leave out all others."""
    types = {field.name: field.dataType for field in photos.schema}
    missing = [name for name in [*_KEY, "label"] if name not in types]
    if missing:
        raise ValueError(
            f"photos has no column {', '.join(missing)}: read them with pomona.spark.read_images"
        )
    wanted = {name: SCHEMA[name].dataType for name in _KEY}
    if "content" in types:
        wanted["content"] = BinaryType()
    for name, kind in wanted.items():
        if types[name] != kind:
            raise ValueError(
                f"column {name} is {types[name].simpleString()}, it must be {kind.simpleString()}"
            )
    return photos.select(*wanted, col("label").cast(SCHEMA["label"].dataType))


def prepare(
    photos: DataFrame,
    output: PathLike,
    *,
    model: PathLike,
    resume: bool,
    retry_errors: bool = False,
) -> Run:
    """Begin a `write_features`, with all that can be refused before anything is touched.

    Until `Run.write` is called, what the folder holds for readers stays as it is.
    """
    spark = session_of(photos)
    home, shipped = Folder(spark, os.fspath(output)), ship(spark.sparkContext, model)
    return Run(spark, home, shipped, resume, _settled(retry_errors=retry_errors))


def read_features(spark: SparkSession, uri: PathLike) -> DataFrame:
    """Read features from disk: exactly the finished set, also while a run or after a crash.

    Parameters
    ----------
    spark
        The session to read with.
    uri
        What `write_features` wrote, or any other folder of Parquet files with a column
        ``features``.

    Raises
    ------
    FileNotFoundError
        No run has finished a set there.
    """
    home = Folder(spark, os.fspath(uri))
    names = home.sizes()
    if not names:
        raise FileNotFoundError(f"there are no features in {home.uri}")
    if STATE_FOLDER not in names:
        return spark.read.parquet(home.pattern)
    finished = _finished_set(home)
    if finished is None:
        raise FileNotFoundError(
            f"{home.uri} holds no finished set of features: run write_features again to finish it"
        )
    return _read(spark, [home / name for name in finished.files])


class Run:
    """One call of `write_features`, on its folder.

    It makes itself the folder's writer. A run that is started while another one goes on takes over,
    because nothing tells that one from one that was killed; the other ends with an error as soon as
    it is about to add anything.
    """

    def __init__(
        self, spark: SparkSession, home: Folder, model: ShippedModel, resume: bool, settled: Column
    ) -> None:
        self.spark = spark
        self.home = home
        self.model = model
        #: Whether a row that is there need not be made again.
        self.settled = settled
        self.state = home / STATE_FOLDER
        self.staging = self.state / model.sha256
        #: The set that readers should use until this run publishes its own.
        self.current = _finished_set(home)
        #: The set whose rows need not be made again.
        self.base = self.current if resume else None
        #: Chunks of an earlier run that did not finish, and of this one.
        self.earlier: list[Folder] = []
        self.chunks: list[Folder] = []

        unfinished = [name for name in self.state.sizes() if _SHA256.fullmatch(name)]
        if resume:
            # A run that was told not to resume replaces the set of another model, also if it has to
            # be started again.
            if (
                self.current
                and self.current.model_sha256 != model.sha256
                and model.sha256 in unfinished
            ):
                self.base = None
            self._refuse_another_model(unfinished)
        else:
            for name in unfinished:
                (self.state / name).delete()
        self._refuse_foreign_files()
        self.writer = {
            "run": uuid.uuid4().hex,
            "application": spark.sparkContext.applicationId,
            "host": socket.gethostname(),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        (self.state / _WRITER).write_json(self.writer)
        self._drop_what_does_not_count()
        self.versions = self._versions()
        (self.staging / _MODEL).write_json(
            {"name": model.name, "sha256": model.sha256, "versions": self.versions}
        )

    def write(
        self, photos: DataFrame, *, chunk_photos: int | None = None, progress: bool = False
    ) -> FeatureSet:
        """Do it; all as for `write_features`."""
        spark, context = self.spark, self.spark.sparkContext
        if chunk_photos is None:
            chunk_photos = CHUNK_PHOTOS_PER_CORE * context.defaultParallelism
        counters = Counters(photos=context.accumulator(0), errors=context.accumulator(0))
        result = featurized(photos, self.model, counters)
        # Comparing a few photos should not take 200 tasks for each step, as without adaptive plans.
        with settings(spark, spark_sql_adaptive_enabled="true"):
            # Photos may vanish while a long run goes on; a file of features may not.
            with settings(spark, spark_sql_files_ignoreMissingFiles="true"):
                listing = None
                if self.starts_anew:
                    with described(context, "count the photos"):
                        plan = plan_all(photos, chunk_photos)
                else:
                    with described(context, "compare photos with features"):
                        listing = self.list_photos(photos)
                        plan = plan_some(photos, listing, col("done").isNull(), chunk_photos)
                with ExitStack() as stack:
                    if progress and plan.chunks:
                        stack.enter_context(_progress_line(plan.photos, counters))
                    for number, chunk in enumerate(plan.chunks, 1):
                        which = f"chunk {number} of {len(plan.chunks)}"
                        with described(context, f"featurize {chunk.photos:,} photos, {which}"):
                            rows = chunk.of(photos).withColumn("result", result)
                            self.write_chunk(rows.select("*", "result.*"))
            retried, recovered = self._count_retried(listing)
            finished = self.publish(listing)
        return FeatureSet(
            uri=self.home.uri,
            model_name=self.model.name,
            model_sha256=self.model.sha256,
            versions=list(finished.versions),
            photos=finished.photos,
            errors=finished.errors,
            featurized=int(counters.photos.value),
            retried=retried,
            recovered=recovered,
            vanished=finished.vanished
            + (0 if plan.listed is None else max(0, plan.listed - finished.photos)),
            files=finished.files,
        )

    @property
    def starts_anew(self) -> bool:
        """Whether no photo is done yet, so that there is no need to list which are."""
        return self.base is None and not self.earlier

    def list_photos(self, photos: DataFrame) -> DataFrame:
        """List all photos, with the partition they are in and where their features are.

        ``done`` is null for photos that are to be featurized: they are new or changed, or, if
        ``failed`` is true, their error is not settled.
        """
        listing = photos.select(*_KEY, "label", spark_partition_id().alias("partition"))
        done, failed = lit(None).cast("string"), lit(False)
        known = []
        if self.base is not None:
            known.append((_IN_SET, self._rows_of(self.base.files)))
        if self.earlier:
            known.append((_IN_CHUNK, _read(self.spark, self.earlier)))
        for place, rows in known:
            # A photo that failed in two killed runs has a row in a chunk of each.
            there = rows.groupBy(*_KEY).agg(spark_max(self.settled).alias(place))
            listing = listing.join(there, _KEY, "left")
            done = coalesce(done, when(col(place), place))
            failed = failed | coalesce(~col(place), lit(False))
        failed = (done.isNull() & failed).alias("failed")
        listing = listing.select(*_KEY, "label", "partition", done.alias("done"), failed)
        # Written, so that all later steps see the same listing even if photos change meanwhile.
        folder = self.staging / f"listing-{uuid.uuid4().hex}"
        listing.write.parquet(folder.uri)
        return self.spark.read.schema(listing.schema).parquet(folder.pattern)

    def _count_retried(self, listing: DataFrame | None) -> tuple[int, int]:
        """Count the photos that had an error and were tried again, and those that came back."""
        may_have_failed = self.earlier or (self.base is not None and self.base.errors)
        if listing is None or not self.chunks or not may_have_failed:
            return 0, 0
        with described(self.spark.sparkContext, "count the photos that came back"):
            failed = listing.where("failed").select(*_KEY)
            rows = _read(self.spark, self.chunks).select(*_KEY, "error").join(failed, _KEY)
            retried, errors = rows.agg(count(lit(1)), count("error")).head()
        return retried, retried - errors

    def write_chunk(self, rows: DataFrame) -> None:
        """Write rows as a chunk; it counts when this returns."""
        self._stop_if_taken_over()
        folder = self.staging / f"chunk-{uuid.uuid4().hex}"
        # Features hardly repeat: trying to find out costs a quarter of the writing.
        (
            rows.select(*SCHEMA.names)
            .write.option(_MARK_SUCCESS, "true")
            .option("parquet.enable.dictionary", "false")
            .parquet(folder.uri)
        )
        self.chunks.append(folder)

    def publish(self, listing: DataFrame | None) -> _Set:
        """Make the set agree with the photos, from the chunks and from what is there.

        Parameters
        ----------
        listing
            All photos; None if the chunks of this run are all rows there should be.
        """
        self._stop_if_taken_over()
        with described(self.spark.sparkContext, "compare features with photos"):
            kept, rows = self._kept_files_and_new_rows(listing)
        if self.current is None or rows is not None or kept.keys() != self.current.files.keys():
            (self.home / _SUCCESS).delete()
            self.current = self._write_set(kept, rows)
            self._drop_replaced()
        (self.home / _SUCCESS).write_text("")
        self.staging.delete()
        (self.state / _WRITER).delete()
        return self.current

    def _kept_files_and_new_rows(
        self, listing: DataFrame | None
    ) -> tuple[dict[str, int], DataFrame | None]:
        """Find the files that stay as they are, and all rows of the set that are not in those.

        No rows, and not even none, where the set agrees with the photos already.
        """
        if listing is None:
            return {}, _read(self.spark, self.chunks)

        new = []
        if self.chunks:
            new.append(_read(self.spark, self.chunks))
        photos = listing.select(*_KEY, "label", "done")
        if self.earlier:
            in_chunk = photos.where(col("done") == _IN_CHUNK).drop("done")
            # None, if the run was killed after it had published them.
            if in_chunk.head(1):
                rows = _read(self.spark, self.earlier).where(self.settled)
                new.append(rows.drop("label").join(in_chunk, _KEY))
        if self.base is None:
            return {}, _union(new)

        in_set = photos.where(col("done") == _IN_SET).drop("done")
        old = self._rows_of(self.base.files).select(*_KEY, "label", _file_name().alias("file"))
        wanted = in_set.select(*_KEY, col("label").alias("wanted_label"), lit(1).alias("wanted"))
        stays = (col("wanted") == 1) & col("label").eqNullSafe(col("wanted_label"))
        per_file = old.join(wanted, _KEY, "left").groupBy("file")
        counts = per_file.agg(
            count(lit(1)).alias("rows"),
            count("wanted").alias("wanted"),
            count(when(stays, 1)).alias("stay"),
        ).collect()
        kept = {row.file: self.base.files[row.file] for row in counts if row.rows == row.stay}
        if new or any(row.wanted for row in counts if row.file not in kept):
            # All files of a set have the same columns, or not every reader could read it.
            least = SMALL_FILE_BYTES if list(self.base.columns) == SCHEMA.names else inf
            kept = {name: size for name, size in kept.items() if size >= least}
            leaving = [row.file for row in counts if row.wanted and row.file not in kept]
            if leaving:
                new.append(self._rows_of(leaving).drop("label").join(in_set, _KEY))
        return kept, _union(new) if new else None

    def _write_set(self, kept: dict[str, int], rows: DataFrame | None) -> _Set:
        files = dict(kept)
        if rows is not None:
            files.update(self._add_files(rows, kept))
        self._stop_if_taken_over()
        photos = errors = vanished = 0
        if files:
            with described(self.spark.sparkContext, "count the features"):
                gone = when(col("error_kind") == "gone", 1)
                counts = self._rows_of(files).agg(count(lit(1)), count("error"), count(gone))
                photos, errors, vanished = counts.head()
        if not photos:
            raise ValueError(f"there are no photos: {self.home.uri} is left as it was")

        number = self.current.number + 1 if self.current else 1
        model = self.model
        finished = _Set(
            number,
            model.name,
            model.sha256,
            files,
            photos,
            errors,
            vanished,
            columns=SCHEMA.names,
            versions=self.versions,
        )
        (self.state / f"set-{number:06}.json").write_json(finished._asdict())
        return finished

    def _add_files(self, rows: DataFrame, kept: dict[str, int]) -> dict[str, int]:
        before = self.home.sizes()
        size = sum(chunk.bytes() for chunk in [*self.earlier, *self.chunks])
        if self.base is not None:
            size += sum(size for name, size in self.base.files.items() if name not in kept)
        files = max(1, round(size / FILE_BYTES))
        with described(self.spark.sparkContext, f"write the features in {files} file(s)"):
            (
                rows.repartitionByRange(files, "label", "path")
                .sortWithinPartitions("label", "path")
                .write.mode("append")
                .option("parquet.block.size", str(ROW_GROUP_BYTES))
                .option(_MARK_SUCCESS, "false")
                .parquet(self.home.uri)
            )
        return {
            name: size or 0
            for name, size in self.home.sizes().items()
            if _PART.fullmatch(name) and name not in before
        }

    def _stop_if_taken_over(self) -> None:
        file = self.state / _WRITER
        writer = file.read_json() if file.exists() else None
        if writer == self.writer:
            return
        who = "another run"
        if writer is not None:
            who = "application {application} of {host}, started {started},".format_map(writer)
        raise OSError(f"{who} has taken over {self.home.uri}: this run ends and leaves it to that")

    def _drop_what_does_not_count(self) -> None:
        """Delete what a run that was killed has left, and find the chunks it finished."""
        self._drop_replaced()
        for name in self.staging.sizes():
            folder = self.staging / name
            if name.startswith("chunk-") and _SUCCESS in folder.sizes():
                self.earlier.append(folder)
            elif name != _MODEL:
                folder.delete()

    def _versions(self) -> list[str]:
        """List the versions that made the rows on which this run builds, and this one."""
        versions = {__version__}
        if self.base is not None:
            versions.update(self.base.versions)
        if self.earlier:
            begun = (self.staging / _MODEL).read_json() or {}
            versions.update(begun.get("versions", [_FIRST_VERSION]))
        return sorted(versions)

    def _drop_replaced(self) -> None:
        """Delete files that are not of the current set, and descriptions of sets before it."""
        files = self.current.files if self.current else {}
        for name in self.home.sizes():
            if (_PART.fullmatch(name) and name not in files) or name == "_temporary":
                (self.home / name).delete()
        for name in self.state.sizes():
            match = SET_FILE.fullmatch(name)
            if match and self.current and int(match.group(1)) < self.current.number:
                (self.state / name).delete()

    def _refuse_another_model(self, unfinished: Sequence[str]) -> None:
        others = [name for name in unfinished if name != self.model.sha256]
        if self.base is not None and self.base.model_sha256 != self.model.sha256:
            other, what = self.base._asdict(), "features"
        elif others:
            described_model = (self.state / others[0] / _MODEL).read_json() or {}
            other = {"model_name": described_model.get("name", "?"), "model_sha256": others[0]}
            what = "an unfinished run"
        else:
            return
        raise ModelError(
            f"{self.home.uri} holds {what} of another model, {other['model_name']} "
            f"(sha256 {other['model_sha256'][:16]}…) and not {self.model.name} "
            f"({self.model.sha256[:16]}…): choose another output, or replace what is there with "
            "resume=False (--no-resume)"
        )

    def _refuse_foreign_files(self) -> None:
        names = self.home.sizes()
        foreign = [name for name in names if not name.startswith(("_", "."))]
        if foreign and STATE_FOLDER not in names:
            raise FileExistsError(
                f"{self.home.uri} holds {foreign[0]}, which Pomona did not write: choose another "
                "output, or delete it"
            )

    def _rows_of(self, files: Iterable[str]) -> DataFrame:
        return _read(self.spark, [self.home / name for name in files])


def _finished_set(home: Folder) -> _Set | None:
    """Return the set with the highest number whose description was written to its end."""
    state = home / STATE_FOLDER
    names = [name for name in state.sizes() if SET_FILE.fullmatch(name)]
    for name in sorted(names, reverse=True):
        value = (state / name).read_json()
        if value is not None:
            # A later version may say more.
            return _Set(**{name: value[name] for name in _Set._fields if name in value})
    return None


def _read(spark: SparkSession, folders: Sequence[Folder]) -> DataFrame:
    return spark.read.schema(SCHEMA).parquet(*[folder.pattern for folder in folders])


def _settled(*, retry_errors: bool) -> Column:
    """Return whether a row need not be made again: true or false, never null."""
    whole = col("error").isNull()
    if retry_errors:
        return whole
    passing = coalesce(col("error_kind"), lit("")).isin(PASSING_KINDS)
    wrong = coalesce(col("error_version"), lit(_FIRST_VERSION)).isin(FAULTY_VERSIONS)
    return whole | ~(passing | wrong)


def _union(frames: Sequence[DataFrame]) -> DataFrame:
    frames = [frame.select(*SCHEMA.names) for frame in frames]
    return functools.reduce(DataFrame.unionByName, frames)


def _file_name() -> Column:
    return element_at(split(input_file_name(), "/"), -1)


@contextmanager
def _progress_line(total: int, counters: Counters) -> Iterator[None]:
    """Show on standard error what the accumulators say, which Spark updates when a task ends."""
    stop = Event()
    with Progress("Featurizing", total=total) as line:

        def update() -> None:
            errors = counters.errors.value - line.counts.get("errors", 0)
            line.update(counters.photos.value - line.done, errors=errors)

        def watch() -> None:
            while not stop.wait(_POLL_SECONDS):
                update()

        watcher = Thread(target=watch, name="pomona-progress", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()
            update()
